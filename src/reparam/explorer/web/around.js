/** What lies around the workbench's image: the images of the data with the nearest codes, and draws of the model like it. */

import { byId, el, short, tried } from "../../web/dom.js";
import { picture, rowOf, show } from "../../web/pixels.js";

/** @typedef {import("./app.js").Context} Context */
const SIMILAR = 12, VARIED = 12;

export class Around {
  /** @param {Context} context @param {import("./workbench.js").Workbench} work @param {import("./kept.js").Kept} kept */
  constructor(context, work, kept) {
    this.context = context;
    this.work = work;
    this.kept = kept;
    this.seed = 0;
    this.shown = "";
    byId("image").addEventListener("begun", () => this.clear());
    byId("alike").hidden = !context.hello.points.n;
    byId("alike").onclick = () => this.similar();
    byId("vary").onclick = () => { this.seed += 1; this.variations(); };
    byId("variation").onchange = () => this.variations();
    byId("variation").oninput = () => this.tell();
    this.tell();
  }

  tell() {
    const value = (+byId("variation").value).toFixed(2);
    byId("variationis").textContent = value;
    byId("variation").setAttribute("aria-valuetext", value);
  }

  /** Another image is in the workbench, around which nothing has been asked for. What it was picked from stays, to pick another. */
  clear() {
    this.shown = "";
    if (!byId("around").contains(document.activeElement)) byId("around").hidden = true;
  }

  /** The images of the data that are nearest to the code. */
  async similar() {
    await tried(async () => {
      const answer = await this.context.backend.call("neighbours", { run: 0, code: this.work.code.value(), n: SIMILAR }, "near");
      if (!answer) return;
      const rows = Array.from(answer.arrays.rows.data), thumbs = await this.context.backend.call("thumbs", { rows });
      if (!thumbs) return;
      this.open("similar", "Nearest images of the data", rows.map((row, k) => {
        const canvas = picture(`image ${row}`);
        show(canvas, thumbs.arrays.images, k);
        return el("button", { type: "button", className: "thumb", title: `${thumbs.header.names[k] || `image ${row}`}, distance ${short(answer.arrays.distances.data[k])}`,
          onclick: () => this.context.pick({ row }) }, canvas);
      }));
    });
  }

  /** Draws of the prior that are led to the code. */
  async variations() {
    await tried(async () => {
      const answer = await this.context.backend.call("variations", { run: 0, code: this.work.code.value(), n: VARIED, variation: +byId("variation").value,
        seed: this.seed, detail: this.work.detail }, "near");
      if (!answer) return;
      const { images, codes } = answer.arrays;
      this.open("variations", "Variations", Array.from({ length: images.shape[0] }, (_, k) => this.kept.tile(images, k, rowOf(codes, k), `variation ${k + 1}`)));
    });
  }

  /** @param {string} shown @param {string} title @param {HTMLElement[]} images */
  open(shown, title, images) {
    this.shown = shown;
    byId("aroundtitle").textContent = title;
    byId("variationbox").hidden = shown !== "variations";
    byId("around").hidden = false;
    byId("aroundimages").replaceChildren(...images);
    this.context.changed();
  }

  get state() {
    return this.shown && [this.shown, byId("variation").value, this.seed].join("|");
  }

  /** @param {URLSearchParams} state */
  async restore(state) {
    const [shown, variation, seed] = (state.get("around") ?? "").split("|");
    if (!Number.isFinite(+seed)) return;
    byId("variation").value = variation;
    this.seed = +seed;
    this.tell();
    if (shown === "similar") await this.similar();
    if (shown === "variations") await this.variations();
  }
}
