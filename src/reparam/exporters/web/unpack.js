// What the page carries as text: bytes, compressed, in base64.

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** @param {string} text of gzipped bytes @returns {Promise<ArrayBuffer>} */
export const unpack = (text) =>
  new Response(new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();

/** The text of an element of the page; it is let go of, since some are of megabytes.
 * @param {string} id @returns {string} */
export function taken(id) {
  const element = /** @type {HTMLElement} */ (document.getElementById(id));
  const text = element.textContent ?? "";
  element.remove();
  return text;
}
