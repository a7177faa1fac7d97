// How far the client has got in the user's log, and whether it has missed something on the way.

import type { AsOf } from './types.js';

export type Step = 'next' | 'duplicate' | 'gap';

/** A place to begin at. Without an epoch the server takes `seq` as one of the log that it has. */
export type Place = Partial<Pick<AsOf, 'epoch'>> & Pick<AsOf, 'seq'>;

export class Cursor {
  epoch: string | undefined;
  /** The last `seq` received, or undefined before the first subscription is answered. */
  seq: number | undefined;

  constructor(start?: Place) {
    this.epoch = start?.epoch;
    this.seq = start?.seq;
  }

  get place(): AsOf | undefined {
    const { epoch, seq } = this;
    return epoch !== undefined && seq !== undefined ? { epoch, seq } : undefined;
  }

  /** The server has said from where it sends. */
  resolve(epoch: string, after: number): void {
    this.epoch = epoch;
    this.seq = after;
  }

  /** An event has come. `prev` is what the server sent before it, so anything else than our place means a gap. */
  take(seq: number, prev: number | null | undefined): Step {
    if (this.seq !== undefined) {
      if (seq <= this.seq) return 'duplicate';
      if (prev != null && prev !== this.seq) return 'gap';
    }
    this.seq = seq;
    return 'next';
  }

  /** The server has moved the place on without an event. */
  move(seq: number): void {
    if (this.seq === undefined || seq > this.seq) this.seq = seq;
  }
}
