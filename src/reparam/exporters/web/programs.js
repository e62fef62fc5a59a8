// The model's programs, run by ONNX Runtime Web on one thread.

import { normal, uniform } from "./noise.js";
import { taken, unpack } from "./unpack.js";

/** What new codes are to be: of a class, and how far beyond what its label says.
 * @typedef {{label?: number, guidance?: number}} Asked */

/** A model: what may be asked of it, also from the browser's console as `model`.
 * Codes and images are Float32Array of one row, or of `rows` of them. */
export class Model {
  /** @param {any} told what the page says of the model @param {any} ort @param {Record<string, any>} sessions */
  constructor(told, ort, sessions) {
    this.told = told;
    this.ort = ort;
    this.sessions = sessions;
    /** @type {Float32Array | undefined} of a refiner: the one noise of all decoded codes */
    this.detailNoise = undefined;
    /** @type {Promise<any>} */
    this.last = Promise.resolve();
    this.codeSize = told.latent.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
    this.imageSize = told.image.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
  }

  /** Starts the runtime, and loads every program. @param {any} told @returns {Promise<Model>} */
  static async load(told) {
    const code = new Blob([await unpack(taken("runtime"))], { type: "text/javascript" });
    const address = URL.createObjectURL(code);
    const ort = await import(address);
    URL.revokeObjectURL(address);
    Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary: await unpack(taken("wasm")) });
    /** @type {Record<string, any>} */
    const sessions = {};
    for (const name of Object.keys(told.files)) {
      sessions[name] = await ort.InferenceSession.create(await unpack(told.files[name]), { executionProviders: ["wasm"] });
      delete told.files[name];
    }
    const model = new Model(told, ort, sessions);
    if (told.detail) model.detailNoise = new Float32Array(await unpack(told.detail));
    for (const slider of told.sliders) if (slider.vector) slider.vector = new Float32Array(await unpack(slider.vector));
    return model;
  }

  /** One program; they take turns. @param {string} name @param {[Float32Array, number[]][]} inputs each with its shape
   * @returns {Promise<Float32Array>} */
  run(name, inputs) {
    const session = this.sessions[name];
    const answer = this.last.then(async () => {
      const feeds = Object.fromEntries(inputs.map(([data, shape], i) =>
        [session.inputNames[i], new this.ort.Tensor("float32", data, shape)]));
      return (await session.run(feeds))[session.outputNames[0]].data;
    });
    this.last = answer.catch(() => undefined);
    return answer;
  }

  /** @param {Float32Array} images @returns {Promise<Float32Array>} codes: the posterior's mean */
  encode(images) {
    return this.run("encoder", [[images, [images.length / this.imageSize, ...this.told.image]]]);
  }

  /** @param {Float32Array} codes @param {boolean} [detail] @returns {Promise<Float32Array>} images, not clipped to [0, 1] */
  async decode(codes, detail = true) {
    const rows = codes.length / this.codeSize;
    const images = await this.run("decoder", [[codes, [rows, ...this.told.latent]]]);
    if (!this.detailNoise || !detail) return images;
    const noise = new Float32Array(images.length);
    for (let row = 0; row < rows; row++) noise.set(this.detailNoise, row * this.imageSize);
    const shape = [rows, ...this.told.image];
    return this.run("refiner", [[images, shape], [noise, shape]]);
  }

  /** Codes that standard normal noise becomes. @param {Float32Array} noise @param {number} rows @param {Asked} [asked]
   * @returns {Promise<Float32Array>} */
  async fromNoise(noise, rows, asked = {}) {
    const shaped = /** @type {[Float32Array, number[]]} */ ([noise, [rows, this.told.noise]]);
    const drawn = this.sessions.prior ? this.run("prior", [shaped])
      : this.run("codes", [await this.carried(noise, rows, asked), shaped]);
    return this.ofClass(await drawn, rows, asked.label);
  }

  /** Points that flow matching carries noise to, by Heun's method, with their shape.
   * @param {Float32Array} noise @param {number} rows @param {Asked} asked @returns {Promise<[Float32Array, number[]]>} */
  async carried(noise, rows, { label, guidance = 1 }) {
    const { steps, point, temperature, label_from: from } = this.told;
    const [h, width, shape] = [1 / steps, noise.length / rows, [rows, ...point]];
    const size = point.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
    const row = (/** @type {number} */ k) => noise.subarray(k * width, (k + 1) * width);
    const none = new Float32Array(rows).fill(-1);
    const labels = from && none.map((_, k) => label !== undefined && !this.told.one_hot ? label
      : from.filter((/** @type {number} */ bound) => row(k)[size] >= bound).length - 1);
    /** @param {Float32Array} z @param {number} time @param {Float32Array} y */
    const velocity = (z, time, y) => this.run("velocity", [[z, shape], [new Float32Array(rows).fill(time), [rows]],
      ...(from ? [/** @type {[Float32Array, number[]]} */ ([y, [rows]])] : [])]);
    /** @param {Float32Array} z @param {number} time */
    const v = async (z, time) => {
      const told = await velocity(z, time, labels);
      if (guidance === 1 || !from) return told;
      const without = await velocity(z, time, none);
      return without.map((value, k) => value + guidance * (told[k] - value));
    };
    let z = new Float32Array(rows * size);
    for (let k = 0; k < rows; k++) z.set(row(k).subarray(0, size).map((value) => temperature * value), k * size);
    for (let i = 0; i < steps; i++) {
      const first = await v(z, i * h);
      const second = await v(z.map((value, k) => value + h * first[k]), (i + 1) * h);
      z = z.map((value, k) => value + (h / 2) * (first[k] + second[k]));
    }
    return [z, shape];
  }

  /** Codes with their class, where they hold one, set to what is asked. @param {Float32Array} codes @param {number} rows
   * @param {number} [label] */
  ofClass(codes, rows, label) {
    const { one_hot: classes } = this.told;
    if (!classes || label === undefined) return codes;
    const z = Float32Array.from(codes);
    for (let end = this.codeSize; end <= rows * this.codeSize; end += this.codeSize) {
      z.fill(0, end - classes, end);
      z[end - classes + label] = 1;
    }
    return z;
  }

  /** New codes; the same seed gives the same ones. A resampler, which knows plain draws, chooses among them.
   * @param {number} rows @param {number} seed @param {Asked} [asked] @returns {Promise<Float32Array>} */
  sample(rows, seed, asked = {}) {
    const next = uniform(seed);
    const draw = (/** @type {number} */ count) => this.fromNoise(normal(count * this.told.noise, next), count, asked);
    const plain = asked.label === undefined && (asked.guidance ?? 1) === 1;
    return this.told.resampler && plain ? this.chosen(rows, draw, next) : draw(rows);
  }

  /** Draws that the resampler keeps, each if a uniform number is below its probability; of too many tries, the last as they
   * are. @param {number} rows @param {(count: number) => Promise<Float32Array>} draw @param {() => number} next
   * @returns {Promise<Float32Array>} */
  async chosen(rows, draw, next) {
    const { kept, most, tries } = this.told.resampler;
    const found = new Float32Array(rows * this.codeSize);
    let have = 0;
    for (let left = tries * rows; have < rows && left > 0;) {
      const count = Math.min(Math.ceil(1.2 * (rows - have) / kept), most);
      const codes = await draw(count);
      const p = await this.run("resampler", [[await this.decode(codes, false), [count, ...this.told.image]]]);
      for (let k = 0; k < count; k++) {
        if (next() >= p[k] || have === rows) continue;
        found.set(codes.subarray(k * this.codeSize, (k + 1) * this.codeSize), have++ * this.codeSize);
      }
      left -= count;
    }
    if (have < rows) found.set(await draw(rows - have), have * this.codeSize);
    return found;
  }
}
