/** One slider: a name, what it tells, a range under a strip of what it would do, the value to type, and a lock. */

import { el, short } from "../../web/dom.js";

/**
 * @typedef {{name: string, note: string, share?: number, low: number, high: number, unit: string,
 *            set: (value: number) => void, at: (value: number) => number[], lock?: (on: boolean) => void, remove?: () => void}} Wanted
 *   `at` is the code that a value would give, `share` how much of the most that any slider tells
 */

export class Slider {
  /** @param {Wanted} wanted */
  constructor(wanted) {
    this.wanted = wanted;
    const { low, high, name } = wanted, step = (high - low) / 400 || 0.01;
    this.range = el("input", { type: "range", min: low, max: high, step: "any", className: "range", "aria-label": name,
      oninput: () => wanted.set(+this.range.value), onkeydown: (/** @type {KeyboardEvent} */ e) => this.key(e, step) });
    this.box = el("input", { type: "number", step: +step.toPrecision(1), className: "value", "aria-label": `${name}, value`,
      onchange: () => this.box.value !== "" && wanted.set(+this.box.value) });
    this.lock = wanted.lock && el("button", { type: "button", className: "lock", title: "Keep this value when another image is picked",
      "aria-label": `Lock ${name}`, "aria-pressed": "false", onclick: () => wanted.lock?.(this.lock.getAttribute("aria-pressed") !== "true") });
    this.strip = el("canvas", { className: "pixels preview", width: 9, height: 1, "aria-hidden": "true",
      onpointerdown: (/** @type {PointerEvent} */ e) => { this.strip.setPointerCapture(e.pointerId); this.point(e); },
      onpointermove: (/** @type {PointerEvent} */ e) => e.buttons && this.point(e) });
    this.tick = el("i", { className: "tick" });
    const share = el("i", { className: "share" });
    share.style.width = `${Math.round(100 * Math.max(0.02, Math.min(1, wanted.share ?? 0)))}%`;
    this.root = el("div", { className: "slider" },
      el("div", { className: "name", title: `${name}: ${wanted.note}` }, el("b", {}, name), el("small", {}, wanted.note), wanted.share !== undefined && el("span", { className: "bar" }, share)),
      el("div", { className: "track" }, this.strip, this.tick, this.range), this.box,
      this.lock ?? (wanted.remove && el("button", { type: "button", className: "remove", title: "Take this slider away", "aria-label": `Remove ${name}`, onclick: wanted.remove }, "×")));
  }

  /** Steps of 1/400 of the range by arrows, 1/20 by pages: `step=any` alone leaves them to the browser. @param {KeyboardEvent} e @param {number} step */
  key(e, step) {
    const by = /** @type {Record<string, number>} */ ({ ArrowLeft: -4, ArrowDown: -4, ArrowRight: 4, ArrowUp: 4, PageDown: -20, PageUp: 20 })[e.key];
    if (!by) return;
    e.preventDefault();
    this.range.value = String(+this.range.value + by * step);
    this.wanted.set(+this.range.value);
  }

  /** The value under the pointer on the strip. @param {PointerEvent} e */
  point(e) {
    const { left, width } = this.strip.getBoundingClientRect(), { low, high } = this.wanted;
    this.wanted.set(low + (high - low) * Math.max(0, Math.min(1, (e.clientX - left) / width)));
  }

  /** The codes of n values in the middles of as many parts of the range. @param {number} n */
  along(n) {
    const { low, high, at } = this.wanted;
    return Array.from({ length: n }, (_, i) => at(low + ((i + 0.5) / n) * (high - low)));
  }

  /** @param {number} value @param {number} origin where it started @param {boolean} locked */
  show(value, origin, locked = false) {
    const { low, high, unit, note } = this.wanted;
    this.range.value = String(value);
    if (document.activeElement !== this.box || this.box.value === "") this.box.value = value.toFixed(2);
    this.range.setAttribute("aria-valuetext", [unit ? `${short(value)} ${unit}` : short(value), note].filter(Boolean).join(", "));
    this.tick.style.left = `calc(8px + ${Math.max(0, Math.min(1, (origin - low) / (high - low || 1)))} * (100% - 16px))`;
    this.root.classList.toggle("moved", Math.abs(value - origin) > 1e-4);
    this.lock?.setAttribute("aria-pressed", String(locked));
  }
}
