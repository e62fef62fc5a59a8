/** The page: asks the server what there is, builds the views, and keeps the address in step with them. */

import { overSocket } from "./backend.js";
import { byId, el, say, tried } from "../../web/dom.js";
import { Around } from "./around.js";
import { Compare } from "./compare.js";
import { offer, ofBoth, ofCodes, ofMap, ofPath, ofSamples, ofSum } from "./copy.js";
import { Groups } from "./groups.js";
import { Kept } from "./kept.js";
import { Map2D } from "../../web/map.js";
import { Paths } from "./paths.js";
import { inside } from "../../web/plot.js";
import { Samples } from "./samples.js";
import { Sums } from "./sums.js";
import { amounts, fromAmounts, fromPolygon, listed, numbers, packed, polygon, read, unpacked, write } from "./state.js";
import { Training } from "./training.js";
import { Workbench } from "./workbench.js";

/**
 * @typedef {{index: number, nats: number, mean: number, std: number, low: number, high: number, name: string}} Axis
 * @typedef {{prior: string, title: string, resample: boolean, labels: boolean, guides: boolean}} Way of drawing new images
 * @typedef {{name: string, folder: string, image: number[], latent: number[], axes: Axis[], directions: {name: string, accuracy: number}[],
 *            ways: Way[], temperature: number, classes: string[], has_encoder: boolean, refines: boolean, plain: boolean, has_curves?: boolean}} Run
 * @typedef {{runs: Run[], points: {n: number, columns: {name: string, title?: string, kind: string, values?: string[], factor?: boolean}[]},
 *            planes: {name: string, title: string, exact: boolean, missing?: string}[], training: boolean, films: boolean, notes?: string[], name?: string, folder?: string}} Hello
 * @typedef {{backend: import("./backend.js").Backend, hello: Hello, changed: () => void,
 *            pick: (spot: import("../../web/map.js").Spot) => void, take: (code: number[], title: string) => void, tab: (name: string) => void, tool: (lasso: boolean) => void}} Context
 */

const TABS = { work: "work", path: "path", draw: "drawing", both: "both", train: "training" };
const ANY = "two latents";

class App {
  /** @param {import("./backend.js").Backend} backend @param {Hello} hello */
  constructor(backend, hello) {
    /** @type {Context} */
    this.context = { backend, hello, changed: () => this.remember(),
      pick: (spot) => this.pick(spot), take: (code, title) => this.take(code, title), tab: (name) => this.tab(name),
      tool: (lasso) => byId("lasso").setAttribute("aria-pressed", String(lasso)) };
    this.run = hello.runs[0];
    this.hasMap = hello.points.n > 0;
    this.restoring = true;
    /** @type {string | undefined} the plane that was chosen last */ this.wanted = undefined;
    /** @type {Set<string>} planes that are waited for */ this.computing = new Set();
    /** @type {Record<string, string>} the two latents that were shown last */ this.two = {};
    this.map = new Map2D(this.context, { pick: (spot) => this.pick(spot), lasso: (corners, rows) => this.groups.add(corners, rows) });
    const take = this.context.take, walk = (/** @type {number[][]} */ codes) => this.walk(codes);
    this.work = new Workbench(this.context, (code) => this.moved(code));
    this.kept = new Kept(this.context, { current: () => this.work.code.value(), take, walk });
    this.around = new Around(this.context, this.work, this.kept);
    this.groups = new Groups(this.context, this.map, this.work);
    this.paths = new Paths(this.context, { current: () => this.work.code.value(), walked: (codes) => this.map.walk(codes),
      open: (code, title) => this.open(code, title) });
    this.sums = new Sums(this.context, { current: () => [this.work.code.value(), this.work.title], take: (code, title) => this.open(code, title), walk });
    this.samples = new Samples(this.context, this.kept);
    this.compare = new Compare(this.context, this.work);
    byId("savemp4").hidden = !hello.films;
    this.training = new Training(backend, hello.runs, false);
    byId("tab-both").hidden = hello.runs.length < 2;
    byId("tab-train").hidden = !hello.runs.some((run) => run.has_curves);
    this.title();
    this.controls();
    this.tabs();
  }

