// Images: between a model's numbers (C, H, W), about [0, 1], and bytes or files.

/** @typedef {[number, number, number]} Shape  channels, height, width */

/** @param {number} value @returns {number} the level of a pixel */
export const level = (value) => Math.round(255 * Math.min(1, Math.max(0, value)));

/** One image as bytes (H, W, C). @param {ArrayLike<number>} values @param {Shape} shape
 * @returns {import("../../web/types.js").NamedArray} */
export function bytes(values, [channels, height, width]) {
  const size = height * width, data = new Uint8Array(channels * size);
  for (let c = 0; c < channels; c++) for (let i = 0; i < size; i++) data[channels * i + c] = level(values[c * size + i]);
  return { data, shape: [height, width, channels] };
}

/** An image file at the model's size and channels: upright, the middle of it, transparency on the background.
 * @param {Blob} file @param {Shape} shape @param {string} background @returns {Promise<Float32Array>} */
export async function read(file, shape, background) {
  const [channels, height, width] = shape;
  const picture = await createImageBitmap(file);
  const scale = Math.max(width / picture.width, height / picture.height);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.fillStyle = background;
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const [w, h] = [picture.width * scale, picture.height * scale];
  context.drawImage(await smaller(picture, w, h), (width - w) / 2, (height - h) / 2, w, h);
  return values(context.getImageData(0, 0, width, height).data, channels, height * width);
}

/** Halves a picture until it is less than twice as large as asked for: a browser's own reduction may skip pixels.
 * @param {ImageBitmap} picture @param {number} width @param {number} height @returns {Promise<ImageBitmap>} */
async function smaller(picture, width, height) {
  while (picture.width >= 2 * width && picture.height >= 2 * height && picture.width > 1 && picture.height > 1) {
    picture = await createImageBitmap(picture, {
      resizeWidth: Math.ceil(picture.width / 2), resizeHeight: Math.ceil(picture.height / 2), resizeQuality: "high" });
  }
  return picture;
}

/** @param {ArrayLike<number>} rgba @param {number} channels 1 or 3 @param {number} size @returns {Float32Array} */
function values(rgba, channels, size) {
  const found = new Float32Array(channels * size);
  for (let i = 0; i < size; i++) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    // Brightness as PNG and JPEG readers have it (ITU-R 601-2), in whole levels.
    if (channels === 1) found[i] = ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) / 255;
    else for (let c = 0; c < 3; c++) found[c * size + i] = rgba[4 * i + c] / 255;
  }
  return found;
}
