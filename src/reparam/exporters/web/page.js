// The page: an image and its code, samples, photos, sliders.

import { apart, read, show } from "./pixels.js";
import { Model } from "./programs.js";
import { along, moveTo, sliderRow } from "./sliders.js";
import { taken, unpack } from "./unpack.js";

const FIRST = 16; // sliders that are shown at once
const AT_ONCE = 12; // samples that are drawn beside each other

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

/** Of several calls while one runs only the last is carried out. @param {() => Promise<void>} work */
export function latest(work) {
  let asked = false;
  let busy = false;
  return async () => {
    asked = true;
    if (busy) return;
    busy = true;
    try {
      while (asked) {
        asked = false;
        await work();
      }
    } finally {
      busy = false;
    }
  };
}

/** @param {Model} model */
function start(model) {
  const { told } = model;
  const classes = told.one_hot; // at the end of a code
  let code = new Float32Array(model.codeSize); // what is shown
  let base = code; // what it was before sliders moved it
  let wanted = ""; // class of new samples

  const redraw = latest(async () => show($("image"), await model.decode(code, $("detail").checked), told.image));

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

  const draw = async () => {
    const guidance = $("guidance").valueAsNumber;
    const asked = { label: wanted === "" ? undefined : Number(wanted), guidance: guidance >= 0 ? guidance : 1 };
    const codes = await model.sample(AT_ONCE, Math.floor(2 ** 32 * Math.random()), asked);
    $("photo").hidden = true;
    $("samples").replaceChildren();
    for (let k = 0; k < AT_ONCE; k++) {
      const z = codes.slice(k * model.codeSize, (k + 1) * model.codeSize);
      if (k === 0) await take(z);
      const [button, canvas] = [document.createElement("button"), document.createElement("canvas")];
      button.setAttribute("aria-label", `Sample ${k + 1}`);
      button.append(canvas);
      button.addEventListener("click", () => take(z));
      show(canvas, await model.decode(z, $("detail").checked), told.image);
      $("samples").append(button);
    }
    tell("Drawn from the prior. Click a sample to work on it.");
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
    const z = await model.encode(x);
    const [image] = await Promise.all([model.decode(z, $("detail").checked), take(z)]);
    const difference = apart(x, image);
    show($("original"), x, told.image);
    show($("reconstruction"), image, told.image);
    show($("difference"), difference, told.image);
    $("error").textContent = `${(255 * difference.reduce((a, b) => a + b, 0) / difference.length).toFixed(1)} of 255 a pixel`;
    $("photo").hidden = false;
    tell("Your photo as the model sees it. It stays in this browser.");
  };

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
  return draw();
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
 * @param {{draw: () => Promise<void>, photo: (file: Blob) => Promise<void>, redraw: () => Promise<void>}} does */
function listen({ sessions, told }, { draw, photo, redraw }) {
  const again = latest(draw);
  $("draw").addEventListener("click", again);
  $("detail").addEventListener("change", redraw);
  if (!sessions.encoder || ![1, 3].includes(told.image[0])) return;
  /** @param {FileList | undefined | null} files */
  const first = (files) => files?.[0] && photo(files[0]);
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => first($("file").files));
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
  $("told").textContent = told.text + (told.resampled ? ". Samples here come without the resampler" : "");
  const notices = taken("third-party");
  $("notices").addEventListener("click", async () => {
    $("noticed").textContent = new TextDecoder().decode(await unpack(notices));
    $("noticed").hidden = false;
  });
  try {
    const model = await Model.load(told);
    Object.assign(globalThis, { model, draw: async (/** @type {HTMLCanvasElement} */ canvas, /** @type {Float32Array} */ code) =>
      show(canvas, await model.decode(code), told.image) });
    await start(model);
    document.body.dataset.ready = String(Math.round(performance.now()));
  } catch (error) {
    tell(`The model cannot run in this browser: ${error instanceof Error ? error.message : error}`);
    throw error;
  }
}

main();
