/** The map of all codes: points as pixels, hover that decodes empty space, picks, lassos, and the table beside it. */

import { byId, dark, el, short, tried } from "./dom.js";
import { Drag } from "./drag.js";
import { fromHex, hues, ramp, show, UNKNOWN } from "./pixels.js";
import { Places } from "./places.js";
import { bounds, drawDensity, drawPoints, inside, Nearest, placed } from "./plot.js";

/** @typedef {import("./types.js").MapContext} Context */
/** @typedef {{row: number} | {x: number, y: number}} Spot an image of the data, or a place of the map */

const MANY = 300000;
const NEAR = 11;
/** Pixels within which the pointer is taken to mean a point. */

export class Map2D {
  /** @param {Context} context @param {{pick: (spot: Spot) => void, lasso: (corners: number[][], rows: number[]) => void}} told */
  constructor(context, told) {
    this.context = context;
    this.told = told;
    this.points = byId("points");
    this.over = byId("over");
    this.card = byId("card");
    this.plane = "";
    /** @type {Float32Array} 2n coordinates */ this.xy = new Float32Array(0);
    this.nearest = new Nearest(this.xy);
    this.view = { x: 0, y: 0, scale: 1 };
    this.places = new Places(context.backend, "", {});
    /** @type {string[]} */ this.titles = [];
    this.colour = "";
    /** @type {Record<string, Float32Array>} by names that anybody chose */ this.columns = Object.create(null);
    /** @type {Set<number>} */ this.hidden = new Set();
    this.colours = new Uint32Array(0);
    /** @type {number[] | null} the code with a ring */ this.marked = null;
    /** @type {number[] | undefined} where it lies */ this.place = undefined;
    this.ring = el("i", { className: "ring", hidden: true });
    this.over.after(this.ring);
    /** @type {number[][]} codes along a path */ this.way = [];
    /** @type {number[][]} where they lie */ this.line = [];
    /** @type {{corners: number[][], rows: Set<number>, plane: string, hue: string, name: string}[]} */ this.groups = [];
    /** @type {Spot | null} */ this.pointed = null;
    /** @type {Map<number, any>} */ this.thumbs = new Map();
    this.drag = new Drag(this);
    /** @type {number | undefined} a frame that is asked for */ this.waiting = undefined;
    this.fitted = true;
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(this.over);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    byId("table").addEventListener("toggle", () => this.list());
  }

  /** Asks for a plane, whose header says `computing` where it is not ready. @param {string} plane */
  ask(plane) {
    return tried(() => this.context.backend.call("plane", { run: 0, plane }));
  }

  /** Shows another plane. @param {string} plane @param {import("./types.js").Answer} answer */
  async show(plane, answer) {
    this.plane = plane;
    this.xy = /** @type {Float32Array} */ (answer.arrays.xy.data);
    this.nearest = new Nearest(this.xy);
    this.places = new Places(this.context.backend, plane, answer.header);
    const [across, up] = this.titles = answer.header.titles ?? [];
    this.pointed = null;
    byId("titles").textContent = across ? `${across} → · ${up} ↑` : "near is alike; distances and directions say nothing";
    byId("trust").textContent = this.places.trusted;
    this.fit();
    await this.places.learn();
    this.mark(this.marked);
    this.walk(this.way);
  }

  /** Puts the ring around a code. @param {number[] | null} code */
  async mark(code) {
    this.marked = code;
    const at = await this.places.of(code ? [code] : [], "ring");
    if (!at || this.marked !== code) return;
    this.place = at[0];
    this.moveRing();
  }

  /** Shows a path. @param {number[][]} codes */
  async walk(codes) {
    this.way = codes;
    const at = await this.places.of(codes, "way");
    if (at && this.way === codes) this.line = at;
    this.draw();
  }

  /** Fetches a column once. @param {string} name */
  async column(name) {
    if (!this.columns[name]) {
      const answer = await tried(() => this.context.backend.call("column", { name }));
      if (!answer) return null;
      this.columns[name] = Float32Array.from(answer.arrays.values.data);
    }
    return this.columns[name];
  }

  /** Colours the points by a column, "density", "lassos" or nothing. @param {string} name */
  async setColour(name) {
    if (name !== this.colour) this.hidden.clear();
    this.colour = name;
    if (this.described(name) && !(await this.column(name)) && this.colour === name) this.colour = "";
    this.recolour();
  }

