/** Two runs side by side: the same image, the same place, samples of both, and the images on which they differ most. */

import { byId, el, say, short, tried } from "../../web/dom.js";
import { apart, difference, picture, rowOf, show } from "../../web/pixels.js";

/** @typedef {import("./app.js").Context} Context @typedef {import("../../web/types.js").NamedArray} NamedArray @typedef {import("../../web/types.js").Answer} Answer */
/** @typedef {{values: Float32Array[], rows: number[]}} Errors of each image in both runs and their difference */
const PAGE = 10, DIFFERENCE = 2;

export class Compare {
  /** @param {Context} context @param {import("./workbench.js").Workbench} work */
  constructor(context, work) {
    this.context = context;
    this.work = work;
    this.seed = 0;
    this.sort = DIFFERENCE;
    this.down = true;
    this.many = PAGE;
    /** @type {number[]} the other run's code at the same place */ this.place = [];
    /** @type {Errors | null} */ this.errors = null;
    const { runs, points } = context.hello;
    this.both = runs.length > 1 && points.n > 0 && runs.every((run) => run.has_encoder);
    byId("bothdraw").onclick = () => { this.seed += 1; this.samples(); };
    byId("worst").hidden = !this.both;
    byId("findworst").onclick = () => this.find();
    byId("moreworst").onclick = () => { this.many += PAGE; this.table(); };
    byId("twinbox").hidden = byId("place").hidden = !this.both;
    if (!this.both) return;
    byId("twinnote").textContent = `${this.names[1]}, same place`;
    [byId("herenote").textContent, byId("therenote").textContent] = this.names;
    byId("image").addEventListener("shown", () => {
      const { width, height } = byId("image");
      Object.assign(byId("here"), { width, height }).getContext("2d").drawImage(byId("image"), 0, 0);
    });
  }

  get names() {
    return this.context.hello.runs.map((run) => run.name);
  }

  /** Shows both runs' view of the workbench's image, and their samples. */
  async open() {
    await Promise.all([this.images(), byId("bothsamples").childElementCount ? null : this.samples()]);
  }

  /** Beside the workbench's image, what the other run makes at the same place. @param {number[]} code */
  follow(code) {
    if (!this.both) return;
    return tried(async () => {
      const answer = await this.context.backend.call("counterpart", { run: 0, codes: [code], detail: this.work.detail }, "twin");
      if (!answer) return;
      this.place = rowOf(answer.arrays.codes);
      for (const id of ["twin", "there"]) show(byId(id), answer.arrays.images);
      const share = Math.round(100 * Math.max(0, answer.header.explained));
      byId("placeshare").textContent = `Laid over one another by the codes of the same images: those of ${this.names[0]} tell ${share} % of what varies in those of ${this.names[1]}.`;
    });
  }

  async images() {
    const { source, file } = this.work, { backend, hello } = this.context;
    const asked = source.kind === "row" ? (/** @type {number} */ run) => backend.call("of_row", { run, row: source.row })
      : source.kind === "photo" && file ? (/** @type {number} */ run) => backend.call("encode", { run }, undefined, file) : null;
    byId("bothnote").hidden = Boolean(asked);
    if (!asked) return byId("bothimages").replaceChildren();
    const answers = await tried(() => Promise.all(hello.runs.map((run, k) => (run.has_encoder ? asked(k) : null))));
    if (!answers) return;
    byId("bothimages").replaceChildren(...answers.map((answer, run) => {
      if (!answer?.arrays.reconstruction) return titled(this.names[run], el("p", { className: "note" }, "This model has no way from an image to a code."));
      const { image, reconstruction } = answer.arrays;
      return titled(this.names[run], el("div", { className: "trio" }, one(image, "original"), one(reconstruction, "rebuilt"),
        one(difference(image, reconstruction), `off by ${(100 * apart(image, reconstruction)).toFixed(1)} %`)));
    }));
  }

  /** The same number of draws of each run's default prior. */
  async samples() {
    this.context.changed();
    const { backend, hello } = this.context;
    const answers = await tried(() => Promise.all(hello.runs.map((_, run) => backend.call("sample", { run, n: 16, seed: this.seed }))));
    if (!answers) return;
    byId("bothsamples").replaceChildren(...answers.map((answer, run) => {
      const { images } = /** @type {Answer} */ (answer).arrays;
      return titled(`Samples of ${this.names[run]}`, el("div", { className: "grid" }, ...Array.from({ length: images.shape[0] }, (_, k) => {
        const canvas = picture(`sample ${k + 1} of ${this.names[run]}`);
        show(canvas, images, k);
        return canvas;
      })));
    }));
  }

