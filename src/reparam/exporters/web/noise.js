// Standard normal numbers that a seed repeats.

/** Uniform numbers in (0, 1), by the generator mulberry32.
 * @param {number} seed @returns {() => number} */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}

/** n numbers of N(0, 1), in pairs. (Box & Muller, 1958)
 * @param {number} n @param {() => number} next @returns {Float32Array} */
export function normal(n, next) {
  const found = new Float32Array(n);
  for (let i = 0; i < n; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(next()));
    const angle = 2 * Math.PI * next();
    found[i] = radius * Math.cos(angle);
    if (i + 1 < n) found[i + 1] = radius * Math.sin(angle);
  }
  return found;
}