  /** @param {string} name */
  described(name) {
    return this.context.hello.points.columns.find((c) => c.name === name);
  }

  /** What a column says of an image, in words. @param {string} name @param {number} row */
  value(name, row) {
    const column = this.described(name), value = this.columns[name]?.[row];
    return !column || value === undefined ? "" : column.kind === "class" ? column.values?.[value] ?? "–" : short(value);
  }

  /** An image in words: its number, its label, and what colours it. @param {number} row */
  caption(row) {
    const coloured = this.colour !== "label" && this.described(this.colour), value = this.value(this.colour, row);
    return [`image ${row}`, this.value("label", row), coloured && value && `${coloured.name} ${value}`].filter((t) => t && t !== "–").join(" · ");
  }

  recolour() {
    const n = this.xy.length / 2, out = new Uint32Array(n).fill(fromHex(hues(dark())[0])), column = this.described(this.colour);
    const values = column && this.columns[this.colour], unknown = fromHex(UNKNOWN);
    this.scale = null;
    if (this.colour === "lassos") {
      out.fill(unknown);
      for (const group of this.groups) for (const row of group.rows) out[row] = fromHex(group.hue);
    } else if (values && column.kind === "class") {
      const all = hues(dark()).map(fromHex);
      for (let i = 0; i < n; i++) {
        const v = values[i];
        out[i] = this.hidden.has(v) ? 0 : v >= 0 ? all[v % all.length] : unknown;
      }
    } else if (values) {
      const shades = ramp(dark()), sorted = values.filter(Number.isFinite).sort();
      const low = sorted[Math.floor(0.01 * sorted.length)] ?? 0, high = sorted[Math.floor(0.99 * (sorted.length - 1))] ?? 1;
      this.scale = [low, high];
      for (let i = 0; i < n; i++)
        out[i] = values[i] === values[i] ? shades[Math.max(0, Math.min(255, (255 * (values[i] - low)) / (high - low || 1))) | 0] : unknown;
    }
    this.colours = out;
    this.legend();
    this.draw();
  }

  /** What the colours say; classes can be hidden. */
  legend() {
    const legend = byId("legend"), column = this.described(this.colour);
    legend.replaceChildren();
    if (column?.kind === "class")
      (column.values ?? []).slice(0, 40).forEach((/** @type {string} */ name, /** @type {number} */ k) => {
        const chip = el("i"), button = el("button", { type: "button", className: "chip", "aria-pressed": !this.hidden.has(k),
          title: "Show or hide", onclick: () => { this.hidden.has(k) ? this.hidden.delete(k) : this.hidden.add(k); this.recolour(); refocus(k); } },
          chip, name);
        chip.style.background = hues(dark())[k % hues(dark()).length];
        legend.append(button);
      });
    const ends = this.colour === "density" ? ["few", "many"] : this.scale?.map(short);
    if (ends) legend.append(el("span", {}, ends[0]), el("span", { className: this.colour === "density" ? "ramp dense" : "ramp" }), el("span", {}, ends[1]));
    const refocus = (/** @type {number} */ k) => legend.children[k]?.focus();
  }

  /** Whether a row is drawn. */
  shown = (/** @type {number} */ row) => this.colours[row] !== 0;

