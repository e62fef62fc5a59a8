/** Images and colours: from arrays of bytes to canvases, and from values to colours that colour-blind eyes tell apart. */

/** @typedef {import("./types.js").NamedArray} NamedArray */

/** Ten hues that stay apart under the common kinds of colour blindness, on white and on black. */
const HUES = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8833", "#7fbf9a", "#9b7fd1", "#8c6d4f"];
/** The same on black, lighter. */
const LIGHT = ["#6ea3dc", "#f58895", "#4fb862", "#d9ca5e", "#80d8f5", "#d06a9f", "#f5a560", "#9ad6b3", "#b9a3e6", "#b59a80"];
/** The same colour nearer to black, or to white. @param {string} hex @param {number} end 0 or 255 */
const nearer = (hex, end) => `#${[1, 3, 5].map((i) => Math.round(0.55 * parseInt(hex.slice(i, i + 2), 16) + 0.45 * end).toString(16).padStart(2, "0")).join("")}`;
/** Beyond ten, the same again, darker, or on black paler. */
const TWENTY = [...HUES, ...HUES.map((hex) => nearer(hex, 0))], LIGHT_TWENTY = [...LIGHT, ...LIGHT.map((hex) => nearer(hex, 255))];
/** @param {boolean} dark */
export const hues = (dark) => (dark ? LIGHT_TWENTY : TWENTY);
export const UNKNOWN = "#9aa3ad";
const RAMP = [[0, 32, 77], [46, 66, 108], [87, 92, 109], [124, 123, 120], [165, 156, 116], [210, 192, 96], [255, 233, 69]];
const RAMP_DARK = [[59, 92, 160], [80, 112, 160], [110, 132, 155], [142, 148, 146], [178, 172, 130], [216, 200, 106], [255, 233, 69]];

/** A colour as the canvas's pixels hold it. @param {number} r @param {number} g @param {number} b */
export const rgba = (r, g, b) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;

/** @param {string} hex such as #4477aa */
export function fromHex(hex) {
  const n = parseInt(hex.slice(1), 16);
  return rgba(n >> 16, (n >> 8) & 255, n & 255);
}

/** 256 colours from low to high, even in lightness (cividis). @param {boolean} dark */
export function ramp(dark) {
  const stops = dark ? RAMP_DARK : RAMP;
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const t = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(t), stops.length - 2);
    const mix = stops[k].map((v, c) => Math.round(v + (t - k) * (stops[k + 1][c] - v)));
    return rgba(mix[0], mix[1], mix[2]);
  });
}

/** Draws one image of an array (…, h, w, c) at its own size. @param {HTMLCanvasElement} canvas @param {NamedArray} images */
export function show(canvas, images, index = 0) {
  const [h, w, c] = images.shape.slice(-3);
  if (canvas.width !== w || canvas.height !== h) canvas.width = w, canvas.height = h;
  const out = new ImageData(w, h), size = h * w * c, from = images.data.subarray(index * size, (index + 1) * size);
  for (let i = 0, j = 0; i < out.data.length; i += 4, j += c) {
    out.data[i] = from[j];
    out.data[i + 1] = from[c >= 3 ? j + 1 : j];
    out.data[i + 2] = from[c >= 3 ? j + 2 : j];
    out.data[i + 3] = c === 4 ? from[j + 3] : c === 2 ? from[j + 1] : 255;
  }
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).putImageData(out, 0, 0);
}

/** Draws all images of an array (n, h, w, c) beside one another. @param {HTMLCanvasElement} canvas @param {NamedArray} images */
export function filmstrip(canvas, images) {
  const [n, h, w] = images.shape, one = document.createElement("canvas"), draws = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  Object.assign(canvas, { width: n * w, height: h });
  for (let k = 0; k < n; k++) show(one, images, k), draws.drawImage(one, k * w, 0);
}

/** Where two images differ: grey is equal, lighter is more in `a`. @param {NamedArray} a @param {NamedArray} b @returns {NamedArray} */
export function difference(a, b) {
  return { data: Uint8Array.from(a.data, (v, i) => Math.max(0, Math.min(255, 128 + v - b.data[i]))), shape: a.shape };
}

/** An image with what its rebuilding lost of the original. @param {NamedArray} image @param {NamedArray} original @param {NamedArray} rebuilt @returns {NamedArray} */
export function withRest(image, original, rebuilt) {
  return { data: Uint8Array.from(image.data, (v, i) => Math.max(0, Math.min(255, v + original.data[i] - rebuilt.data[i]))), shape: image.shape };
}

/** Mean absolute difference of two images, from 0 to 1. @param {NamedArray} a @param {NamedArray} b */
export function apart(a, b) {
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += Math.abs(a.data[i] - b.data[i]);
  return sum / a.data.length / 255;
}

/** A new canvas for an image, with what a screen reader says of it. @param {string} label */
export function picture(label, className = "pixels") {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  canvas.className = className;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

/** One row of codes (n, d) as plain numbers. @param {NamedArray} codes @returns {number[]} */
export function rowOf(codes, index = 0) {
  const d = codes.shape.slice(1).reduce((a, b) => a * b, 1);
  return Array.from(codes.data.subarray(index * d, (index + 1) * d));
}
