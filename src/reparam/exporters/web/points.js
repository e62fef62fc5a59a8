// The map's back end: answers what the map asks from what the page holds, and by the model in it.

import { Lanes } from "../../web/lanes.js";
import { bytes } from "./pixels.js";
import { placed } from "./places.js";
import { fromBase64, unpack } from "./unpack.js";

/** @typedef {import("../../web/types.js").Answer} Answer @typedef {import("../../web/types.js").NamedArray} NamedArray
 * @typedef {import("./programs.js").Model} Model */

const LEVELS = 65535;
/** Of the numbers of a code, between the least and the greatest of each. */

export class Points {
  /** @param {Model} model @param {Record<string, any>} map what the page holds of it @param {Float32Array} xy
   * @param {Uint16Array} levels @param {Float32Array} values */
  constructor(model, map, xy, levels, values) {
    this.model = model;
    this.map = map;
    this.xy = xy;
    this.levels = levels;
    this.values = values;
    this.lanes = new Lanes();
    /** @type {Promise<ImageBitmap> | undefined} all thumbnails */ this.sheet = undefined;
  }

  /** @param {Model} model */
  static async load(model) {
    const { map } = model.told;
    for (const name of ["centre", "axes", "low", "high"]) map[name] = new Float32Array(await unpack(map[name]));
    return new Points(model, map, new Float32Array(await unpack(map.xy)), new Uint16Array(await unpack(map.codes)),
      new Float32Array(await unpack(map.values)));
  }

  /** The code of an image. @param {number} row */
  code(row) {
    const { low, high } = this.map, d = this.model.codeSize;
    return low.map((/** @type {number} */ least, /** @type {number} */ i) =>
      least + ((high[i] - least) * this.levels[row * d + i]) / LEVELS);
  }

  /** The mean of the codes of some images. @param {number[]} rows */
  mean(rows) {
    const sum = new Float64Array(this.model.codeSize);
    for (const row of rows) this.code(row).forEach((/** @type {number} */ value, /** @type {number} */ i) => { sum[i] += value; });
    return placed(Float32Array.from(sum, (value) => value / rows.length), this.model.told);
  }

  /** The code of a place of the plane. @param {number} x @param {number} y */
  at(x, y) {
    const { centre, axes } = this.map, d = this.model.codeSize;
    return placed(centre.map((/** @type {number} */ c, /** @type {number} */ i) => c + x * axes[i] + y * axes[d + i]), this.model.told);
  }

  /** The thumbnail of an image. @param {number} row @returns {Promise<NamedArray>} */
  async thumb(row) {
    const { data, columns, side: [h, w] } = this.map.sheet;
    this.sheet ??= createImageBitmap(new Blob([fromBase64(data)]));
    const g = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(w, h).getContext("2d"));
    g.drawImage(await this.sheet, -w * (row % columns), -h * Math.floor(row / columns));
    return { data: Uint8Array.from(g.getImageData(0, 0, w, h).data), shape: [h, w, 4] };
  }

  /** @param {string} op @param {Record<string, any>} asked @returns {Promise<Answer>} */
  async answer(op, asked) {
    const { map, model } = this;
    switch (op) {
      case "plane":
        return { header: { titles: map.titles, exact: map.exact, trustworthiness: map.trustworthiness },
          arrays: { xy: { data: this.xy, shape: [this.xy.length / 2, 2] } } };
      case "column":
        return { header: {}, arrays: { values: { data: this.values, shape: [this.values.length] } } };
      case "thumbs":
        return { header: {}, arrays: { images: await this.thumb(asked.rows[0]) } };
      case "at": {
        const code = this.at(asked.x, asked.y);
        return { header: {}, arrays: { code: { data: code, shape: [1, code.length] },
          image: bytes(await model.decode(code), model.told.image) } };
      }
      default:
        throw new Error(`an exported page cannot answer ${op}`);
    }
  }

  /** @type {import("../../web/types.js").Asked["call"]} */
  call = (op, asked = {}, lane = undefined) => this.lanes.run(lane, () => this.answer(op, asked));
}
