/** Small helpers for the page: elements, what is said aloud, and files handed to the user. */

/**
 * An element with properties, attributes (`aria-…`, `data-…`, `role`, `for`), listeners (`onclick`) and children.
 * @param {string} tag @param {Record<string, any>} [given] @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    if (name.includes("-") || name === "role" || name === "for" || name === "list") made.setAttribute(name, String(value));
    else Object.assign(made, { [name]: value });
  }
  made.append(...children.filter((c) => c || c === "").map((c) => /** @type {Node | string} */ (c)));
  return made;
}

/** Puts other children into an element; the focus stays at the same place among them. @param {HTMLElement} parent @param {Node[]} children */
export function refill(parent, children) {
  const focusable = () => /** @type {HTMLElement[]} */ ([...parent.querySelectorAll("button, input, select, a[href]")]);
  const at = focusable().indexOf(/** @type {HTMLElement} */ (document.activeElement));
  parent.replaceChildren(...children);
  if (at < 0) return;
  const left = focusable();
  /** @type {HTMLElement | null | undefined} */ (left[Math.min(at, left.length - 1)] ?? parent.parentElement?.querySelector("button"))?.focus();
}

/** The element of the page with this id. @param {string} id @returns {any} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Shows a sentence for a moment, and has a screen reader say it. @param {string} text */
export function say(text, bad = false) {
  const line = byId("said");
  line.textContent = text;
  line.classList.toggle("bad", bad);
  line.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => line.classList.remove("shown"), bad ? 8000 : 3500);
}
/** @type {any} */ say.timer = 0;

/** Runs what may fail, and says why it did. @template T @param {() => Promise<T>} act @returns {Promise<T | null>} */
export async function tried(act) {
  try {
    return await act();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error), true);
    return null;
  }
}

/** Hands a file that the server wrote to the user. @param {import("./types.js").Answer | null} answer */
export function download(answer) {
  if (answer) handOver(new Blob([new Uint8Array(answer.arrays.file.data)], { type: answer.header.type }), answer.header.name);
}

/** Hands a file to the user. @param {Blob} blob @param {string} name */
export function handOver(blob, name) {
  const url = URL.createObjectURL(blob), link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  say(`Saved ${name}`);
}

/** A number as people write it: three digits that count. @param {number} value */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return size >= 1000 || (size < 0.001 && size > 0) ? value.toPrecision(3) : String(+value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2));
}

/** Whether things may move by themselves. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
export const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
