// What the page carries as text: bytes, compressed, in base64.

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
export function fromBase64(text) {
  const native = /** @type {any} */ (Uint8Array).fromBase64; // of browsers since 2025, many times quicker
  if (native) return native.call(Uint8Array, text);
  const binary = atob(text), found = new Uint8Array(binary.length);
  for (let i = 0; i < found.length; i++) found[i] = binary.charCodeAt(i);
  return found;
}

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