  title() {
    const { name, image, latent, ways } = this.run, [h, w] = image, n = this.context.hello.points.n;
    document.title = `${name} · reparam explore`;
    byId("run").textContent = this.context.hello.runs.map((r) => r.name).join(" and ");
    byId("about").textContent = [`${w}×${h} pixels`, `${latent.reduce((a, b) => a * b, 1).toLocaleString("en")} latents`,
      n && `${n.toLocaleString("en")} images`, ways.length && `${ways[0].prior} prior`].filter(Boolean).join(" · ");
    const notes = this.context.hello.notes ?? [];
    byId("notes").hidden = !notes.length;
    byId("notes").textContent = notes.join(" ");
    document.body.classList.toggle("nomap", !this.hasMap);
  }

  controls() {
    const { hello } = this.context, planes = hello.planes.filter((p) => !p.name.startsWith("latents:"));
    byId("plane").replaceChildren(...planes.map((p) => el("option", { value: p.name, disabled: Boolean(p.missing) }, sentence(p.title) + (p.missing ? `: ${p.missing}` : ""))), this.run.axes.length > 1 && el("option", { value: ANY }, "Two latents"));
    for (const [id, k] of /** @type {[string, number][]} */ ([["right", 0], ["up", 1]])) {
      byId(id).replaceChildren(...this.work.axes.map((axis, i) => el("option", { value: axis.index, selected: i === k }, axis.name ? `${axis.index} ${axis.name}` : String(axis.index))));
      byId(id).onchange = () => this.latents(id);
    }
    byId("plane").onchange = () => (byId("plane").value === ANY ? this.latents("right") : this.plane(byId("plane").value));
    const colours = [...hello.points.columns.map((c) => [c.name, c.title ?? c.name]), ["density", "density"], ["lassos", "lassos"]];
    byId("colour").replaceChildren(...colours.map(([name, title]) => el("option", { value: name }, sentence(title))), el("option", { value: "" }, "One colour"));
    byId("colour").onchange = () => this.colour(byId("colour").value);
    byId("lasso").onclick = () => this.map.drag.lasso(!this.map.drag.lassoing);
    byId("in").onclick = () => this.map.zoom(1.5);
    byId("out").onclick = () => this.map.zoom(1 / 1.5);
    byId("fit").onclick = () => { this.map.fit(); this.remember(); };
    byId("copyas").onclick = () => this.copy();
  }

  tabs() {
    const all = Object.keys(TABS).filter((name) => !byId(`tab-${name}`).hidden);
    for (const name of all) {
      byId(`tab-${name}`).onclick = () => this.tab(name);
      byId(`tab-${name}`).onkeydown = (/** @type {KeyboardEvent} */ e) => {
        const at = all.indexOf(name), n = all.length;
        const to = { ArrowRight: (at + 1) % n, ArrowLeft: (at + n - 1) % n, Home: 0, End: n - 1 }[e.key];
        if (to === undefined) return;
        e.preventDefault();
        const next = all[to];
        this.tab(next);
        byId(`tab-${next}`).focus();
      };
    }
  }

  /** @param {string} shown */
  tab(shown) {
    this.shown = shown;
    for (const [name, panel] of Object.entries(TABS)) {
      byId(panel).hidden = name !== shown;
      byId(`tab-${name}`).setAttribute("aria-selected", String(name === shown));
      byId(`tab-${name}`).tabIndex = name === shown ? 0 : -1;
    }
    if (shown !== "path") this.paths.stop();
    if (shown === "both") this.compare.open();
    shown === "train" ? this.training.open() : this.training.close();
    if (shown === "draw" && !this.samples.drawn && !this.restoring) this.samples.draw();
    this.remember();
  }

  /** Shows the plane of the two latents that are chosen. @param {string} changed the choice that was made, from which the other gives way */
  latents(changed) {
    const other = changed === "right" ? "up" : "right", taken = byId(changed).value;
    if (byId(other).value === taken) byId(other).value = this.two[changed] ?? this.work.axes.find((axis) => String(axis.index) !== taken)?.index;
    return this.plane(`latents:${byId("right").value},${byId("up").value}`);
  }

