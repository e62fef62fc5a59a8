/** The images that one likes: kept from every view, opened from here in the workbench or on a path, and saved. */

import { byId, download, el, say, tried } from "../../web/dom.js";
import { picture, show } from "../../web/pixels.js";
import { packed, unpacked } from "./state.js";

/** @typedef {import("./app.js").Context} Context @typedef {import("../../web/types.js").NamedArray} NamedArray */
const MOST = 64;
/** Characters of an address that browsers bear. */
const LONGEST = 1_000_000;

export class Kept {
  /** @param {Context} context @param {{current: () => number[], take: (code: number[], title: string) => void, walk: (codes: number[][]) => void}} told */
  constructor(context, told) {
    this.context = context;
    this.told = told;
    /** @type {number[][]} */ this.codes = [];
    /** @type {Map<string, HTMLElement>} hearts in view, by their code */ this.hearts = new Map();
    byId("keep").onclick = () => this.toggle(told.current());
    byId("walkkept").onclick = () => told.walk(this.codes);
    byId("clearkept").onclick = () => { this.codes = []; this.changed(); };
    for (const kind of ["png", "zip", "npy"]) byId(`kept${kind}`).onclick = () => this.save(kind);
  }

  /** @param {number[]} code */
  has(code) {
    const key = packed(code);
    return this.codes.some((each) => packed(each) === key);
  }

  /** @param {number[]} code */
  toggle(code) {
    const key = packed(code), without = this.codes.filter((each) => packed(each) !== key);
    if (without.length === this.codes.length && without.length >= MOST) return say(`${MOST} images are as many as can be kept here; save some and remove them`, true);
    this.codes = without.length < this.codes.length ? without : [...without, code];
    this.changed();
  }

  /** An image that a click opens, with a heart that keeps it. @param {NamedArray} images @param {number} k @param {number[]} code @param {string} title */
  tile(images, k, code, title) {
    const canvas = picture(title);
    show(canvas, images, k);
    const heart = el("button", { type: "button", className: "keep", "aria-pressed": String(this.has(code)), "aria-label": `Keep ${title}`, title: "Keep",
      onclick: () => this.toggle(code) }, "♥");
    this.hearts.set(packed(code), heart);
    return el("div", { className: "tile" }, el("button", { type: "button", className: "thumb", title: `${title}: open`, onclick: () => this.told.take(code, title) }, canvas), heart);
  }

  /** Shows what is kept, and which hearts are full. */
  async changed() {
    this.context.changed();
    for (const [key, heart] of this.hearts) {
      if (!heart.isConnected) this.hearts.delete(key);
      else heart.setAttribute("aria-pressed", String(this.codes.some((code) => packed(code) === key)));
    }
    this.follow(this.told.current());
    byId("kept").hidden = !this.codes.length;
    byId("keptcount").textContent = `Kept: ${this.codes.length}`;
    if (!this.codes.length) return byId("keptimages").replaceChildren();
    const answer = await tried(() => this.context.backend.call("decode", { run: 0, codes: this.codes }, "kept"));
    if (!answer) return;
    byId("keptimages").replaceChildren(...this.codes.map((code, k) => {
      const canvas = picture(`kept ${k + 1}`);
      show(canvas, answer.arrays.images, k);
      return el("div", { className: "tile" }, el("button", { type: "button", className: "thumb", title: "Open", onclick: () => this.told.take(code, `kept ${k + 1}`) }, canvas),
        el("button", { type: "button", className: "drop", title: "Remove", "aria-label": `Remove kept ${k + 1}`, onclick: () => this.toggle(code) }, "×"));
    }));
  }

  /** Whether the workbench's image is among them. @param {number[]} code */
  follow(code) {
    byId("keep").setAttribute("aria-pressed", String(code.length > 0 && this.codes.length > 0 && this.has(code)));
  }

  /** @param {string} kind */
  save(kind) {
    return tried(async () => download(await this.context.backend.call("save", { run: 0, kind, codes: this.codes })));
  }

  get state() {
    const all = this.codes.map(packed).join(",");
    return all.length < LONGEST ? all : "";
  }

  /** @param {URLSearchParams} state @param {number} d numbers of a code */
  restore(state, d) {
    this.codes = (state.get("kept") ?? "").split(",").map(unpacked).filter((code) => code.length === d).slice(0, MOST);
    return this.changed();
  }
}
