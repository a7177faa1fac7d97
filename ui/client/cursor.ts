// How far the client has got in the user's log, and whether it has missed something on the way.

import type { AsOf } from './types';

export type Step = 'next' | 'duplicate' | 'gap';

export class Cursor {
  epoch: string | undefined;
  /** The last `seq` received, or undefined before the first subscription is answered. */
  seq: number | undefined;

  constructor(start?: AsOf) {
    this.epoch = start?.epoch;
    this.seq = start?.seq;
  }

  /** The server has said from where it sends. */
  resolve(epoch: string, after: number): void {
    this.epoch = epoch;
    this.seq = after;
  }

  /** An event has come. `prev` is what the server sent before it, so anything else than our place means a gap. */
  take(seq: number, prev: number | undefined): Step {
    if (this.seq !== undefined) {
      if (seq <= this.seq) return 'duplicate';
      if (prev !== undefined && prev !== this.seq) return 'gap';
    }
    this.seq = seq;
    return 'next';
  }

  /** The server has moved the place on without an event. */
  move(seq: number): void {
    if (this.seq === undefined || seq > this.seq) this.seq = seq;
  }
}
