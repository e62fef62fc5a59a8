/** The view's state in the page's address, so that a link shows the same. */

/** Codes are long: as base64 of float32. @param {number[]} code */
export function packed(code) {
  const bytes = new Uint8Array(Float32Array.from(code).buffer);
  let text = "";
  for (const b of bytes) text += String.fromCharCode(b);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** @param {string} text @returns {number[]} none where it is not a code */
export function unpacked(text) {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const code = Array.from(new Float32Array(bytes.buffer, 0, bytes.length >> 2));
    return code.every(Number.isFinite) ? code : [];
  } catch {
    return [];
  }
}

const round = (/** @type {number} */ v) => String(+v.toPrecision(5));

/** Numbers with commas between them. @param {number[]} all */
export const listed = (all) => all.map(round).join(",");

/** @param {string | null} text */
export const numbers = (text) => (text ? text.split(",").map(Number).filter(Number.isFinite) : []);

/** Named amounts. @param {Iterable<[string | number, number]>} all */
export const amounts = (all) => [...all].filter(([, v]) => Math.abs(v) > 1e-6).map(([k, v]) => `${encodeURIComponent(k)}:${round(v)}`).join(",");

/** @param {string | null} text @returns {[string, number][]} none where it is not what `amounts` writes */
export function fromAmounts(text) {
  try {
    return (text ?? "").split(",").map((part) => part.split(":"))
      .map(([k, v]) => /** @type {[string, number]} */ ([decodeURIComponent(k), Number(v)])).filter(([, v]) => Number.isFinite(v));
  } catch {
    return [];
  }
}

/** Corners of a lasso. @param {number[][]} corners */
export const polygon = (corners) => corners.map(([x, y]) => `${+x.toPrecision(4)}_${+y.toPrecision(4)}`).join(",");

/** @param {string} text @returns {number[][]} */
export const fromPolygon = (text) => text.split(",").map((c) => c.split("_").map(Number)).filter((c) => c.length === 2 && c.every(Number.isFinite));

/** What the address says. */
export const read = () => new URLSearchParams(location.hash.slice(1));

/** Puts the state into the address without a new entry in the history. @param {Record<string, string | number | false | null | undefined>} state */
export function write(state) {
  const out = Object.entries(state).filter(([, v]) => v !== "" && v !== undefined && v !== null && v !== false)
    .map(([k, v]) => `${k}=${encodeURIComponent(String(v)).replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%7C", "|")}`);
  history.replaceState(null, "", `#${out.join("&")}`);
}
