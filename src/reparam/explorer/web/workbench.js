/** One image large, and everything that can be done to it. */

import { byId, el, handOver, say, short, tried } from "../../web/dom.js";
import { Code } from "./code.js";
import { apart, difference, picture, rowOf, show, withRest } from "../../web/pixels.js";
import { Slider } from "./sliders.js";
import { Strips } from "./strips.js";

/** @typedef {import("./app.js").Context} Context @typedef {import("./backend.js").NamedArray} NamedArray */
/** @typedef {{kind: "row", row: number} | {kind: "photo", name: string} | {kind: "code", title: string}} Source */

const AT_FIRST = 10;

export class Workbench {
  /** @param {Context} context @param {(code: number[]) => void} moved told where the code is now */
  constructor(context, moved) {
    this.context = context;
    this.moved = moved;
    this.run = context.hello.runs[0];
    this.code = new Code(middle(this.run));
    this.strips = new Strips(context);
    /** @type {Source} */ this.source = { kind: "code", title: "" };
    this.title = "";
    /** @type {{image: NamedArray, rebuilt: NamedArray} | null} an image that was encoded, and what the model rebuilds of it */ this.pair = null;
    /** @type {Map<number, Slider>} */ this.sliders = new Map();
    /** @type {Map<string, Slider>} */ this.pulls = new Map();
    /** @type {ArrayBuffer | null} the photo's */ this.file = null;
    this.shown = Math.min(AT_FIRST, this.run.axes.length);
    this.axes = [...this.run.axes].sort((a, b) => b.nats - a.nats);
    byId("more").onclick = () => {
      const before = this.shown;
      this.shown += AT_FIRST;
      this.build();
      this.refresh();
      [...this.sliders.values()][before]?.range.focus();
    };
    byId("reset").onclick = () => { this.code.reset(); this.redraw(); };
    byId("save").onclick = () => this.save();
    byId("rest").onchange = () => this.redraw();
    byId("detail").hidden = !this.run.refines;
    byId("detailbox").onchange = () => this.redraw();
    byId("photo").hidden = !this.run.has_encoder;
    byId("photo").onclick = () => byId("file").click();
    byId("file").onchange = () => { const file = byId("file").files[0]; byId("file").value = ""; if (file) this.photo(file); };
    if (this.run.has_encoder) this.accept();
    this.heat = new Slider({ name: "temperature", note: "below 1: more typical", low: 0, high: 2, unit: "", set: (value) => { this.code.temperature = value; this.redraw(); },
      at: (value) => this.code.after((code) => { code.temperature = value; }) });
    byId("heat").hidden = !this.run.plain;
    byId("heat").replaceChildren(this.heat.root);
    this.build();
  }

  /** Whether a refiner adds detail. @returns {boolean} */
  get detail() {
    return this.run.refines && byId("detailbox").checked;
  }

  /** Photos are dropped anywhere, or pasted. */
  accept() {
    const over = (/** @type {boolean} */ on) => document.body.classList.toggle("dropping", on);
    addEventListener("dragover", (e) => { e.preventDefault(); over(true); });
    addEventListener("dragleave", (e) => e.relatedTarget ?? over(false));
    addEventListener("drop", (e) => { e.preventDefault(); over(false); const file = e.dataTransfer?.files[0]; if (file) this.photo(file); });
    addEventListener("paste", (e) => { const file = e.clipboardData?.files[0]; if (file) this.photo(file); });
  }

  /** The sliders of the most informative latents. */
  build() {
    const most = Math.max(...this.axes.map((a) => a.nats), 1e-9);
    this.sliders.clear();
    for (const axis of this.axes.slice(0, this.shown)) {
      const wide = 0.08 * (axis.high - axis.low) || 1;
      this.sliders.set(axis.index, new Slider({ name: axis.name || `latent ${axis.index}`, note: `${short(axis.nats)} nats`, share: axis.nats / most,
        low: axis.low - wide, high: axis.high + wide, unit: "",
        set: (value) => { this.code.set(axis.index, value); this.redraw(); }, at: (value) => this.code.after((code) => code.set(axis.index, value)),
        lock: (on) => { on ? this.code.locked.add(axis.index) : this.code.locked.delete(axis.index); this.refresh(); this.context.changed(); } }));
    }
    byId("sliders").replaceChildren(...[...this.sliders.values()].map((s) => s.root));
    this.watch();
    byId("more").hidden = this.shown >= this.axes.length;
    byId("more").textContent = `Show ${Math.min(AT_FIRST, this.axes.length - this.shown)} more of ${this.axes.length - this.shown}`;
  }

  watch() {
    this.strips.watch([this.heat, ...this.sliders.values(), ...this.pulls.values()]);
  }

