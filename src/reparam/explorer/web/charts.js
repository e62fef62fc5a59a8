/** Curves over the steps of training, by uPlot: lines that differ by hue and by dashes, and a legend that tells the values. */

import uPlot from "./vendor/uPlot.esm.js";
import { dark, el } from "../../web/dom.js";
import { hues } from "../../web/pixels.js";

/** @typedef {{name: string, values: (number | null)[]}} Line */

const HEIGHT = 190, DASHES = [[], [7, 3], [2, 2], [10, 3, 2, 3]], MARKS = ["solid", "dashed", "dotted", "double"];
const style = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(name);

export class Chart {
  /** @param {HTMLElement} room @param {string} title @param {Line[]} lines */
  constructor(room, title, lines) {
    this.title = title;
    this.names = lines.map((line) => line.name).join();
    this.root = el("div", { className: "chart", role: "img" });
    room.append(el("section", {}, el("h2", {}, title), this.root));
    const few = lines.some((line) => line.values.filter((v) => v !== null).length < line.values.length / 2);
    /** @param {string} label */
    const axis = (label) => ({ label, labelSize: 18, size: label ? 34 : 58, font: "11px system-ui", labelFont: "11px system-ui", stroke: () => style("--soft"),
      grid: { stroke: () => style("--line"), width: 1 }, ticks: { stroke: () => style("--line"), width: 1, size: 4 } });
    this.plot = new uPlot({
      width: Math.max(this.root.clientWidth, 200), height: HEIGHT, legend: { live: true, markers: { dash: (/** @type {any} */ _, /** @type {number} */ k) => MARKS[(k - 1) % 4] } }, cursor: { sync: { key: "training" }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (/** @type {any} */ u) => range(u.data.slice(1)) } },
      axes: [axis("step"), { ...axis(""), values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map(tick) }],
      series: [{ label: "step", value: (/** @type {any} */ _, /** @type {number | null} */ v) => (v === null ? "–" : v.toLocaleString("en")) }, ...lines.map((line, k) => ({
        label: line.name, stroke: () => hues(dark())[k % 10], width: 1.6, dash: DASHES[k % 4], spanGaps: true, points: { show: few && line.values.length < 900 && k > 0, size: 5 },
        value: (/** @type {any} */ _, /** @type {number | null} */ v) => (v === null ? "–" : three(v)) }))],
    }, [[], ...lines.map(() => [])], this.root);
    this.sized = new ResizeObserver(() => this.plot.setSize({ width: Math.max(this.root.clientWidth, 200), height: HEIGHT }));
    this.sized.observe(this.root);
  }

  /** @param {number[]} steps @param {Line[]} lines */
  show(steps, lines) {
    this.plot.setData([steps, ...lines.map((line) => line.values)]);
    this.root.setAttribute("aria-label", `${this.title}: ${lines.map((line) => `${line.name} ${said(line.values)}`).join("; ")}`);
  }

  /** In the colours of light or dark. */
  redraw() {
    this.plot.redraw();
  }

  remove() {
    this.sized.disconnect();
    this.plot.destroy();
    this.root.parentElement?.remove();
  }
}

/** The numbers of an axis, of any size. @param {number} value */
const tick = (value) => (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e5) ? value.toExponential(1) : String(+value.toPrecision(4)));

/** Three digits that count, of any size. @param {number} value */
export const three = (value) => (value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential(1) : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3)));

/** Without the beginning, whose values lie far from all others. @param {(number | null)[][]} lines @returns {[number, number]} */
function range(lines) {
  const settled = lines.flatMap((values) => values.slice(Math.floor(values.length / 10))).filter((v) => v !== null).sort((a, b) => a - b);
  if (!settled.length) return [0, 1];
  const low = settled[0], high = settled[Math.ceil(0.98 * (settled.length - 1))], room = (high - low) || Math.abs(high) || 1;
  return [low - 0.06 * room, high + 0.12 * room];
}

/** @param {(number | null)[]} values */
function said(values) {
  const found = values.filter((v) => v !== null);
  return found.length ? `from ${three(found[0])} to ${three(found[found.length - 1])}` : "not known yet";
}
