/** How training goes, or went: curves, the latest figures, pictures of the current averaged weights, remarks. */

import { Chart, three } from "./charts.js";
import { quoted } from "./copy.js";
import { byId, el, short } from "../../web/dom.js";
import { picture, show } from "../../web/pixels.js";

/**
 * @typedef {import("../../web/types.js").NamedArray} NamedArray @typedef {import("../../web/types.js").Answer} Answer
 * @typedef {import("../../web/types.js").Asked} Asked
 * @typedef {{steps: number[], groups: Map<string, import("./charts.js").Line[]>}} Curves
 */

const CURVES_EVERY = 2000, PICTURES_EVERY = 4000, QUIET = 90;
const ENDED = ["finished", "interrupted"];

export class Training {
  /** @param {Asked} backend @param {{name: string, folder: string}[]} runs @param {boolean} watched whether this page is of a training alone */
  constructor(backend, runs, watched) {
    this.backend = backend;
    this.runs = runs;
    this.run = 0;
    this.watched = watched;
    /** @type {Map<string, Chart>} */ this.charts = new Map();
    this.command = "";
    this.status = "";
    this.curvesKnown = this.picturesKnown = "";
    /** Goes up with each opening, so that what an earlier one has begun ends. */
    this.turn = 0;
    this.shown = false;
    byId("trainedbox").hidden = runs.length < 2;
    byId("trained").replaceChildren(...runs.map(({ name }, k) => el("option", { value: k }, name)));
    byId("trained").onchange = () => this.choose(+byId("trained").value);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.charts.forEach((chart) => chart.redraw()));
    byId("explorenow").onclick = () => location.reload();
  }

  /** Begins to follow the run, as long as it goes on and someone looks. */
  open() {
    if (this.shown) return;
    this.shown = true;
    this.turn += 1;
    this.follow(this.turn);
  }

  close() {
    this.shown = false;
  }

  /** @param {number} run */
  choose(run) {
    this.close();
    this.run = run;
    this.status = this.curvesKnown = this.picturesKnown = "";
    for (const id of ["trainsamples", "remarks", "findings", "latestrows"]) byId(id).replaceChildren();
    byId("rebuiltbox").hidden = byId("natsbox").hidden = true;
    this.draw({ steps: [], groups: new Map() });
    this.open();
  }

  get folder() {
    return this.runs[this.run].folder;
  }

  /** @param {number} turn */
  async follow(turn) {
    let drawn = 0, drawing = false;
    while (this.shown && turn === this.turn) {
      if (!document.hidden) {
        const known = await this.standing(turn);
        if (known && !drawing && Date.now() - drawn >= PICTURES_EVERY) {
          drawing = true;
          this.pictures(turn).finally(() => { drawn = Date.now(); drawing = false; });
        }
        if (ENDED.includes(this.status)) return;
      }
      await new Promise((done) => setTimeout(done, CURVES_EVERY));
    }
  }

  /** Asks, of what may have come to nothing meanwhile. @param {string} op @param {string} known @param {number} turn @param {(error: Error) => void} failed */
  async ask(op, known, turn, failed) {
    const answer = await this.backend.call(op, { run: this.run, known }, op).catch(failed);
    return answer && turn === this.turn ? answer : null;
  }

  /** @param {number} turn */
  async standing(turn) {
    const answer = await this.ask("training", this.curvesKnown, turn, (error) => { if (this.shown) byId("standing").textContent = `Nothing is known: ${error.message}`; });
    if (!answer) return false;
    const { header } = answer;
    this.status = header.status;
    this.command = header.command;
    this.line(header);
    this.remarks(header.remarks);
    if (!answer.arrays.values) return true;
    this.curvesKnown = header.stamp;
    const curves = curvesOf(answer);
    this.draw(curves);
    this.table(curves);
    return true;
  }

  /** Step, share, speed and time left. @param {Record<string, any>} told */
  line(told) {
    const { status, step, steps, progress, left, speed, quiet, seconds } = told, going = status === "training";
    const all = [going && progress < 1 ? "Training" : { "reading images": "Reading the images …", finished: "Trained", interrupted: "Stopped early", training: "Trained; what follows is being made: priors, figures, pictures …" }[/** @type {string} */ (status)],
      step > 0 && `step ${step.toLocaleString("en")}${steps ? ` of ${steps.toLocaleString("en")}` : ""}`, progress !== null && progress < 1 && `${Math.floor(100 * progress)} %`,
      going && progress < 1 && left !== null ? `${clock(left)} left` : seconds > 0 && clock(seconds), speed && `${Math.round(speed).toLocaleString("en")} images/s`];
    byId("standing").textContent = all.filter(Boolean).join(" · ");
    byId("progress").value = progress ?? 0;
    byId("progress").hidden = ENDED.includes(status);
    byId("afterwards").hidden = !(this.watched && ENDED.includes(status));
    byId("quiet").hidden = !(going && quiet > QUIET);
    byId("quiet").textContent = `Nothing has been written for ${Math.round(quiet / 60)} minutes. If the run was stopped, it goes on with: reparam train --resume ${quoted(this.folder)}`;
  }

  /** @param {Curves} curves */
  draw({ steps, groups }) {
    for (const [title, chart] of this.charts) {
      if (chart.names === groups.get(title)?.map((line) => line.name).join()) continue;
      chart.remove();
      this.charts.delete(title);
    }
    for (const [title, lines] of groups) {
      const chart = this.charts.get(title) ?? new Chart(byId("curves"), title, lines);
      this.charts.set(title, chart);
      chart.show(steps, lines);
    }
  }

  /** The same for those who do not see curves. @param {Curves} curves */
  table({ steps, groups }) {
    byId("latestrows").replaceChildren(...[...groups.values()].flat().map(({ name, values }) => {
      const known = values.flatMap((v, k) => (v === null ? [] : [{ v, step: steps[k] }])), last = known[known.length - 1];
      const lowest = known.reduce((a, b) => (b.v < a.v ? b : a), known[0]);
      return el("tr", {}, el("th", { scope: "row" }, name), ...(known.length ? [three(known[0].v), `${three(lowest.v)} at ${lowest.step.toLocaleString("en")}`, three(last.v)] : ["–", "–", "–"]).map((text) => el("td", {}, text)));
    }));
  }

  /** @param {{step: number | null, text: string}[]} remarks */
  remarks(remarks) {
    const texts = remarks.map(({ step, text }) => (step === null ? text : `step ${step.toLocaleString("en")}: ${text}`));
    listed("remarks", texts);
    byId("noremarks").hidden = texts.length > 0 || byId("findings").childElementCount > 0;
  }

  /** @param {number} turn */
  async pictures(turn) {
    if (this.status === "reading images") return;
    const answer = await this.ask("snapshot", this.picturesKnown, turn, (error) => { byId("picturesnote").textContent = `No pictures: ${error.message}`; });
    if (!answer?.arrays.samples) return;
    const { header, arrays } = answer, { samples, originals, rebuilt, latents, nats } = arrays;
    this.picturesKnown = header.stamp;
    byId("picturesnote").textContent = `Of the averaged weights at step ${header.step.toLocaleString("en")}; each sample begins from the same noise throughout.`;
    pictured("trainsamples", samples, "sample");
    byId("rebuiltbox").hidden = !originals;
    byId("natsbox").hidden = !nats;
    if (originals) pictured("originalsrow", originals, "held-out image"), pictured("rebuiltrow", rebuilt, "reconstruction of held-out image");
    if (nats) this.latents(header, latents, nats);
    listed("findings", header.findings.map((/** @type {Record<string, string>} */ f) => `${f.title}: ${f.evidence}. What to do: ${f.advice}`));
  }

  /** @param {Record<string, any>} header @param {NamedArray} latents @param {NamedArray} nats */
  latents(header, latents, nats) {
    const all = header.latents.toLocaleString("en"), top = nats.data[0] || 1;
    byId("natstitle").textContent = `${header.active.toLocaleString("en")} of ${all} latents are active and carry ${short(header.total)} nats`;
    byId("nats").replaceChildren(...Array.from(nats.data, (value, k) => {
      const bar = el("i", { title: `latent ${latents.data[k]}: ${short(value)} nats` });
      bar.style.height = `${Math.max(1, 100 * value / top)}%`;
      return bar;
    }));
    byId("nats").setAttribute("aria-label", `Nats of the ${nats.data.length} latents that carry most: ${Array.from(nats.data.slice(0, 8), (v, k) => `latent ${latents.data[k]} ${short(v)}`).join(", ")}${nats.data.length > 8 ? ", …" : ""}`);
  }

  /** "Copy as …": the training that is seen, and its curves. */
  copied() {
    return { command: `${this.command}\nreparam explore ${quoted(this.folder)}`,
      python: `import json\nfrom pathlib import Path\n\nimport matplotlib.pyplot as plt\n\nlines = Path(${JSON.stringify(this.folder)}, "metrics.jsonl").read_text().splitlines()\n`
        + `records = [json.loads(line) for line in lines]\nplt.plot([r["step"] for r in records], [r["loss"] for r in records])\nplt.show()\n` };
  }
}

