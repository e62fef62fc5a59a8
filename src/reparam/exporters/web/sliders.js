// Sliders: one for each of the most informative latents, or for each direction of a map of codes.

/** @typedef {{name: string, index?: number, vector?: Float32Array, nats?: number, share?: number, mean: number,
 *   scale: number}} Axis */

const REACH = 3;
/** Standard deviations to either side that a slider reaches. */

/** How far a code lies along an axis. @param {Float32Array} code @param {Axis} axis @returns {number} */
export function along(code, axis) {
  if (!axis.vector) return code[/** @type {number} */ (axis.index)];
  return (axis.vector.reduce((sum, value, i) => sum + value * code[i], 0) - axis.mean) / axis.scale;
}

/** Moves a code in place along an axis to a value. @param {Float32Array} code @param {Axis} axis @param {number} value */
export function moveTo(code, axis, value) {
  if (!axis.vector) {
    code[/** @type {number} */ (axis.index)] = value;
    return;
  }
  const by = (value - along(code, axis)) * axis.scale;
  axis.vector.forEach((weight, i) => { code[i] += by * weight; });
}

/** What an axis carries. @param {Axis} axis @returns {string} */
export const weight = (axis) =>
  axis.vector ? `${(100 * (axis.share ?? 0)).toFixed(1)} % of variance` : axis.nats ? `${axis.nats.toFixed(2)} nats` : "";

/** A row of label, slider, number and reset. @param {Axis} axis @param {(value: number | undefined) => void} moved  called
 * with undefined to go back @returns {{element: HTMLElement, set: (value: number) => void}} */
export function sliderRow(axis, moved) {
  const element = document.createElement("div");
  element.className = "slider";
  const label = document.createElement("label");
  const [range, number] = [document.createElement("input"), document.createElement("input")];
  const back = document.createElement("button");
  const [middle, reach] = axis.vector ? [0, REACH] : [axis.mean, REACH * axis.scale];
  label.append(axis.name);
  label.append(Object.assign(document.createElement("small"), { textContent: weight(axis) }));
  label.htmlFor = range.id = `slider-${axis.name.replace(/\W/g, "-")}`;
  Object.assign(range, { type: "range", step: "any", min: String(middle - reach), max: String(middle + reach) });
  Object.assign(number, { type: "number", step: "any" });
  number.setAttribute("aria-label", `${axis.name}, as a number`);
  Object.assign(back, { textContent: "↺", title: `Reset ${axis.name}`, type: "button" });
  back.setAttribute("aria-label", `Reset ${axis.name}`);
  /** @param {number} value */
  const tell = (value) => range.setAttribute("aria-valuetext",
    [`${axis.name}: ${value.toFixed(2)}`, weight(axis)].filter(Boolean).join(", "));
  /** @param {number} value */
  const set = (value) => {
    range.value = String(value);
    number.value = value.toFixed(2);
    tell(value);
  };
  range.addEventListener("input", () => {
    number.value = Number(range.value).toFixed(2);
    tell(Number(range.value));
    moved(Number(range.value));
  });
  number.addEventListener("input", () => {
    if (number.value === "" || !Number.isFinite(Number(number.value))) return;
    range.value = number.value;
    tell(Number(number.value));
    moved(Number(number.value));
  });
  back.addEventListener("click", () => moved(undefined));
  element.append(label, range, number, back);
  return { element, set };
}
