/**
 * The code that the workbench shows: where it came from, and what was added to it.
 *
 * code = middle + temperature · (base − middle) + Σ amount · direction + change, each latent on its own. A locked latent keeps
 * its value when the base changes.
 */
export class Code {
  /** @param {number[]} middle the mean of all codes */
  constructor(middle) {
    this.middle = middle;
    this.temperature = 1;
    /** @type {number[]} */ this.base = [];
    /** @type {Map<number, number>} what sliders added to single latents */ this.change = new Map();
    /** @type {Map<string, number>} */ this.amounts = new Map();
    /** @type {Map<string, number[]>} */ this.directions = new Map();
    /** @type {Set<number>} */ this.locked = new Set();
  }

  /** @returns {number[]} */
  value() {
    const { middle, temperature: t } = this;
    const out = t === 1 ? this.base.slice() : this.base.map((v, i) => middle[i] + t * (v - middle[i]));
    for (const [name, amount] of this.amounts) this.directions.get(name)?.forEach((v, i) => { out[i] += amount * v; });
    for (const [i, by] of this.change) out[i] += by;
    return out;
  }

  /** Starts from another code; locked latents keep their values. @param {number[]} base */
  start(base) {
    const kept = this.base.length ? this.value() : [];
    this.base = base;
    this.clear(kept);
  }

  /** @param {number} i @param {number} value */
  set(i, value) {
    this.change.set(i, value - (this.value()[i] - (this.change.get(i) ?? 0)));
  }

  /** Back to the base, except for what is locked. */
  reset() {
    this.clear(this.value());
  }

  /** @param {number[]} kept values of locked latents */
  clear(kept) {
    this.change.clear();
    this.amounts.clear();
    this.temperature = 1;
    if (kept.length) for (const i of this.locked) this.set(i, kept[i]);
  }

  /** The code after a change that is not made. @param {(code: Code) => void} change */
  after(change) {
    const tried = Object.assign(new Code(this.middle), this, { change: new Map(this.change), amounts: new Map(this.amounts) });
    change(tried);
    return tried.value();
  }

  get edited() {
    return this.temperature !== 1 || [...this.change.values(), ...this.amounts.values()].some((v) => Math.abs(v) > 1e-6);
  }
}
