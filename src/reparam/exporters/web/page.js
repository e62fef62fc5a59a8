// The page: an image and its code, samples, photos, sliders, and the map of the data where the page has one.

import { byId as $, el } from "../../web/dom.js";
import { Lanes } from "../../web/lanes.js";
import { Map2D } from "../../web/map.js";
import { apart, difference, picture, show } from "../../web/pixels.js";
import { bytes, read } from "./pixels.js";
import { placed } from "./places.js";
import { Points } from "./points.js";
import { Model } from "./programs.js";
import { along, moveTo, sliderRow } from "./sliders.js";
import { taken, unpack } from "./unpack.js";

/** @typedef {import("../../web/types.js").NamedArray} NamedArray */

const FIRST = 16; // sliders that are shown at once
const AT_ONCE = 12; // samples that are drawn beside each other

/** @param {Model} model */
async function start(model) {
  const { told } = model;
  const classes = told.one_hot; // at the end of a code
  let code = new Float32Array(model.codeSize); // what is shown
  let base = code; // what it was before sliders moved it
  let wanted = ""; // class of new samples
  let round = 0; // of drawing samples

  const lanes = new Lanes();
  /** @type {(code: Float32Array) => void} told where the code is */
  let moved = () => undefined;

  /** What the model makes of a code. @param {Float32Array} z */
  const made = async (z) => bytes(await model.decode(placed(z, told), $("detail").checked), told.image);
  const redraw = () => lanes.run("image", async () => {
    moved(code);
    show($("image"), await made(code));
  });

  const rows = told.sliders.map((/** @type {any} */ axis) => sliderRow(axis, (value) => {
    moveTo(code, axis, value ?? along(base, axis));
    if (value === undefined) setSliders();
    redraw();
  }));
  const setSliders = () => rows.forEach((/** @type {any} */ row, /** @type {number} */ k) =>
    row.set(along(code, told.sliders[k])));

  /** Takes a code to work on. @param {Float32Array} z */
  const take = (z) => {
    base = Float32Array.from(z);
    code = Float32Array.from(z);
    setSliders();
    if (classes) {
      const y = code.subarray(code.length - classes);
      const most = y.indexOf(Math.max(...y));
      $("label").value = y[most] > 0.5 ? String(most) : "";
    }
    return redraw();
  };

  /** Draws from the prior: first one, which is taken to be worked on, and then others beside it.
   * @param {() => void} [begun] told when the first is there */
  const draw = async (begun) => {
    const mine = ++round, guidance = $("guidance").valueAsNumber;
    const asked = { label: wanted === "" ? undefined : Number(wanted), guidance: guidance >= 0 ? guidance : 1 };
    for (const rows of [1, AT_ONCE - 1]) {
      const codes = await model.sample(rows, Math.floor(2 ** 32 * Math.random()), asked);
      for (let k = 0; k < rows; k++) {
        const z = codes.slice(k * model.codeSize, (k + 1) * model.codeSize), image = await made(z);
        if (mine !== round) return;
        if (rows === 1) {
          compare();
          $("samples").replaceChildren();
          tell("Drawn from the prior. Click a sample to work on it.");
          await take(z);
        }
        const name = `Sample ${$("samples").children.length + 1}`, canvas = picture(name);
        show(canvas, image);
        $("samples").append(el("button", { type: "button", "aria-label": name, onclick: () => { compare(); take(z); } }, canvas));
      }
      begun?.();
    }
  };

  /** @param {Blob} file */
  const photo = async (file) => {
    let x;
    try {
      x = await read(file, told.image, told.background);
    } catch {
      tell("This file is no image that the browser can read: try PNG, JPEG or WebP.");
      return;
    }
    const z = await model.encode(x), image = bytes(x, told.image);
    const [rebuilt] = await Promise.all([made(z), take(z)]);
    compare(image, rebuilt, [difference(image, rebuilt), `Off by ${(100 * apart(image, rebuilt)).toFixed(1)} %`]);
    tell("Your photo as the model sees it. It stays in this browser.");
  };

  if (told.map) moved = await chart(model, { take, made });
  listen(model, { draw, photo, redraw });
  $("reset").addEventListener("click", () => take(base));
  $("label").addEventListener("change", () => {
    wanted = $("label").value;
    if (!classes) return $("draw").click();
    code.fill(0, code.length - classes);
    if (wanted !== "") code[code.length - classes + Number(wanted)] = 1;
    redraw();
  });
  $("guidance").addEventListener("change", () => $("draw").click());
  $("save").addEventListener("click", () => save($("image"), told.title));
  lay(model, rows);
  const later = told.steps && rows.length && !classes; // flow matching's samples take a while
  if (later) {
    await take(middle(model));
    tell("Every slider in its middle; the first samples are being drawn.");
  }
  const drawn = new Promise((begun, fail) => void draw(() => begun(undefined)).catch(fail));
  if (later) drawn.catch(stopped);
  else await drawn;
}

/** The code at which every slider is in its middle: the mean of codes, as far as sliders reach.
 * @param {Model} model @returns {Float32Array} */
function middle({ codeSize, told }) {
  const code = new Float32Array(codeSize);
  for (const axis of told.sliders) moveTo(code, axis, axis.vector ? 0 : axis.mean);
  return code;
}

/** An image, what the model makes of its code, and where they differ; nothing without an image.
 * @param {NamedArray} [image] @param {NamedArray} [rebuilt] @param {[NamedArray, string]} [apart] with its caption */
function compare(image, rebuilt, apart) {
  /** @type {[NamedArray, string][]} */
  const shown = image && rebuilt ? [[image, "Image"], [rebuilt, "Rebuilt"], ...(apart ? [apart] : [])] : [];
  $("photo").hidden = !shown.length;
  $("photo").replaceChildren(...shown.map(([pixels, caption]) => {
    const canvas = picture(caption);
    show(canvas, pixels);
    return el("figure", {}, canvas, el("figcaption", {}, caption));
  }));
}