  /** The whole map into view. */
  fit() {
    const { x0, x1, y0, y1 } = bounds(this.xy), { w, h } = this.size();
    this.view = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale: 0.92 * Math.min(w / (x1 - x0 || 1), h / (y1 - y0 || 1)) };
    this.fitted = true;
    this.draw();
  }

  size() {
    return { w: this.over.clientWidth || 1, h: this.over.clientHeight || 1 };
  }

  /** Data coordinates of a place on the canvas. @param {number} px @param {number} py */
  toData(px, py) {
    const { w, h } = this.size(), { ax, bx, ay, by } = placed(this.view, w, h);
    return [(px - bx) / ax, (py - by) / ay];
  }

  /** @param {number} factor @param {number} px @param {number} py the place that stays */
  zoom(factor, px = this.size().w / 2, py = this.size().h / 2) {
    const before = this.toData(px, py);
    this.view.scale *= factor;
    const after = this.toData(px, py);
    this.move(before[0] - after[0], before[1] - after[1]);
  }

  /** @param {number} dx @param {number} dy in the data's units */
  move(dx, dy) {
    this.fitted = false;
    this.view.x += dx;
    this.view.y += dy;
    this.draw();
    this.context.changed();
  }

  /** Draws soon, once. */
  draw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      this.paint();
      this.paintOver();
      clearTimeout(this.listing);
      this.listing = setTimeout(() => this.list(), 250);
    });
  }

  paint() {
    const { w, h } = this.size(), ratio = Math.min(2, devicePixelRatio || 1), W = Math.round(w * ratio), H = Math.round(h * ratio);
    if (this.points.width !== W || this.points.height !== H || !this.buffer) {
      this.points.width = W; this.points.height = H;
      this.buffer = new ImageData(W, H);
    }
    const out = new Uint32Array(this.buffer.data.buffer), view = { ...this.view, scale: this.view.scale * ratio };
    out.fill(dark() ? 0xff1b1613 : 0xffffffff);
    const n = this.colours.length;
    if (n && (this.colour === "density" || n > MANY)) drawDensity(out, W, H, this.xy, this.colours, view, this.colour === "density" ? shades() : null);
    else if (n) drawPoints(out, W, H, this.xy, this.colours, view, ratio * (n > 20000 ? 1.2 : n > 6000 ? 1.8 : n > 1500 ? 2.4 : 3.2));
    this.points.getContext("2d").putImageData(this.buffer, 0, 0);
  }

  /** An element of its own, so that a slider that is dragged does not draw the whole map again. */
  moveRing() {
    const ratio = devicePixelRatio || 1, own = this.place;
    const { ax, bx, ay, by } = placed(this.view, this.over.width / ratio, this.over.height / ratio);
    this.ring.hidden = !own;
    if (own) this.ring.style.translate = `${own[0] * ax + bx}px ${own[1] * ay + by}px`;
  }

  /** Lassos, the way of a path and what is pointed at: lines above the points. */
  paintOver() {
    const { w, h } = this.size(), ratio = devicePixelRatio || 1, { ax, bx, ay, by } = placed(this.view, w, h);
    if (this.over.width !== Math.round(w * ratio) || this.over.height !== Math.round(h * ratio))
      this.over.width = Math.round(w * ratio), this.over.height = Math.round(h * ratio);
    const g = this.over.getContext("2d"), ink = dark() ? "#fff" : "#10161d", paper = dark() ? "#10161d" : "#fff";
    const to = (/** @type {number[]} */ p) => /** @type {[number, number]} */ ([p[0] * ax + bx, p[1] * ay + by]);
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, w, h);
    const line = (/** @type {number[][]} */ all, /** @type {string} */ hue, closed = false) => {
      g.beginPath();
      all.forEach((p, i) => (i ? g.lineTo(...to(p)) : g.moveTo(...to(p))));
      if (closed) g.closePath();
      g.lineJoin = "round";
      g.lineWidth = 4; g.strokeStyle = paper; g.stroke();
      g.lineWidth = 2; g.strokeStyle = hue; g.stroke();
    };
    const ring = (/** @type {number[]} */ p, /** @type {number} */ r) => {
      g.beginPath(); g.arc(...to(p), r, 0, 7);
      g.lineWidth = 4; g.strokeStyle = paper; g.stroke();
      g.lineWidth = 2; g.strokeStyle = ink; g.stroke();
    };
    for (const group of this.groups) {
      if (group.plane !== this.plane) continue;
      line(group.corners, group.hue, true);
      g.fillStyle = group.hue; g.globalAlpha = 0.1; g.fill(); g.globalAlpha = 1;
      const top = group.corners.reduce((a, b) => (b[1] > a[1] ? b : a)), [tx, ty] = to(top);
      g.font = "600 13px system-ui, sans-serif"; g.lineWidth = 4; g.strokeStyle = paper; g.fillStyle = ink;
      g.strokeText(group.name, tx - 4, ty - 7); g.fillText(group.name, tx - 4, ty - 7);
    }
    if (this.line.length > 1) line(this.line, ink);
    if (this.drag.corners.length) line(this.drag.corners, ink);
    this.moveRing();
    const p = this.pointed;
    if (p && "row" in p) ring([this.xy[2 * p.row], this.xy[2 * p.row + 1]], 6);
    if (this.drag.cursor) {
      const [x, y] = to(this.drag.cursor);
      g.lineWidth = 1.5; g.strokeStyle = ink; g.beginPath();
      g.moveTo(x - 12, y); g.lineTo(x - 4, y); g.moveTo(x + 4, y); g.lineTo(x + 12, y);
      g.moveTo(x, y - 12); g.lineTo(x, y - 4); g.moveTo(x, y + 4); g.lineTo(x, y + 12); g.stroke();
    }
  }

  /** What lies at a place of the canvas: the nearest image, or the place itself. @param {number} px @param {number} py @returns {Spot} */
  spot(px, py) {
    const [x, y] = this.toData(px, py), row = this.nearest.find(x, y, NEAR / this.view.scale, this.shown);
    return row >= 0 ? { row } : { x, y };
  }

  /** Shows what is under the pointer: an image of the data, or what the model makes there. @param {number} px @param {number} py */
  async point(px, py) {
    const spot = this.spot(px, py);
    this.pointed = spot;
    this.paintOver();
    const near = "row" in spot;
    const found = await tried(() => (near ? this.thumb(spot.row).then((images) => images && { image: images })
      : this.places.at(spot.x, spot.y, "hover").then((a) => a?.arrays)));
    if (!found || this.pointed !== spot) return;
    byId("cardimage").hidden = !found.image;
    if (found.image) show(byId("cardimage"), found.image);
    byId("cardtext").textContent = near ? this.caption(spot.row) : found.image ? this.places.made : "nothing is near";
    this.card.classList.toggle("made", !near);
    this.card.hidden = false;
    const { w, h } = this.size(), right = px + 18 + this.card.offsetWidth > w, low = py + 18 + this.card.offsetHeight > h;
    this.card.style.left = `${Math.max(2, right ? px - 18 - this.card.offsetWidth : px + 18)}px`;
    this.card.style.top = `${Math.max(2, low ? py - 18 - this.card.offsetHeight : py + 18)}px`;
  }

  /** An image of the data; the latest thousand are remembered. @param {number} row */
  async thumb(row) {
    const known = this.thumbs.get(row);
    if (known) return known;
    const answer = await this.context.backend.call("thumbs", { rows: [row] }, "hover");
    if (!answer) return null;
    if (this.thumbs.size > 1000) this.thumbs.clear();
    this.thumbs.set(row, answer.arrays.images);
    return answer.arrays.images;
  }

  leave() {
    this.pointed = null;
    this.card.hidden = true;
    this.paintOver();
  }

  /** A closed lasso becomes a group. @param {number[][]} corners */
  enclose(corners) {
    if (corners.length < 3) return;
    this.told.lasso(corners, inside(this.xy, corners, this.shown));
  }

  /** The table of what is in view, for those who do not see the map. */
  list() {
    if (!byId("table").open) return;
    const { w, h } = this.size(), [x0, y1] = this.toData(0, 0), [x1, y0] = this.toData(w, h), rows = [];
    let n = 0;
    for (let i = 0; i < this.colours.length; i++) {
      const x = this.xy[2 * i], y = this.xy[2 * i + 1];
      if (this.colours[i] && x >= x0 && x <= x1 && y >= y0 && y <= y1 && ++n <= 100) rows.push(i);
    }
    const column = this.described(this.colour), axes = this.titles.length ? this.titles : ["across", "up"];
    byId("tablenote").textContent = n > 100 ? `The first 100 of ${n.toLocaleString("en")} images in view; zoom in to see others.` : `${n} images in view.`;
    byId("rows").replaceChildren(
      el("tr", {}, ...["image", ...(column ? [column.name] : []), ...axes].map((t) => el("th", { scope: "col" }, t))),
      ...rows.map((row) => el("tr", {}, el("td", {}, el("button", { type: "button", className: "link", onclick: () => this.told.pick({ row }) }, String(row))),
        column && el("td", {}, this.value(this.colour, row)), el("td", {}, short(this.xy[2 * row])), el("td", {}, short(this.xy[2 * row + 1])))));
  }
}

/** @returns {Uint32Array} shades of density, from few to many */
function shades() {
  const all = ramp(dark());
  return dark() ? all : all.slice().reverse();
}
