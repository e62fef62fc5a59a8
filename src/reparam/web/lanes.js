/** Calls that overtake each other: what a dragged slider or a moving pointer asks for leaves no queue behind. */
export class Lanes {
  constructor() {
    /** @type {Map<string, {make: () => void, drop: () => void} | null>} of each busy lane the call that waits, if any */
    this.waiting = new Map();
  }

  /** Of the calls of a lane only the latest is made once the one before it has ended; those between give null. Calls without a
   *  lane are all made. @template T @param {string | undefined} lane @param {() => Promise<T>} make @returns {Promise<T | null>} */
  run(lane, make) {
    if (!lane) return make();
    return new Promise((done, fail) => {
      const call = { make: () => void make().then(done, fail).finally(() => this.next(lane)), drop: () => done(null) };
      this.waiting.get(lane)?.drop();
      if (this.waiting.has(lane)) return void this.waiting.set(lane, call);
      this.waiting.set(lane, null);
      call.make();
    });
  }

  /** @param {string} lane */
  next(lane) {
    const call = this.waiting.get(lane);
    if (!call) return void this.waiting.delete(lane);
    this.waiting.set(lane, null);
    call.make();
  }
}
