/** Lassoed groups of images: their mean, their files, and the direction from one to another. */

import { byId, download, el, say, tried } from "../../web/dom.js";
import { rowOf } from "../../web/pixels.js";

/** @typedef {import("./app.js").Context} Context */
const INKS = ["#d1495b", "#00798c", "#b07d00", "#6a4c93", "#3d8b37", "#c1666b"];

export class Groups {
  /** @param {Context} context @param {import("../../web/map.js").Map2D} map @param {import("./workbench.js").Workbench} work */
  constructor(context, map, work) {
    this.context = context;
    this.map = map;
    this.work = work;
    byId("turn").onclick = () => this.direction(byId("from").value, byId("to").value);
  }

  /** @param {number[][]} corners @param {number[]} rows */
  add(corners, rows) {
    if (!rows.length) return say("No image lies in this lasso");
    const used = new Set(this.map.groups.map((g) => g.name)), name = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"].find((letter) => !used.has(letter));
    if (!name) return say("26 lassos are as many as have names; remove one first", true);
    this.map.groups.push({ corners, rows: new Set(rows), plane: this.map.plane, hue: INKS[this.map.groups.length % INKS.length], name });
    say(`Lasso ${name}: ${rows.length.toLocaleString("en")} images`);
    this.show();
  }

  /** @param {string} name */
  rows(name) {
    return [...(this.map.groups.find((g) => g.name === name)?.rows ?? [])];
  }

  /** The list beneath the map. */
  show() {
    const groups = this.map.groups;
    byId("groups").replaceChildren(...groups.map((group) => {
      const mark = el("i"), act = (/** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ onclick) => el("button", { type: "button", title, onclick }, text);
      mark.style.background = group.hue;
      return el("li", {}, mark, el("b", {}, group.name), el("span", { className: "count" }, `${group.rows.size.toLocaleString("en")} images`),
        act("Average", "The image of the mean code", () => this.mean(group.name)),
        act("Files", "The names of these images as a table", () => this.files(group.name)),
        act("Remove", "Take this lasso away", () => { this.map.groups = groups.filter((g) => g !== group); this.show(); byId("over").focus(); }));
    }));
    byId("pair").hidden = groups.length < 2;
    const last = [groups.at(-2)?.name, groups.at(-1)?.name];
    ["from", "to"].forEach((id, k) => byId(id).replaceChildren(...groups.map((g) => el("option", { value: g.name, selected: g.name === last[k] }, g.name))));
    this.map.recolour();
    this.context.changed();
  }

  /** @param {string} name */
  async mean(name) {
    const answer = await tried(() => this.context.backend.call("mean", { run: 0, rows: this.rows(name) }));
    if (answer) this.context.take(rowOf(answer.arrays.code), `average of lasso ${name}`);
  }

  /** @param {string} name */
  files(name) {
    return tried(async () => download(await this.context.backend.call("save", { run: 0, kind: "csv", rows: this.rows(name) })));
  }

  /** A slider from one group to another. @param {string} a @param {string} b */
  async direction(a, b) {
    if (a === b) return say("Choose two different lassos", true);
    const answer = await tried(() => this.context.backend.call("direction", { run: 0, a: this.rows(a), b: this.rows(b) }));
    if (!answer) return;
    this.work.pull(`${a} → ${b}`, rowOf(answer.arrays.vector), answer.header.accuracy, true);
    this.context.tab("work");
    say(`A slider from lasso ${a} to lasso ${b}`);
  }
}
