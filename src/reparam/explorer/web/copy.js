/** "Copy as command" and "Copy as Python": what the view shows, for a terminal and for a program. */

import { byId, say } from "../../web/dom.js";

const quoted = (/** @type {string} */ text) => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const text = (/** @type {string} */ value) => JSON.stringify(value);

/** A list of numbers as Python writes it, broken into lines. @param {number[]} code */
function array(code) {
  const lines = [];
  for (let i = 0; i < code.length; i += 8) lines.push(`    ${code.slice(i, i + 8).map((v) => v.toFixed(4)).join(", ")},`);
  return `np.array([\n${lines.join("\n")}\n], np.float32)`;
}

/**
 * @typedef {{run: string, latent: number[], code: number[], amounts: [string, number][], kept: Set<string>, photo: string | null,
 *            plane: string, colour: string}} Shown
 */

const opening = (/** @type {Shown} */ s) => `import numpy as np\nimport reparam\n\nmodel = reparam.load(${text(s.run)})\n`;
const shape = (/** @type {Shown} */ s) => `.reshape(1, ${s.latent.join(", ")})`;

/** The workbench: edits along kept directions where only those were made, else the latents' own walks. @param {Shown} s */
export function ofWorkbench(s) {
  const kept = s.amounts.filter(([name, amount]) => s.kept.has(name) && Math.abs(amount) > 1e-6);
  const image = quoted(s.photo ?? "IMAGE.png");
  const command = kept.length ? `reparam edit ${quoted(s.run)} ${image} ${kept.map(([name, a]) => `--add ${quoted(`${name}=${+a.toFixed(3)}`)}`).join(" ")}`
    : `reparam traverse ${quoted(s.run)}${s.photo ? ` ${image}` : ""} --out latents.png`;
  return { command, python: `${opening(s)}z = ${array(s.code)}${shape(s)}\nimage = model.decode(z)[0]\n` };
}

/** @param {Shown} s @param {number[][]} codes @param {number} frames @param {boolean} geodesic */
export function ofPath(s, codes, frames, geodesic) {
  const stops = codes.map((code, k) => `${"abcdefghijklmnopqrstuvwxyz"[k % 26]}${k >= 26 ? k : ""} = ${array(code)}`);
  const command = `reparam interpolate ${quoted(s.run)} A.png B.png --steps ${frames}${geodesic ? " --geodesic" : ""} --out path.gif`;
  const names = stops.map((line) => line.slice(0, line.indexOf(" ")));
  const python = opening(s).replace("import reparam", "import reparam\nimport torch") + `${stops.join("\n")}\n`
    + `stops = torch.from_numpy(np.stack([${names.join(", ")}]).reshape(-1, ${s.latent.join(", ")}))\n`
    + `z = []\nfor t in np.linspace(0, len(stops) - 1, ${frames}):\n    i = min(int(t), len(stops) - 2)\n`
    + `    z.append(model.between(stops[i : i + 2], t - i))\nimages = model.decode(torch.stack(z))\n`;
  return { command, python };
}

/** @param {Shown} s @param {{n: number, seed: number, temperature: number, prior: string, label: string, guidance: number}} drawn */
export function ofSamples(s, drawn) {
  const { n, seed, temperature, prior, label } = drawn;
  const options = [prior && `--prior ${quoted(prior)}`, label && `--label ${quoted(label)}`, temperature !== 1 && `--temperature ${temperature}`].filter(Boolean);
  const named = [prior && `prior=${text(prior)}`, label && `label=${text(label)}`, temperature !== 1 && `temperature=${temperature}`].filter(Boolean);
  return { command: ["reparam sample", quoted(s.run), `-n ${n}`, `--seed ${seed}`, ...options, "--out samples.png"].join(" "),
    python: `import reparam\n\nmodel = reparam.load(${text(s.run)})\nimages = model.sample(${[n, `seed=${seed}`, ...named].join(", ")})\n` };
}

/** Opens the window with both. @param {{command: string, python: string}} as @param {string} of */
export function offer(as, of) {
  const box = byId("copybox");
  byId("copyof").textContent = of;
  for (const kind of /** @type {const} */ (["command", "python"])) {
    byId(`as${kind}`).textContent = as[kind];
    byId(`copy${kind}`).onclick = async () => {
      try {
        await navigator.clipboard.writeText(as[kind]);
        byId(`copy${kind}`).textContent = "Copied";
        setTimeout(() => { byId(`copy${kind}`).textContent = "Copy"; }, 1500);
      } catch {
        getSelection()?.selectAllChildren(byId(`as${kind}`));
        say("The browser does not let the page copy: press Ctrl+C");
      }
    };
  }
  box.showModal();
}