  /** A slider for a direction: kept with the model, or made from two lassos. @param {string} name @param {number[]} vector
   *  @param {number} accuracy @param {boolean} [made] whether it can be taken away again */
  pull(name, vector, accuracy, made = false) {
    const note = Number.isFinite(accuracy) ? `told apart ${Math.round(100 * accuracy)} %` : "a direction";
    this.code.directions.set(name, vector);
    this.pulls.get(name)?.root.remove();
    const slider = new Slider({ name, note, share: accuracy, low: -3, high: 3, unit: "times the direction",
      set: (value) => { this.code.amounts.set(name, value); this.redraw(); },
      at: (value) => this.code.after((code) => code.amounts.set(name, value)),
      remove: made ? () => { this.forget(name); this.redraw(); byId("sliders").querySelector("input")?.focus(); } : undefined });
    this.pulls.set(name, slider);
    byId("directions").append(slider.root);
    byId("directionsbox").hidden = false;
    this.watch();
    this.refresh();
  }

  /** @param {string} name */
  forget(name) {
    this.pulls.get(name)?.root.remove();
    this.pulls.delete(name);
    this.code.directions.delete(name);
    this.code.amounts.delete(name);
    byId("directionsbox").hidden = !this.pulls.size;
  }

  /** Sliders of the directions that are kept with the model. */
  async saved() {
    for (const { name, accuracy } of this.run.directions) {
      const answer = await tried(() => this.context.backend.call("direction", { run: 0, name }));
      if (answer) this.pull(name, rowOf(answer.arrays.vector), answer.header.accuracy ?? accuracy);
    }
  }

  /** Takes an image of the data. @param {number} row */
  async row(row) {
    const answer = await tried(() => this.context.backend.call("of_row", { run: 0, row }, "pick"));
    if (!answer) return false;
    const { name, label } = answer.header;
    this.begin({ kind: "row", row }, rowOf(answer.arrays.code), [name || `image ${row}`, label].filter((t) => t !== undefined && t !== null && t !== "").join(" · "));
    this.compare(answer.arrays.image, answer.arrays.reconstruction);
    return true;
  }

  /** Takes any code. @param {number[]} code @param {string} title */
  take(code, title) {
    this.begin({ kind: "code", title }, code, title);
    this.compare(null, null);
  }

  /** Takes one's own photo. @param {File} file */
  async photo(file) {
    await tried(async () => {
      say(`Reading ${file.name || "the picture"} …`);
      const bytes = await file.arrayBuffer(), answer = await this.context.backend.call("encode", { run: 0 }, "pick", bytes);
      if (!answer) return;
      this.file = bytes;
      this.begin({ kind: "photo", name: file.name || "pasted picture" }, rowOf(answer.arrays.code), `your photo · ${file.name || "pasted"}`);
      this.compare(answer.arrays.image, answer.arrays.reconstruction);
      say(`Encoded ${file.name || "the picture"}`);
    });
  }

  /** Saves the image as it is seen, at its own size. */
  save() {
    byId("image").toBlob((/** @type {Blob | null} */ blob) => blob && handOver(blob, "reparam.png"), "image/png");
  }

  /** @param {Source} source @param {number[]} base @param {string} title */
  begin(source, base, title) {
    this.source = source;
    this.code.start(base);
    this.title = byId("title").textContent = title;
    byId("image").dispatchEvent(new Event("begun"));
    this.redraw();
  }

  /** The image itself, what the model rebuilds, and where they differ. @param {NamedArray | null} image @param {NamedArray | null} rebuilt */
  compare(image, rebuilt) {
    const box = byId("originals");
    box.hidden = byId("restbox").hidden = !image || !rebuilt;
    this.pair = image && rebuilt && { image, rebuilt };
    if (!image || !rebuilt) return box.replaceChildren();
    const one = (/** @type {NamedArray} */ pixels, /** @type {string} */ label) => {
      const canvas = picture(label);
      show(canvas, pixels);
      return el("figure", {}, canvas, el("figcaption", {}, label));
    };
    box.replaceChildren(one(image, "original"), one(rebuilt, "rebuilt"), one(difference(image, rebuilt), `off by ${(100 * apart(image, rebuilt)).toFixed(1)} %`));
  }

  /** Sliders after the code, and the image after both. */
  redraw() {
    this.refresh();
    this.context.changed();
    const code = this.code.value();
    this.strips.stale();
    this.moved(code);
    return tried(async () => {
      const answer = await this.context.backend.call("decode", { run: 0, codes: [code], detail: this.detail }, "work");
      if (!answer) return;
      const { images } = answer.arrays;
      show(byId("image"), this.pair && byId("rest").checked ? withRest(images, this.pair.image, this.pair.rebuilt) : images);
      byId("image").dispatchEvent(new CustomEvent("shown", { detail: code }));
    });
  }

  refresh() {
    const code = this.code.value();
    if (!code.length) return;
    for (const [i, slider] of this.sliders) slider.show(code[i], this.code.base[i], this.code.locked.has(i));
    for (const [name, slider] of this.pulls) slider.show(this.code.amounts.get(name) ?? 0, 0);
    this.heat.show(this.code.temperature, 1);
    byId("reset").disabled = !this.code.edited;
  }
}

/** The mean of all codes. @param {import("./app.js").Run} run */
function middle(run) {
  const code = new Array(run.latent.reduce((a, b) => a * b, 1)).fill(0);
  for (const axis of run.axes) code[axis.index] = axis.mean;
  return code;
}