  /** Measures both runs' errors of all images, which takes a while the first time. */
  async find() {
    byId("findworst").disabled = true;
    say("Measuring the errors of all images …");
    const answers = await tried(() => Promise.all([0, 1].map((run) => this.context.backend.call("column", { run, name: "error" }))));
    byId("findworst").disabled = false;
    if (!answers) return;
    const [a, b] = answers.map((answer) => Float32Array.from(/** @type {Answer} */ (answer).arrays.values.data));
    this.errors = { values: [a, b, b.map((v, i) => v - a[i])], rows: Array.from(a.keys()) };
    byId("findworst").hidden = true;
    await this.table();
  }

  /** The rows that come first in the order that is asked for. */
  first() {
    const { values, rows } = /** @type {Errors} */ (this.errors), by = values[this.sort], way = this.down ? -1 : 1;
    const size = this.sort === DIFFERENCE ? (/** @type {number} */ i) => Math.abs(by[i]) : (/** @type {number} */ i) => by[i];
    return rows.sort((i, j) => way * (size(i) - size(j)) || i - j).slice(0, this.many);
  }

  async table() {
    if (!this.errors) return;
    this.context.changed();
    const rows = this.first(), { values } = this.errors, { backend } = this.context;
    const answers = await tried(() => Promise.all([backend.call("thumbs", { rows }), ...[0, 1].map((run) => backend.call("decode", { run, rows, detail: false }))]));
    if (!answers || answers.some((answer) => !answer)) return;
    const [own, ...rebuilt] = /** @type {Answer[]} */ (answers);
    byId("worsthead").replaceChildren(el("th", { scope: "col" }, "image"), ...this.names.map((name) => el("th", { scope: "col" }, name)),
      ...[...this.names.map((name) => `error, ${name}`), "difference"].map((title, k) => this.head(title, k)));
    byId("worstrows").replaceChildren(...rows.map((row, k) => el("tr", {},
      el("td", {}, el("button", { type: "button", className: "thumb", title: own.header.names[k], "aria-label": own.header.names[k] || `image ${row}`, onclick: () => this.context.pick({ row }) }, drawn(own.arrays.images, k, "original"))),
      ...rebuilt.map((answer, run) => el("td", {}, drawn(answer.arrays.images, k, `rebuilt by ${this.names[run]}`))),
      ...values.map((of, column) => el("td", { className: "number" }, `${column === DIFFERENCE && of[row] > 0 ? "+" : ""}${short(of[row])}`)))));
    byId("worsttable").hidden = false;
    byId("moreworst").hidden = this.many >= values[0].length;
  }

  /** A column's head, which sorts by it. @param {string} title @param {number} column */
  head(title, column) {
    const sorted = this.sort === column;
    return el("th", { scope: "col", "aria-sort": sorted ? (this.down ? "descending" : "ascending") : "none" }, el("button", { type: "button", className: "link",
      onclick: async () => {
        this.down = sorted ? !this.down : true;
        this.sort = column;
        await this.table();
        byId("worsthead").querySelectorAll("button")[column]?.focus();
      } }, `${title}${sorted ? (this.down ? " ↓" : " ↑") : ""}`));
  }

  get state() {
    return this.context.hello.runs.length > 1 ? { both: [this.seed, this.errors ? 1 : 0, this.sort, this.down ? 1 : 0, this.many].join("|") } : {};
  }

  /** @param {URLSearchParams} state */
  async restore(state) {
    const [seed, found, sort, down, many] = (state.get("both") ?? "").split("|").map(Number);
    if (!this.both || !Number.isFinite(many)) return;
    this.seed = Math.max(0, Math.floor(seed));
    this.sort = [0, 1, 2].includes(sort) ? sort : DIFFERENCE;
    this.down = down !== 0;
    this.many = Math.max(PAGE, Math.min(200, Math.floor(many)));
    if (found === 1) await this.find();
  }
}

/** @param {string} title @param {HTMLElement} shown */
const titled = (title, shown) => el("section", {}, el("h2", {}, title), shown);

/** @param {NamedArray} images @param {number} k @param {string} label */
function drawn(images, k, label) {
  const canvas = picture(label);
  show(canvas, images, k);
  return canvas;
}

/** @param {NamedArray} pixels @param {string} label */
const one = (pixels, label) => el("figure", {}, drawn(pixels, 0, label), el("figcaption", {}, label));
