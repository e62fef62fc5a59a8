/**
 * The code that the workbench shows: where it came from, and what was added to it.
 *
 * code = base + Σ amount · direction + change, each latent on its own. A locked latent keeps its value when the base changes.
 */
export class Code {
  constructor() {
    /** @type {number[]} */ this.base = [];
    /** @type {Map<number, number>} what sliders added to single latents */ this.change = new Map();
    /** @type {Map<string, number>} */ this.amounts = new Map();
    /** @type {Map<string, number[]>} */ this.directions = new Map();
    /** @type {Set<number>} */ this.locked = new Set();
  }

  /** @returns {number[]} */
  value() {
    const out = this.base.slice();
    for (const [name, amount] of this.amounts) this.directions.get(name)?.forEach((v, i) => { out[i] += amount * v; });
    for (const [i, by] of this.change) out[i] += by;
    return out;
  }

  /** Starts from another code; locked latents keep their values. @param {number[]} base */
  start(base) {
    const kept = this.base.length ? this.value() : [];
    this.base = base;
    this.change.clear();
    this.amounts.clear();
    if (kept.length) for (const i of this.locked) this.set(i, kept[i]);
  }

  /** @param {number} i @param {number} value */
  set(i, value) {
    this.change.set(i, value - (this.value()[i] - (this.change.get(i) ?? 0)));
  }

  /** Back to the base, except for what is locked. */
  reset() {
    const kept = this.value();
    this.change.clear();
    this.amounts.clear();
    for (const i of this.locked) this.set(i, kept[i]);
  }

  get edited() {
    return [...this.change.values(), ...this.amounts.values()].some((v) => Math.abs(v) > 1e-6);
  }
}
