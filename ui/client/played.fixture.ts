// What stands in for time and for the other end of a socket in tests.

import type { Clock } from './clock.js';
import type { Wire } from './socket.js';

/** Time that passes only when a test says so. */
export class PlayedClock implements Clock {
  now = 0;
  private timers: { at: number; act: () => void }[] = [];

  constructor(readonly random: () => number = () => 0.5) {}

  later(ms: number, act: () => void): () => void {
    const timer = { at: this.now + ms, act };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  /** Lets time pass, timer by timer, and what they begin happen. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms;
    await settle();
    for (;;) {
      const next = this.timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.now = next.at;
      this.timers = this.timers.filter((other) => other !== next);
      next.act();
      await settle();
    }
    this.now = until;
  }
}

/** Lets everything happen that waits for nothing from outside. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

export interface SentFrame {
  type: string;
  id?: string;
  [field: string]: unknown;
}

export class PlayedWire implements Wire {
  onmessage: Wire['onmessage'] = null;
  onclose: Wire['onclose'] = null;
  readonly sent: SentFrame[] = [];
  closed = false;
  /** Told of each frame as it is sent. */
  heard: (frame: SentFrame) => void = () => undefined;

  send(text: string): void {
    const frame = JSON.parse(text) as SentFrame;
    this.sent.push(frame);
    this.heard(frame);
  }

  close(): void {
    this.closed = true;
  }

  say(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  welcome(latest = 10, epoch = 'e1'): void {
    this.say({ type: 'connection_ready', epoch, latest_seq: latest, heartbeat_interval_ms: 30_000 });
  }

  event(seq: number, prev: number): void {
    this.say({ type: 'agent_thinking', seq, prev, run_id: 'run_1', thread_id: 'thr_1', data: { message: '' } });
  }

  /** Answers the last subscription. */
  acknowledge(after: number, latest: number): void {
    this.say({ type: 'ack', id: this.last('subscribe')?.id, epoch: 'e1', after, latest_seq: latest });
  }

  refuse(type: string, code: string, details?: object): void {
    this.say({ type: 'error', id: this.last(type)?.id, error: { code, message: '', details } });
  }

  last(type: string): SentFrame | undefined {
    return this.sent.filter((frame) => frame.type === type).at(-1);
  }
}

/** Numbers that are the same for the same seed. */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
