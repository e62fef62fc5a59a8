/** New images from each of the model's priors, side by side. */

import { byId, el, short, tried } from "../../web/dom.js";
import { rowOf } from "../../web/pixels.js";

/** @typedef {import("./app.js").Context} Context @typedef {import("./app.js").Way} Way */
/** @typedef {{way: Way, n: number, seed: number, temperature: number, guidance: number, label: string}} Drawn */

export class Samples {
  /** @param {Context} context @param {import("./kept.js").Kept} kept */
  constructor(context, kept) {
    this.context = context;
    this.kept = kept;
    this.drawn = false;
    this.seed = 0;
    const run = context.hello.runs[0];
    this.ways = run.ways;
    byId("class").replaceChildren(el("option", { value: "" }, "any"), ...run.classes.map((name) => el("option", { value: name }, name)));
    byId("classbox").hidden = !run.classes.length || !this.ways.some((way) => way.labels);
    byId("guidancebox").hidden = !this.ways.some((way) => way.guides);
    byId("temperature").value = String(run.temperature);
    byId("chosen").hidden = run.temperature === 1;
    byId("chosen").textContent = `Training chose ${short(run.temperature)}: nearest to held-out images.`;
    byId("draw").onclick = () => { this.seed = Math.floor(1e6 * Math.random()); this.draw(); };
    for (const id of ["class", "temperature", "guidance"]) byId(id).onchange = () => this.draw();
    for (const id of ["temperature", "guidance"]) byId(id).oninput = () => this.tell();
    this.tell();
  }

  tell() {
    for (const id of ["temperature", "guidance"]) {
      const value = (+byId(id).value).toFixed(2);
      byId(`${id}is`).textContent = value;
      byId(id).setAttribute("aria-valuetext", value);
    }
  }

  /** Why a way cannot draw what is asked for; empty where it can. @param {Way} way */
  lacks(way) {
    const { label, guidance, temperature } = this.fields();
    if (label && !way.labels) return "This prior knows no classes.";
    if (guidance !== 1 && !way.guides) return "This prior draws without guidance.";
    return way.resample && (label || guidance !== 1 || temperature !== 1) ? "The resampler judges plain draws: temperature and guidance 1, any class." : "";
  }

  fields() {
    return { label: byId("class").value, temperature: +byId("temperature").value, guidance: +byId("guidance").value, seed: this.seed };
  }

  /** What is drawn, of each way that can. @returns {Drawn[]} */
  asked() {
    const can = this.ways.filter((way) => !this.lacks(way));
    return can.map((way) => ({ way, n: this.ways.length > 1 ? 12 : 24, ...this.fields() }));
  }

  async draw() {
    this.drawn = true;
    this.context.changed();
    const asked = this.asked();
    byId("drawn").style.setProperty("--ways", String(Math.min(3, this.ways.length)));
    byId("drawn").setAttribute("aria-busy", "true");
    const columns = await Promise.all(this.ways.map((way, k) => {
      const drawn = asked.find((each) => each.way === way);
      return drawn ? this.column(drawn, k) : heading(way, el("p", { className: "note" }, this.lacks(way)));
    }));
    if (columns.some((column) => !column)) return; // a later draw is on its way, or it was told why not
    byId("drawn").replaceChildren(.../** @type {HTMLElement[]} */ (columns));
    byId("drawn").removeAttribute("aria-busy");
  }

  /** @param {Drawn} drawn @param {number} k @returns {Promise<HTMLElement | null>} */
  async column({ way, n, seed, temperature, guidance, label }, k) {
    const answer = await tried(() => this.context.backend.call("sample", { run: 0, n, seed, temperature, guidance, prior: way.prior, resample: way.resample,
      ...(label && { label }) }, `draw ${k}`));
    if (!answer) return null;
    const { images, codes } = answer.arrays, { temperature: t } = this.fields();
    const tiles = Array.from({ length: images.shape[0] }, (_, i) => this.kept.tile(images, i, rowOf(codes, i), `sample ${i + 1} of ${way.title}${t === 1 ? "" : ` at ${short(t)}`}`));
    return heading(way, el("div", { className: "tiles" }, ...tiles));
  }

  /** @param {URLSearchParams} state */
  restore(state) {
    const [label, temperature, guidance, seed] = (state.get("draw") ?? "").split("|");
    if (seed === undefined || !Number.isFinite(+seed)) return;
    byId("class").value = label;
    byId("temperature").value = temperature;
    byId("guidance").value = guidance;
    this.seed = +seed;
    this.tell();
    return this.draw();
  }

  get state() {
    const { label, temperature, guidance, seed } = this.fields();
    return this.drawn ? [label, temperature, guidance, seed].join("|") : "";
  }
}

/** @param {Way} way @param {HTMLElement} shown */
const heading = (way, shown) => el("section", { "aria-label": way.title }, el("h2", {}, way.title), shown);