  /** Shows another plane, now or when it is ready; whether now. @param {string} plane */
  async plane(plane) {
    if (!this.hasMap) return false;
    this.wanted = plane;
    const answer = await this.map.ask(plane);
    if (answer?.header.computing) this.whenReady(plane);
    else if (answer && this.wanted === plane) await this.show(plane, answer);
    else if (!answer) this.choose(this.map.plane);
    return this.map.plane === plane;
  }

  /** @param {string} plane @param {import("./backend.js").Answer} answer */
  async show(plane, answer) {
    await this.map.show(plane, answer);
    this.choose(plane);
    this.map.recolour();
    this.remember();
  }

  /** Which plane is chosen. @param {string} plane */
  choose(plane) {
    const two = plane.startsWith("latents:");
    byId("plane").value = two ? ANY : plane;
    byId("two").hidden = !two;
    if (!two) return;
    [byId("right").value, byId("up").value] = plane.slice(8).split(",");
    this.two = { right: byId("right").value, up: byId("up").value };
  }

  /** Waits for a plane that is computed meanwhile, and shows it unless another was chosen since. @param {string} plane */
  async whenReady(plane) {
    byId("plane").value = plane;
    if (this.computing.has(plane)) return;
    this.computing.add(plane);
    const answer = await busy("plane", plane, "computing", async () => {
      for (;;) {
        await new Promise((go) => setTimeout(go, 700));
        const answer = await this.map.ask(plane);
        if (!answer?.header.computing) return answer;
      }
    });
    this.computing.delete(plane);
    if (answer && this.wanted === plane) return this.show(plane, answer);
    if (answer) say("The map of neighbourhoods is ready");
    else if (this.wanted === plane) this.choose(this.map.plane);
  }

  /** Colours the map. @param {string} name */
  async colour(name) {
    byId("colour").value = name;
    await busy("colour", name, "measuring", () => this.map.setColour(name));
    this.remember();
  }

  /** What was picked goes to the workbench, or with the path's tab open onto the path or into the sum. @param {import("../../web/map.js").Spot} spot */
  async pick(spot) {
    if (this.shown !== "path") {
      if (this.shown === "draw") this.tab("work");
      await ("row" in spot ? this.work.row(spot.row) : this.place(spot.x, spot.y));
      return this.shown === "both" && this.compare.images();
    }
    if (!("row" in spot)) return this.place(spot.x, spot.y);
    const answer = await tried(() => this.context.backend.call("of_row", { run: 0, row: spot.row }));
    if (answer) await this.take(Array.from(answer.arrays.code.data), answer.header.name);
  }

  /** Takes the code of a place of the map. @param {number} x @param {number} y */
  async place(x, y) {
    const { places } = this.map, code = await places.code(x, y);
    if (code) await this.take(code, places.byNeighbours ? "a place between neighbours" : "a place on the map");
  }

  /** A code goes where picks go. @param {number[]} code @param {string} title */
  take(code, title) {
    if (this.shown !== "path") return this.open(code, title);
    return byId("pickssum").checked ? this.sums.add(code, title) : this.paths.add(code);
  }

  /** Shows a code in the workbench. @param {number[]} code @param {string} title */
  open(code, title) {
    this.work.take(code, title);
    if (this.shown !== "both") this.tab("work");
  }

  /** Codes go onto the path. @param {number[][]} codes */
  async walk(codes) {
    for (const code of codes) await this.paths.add(code);
    this.tab("path");
  }

  /** The workbench's code is another. @param {number[]} code */
  moved(code) {
    this.map.mark(code);
    this.kept.follow(code);
    this.compare.follow(code);
  }

