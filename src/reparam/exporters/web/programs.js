// The model's programs, run by ONNX Runtime Web on one thread.

import { normal, uniform } from "./noise.js";
import { taken, unpack } from "./unpack.js";

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

  /** Codes that standard normal noise becomes. @param {Float32Array} noise @param {number} rows
   * @returns {Promise<Float32Array>} */
  async fromNoise(noise, rows) {
    if (!this.sessions.velocity) return this.run("prior", [[noise, [rows, noise.length / rows]]]);
    const { steps, whitening } = this.told;
    const h = 1 / steps;
    /** @param {Float32Array} point @param {number} time */
    const v = (point, time) => this.run("velocity", [[point, [rows, ...this.told.latent]],
      [new Float32Array(rows).fill(time), [rows]]]);
    let z = Float32Array.from(noise);
    for (let i = 0; i < steps; i++) { // Heun's method
      const first = await v(z, i * h);
      const second = await v(z.map((value, k) => value + h * first[k]), (i + 1) * h);
      z = z.map((value, k) => value + (h / 2) * (first[k] + second[k]));
    }
    const { loc, scale } = whitening; // of each number, or of a map's channels
    const places = this.codeSize / loc.length;
    const channel = (/** @type {number} */ k) => Math.floor((k % this.codeSize) / places);
    return z.map((value, k) => loc[channel(k)] + value * scale[channel(k)]);
  }

  /** New codes; the same seed gives the same ones. @param {number} rows @param {number} seed @returns {Promise<Float32Array>} */
  sample(rows, seed) {
    const size = this.sessions.velocity ? this.codeSize : this.told.noise;
    return this.fromNoise(normal(rows * size, uniform(seed)), rows);
  }
}
