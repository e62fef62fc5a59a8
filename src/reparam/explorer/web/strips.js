/** Strips above the sliders: what each of them would make of the image from one end to the other. */

import { byId, tried } from "../../web/dom.js";
import { filmstrip } from "../../web/pixels.js";

/** @typedef {import("./app.js").Context} Context @typedef {import("./sliders.js").Slider} Slider */
const IMAGES = 9, REST = 250;

export class Strips {
  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    /** @type {Set<Slider>} in view */ this.seen = new Set();
    /** @type {WeakMap<Slider, number>} of which turn a strip is */ this.made = new WeakMap();
    /** @type {WeakMap<Element, Slider>} */ this.of = new WeakMap();
    this.turn = this.timer = 0;
    /** @type {number | null} the turn whose strips are being made */ this.filling = null;
    this.observer = new IntersectionObserver((all) => {
      for (const { target, isIntersecting } of all) {
        const slider = this.of.get(target);
        if (slider) isIntersecting ? this.seen.add(slider) : this.seen.delete(slider);
      }
      this.fill();
    });
    byId("previews").onchange = () => { this.toggle(); this.context.changed(); };
  }

  get on() {
    return byId("previews").checked;
  }

  toggle() {
    byId("work").classList.toggle("previewing", this.on);
    this.fill();
  }

  /** @param {Iterable<Slider>} sliders those that there are now */
  watch(sliders) {
    this.observer.disconnect();
    this.seen.clear();
    for (const slider of sliders) {
      this.of.set(slider.root, slider);
      this.observer.observe(slider.root);
    }
  }

  /** The image has changed: once it rests, so do the strips. */
  stale() {
    this.turn += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fill(), REST);
  }

  /** One strip after the other, that under the pointer or the keyboard first. */
  async fill() {
    const { turn } = this;
    if (!this.on || !turn || this.filling === turn) return; // the first turn is that of the first image
    this.filling = turn;
    for (;;) {
      const waiting = [...this.seen].filter((slider) => this.made.get(slider) !== turn);
      const slider = waiting.find((each) => each.root.matches(":hover, :focus-within")) ?? waiting[0];
      if (!slider || this.turn !== turn) break;
      this.made.set(slider, turn);
      const answer = await tried(() => this.context.backend.call("decode", { run: 0, codes: slider.along(IMAGES), detail: false }, "strip"));
      if (answer) filmstrip(slider.strip, answer.arrays.images);
    }
    if (this.filling === turn) this.filling = null;
  }
}
