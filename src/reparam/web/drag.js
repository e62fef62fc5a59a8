/** Pointer, wheel and keys on the map: pan, zoom, lasso, pick. */

import { say } from "./dom.js";
import { thinned } from "./plot.js";

/** @typedef {import("./map.js").Map2D} Map2D */

export class Drag {
  /** @param {Map2D} map */
  constructor(map) {
    this.map = map;
    /** @type {number[][]} corners of a lasso that is being drawn */ this.corners = [];
    /** @type {number[] | null} the keyboard's place */ this.cursor = null;
    this.lassoing = false;
    /** @type {Map<number, {x: number, y: number}>} */ this.down = new Map();
    this.moved = false;
    const on = map.over;
    on.addEventListener("pointerdown", (/** @type {PointerEvent} */ e) => this.press(e));
    on.addEventListener("pointermove", (/** @type {PointerEvent} */ e) => this.slide(e));
    on.addEventListener("pointerup", (/** @type {PointerEvent} */ e) => this.release(e));
    on.addEventListener("pointercancel", (/** @type {PointerEvent} */ e) => { this.down.delete(e.pointerId); this.corners = []; map.paintOver(); });
    on.addEventListener("pointerleave", () => !this.cursor && map.leave());
    on.addEventListener("wheel", (/** @type {WheelEvent} */ e) => {
      e.preventDefault();
      map.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016)), e.offsetX, e.offsetY);
    }, { passive: false });
    on.addEventListener("dblclick", (/** @type {MouseEvent} */ e) => map.zoom(1.8, e.offsetX, e.offsetY));
    on.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => this.key(e));
    on.addEventListener("blur", () => { this.cursor = null; map.leave(); });
  }

  /** @param {boolean} on */
  lasso(on) {
    this.lassoing = on;
    this.corners = [];
    this.map.over.classList.toggle("lassoing", on);
    this.map.context.tool(on);
    this.map.paintOver();
  }

  /** @param {PointerEvent} e */
  press(e) {
    if (e.button > 0) return;
    this.map.over.setPointerCapture(e.pointerId);
    this.down.set(e.pointerId, { x: e.offsetX, y: e.offsetY });
    this.moved = this.down.size > 1;
    this.cursor = null;
    const around = this.lassoing || e.shiftKey;
    this.corners = around && this.down.size === 1 ? [this.map.toData(e.offsetX, e.offsetY)] : [];
  }

  /** @param {PointerEvent} e */
  slide(e) {
    const map = this.map, from = this.down.get(e.pointerId), to = { x: e.offsetX, y: e.offsetY };
    if (!from) return void map.point(to.x, to.y);
    if (!this.moved && Math.hypot(to.x - from.x, to.y - from.y) < 4) return;
    this.moved = true;
    map.card.hidden = true;
    if (this.corners.length) {
      this.corners.push(map.toData(to.x, to.y));
      return map.paintOver();
    }
    const other = [...this.down].find(([id]) => id !== e.pointerId)?.[1];
    if (other) map.zoom(Math.hypot(to.x - other.x, to.y - other.y) / (Math.hypot(from.x - other.x, from.y - other.y) || 1),
      (to.x + other.x) / 2, (to.y + other.y) / 2);
    else map.move((from.x - to.x) / map.view.scale, (to.y - from.y) / map.view.scale);
    this.down.set(e.pointerId, to);
  }

  /** @param {PointerEvent} e */
  release(e) {
    if (!this.down.delete(e.pointerId)) return;
    const drawn = thinned(this.corners);
    this.corners = [];
    if (this.moved) {
      if (drawn.length > 2) this.finish(drawn);
    } else this.map.told.pick(this.map.spot(e.offsetX, e.offsetY));
    this.map.paintOver();
  }

  /** @param {number[][]} corners */
  finish(corners) {
    this.map.enclose(corners);
    if (this.lassoing) this.lasso(false);
  }

  /** @param {KeyboardEvent} e */
  key(e) {
    const map = this.map, { w, h } = map.size(), step = (e.shiftKey ? 60 : 12) / map.view.scale;
    const ways = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] });
    const acts = /** @type {Record<string, () => void>} */ ({
      "+": () => map.zoom(1.3), "=": () => map.zoom(1.3), "-": () => map.zoom(1 / 1.3), 0: () => map.fit(),
      l: () => { this.lasso(!this.lassoing); say(this.lassoing ? "Lasso: arrows move, Space sets a corner, Enter closes it, Escape leaves" : "Lasso left"); },
      Escape: () => this.lasso(false), " ": () => this.corner(), Enter: () => this.enter(),
    });
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (ways[e.key]) {
      this.cursor ??= [map.view.x, map.view.y];
      this.cursor = this.cursor.map((v, k) => v + step * ways[e.key][k]);
      const px = (this.cursor[0] - map.view.x) * map.view.scale + w / 2, py = (map.view.y - this.cursor[1]) * map.view.scale + h / 2;
      if (px < 0 || py < 0 || px > w || py > h) map.move(step * ways[e.key][0], step * ways[e.key][1]);
      map.point(px, py);
    } else if (acts[e.key]) acts[e.key]();
    else return;
    e.preventDefault();
  }

  corner() {
    if (this.lassoing && this.cursor) this.corners.push([...this.cursor]);
    this.map.paintOver();
  }

  enter() {
    const map = this.map, { w, h } = map.size();
    if (this.lassoing && this.corners.length > 2) return this.finish(this.corners);
    if (!this.cursor) return;
    map.told.pick(map.spot((this.cursor[0] - map.view.x) * map.view.scale + w / 2, (map.view.y - this.cursor[1]) * map.view.scale + h / 2));
  }
}
