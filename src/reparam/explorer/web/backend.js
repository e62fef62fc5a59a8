/**
 * The one interface to a model: `call(op, fields, lane)`. Here it speaks to PyTorch over a WebSocket.
 *
 * An answer is a header of JSON and named arrays. Of the calls in one lane only the latest is asked once the one before it
 * has been answered, so that a dragged slider never leaves a queue behind; calls without a lane are all asked, in order.
 *
 * @typedef {import("../../web/types.js").NamedArray} NamedArray
 * @typedef {import("../../web/types.js").Answer} Answer
 * @typedef {import("../../web/types.js").Asked & {listen: (heard: (answer: Answer) => void) => void}} Backend
 */

import { Lanes } from "../../web/lanes.js";

const KINDS = { uint8: Uint8Array, float32: Float32Array, int32: Int32Array };
const whole = (/** @type {number} */ n) => (n + 3) & ~3;

/** What a message from the server says. @param {ArrayBuffer} bytes @returns {Answer} */
export function unpack(bytes) {
  const length = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  /** @type {Record<string, NamedArray>} */
  const arrays = {};
  let at = whole(4 + length);
  for (const { name, dtype, shape } of header.arrays ?? []) {
    const Kind = KINDS[/** @type {keyof typeof KINDS} */ (dtype)];
    const count = shape.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
    arrays[name] = { data: new Kind(bytes, at, count), shape };
    at += whole(count * Kind.BYTES_PER_ELEMENT);
  }
  return { header, arrays };
}

/** A request that carries a file. @param {object} request @param {ArrayBuffer} file */
export function pack(request, file) {
  const head = new TextEncoder().encode(JSON.stringify(request));
  const out = new Uint8Array(4 + head.length + file.byteLength);
  new DataView(out.buffer).setUint32(0, head.length, true);
  out.set(head, 4);
  out.set(new Uint8Array(file), 4 + head.length);
  return out;
}

/**
 * A back end over the WebSocket of the page's own server.
 * @param {(open: boolean, why: string) => void} changed told when the connection opens or is lost, and why where the server says it
 * @returns {Backend}
 */
export function overSocket(changed) {
  /** @typedef {{request: Record<string, any>, file?: ArrayBuffer, done: (a: Answer | null) => void, fail: (e: Error) => void}} Job */
  /** @type {Map<number, Job>} */ const asked = new Map();
  const lanes = new Lanes();
  /** @type {Job[]} */ let unsent = [];
  /** @type {(answer: Answer) => void} */ let heard = () => {};
  /** @type {WebSocket} */ let socket;
  let id = 0, pause = 500;

  function open() {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      pause = 500;
      changed(true, "");
      unsent.splice(0).forEach(send);
    };
    socket.onmessage = (event) => answered(unpack(event.data));
    socket.onclose = (event) => {
      changed(false, event.reason);
      for (const job of asked.values()) job.fail(new Error(event.reason || "the server has stopped"));
      asked.clear();
      setTimeout(open, pause = Math.min(2 * pause, 8000));
    };
  }

  /** @param {Job} job */
  function send(job) {
    if (socket.readyState !== WebSocket.OPEN) return void unsent.push(job);
    asked.set(job.request.id, job);
    socket.send(job.file ? pack(job.request, job.file) : JSON.stringify(job.request));
  }

  /** @param {Answer} answer */
  function answered(answer) {
    const job = asked.get(answer.header.id);
    if (!job) return heard(answer);
    asked.delete(answer.header.id);
    if (typeof answer.header.error === "string") job.fail(new Error(answer.header.error));
    else job.done(answer);
  }

  open();
  return {
    listen(listener) { heard = listener; },
    call(op, fields = {}, lane = undefined, file = undefined) {
      return lanes.run(lane, () => /** @type {Promise<Answer | null>} */ (new Promise((done, fail) =>
        send({ request: { ...fields, id: ++id, op, ...(lane && { lane }) }, file, done, fail }))));
    },
  };
}
