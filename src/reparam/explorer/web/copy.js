/** "Copy as command" and "Copy as Python": what a view shows, for a terminal and for a program. Both run as they stand. */

import { byId, el, say } from "../../web/dom.js";

/** Without what a terminal would obey or a reader not see: control characters, and those that turn the direction of writing. @param {string} text */
const plain = (text) => text.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, "\ufffd");
export const quoted = (/** @type {string} */ text) => (/^[\w./+-]+$/.test(text) && !text.startsWith("-") ? text : `'${plain(text).replaceAll("'", "'\\''")}'`);
const text = (/** @type {string} */ value) => JSON.stringify(plain(value));
const digits = (/** @type {number} */ v) => String(+v.toPrecision(7));
/** Characters of a command that a terminal takes. */
const MOST = 100_000;

/** @typedef {import("./app.js").Run} Run @typedef {{command: string, python: string}} Copied */

/** A list of numbers as Python writes it, broken into lines. @param {number[]} code */
function array(code) {
  const lines = [];
  for (let i = 0; i < code.length; i += 8) lines.push(`    ${code.slice(i, i + 8).map(digits).join(", ")},`);
  return `np.array([\n${lines.join("\n")}\n], np.float32)`;
}

/** @param {number[][]} codes @param {Run} run */
function arrays(codes, run) {
  const names = codes.map((_, k) => `z${k + 1}`);
  return `${codes.map((code, k) => `${names[k]} = ${array(code)}`).join("\n")}\nz = np.stack([${names.join(", ")}]).reshape(-1, ${run.latent.join(", ")})\n`;
}

/** @param {Run} run */
const opening = (run) => `import numpy as np\nimport reparam\n\nmodel = reparam.load(${text(run.folder)})\n`;
/** @param {Run} run @param {boolean} detail */
const decoding = (run, detail) => (run.refines && !detail ? "images = model.decode(z, reparam.Draw(refine=False))\n" : "images = model.decode(z)\n");

/** The command that decodes these codes. @param {Run} run @param {number[][]} codes @param {...string | false} options */
function decode(run, codes, ...options) {
  const end = options.filter(Boolean).join(" "), given = codes.map((code) => `--code=${code.map(digits).join(",")}`).join(" ");
  const command = `reparam decode ${quoted(run.folder)} ${given} ${end}`;
  return command.length < MOST ? command
    : `# Codes of this model are too long for a terminal. Keep the images, save their codes (NPY), then:\nreparam decode ${quoted(run.folder)} reparam.npy ${end}`;
}

/** Images of codes: the workbench's, a sum, what is kept. @param {Run} run @param {number[][]} codes @param {boolean} detail @param {string} out @returns {Copied} */
export function ofCodes(run, codes, detail, out) {
  return { command: decode(run, codes, run.refines && !detail && "--no-refine", `--out ${out}`), python: opening(run) + arrays(codes, run) + decoding(run, detail) };
}

/** A sum of codes. @param {Run} run @param {{weight: number, code: number[]}[]} parts @param {number[]} total @returns {Copied} */
export function ofSum(run, parts, total) {
  const { command } = ofCodes(run, [total], true, "sum.png");
  return { command, python: `${opening(run)}${arrays(parts.map((part) => part.code), run)}z = np.tensordot([${parts.map((part) => digits(part.weight)).join(", ")}], z, 1)[None]\n${decoding(run, true)}` };
}

/** @param {Run} run @param {number[][]} stops @param {number} frames @param {boolean} geodesic @returns {Copied} */
export function ofPath(run, stops, frames, geodesic) {
  const python = opening(run).replace("import reparam\n", `import reparam\n${geodesic ? "from reparam.downstream.geometry import shortest_legs\n" : ""}`)
    + arrays(stops, run) + (geodesic ? "z = np.concatenate(list(shortest_legs(model, z)))\n" : "") + `z = model.along(z, ${frames})\n` + decoding(run, true);
  return { command: decode(run, stops, `--steps ${frames}`, geodesic && "--geodesic", "--out path.gif"), python };
}

