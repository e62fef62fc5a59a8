/** Between codes and places of a map: on a plane by a formula, on a map of neighbourhoods by asking the model. */

import { say, short, tried } from "./dom.js";
import { rowOf } from "./pixels.js";

export class Places {
  /** @param {import("./types.js").Asked} backend @param {string} plane @param {Record<string, any>} header what is said of the plane */
  constructor(backend, plane, header) {
    this.backend = backend;
    this.plane = plane;
    this.header = header;
    /** @type {number[][] | null} affine map of an exact plane: origin, step along x, step along y */ this.frame = null;
  }

  /** Whether codes of places are those of the points around them. */
  get byNeighbours() {
    return Boolean(this.header.by_neighbours);
  }

  /** How an image of a place came about, in words. */
  get made() {
    return this.byNeighbours ? "approximate: between neighbours" : this.header.exact ? "what the model makes here" : "what the model makes near here";
  }

  /** How far the map's neighbourhoods can be trusted, in words. */
  get trusted() {
    const words = [this.byNeighbours ? "approximate: places have the codes of their neighbours" : this.header.exact ? "exact plane" : "plane"];
    if (Number.isFinite(this.header.trustworthiness)) words.push(`trustworthiness ${short(this.header.trustworthiness)}`);
    return words.join(" · ");
  }

  /** What the model makes of a place: no arrays where nothing is near. @param {number} x @param {number} y @param {string} [lane] */
  at(x, y, lane) {
    return this.backend.call("at", { run: 0, plane: this.plane, x, y }, lane);
  }

  /** The code of a place, or null, which is said. @param {number} x @param {number} y */
  async code(x, y) {
    const answer = await tried(() => this.at(x, y, "pick"));
    if (answer && !answer.arrays.code) say("No image is near this place, so that it has no code");
    return answer?.arrays.code ? rowOf(answer.arrays.code) : null;
  }

  /** Learns where codes lie on an exact plane, from three places of it. */
  async learn() {
    if (!this.header.exact) return;
    const found = await tried(() => Promise.all([this.at(0, 0), this.at(1, 0), this.at(0, 1)]));
    if (!found) return;
    const [o, x, y] = found.map((a) => rowOf(/** @type {any} */ (a).arrays.code));
    this.frame = [o, x.map((v, i) => v - o[i]), y.map((v, i) => v - o[i])];
  }

  /** Where codes lie, or none where that is not known; null where a later question took the place of this. @param {number[][]} codes @param {string} lane */
  async of(codes, lane) {
    const { frame } = this;
    if (!codes.length || (!frame && !this.byNeighbours)) return [];
    if (frame) return codes.map((code) => project(code, frame)).filter((place) => place !== null);
    const answer = await tried(() => this.backend.call("places", { run: 0, plane: this.plane, codes }, lane));
    return answer && codes.map((_, k) => rowOf(answer.arrays.xy, k));
  }
}

/** Where a code lies on a plane, or null where its directions are one. @param {number[]} code @param {number[][]} frame */
function project(code, [o, u, v]) {
  let uu = 0, uv = 0, vv = 0, au = 0, av = 0;
  for (let i = 0; i < code.length; i++) {
    const a = code[i] - o[i];
    uu += u[i] * u[i]; uv += u[i] * v[i]; vv += v[i] * v[i]; au += a * u[i]; av += a * v[i];
  }
  const det = uu * vv - uv * uv;
  return Math.abs(det) > 1e-12 ? [(au * vv - av * uv) / det, (av * uu - au * uv) / det] : null;
}
