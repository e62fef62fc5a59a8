/** Sums of codes: a − b + c, of images and of averages of lassos. */

import { byId, el, refill, say, tried } from "../../web/dom.js";
import { picture, show } from "../../web/pixels.js";
import { packed, unpacked } from "./state.js";

/** @typedef {import("./app.js").Context} Context @typedef {{weight: number, code: number[], title: string}} Part */
const MOST = 8;

export class Sums {
  /** @param {Context} context @param {{current: () => [number[], string], take: (code: number[], title: string) => void, walk: (codes: number[][]) => void}} told */
  constructor(context, told) {
    this.context = context;
    /** @type {Part[]} */ this.parts = [];
    byId("addpart").onclick = () => this.add(...told.current());
    byId("clearparts").onclick = () => { this.parts = []; this.changed(); };
    byId("opensum").onclick = () => told.take(this.total(), "a sum");
    byId("walksum").onclick = () => told.walk([this.total()]);
  }

  /** The first and the third are added, the second is taken away, as in a − b + c. @param {number[]} code @param {string} title */
  add(code, title) {
    if (this.parts.length >= MOST) return say(`A sum has at most ${MOST} parts`, true);
    this.parts.push({ weight: this.parts.length === 1 ? -1 : 1, code, title });
    return this.changed();
  }

  /** @returns {number[]} */
  total() {
    return (this.parts[0]?.code ?? []).map((_, i) => this.parts.reduce((sum, { weight, code }) => sum + weight * code[i], 0));
  }

  async changed() {
    this.context.changed();
    const { parts } = this;
    byId("sumnote").hidden = parts.length > 1;
    byId("total").hidden = parts.length < 2;
    if (!parts.length) return refill(byId("parts"), []);
    const answer = await tried(() => this.context.backend.call("decode", { run: 0, codes: [...parts.map((p) => p.code), this.total()] }, "sum"));
    if (!answer) return;
    const { images } = answer.arrays;
    refill(byId("parts"), parts.map((part, k) => {
      const canvas = picture(part.title || `part ${k + 1}`);
      show(canvas, images, k);
      const weight = el("input", { type: "number", step: 0.1, value: part.weight, "aria-label": `Weight of part ${k + 1}`,
        onchange: () => { part.weight = Number.isFinite(+weight.value) ? +weight.value : 1; this.changed(); } });
      return el("li", {}, canvas, weight, el("button", { type: "button", "aria-label": `Remove part ${k + 1}`, title: "Remove",
        onclick: () => { this.parts = this.parts.filter((p) => p !== part); this.changed(); } }, "×"));
    }));
    show(byId("sum"), images, parts.length);
  }

  get state() {
    return this.parts.map(({ weight, code }) => `${weight}:${packed(code)}`).join(",");
  }

  /** @param {URLSearchParams} state @param {number} d numbers of a code */
  restore(state, d) {
    this.parts = (state.get("sum") ?? "").split(",").map((text) => text.split(":")).map(([weight, code = ""]) => ({ weight: Number(weight), code: unpacked(code), title: "" }))
      .filter((part) => part.code.length === d && Number.isFinite(part.weight)).slice(0, MOST);
    return this.changed();
  }
}
