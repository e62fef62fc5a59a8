/** Two runs side by side: what each rebuilds of the same image, and samples of both from the same seed. */

import { byId, el, tried } from "../../web/dom.js";
import { apart, difference, picture, show } from "../../web/pixels.js";

/** @typedef {import("./app.js").Context} Context @typedef {import("./backend.js").NamedArray} NamedArray */

export class Compare {
  /** @param {Context} context @param {import("./workbench.js").Workbench} work */
  constructor(context, work) {
    this.context = context;
    this.work = work;
    this.seed = 0;
    byId("bothdraw").onclick = () => { this.seed += 1; this.samples(); };
  }

  /** Shows both runs' view of the workbench's image, and their samples. */
  async open() {
    await Promise.all([this.images(), byId("bothsamples").childElementCount ? null : this.samples()]);
  }

  async images() {
    const { source, file } = this.work, { backend, hello } = this.context;
    const asked = source.kind === "row" ? (/** @type {number} */ run) => backend.call("of_row", { run, row: source.row })
      : source.kind === "photo" && file ? (/** @type {number} */ run) => backend.call("encode", { run }, undefined, file) : null;
    byId("bothnote").hidden = Boolean(asked);
    if (!asked) return byId("bothimages").replaceChildren();
    const answers = await tried(() => Promise.all(hello.runs.map((_, run) => asked(run))));
    if (!answers) return;
    byId("bothimages").replaceChildren(...answers.map((answer, run) => {
      const { image, reconstruction } = /** @type {import("./backend.js").Answer} */ (answer).arrays;
      return el("section", {}, el("h2", {}, hello.runs[run].name), reconstruction
        ? el("div", { className: "trio" }, one(image, "original"), one(reconstruction, "rebuilt"), one(difference(image, reconstruction), `off by ${(100 * apart(image, reconstruction)).toFixed(1)} %`))
        : el("p", { className: "note" }, "This model has no way from an image to a code."));
    }));
  }

  /** The same number of draws of each run's default prior. */
  async samples() {
    const { backend, hello } = this.context;
    const answers = await tried(() => Promise.all(hello.runs.map((_, run) => backend.call("sample", { run, n: 16, seed: this.seed }))));
    if (!answers) return;
    byId("bothsamples").replaceChildren(...answers.map((answer, run) => {
      const { images } = /** @type {import("./backend.js").Answer} */ (answer).arrays;
      return el("section", {}, el("h2", {}, `Samples of ${hello.runs[run].name}`), el("div", { className: "grid" }, ...Array.from({ length: images.shape[0] }, (_, k) => {
        const canvas = picture(`sample ${k + 1} of ${hello.runs[run].name}`);
        show(canvas, images, k);
        return canvas;
      })));
    }));
  }
}

/** @param {NamedArray} pixels @param {string} label */
function one(pixels, label) {
  const canvas = picture(label);
  show(canvas, pixels);
  return el("figure", {}, canvas, el("figcaption", {}, label));
}
