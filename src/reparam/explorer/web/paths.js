/** Walks between images: chosen stops, the frames between them, a film of it. */

import { byId, calm, download, el, refill, say, tried } from "../../web/dom.js";
import { picture, rowOf, show } from "../../web/pixels.js";
import { packed, unpacked } from "./state.js";

/** @typedef {import("./app.js").Context} Context */
const MOST = 12;

export class Paths {
  /** @param {Context} context @param {{current: () => number[], walked: (codes: number[][]) => void, open: (code: number[], title: string) => void}} told */
  constructor(context, told) {
    this.context = context;
    this.told = told;
    /** @type {number[][]} */ this.stops = [];
    /** @type {import("./backend.js").NamedArray | null} */ this.images = null;
    /** @type {number[][]} */ this.codes = [];
    this.timer = 0;
    byId("addstop").onclick = () => this.add(told.current());
    byId("clearstops").onclick = () => { this.stops = []; this.changed(); };
    byId("frames").onchange = () => this.changed();
    byId("geodesic").onchange = () => this.changed();
    byId("play").onclick = () => (this.timer ? this.stop() : this.play());
    byId("scrub").oninput = () => { this.stop(); this.frame(+byId("scrub").value); };
    byId("openframe").onclick = () => this.codes.length && told.open(this.codes[+byId("scrub").value], `frame ${+byId("scrub").value + 1} of a path`);
    for (const kind of ["gif", "webp", "mp4", "strip", "zip"]) byId(`save${kind}`).onclick = () => this.save(kind);
    this.list();
  }

  get count() {
    return Math.max(2, Math.min(240, Math.round(+byId("frames").value) || 24));
  }

  /** @param {number[]} code */
  add(code) {
    if (this.stops.length >= MOST) return say(`A path has at most ${MOST} stops`, true);
    this.stops.push(code);
    return this.changed();
  }

  /** Shows the stops, and fetches the frames between them. */
  async changed() {
    this.stop();
    this.context.changed();
    await this.list();
    byId("film").hidden = this.stops.length < 2;
    if (this.stops.length < 2) return this.told.walked([]);
    byId("walking").hidden = false;
    const answer = await tried(() => this.context.backend.call("path", { run: 0, codes: this.stops, frames: this.count, geodesic: byId("geodesic").checked }, "path"));
    byId("walking").hidden = true;
    if (!answer) return;
    this.images = answer.arrays.images;
    const n = this.images.shape[0];
    this.codes = Array.from({ length: n }, (_, k) => rowOf(answer.arrays.codes, k));
    byId("scrub").max = n - 1;
    this.strip();
    this.frame(0);
    this.told.walked(this.codes);
    if (!calm()) this.play();
  }

  async list() {
    const note = byId("stopsnote");
    note.hidden = this.stops.length > 1;
    note.textContent = this.stops.length ? "One more stop makes a path." : "Pick two or more places on the map, or add the image of the workbench.";
    if (!this.stops.length) return refill(byId("stops"), []);
    const answer = await tried(() => this.context.backend.call("decode", { run: 0, codes: this.stops, detail: false }, "stops"));
    if (!answer) return;
    refill(byId("stops"), this.stops.map((code, k) => {
      const canvas = picture(`stop ${k + 1}`);
      show(canvas, answer.arrays.images, k);
      return el("li", {}, canvas, el("button", { type: "button", "aria-label": `Remove stop ${k + 1}`, title: "Remove", onclick: () => { this.stops = this.stops.filter((s) => s !== code); this.changed(); } }, "×"));
    }));
  }

  /** Ten of the frames in a row. */
  strip() {
    const images = this.images, n = images?.shape[0] ?? 0, few = Math.min(10, n);
    byId("strip").replaceChildren(...Array.from({ length: few }, (_, i) => {
      const k = Math.round((i * (n - 1)) / Math.max(1, few - 1)), canvas = picture("");
      canvas.setAttribute("aria-hidden", "true");
      if (images) show(canvas, images, k);
      return canvas;
    }));
  }

  /** @param {number} k */
  frame(k) {
    if (!this.images) return;
    show(byId("walk"), this.images, k);
    byId("scrub").value = String(k);
    byId("scrub").setAttribute("aria-valuetext", `${k + 1} of ${this.images.shape[0]}`);
  }

  play() {
    let k = +byId("scrub").value, way = 1;
    byId("play").textContent = "Pause";
    this.timer = setInterval(() => {
      const last = (this.images?.shape[0] ?? 1) - 1;
      if (k + way > last || k + way < 0) way = -way;
      this.frame(k = Math.max(0, Math.min(last, k + way)));
    }, 70);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    byId("play").textContent = "Play";
  }

  /** @param {string} kind */
  save(kind) {
    return tried(async () => download(await this.context.backend.call("save", { run: 0, kind, codes: this.codes })));
  }

  get state() {
    return this.stops.map(packed).join(",");
  }

  /** @param {URLSearchParams} state @param {number} d numbers of a code */
  restore(state, d) {
    this.stops = (state.get("stops") ?? "").split(",").map(unpacked).filter((code) => code.length === d).slice(0, MOST);
    if (state.get("frames")) byId("frames").value = state.get("frames");
    byId("geodesic").checked = state.get("geodesic") === "1";
    return this.stops.length ? this.changed() : undefined;
  }
}
