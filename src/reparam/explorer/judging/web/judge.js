// Shows what is to be judged, one after the other, and sends the answers. It knows no names until all is answered.

/** @typedef {{kind: "pairs" | "single", k: number, n: number, result: string | null}} State */
/** @typedef {"left" | "right" | "unsure" | "back"} Answer */

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const WORDS = {
  pairs: { question: "Which of the two looks more real?", left: "Left", right: "Right", images: ["left image", "right image"] },
  single: { question: "Is this image real, or made by a model?", left: "Real", right: "Made", images: ["the image"] },
};
/** @type {Record<string, Answer>} */
const KEYS = { ArrowLeft: "left", ArrowRight: "right", " ": "unsure", Backspace: "back" };
/** @type {State | undefined} */
let state;
let waiting = false;

/** @param {number} k @param {number} place */
const address = (k, place) => `/image/${k}/${place}`;

/** @param {State} now */
function show(now) {
  state = now;
  const words = WORDS[now.kind], ended = now.result !== null;
  byId("question").textContent = ended ? "Thank you: all are answered" : words.question;
  byId("count").textContent = ended ? `${now.n} of ${now.n}` : `${now.k + 1} of ${now.n}`;
  byId("left").innerHTML = `${words.left} <kbd>←</kbd>`;
  byId("right").innerHTML = `${words.right} <kbd>→</kbd>`;
  for (const id of ["left", "unsure", "right"]) byId(id).hidden = ended;
  /** @type {HTMLButtonElement} */ (byId("back")).disabled = now.k === 0;
  byId("result").hidden = !ended;
  byId("result").textContent = now.result ?? "";
  byId("shown").replaceChildren(...(ended ? [] : words.images.map((alt, place) => picture(now, alt, place))));
  if (now.k + 1 < now.n) words.images.forEach((_, place) => { new Image().src = address(now.k + 1, place); });
}

/** @param {State} now @param {string} alt @param {number} place */
function picture(now, alt, place) {
  const image = new Image();
  image.src = address(now.k, place);
  image.alt = alt;
  if (now.kind === "pairs") image.onclick = () => send(place ? "right" : "left");
  return image;
}

/** @param {Answer} answer */
async function send(answer) {
  if (!state || waiting || (state.result !== null && answer !== "back")) return;
  waiting = true;
  await ask("/answer", { method: "POST", body: JSON.stringify({ k: state.k, answer }) });
  waiting = false;
}

/** @param {string} where @param {RequestInit} [how] */
async function ask(where, how) {
  try {
    const answer = await fetch(where, how);
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    byId("lost").hidden = true;
  } catch {
    byId("lost").hidden = false;
  }
}

for (const id of /** @type {Answer[]} */ (["left", "unsure", "right", "back"])) byId(id).onclick = (event) => {
  if (event.detail) byId(id).blur();  // after a click of the mouse a space is an answer again, not another press of this button
  void send(id);
};
addEventListener("keydown", (event) => {
  const answer = KEYS[event.key];
  if (!answer || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target instanceof HTMLButtonElement) return;  // who came to a button by Tab presses that
  event.preventDefault();
  void send(answer);
});
await ask("/state");
document.body.classList.add("ready");

export {};
