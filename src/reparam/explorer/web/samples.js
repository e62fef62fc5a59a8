/** New images from a prior, side by side; those that are kept can be saved. */

import { byId, download, el, tried } from "../../web/dom.js";
import { picture, rowOf, show } from "../../web/pixels.js";

/** @typedef {import("./app.js").Context} Context */

export class Samples {
  /** @param {Context} context @param {(code: number[], title: string) => void} take */
  constructor(context, take) {
    this.context = context;
    this.take = take;
    /** @type {number[][]} */ this.kept = [];
    this.drawn = false;
    const run = context.hello.runs[0];
    byId("prior").replaceChildren(...run.priors.map((name, k) => el("option", { value: k ? name : "" }, name)));
    byId("priorbox").hidden = run.priors.length < 2;
    byId("class").replaceChildren(el("option", { value: "" }, "any"), ...run.classes.map((name) => el("option", { value: name }, name)));
    byId("classbox").hidden = !run.classes.length;
    byId("draw").onclick = () => { this.seed = Math.floor(1e6 * Math.random()); this.draw(); };
    for (const id of ["prior", "class", "temperature"]) byId(id).onchange = () => this.draw();
    byId("temperature").oninput = () => this.warmth();
    byId("savekept").onclick = () => this.save("png");
    byId("savecodes").onclick = () => this.save("npy");
    this.seed = 0;
    this.warmth();
    this.tray();
  }

  warmth() {
    const value = (+byId("temperature").value).toFixed(2);
    byId("temperatureis").textContent = value;
    byId("temperature").setAttribute("aria-valuetext", `temperature ${value}`);
  }

  asked() {
    return { prior: byId("prior").value, label: byId("class").value, temperature: +byId("temperature").value, seed: this.seed, n: 24, guidance: 1 };
  }

  draw() {
    this.drawn = true;
    this.context.changed();
    return tried(async () => {
      const { prior, label, temperature, seed, n } = this.asked();
      const answer = await this.context.backend.call("sample", { run: 0, n, seed, temperature, ...(prior && { prior }), ...(label && { label }) }, "draw");
      if (!answer) return;
      const { images, codes } = answer.arrays;
      byId("drawn").replaceChildren(...Array.from({ length: images.shape[0] }, (_, k) => this.tile(images, rowOf(codes, k), k)));
    });
  }

  /** @param {import("./backend.js").NamedArray} images @param {number[]} code @param {number} k */
  tile(images, code, k) {
    const canvas = picture(`sample ${k + 1}`);
    show(canvas, images, k);
    const keep = el("button", { type: "button", className: "keep", "aria-pressed": "false", "aria-label": `Keep sample ${k + 1}`, title: "Keep", onclick: () => {
      const at = this.kept.indexOf(code);
      at < 0 ? this.kept.push(code) : this.kept.splice(at, 1);
      keep.setAttribute("aria-pressed", String(at < 0));
      this.tray();
    } }, "♥");
    return el("div", { className: "tile" }, el("button", { type: "button", className: "thumb", title: "Open in the workbench", onclick: () => this.take(code, `sample ${k + 1} of seed ${this.seed}`) }, canvas), keep);
  }

  tray() {
    byId("kept").hidden = !this.kept.length;
    byId("keptcount").textContent = `${this.kept.length} kept`;
  }

  /** @param {string} kind */
  save(kind) {
    return tried(async () => download(await this.context.backend.call("save", { run: 0, kind, codes: this.kept })));
  }

  /** @param {URLSearchParams} state */
  restore(state) {
    const [prior, label, temperature, seed] = (state.get("draw") ?? "").split("|");
    if (seed === undefined || !Number.isFinite(+seed)) return;
    byId("prior").value = prior;
    byId("class").value = label;
    byId("temperature").value = temperature;
    this.seed = +seed;
    this.warmth();
    return this.draw();
  }

  get state() {
    const { prior, label, temperature, seed } = this.asked();
    return this.drawn ? [prior, label, temperature, seed].join("|") : "";
  }
}