/** @param {Run} run @param {import("./samples.js").Drawn[]} asked @returns {Copied} */
export function ofSamples(run, asked) {
  const commands = [], lines = [];
  for (const { way, n, seed, temperature, label, guidance } of asked) {
    const both = run.ways.some((each) => each.resample && each.prior === way.prior), warm = temperature !== 1 || run.temperature !== 1;
    commands.push(["reparam sample", quoted(run.folder), `-n ${n}`, `--seed ${seed}`, `--prior ${quoted(way.prior)}`, label && `--label ${quoted(label)}`, warm && `--temperature ${temperature}`,
      guidance !== 1 && `--guidance ${guidance}`, both && (way.resample ? "--resample" : "--no-resample"), `--out samples-${way.prior}${way.resample ? "-resampled" : ""}.png`].filter(Boolean).join(" "));
    lines.push(`images = model.sample(${[n, `seed=${seed}`, `prior=${text(way.prior)}`, label && `label=${text(label)}`, warm && `temperature=${temperature}`,
      guidance !== 1 && `guidance=${guidance}`, both && `resample=${way.resample ? "True" : "False"}`].filter(Boolean).join(", ")})  # ${way.title}`);
  }
  return { command: commands.join("\n"), python: `import reparam\n\nmodel = reparam.load(${text(run.folder)})\n${lines.join("\n")}\n` };
}

/** The same place in both runs, and samples of both from one seed. @param {Run[]} runs @param {number} seed @param {number[][]} place a code of each, or none @returns {Copied} */
export function ofBoth(runs, seed, place) {
  const commands = [], parts = ["import numpy as np\nimport reparam\n"], there = place.every((code) => code.length);
  for (const [k, run] of runs.entries()) {
    commands.push(...(there ? [decode(run, [place[k]], `--out place-${"ab"[k]}.png`)] : []), `reparam sample ${quoted(run.folder)} -n 16 --seed ${seed} --out samples-${"ab"[k]}.png`);
    parts.push(`model = reparam.load(${text(run.folder)})\n${there ? `z = ${array(place[k])}.reshape(1, ${run.latent.join(", ")})\nplace = model.decode(z)\n` : ""}images = model.sample(16, seed=${seed})\n`);
  }
  return { command: commands.join("\n"), python: parts.join("\n") };
}

/** The map by principal components, or of neighbourhoods where these are shown. @param {Run} run @param {string} colour a column of the source, or none @param {number} n @param {string} plane @returns {Copied} */
export function ofMap(run, colour, n, plane) {
  const named = colour && colour !== "label" ? colour : "", near = plane === "pacmap";
  return { command: `reparam map ${quoted(run.folder)}${named ? ` --column ${quoted(named)}` : ""}${near ? " --method pacmap" : ""} -n ${n} --out map.png`,
    python: `import reparam\n\nfound = reparam.map_codes(${text(run.folder)}${named ? `, column=${text(named)}` : ""}${near ? `, method="pacmap"` : ""}, n=${n})\nxy, names = found.map.xy, found.names\n` };
}

/** Opens the window with what each view can be copied as. @param {Record<string, Copied>} views @param {string} shown the one to begin with */
export function offer(views, shown) {
  const choose = byId("copyof");
  choose.replaceChildren(...Object.keys(views).map((name) => el("option", { value: name, selected: name === shown }, name)));
  choose.onchange = () => put(views[choose.value]);
  put(views[choose.value]);
  byId("copybox").showModal();
}

/** @param {Copied} copied */
function put(copied) {
  for (const kind of /** @type {const} */ (["command", "python"])) {
    byId(`as${kind}`).textContent = copied[kind];
    byId(`copy${kind}`).onclick = async () => {
      try {
        await navigator.clipboard.writeText(copied[kind]);
        byId(`copy${kind}`).textContent = "Copied";
        setTimeout(() => { byId(`copy${kind}`).textContent = "Copy"; }, 1500);
      } catch {
        getSelection()?.selectAllChildren(byId(`as${kind}`));
        say("The browser does not let the page copy: press Ctrl+C");
      }
    };
  }
}