/** @param {Answer} answer @returns {Curves} */
function curvesOf({ header, arrays }) {
  const steps = Array.from(arrays.steps.data), n = steps.length, groups = new Map();
  header.series.forEach((/** @type {{name: string, group: string}} */ { name, group }, /** @type {number} */ k) => {
    const values = Array.from(arrays.values.data.subarray(k * n, (k + 1) * n), (v) => (Number.isNaN(v) ? null : v));
    groups.set(group, [...(groups.get(group) ?? []), { name, values }]);
  });
  return { steps, groups };
}

/** Only what changed, so that a screen reader says only what is new. @param {string} id @param {string[]} texts */
function listed(id, texts) {
  const list = byId(id), now = Array.from(list.children, (each) => each.textContent);
  if (texts.join("\n") === now.join("\n")) return;
  const kept = now.every((text, k) => text === texts[k]) ? now.length : 0;
  if (!kept) list.replaceChildren();
  list.append(...texts.slice(kept).map((text) => el("li", {}, text)));
}

/** @param {string} id @param {NamedArray} images @param {string} what */
function pictured(id, images, what) {
  const room = byId(id), n = images.shape[0];
  while (room.childElementCount < n) room.append(picture(`${what} ${room.childElementCount + 1}`));
  for (let k = 0; k < n; k++) show(room.children[k], images, k);
}

const clock = (/** @type {number} */ s) => (s >= 3600 ? `${Math.floor(s / 3600)}:${String(Math.floor(s / 60) % 60).padStart(2, "0")}:${String(Math.floor(s % 60)).padStart(2, "0")}` : `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`);