/** The map of the data. What is picked on it is taken to be worked on.
 * @param {Model} model @param {{take: (code: Float32Array) => Promise<unknown>, made: (code: Float32Array) => Promise<NamedArray>}} does
 * @returns {Promise<(code: Float32Array) => void>} marks where a code lies */
async function chart(model, { take, made }) {
  const points = await Points.load(model), { columns } = model.told.map;
  $("map").hidden = false;
  document.body.classList.add("mapped");
  const map = new Map2D({ backend: points, hello: { points: { columns } }, changed: () => undefined,
    tool: (lasso) => $("lasso").setAttribute("aria-pressed", String(lasso)) }, {
    pick: async (spot) => {
      const code = "row" in spot ? points.code(spot.row) : points.at(spot.x, spot.y);
      if ("row" in spot) compare(await points.thumb(spot.row), await made(code));
      else compare();
      tell("row" in spot ? ["An image of the data", map.value("label", spot.row)].filter(Boolean).join(", ") + "." : "A place on the map.");
      return take(code);
    },
    lasso: (_, rows) => {
      if (!rows.length) return;
      compare();
      tell(`The average of ${rows.length.toLocaleString("en")} images.`);
      take(points.mean(rows));
    },
  });
  $("lasso").onclick = () => map.drag.lasso(!map.drag.lassoing);
  $("in").onclick = () => map.zoom(1.5);
  $("out").onclick = () => map.zoom(1 / 1.5);
  $("fit").onclick = () => map.fit();
  for (const { name } of columns) await map.column(name);
  $("colour").append(...columns.map((/** @type {any} */ c) => new Option(c.name, c.name)), new Option("density", "density"), new Option("one colour", ""));
  $("colour").onchange = () => map.setColour($("colour").value);
  const plane = await map.ask("pca");
  if (plane) await map.show("pca", plane);
  await map.setColour($("colour").value = columns[0]?.name ?? "");
  return (code) => map.mark(Array.from(placed(code, model.told)));
}

/** Shows what this model has. @param {Model} model @param {any[]} rows */
function lay({ told, sessions }, rows) {
  const readable = [1, 3].includes(told.image[0]);
  $("open").hidden = !sessions.encoder || !readable;
  $("detailed").hidden = !sessions.refiner;
  $("labelled").hidden = !told.labels.length;
  $("guided").hidden = !told.label_from;
  $("label").append(new Option(told.labels.length ? "any" : "", ""));
  told.labels.forEach((/** @type {string} */ name, /** @type {number} */ k) => $("label").append(new Option(name, String(k))));
  $("sliders").append(...rows.slice(0, FIRST).map((row) => row.element));
  $("more").hidden = rows.length <= FIRST;
  $("more").textContent = `Show ${rows.length - FIRST} more`;
  $("more").addEventListener("click", () => {
    $("sliders").append(...rows.slice(FIRST).map((row) => row.element));
    $("more").hidden = true;
  });
  const directions = told.sliders.some((/** @type {any} */ axis) => axis.vector);
  $("hint").textContent = !rows.length
    ? "Codes of this model are names from a codebook, which no slider moves: draw samples, or open a photo."
    : directions
      ? "Each moves the code along a principal direction of the prior's draws, in standard deviations; most variance first."
      : told.sliders.some((/** @type {any} */ axis) => axis.nats)
        ? "Each moves one latent, over three standard deviations to either side; most information first."
        : "Each moves one latent, over three standard deviations to either side.";
  for (const id of ["draw", "open", "save", "reset"]) $(id).disabled = false;
  $("reset").hidden = !rows.length;
}

/** Buttons, files that are chosen, dropped or pasted, and keys. @param {Model} model
 * @param {{draw: () => Promise<void>, photo: (file: Blob) => Promise<void>, redraw: () => Promise<unknown>}} does */
function listen({ sessions, told }, { draw, photo, redraw }) {
  $("draw").addEventListener("click", () => draw());
  $("detail").addEventListener("change", redraw);
  if (!sessions.encoder || ![1, 3].includes(told.image[0])) return;
  /** @param {FileList | undefined | null} files */
  const first = (files) => files?.[0] && photo(files[0]);
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    first($("file").files);
    $("file").value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => first(event.clipboardData?.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    first(event.dataTransfer?.files);
  });
}

/** Offers a canvas as a file. @param {HTMLCanvasElement} canvas @param {string} title */
function save(canvas, title) {
  canvas.toBlob((blob) => {
    const address = URL.createObjectURL(/** @type {Blob} */ (blob));
    Object.assign(document.createElement("a"), { href: address, download: `${title}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });
}

/** @param {string} text */
function tell(text) {
  $("state").textContent = text;
}

async function main() {
  const told = JSON.parse(taken("model"));
  $("told").textContent = told.text;
  $("held").textContent = told.held;
  const notices = taken("third-party");
  $("notices").addEventListener("click", async () => {
    $("noticed").textContent = new TextDecoder().decode(await unpack(notices));
    $("noticed").hidden = false;
  });
  try {
    const model = await Model.load(told);
    Object.assign(globalThis, { model, draw: async (/** @type {HTMLCanvasElement} */ canvas, /** @type {Float32Array} */ code) =>
      show(canvas, bytes(await model.decode(code), told.image)) });
    await start(model);
    document.body.dataset.ready = String(Math.round(performance.now()));
  } catch (error) {
    stopped(error);
  }
}

/** @param {unknown} error */
function stopped(error) {
  tell(`The model cannot run in this browser: ${error instanceof Error ? error.message : error}`);
  throw error;
}

main();