  copy() {
    const { run, work, paths, sums, samples, kept, compare } = this, { runs, points } = this.context.hello;
    /** @type {Record<string, import("./copy.js").Copied>} */ const views = { Workbench: ofCodes(run, [work.code.value()], work.detail, "image.png") };
    if (paths.stops.length > 1) views.Path = ofPath(run, paths.stops, paths.count, byId("geodesic").checked);
    if (sums.parts.length > 1) views.Sum = ofSum(run, sums.parts, sums.total());
    if (samples.drawn) views.Samples = ofSamples(run, samples.asked());
    if (kept.codes.length) views.Kept = ofCodes(run, kept.codes, true, "kept.png");
    if (runs.length > 1) views.Compare = ofBoth(runs, compare.seed, [work.code.value(), compare.place]);
    if (this.hasMap) views.Map = ofMap(run, points.columns.find((column) => column.factor && column.name === this.map.colour)?.name ?? "", points.n, this.map.plane);
    if (!byId("tab-train").hidden) views.Training = this.training.copied();
    offer(views, { train: "Training", path: views.Path ? "Path" : "Sum", draw: "Samples", both: "Compare" }[this.shown ?? ""] ?? "Workbench");
  }

  /** Puts what is seen into the address, a little later and once. */
  remember() {
    if (this.restoring) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => write(this.state()), 150);
  }

  state() {
    const { map, work, paths, sums, samples, kept, around, compare } = this, { code, source } = work, { w } = map.size();
    const own = source.kind === "row" ? { row: source.row } : { code: packed(code.base), of: source.kind === "code" ? source.title : "your photo" };
    const lassos = map.groups.filter((g) => g.plane === map.plane);
    return { tab: this.shown !== "work" && this.shown, plane: map.plane, colour: map.colour || "none", hide: listed([...map.hidden]),
      view: !map.fitted && listed([map.view.x, map.view.y, w / map.view.scale]), ...own, set: amounts(code.change), add: amounts(code.amounts),
      heat: code.temperature !== 1 && code.temperature, lock: listed([...code.locked]), bare: !work.strips.on && "1", rest: byId("rest").checked && "1", detail: this.run.refines && !work.detail && "0", lasso: lassos.map((g) => polygon(g.corners)).join("|"),
      turn: [...work.pulls.keys()].filter((name) => name.includes(" → ")).map((name) => name.replace(" → ", ">")).join(","),
      stops: paths.state, frames: paths.stops.length > 0 && paths.count, geodesic: byId("geodesic").checked && "1", sum: sums.state, to: byId("pickssum").checked && "sum", draw: samples.state, kept: kept.state, around: around.state, ...compare.state };
  }

  /** Shows what the address says, or what is best to begin with. */
  async restore() {
    const asked = read(), { hello } = this.context, { map, work } = this;
    this.restoring = true;
    byId("previews").checked = asked.get("bare") !== "1";
    byId("rest").checked = asked.get("rest") === "1";
    byId("detailbox").checked = asked.get("detail") !== "0";
    work.strips.toggle();
    if (this.hasMap) await this.restoreMap(asked);
    await work.saved();
    for (const turn of (asked.get("turn") ?? "").split(",").filter(Boolean)) await this.groups.direction(...(/** @type {[string, string]} */ (turn.split(">"))));
    const d = this.run.latent.reduce((a, b) => a * b, 1), code = unpacked(asked.get("code") ?? "");
    if (code.length === d) work.take(code, asked.get("of") ?? "");
    else if (!this.hasMap || !(await work.row(Math.max(0, Math.min(hello.points.n - 1, Math.floor(Number(asked.get("row") ?? 0)) || 0))))) work.take(work.code.middle, "the mean of all codes");
    for (const [i, by] of fromAmounts(asked.get("set"))) if (+i >= 0 && +i < d) work.code.change.set(+i, by);
    for (const [name, amount] of fromAmounts(asked.get("add"))) if (work.pulls.has(name)) work.code.amounts.set(name, amount);
    for (const i of numbers(asked.get("lock"))) if (i < d) work.code.locked.add(i);
    if (asked.has("heat") && Number.isFinite(Number(asked.get("heat")))) work.code.temperature = Number(asked.get("heat"));
    await work.redraw();
    byId("pickssum").checked = asked.get("to") === "sum";
    await Promise.all([this.paths.restore(asked, d), this.sums.restore(asked, d), this.kept.restore(asked, d), this.samples.restore(asked),
      this.around.restore(asked)]);
    this.compare.restore(asked);
    const tab = asked.get("tab") ?? "work";
    this.tab(Object.hasOwn(TABS, tab) && !byId(`tab-${tab}`).hidden ? tab : "work");
    this.restoring = false;
    if (this.shown === "draw" && !this.samples.drawn) this.samples.draw();
    this.remember();
    document.body.classList.add("ready");
  }

  /** @param {URLSearchParams} asked */
  async restoreMap(asked) {
    const { hello } = this.context, { map } = this, first = hello.planes[0]?.name, columns = hello.points.columns.map((c) => c.name);
    if (columns.includes("label")) await map.column("label");
    const wanted = asked.get("plane") ?? first, shown = await this.plane(wanted);
    if (!shown && wanted !== first) {
      await this.plane(first);
      if (this.computing.has(wanted)) [this.wanted, byId("plane").value] = [wanted, wanted];
    }
    const classes = hello.points.columns.filter((c) => c.kind === "class").map((c) => c.name);
    const colour = asked.get("colour") ?? (classes.includes("label") ? "label" : classes[0] ?? "none");
    const coloured = this.colour(colour === "none" ? "" : colour);
    if (classes.includes(colour)) await coloured;  // a figure may have to be measured first
    for (const k of numbers(asked.get("hide"))) map.hidden.add(k);
    map.recolour();
    if (!shown) return;
    const [x, y, across] = numbers(asked.get("view"));
    if (across > 0) {
      map.view = { x, y, scale: map.size().w / across };
      map.fitted = false;
    }
    for (const text of (asked.get("lasso") ?? "").split("|").filter(Boolean)) {
      const corners = fromPolygon(text);
      if (corners.length > 2) this.groups.add(corners, inside(map.xy, corners, map.shown));
    }
    map.draw();
  }
}

