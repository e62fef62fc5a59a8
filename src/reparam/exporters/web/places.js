// Where the codes of a model can be.

/** A code brought there: onto spheres, between 0 and 1, or to shares of classes. @param {Float32Array} code
 * @param {{latent: number[], space: {kind: string, levels: number}}} told @returns {Float32Array} */
export function placed(code, { latent: [channels], space: { kind, levels } }) {
  if (kind === "relaxed" && !levels) return code.map((value) => Math.min(1, Math.max(0, value)));
  if (kind !== "sphere" && kind !== "relaxed") return code;
  const group = kind === "sphere" ? channels : levels; // numbers that belong together, `places` apart
  const places = code.length / channels;
  const z = kind === "sphere" ? Float32Array.from(code) : code.map((value) => Math.max(1e-6, value));
  for (let first = 0; first < z.length; first += group * places)
    for (let p = first; p < first + places; p++) {
      let sum = 0;
      for (let k = 0; k < group; k++) sum += kind === "sphere" ? z[p + k * places] ** 2 : z[p + k * places];
      const size = Math.max(1e-12, kind === "sphere" ? Math.sqrt(sum) : sum);
      for (let k = 0; k < group; k++) z[p + k * places] /= size;
    }
  return z;
}