/** Does what may take long, and says so where it was chosen. @template T @param {string} choice @param {string} value @param {string} doing @param {() => Promise<T>} work */
async function busy(choice, value, doing, work) {
  const option = [...byId(choice).options].find((o) => o.value === value), title = option?.textContent;
  const timer = setTimeout(() => { if (option) option.textContent = `${title}: ${doing} …`; }, 250);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
    if (option) option.textContent = title;
  }
}

const sentence = (/** @type {string} */ text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What both kinds of page have: windows that close, and the one that tells the keys. */
function dialogs() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.querySelector(".close")?.addEventListener("click", () => dialog.close());
  byId("helping").onclick = () => byId("help").showModal();
  addEventListener("keydown", (e) => {
    const typing = e.target instanceof HTMLInputElement && e.target.type !== "range" || e.target instanceof HTMLSelectElement;
    if (e.key === "?" && !typing && !document.querySelector("dialog[open]")) byId("help").showModal();
  });
}

/** A run that is being trained for the first time: there is nothing to see but that. @param {import("./backend.js").Backend} backend @param {string} name @param {string} folder */
function watch(backend, name, folder) {
  const training = new Training(backend, [{ name, folder }], true);
  document.title = `${name} · training · reparam`;
  byId("run").textContent = name;
  document.body.classList.add("watching");
  for (const id of Object.values(TABS)) byId(id).hidden = id !== "training";
  byId("copyas").onclick = () => offer({ Training: training.copied() }, "Training");
  training.open();
  document.body.classList.add("ready");
}

async function start() {
  let lost = 0;
  const backend = overSocket((open, why) => {
    clearTimeout(lost);
    if (open) byId("lost").hidden = true;
    else if (why) say(why, true);
    else lost = setTimeout(() => { byId("lost").hidden = false; }, 1000);
  });
  const hello = await tried(() => backend.call("hello"));
  if (!hello) return;
  dialogs();
  if (!hello.header.runs.length) return watch(backend, hello.header.name, hello.header.folder);
  const app = new App(backend, /** @type {Hello} */ (/** @type {unknown} */ (hello.header)));
  await app.restore();
  addEventListener("hashchange", () => location.reload());
}

start().catch((error) => say(String(error?.message ?? error), true));
