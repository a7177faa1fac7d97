// All events of the user as something to iterate over: a socket that outlives its lines, and what waits for the caller.

import type { Place } from './cursor.js';
import { EventSocket, type Connection, type Filter, type Hooks, type StartedRun } from './socket.js';
import type { WireEvent, AsOf, RunStart } from './types.js';

/** So many events may wait for the caller. Then the line is closed, and opened again when they have been taken. */
const WAITING = 2_000;

export interface StreamOptions extends Filter {
  /** Where to begin: a `place` of an earlier stream, an `as_of`, a bare `seq` (0 for all), or `now`, the default. */
  after?: Place | number | 'now' | undefined;
  signal?: AbortSignal | undefined;
  /** Told of each change of the line. */
  connection?: ((connection: Connection) => void) | undefined;
}

type Line = Omit<Hooks, 'event' | 'connection' | 'subscribed' | 'expired' | 'refused'>;

/** Connects at once. It ends with `return` (`break` in a loop), `close` or the signal, and fails when the log has gone. */
export class EventStream implements AsyncIterableIterator<WireEvent, void> {
  /** Settles when the server has said from where it sends: what happens after that is not missed. */
  readonly ready: Promise<AsOf>;
  /** The socket behind it, for who gives it a token or nudges it. */
  readonly socket: EventSocket;
  private readonly waiting: WireEvent[] = [];
  private taken: AsOf | undefined;
  private takers: { resolve(result: IteratorResult<WireEvent, void>): void; reject(error: unknown): void }[] = [];
  private ended = false;
  private failure: { error: unknown } | undefined;
  private paused = false;
  private begun!: { resolve(place: AsOf): void; reject(error: unknown): void };

  constructor(
    line: Line,
    private readonly options: StreamOptions = {},
    private readonly over: (stream: EventStream) => void = () => undefined,
  ) {
    this.ready = new Promise((resolve, reject) => {
      this.begun = { resolve, reject };
    });
    // Who does not ask for it need not catch it; the iteration fails as well.
    this.ready.catch(() => undefined);
    this.socket = new EventSocket({
      ...line,
      event: (event) => this.push(event),
      connection: (connection) => options.connection?.(connection),
      subscribed: (place) => this.begin(place),
      expired: (error) => this.fail(error),
      refused: (error) => this.fail(error),
    });
    const { after = 'now', signal } = options;
    this.socket.subscribe(after === 'now' ? undefined : typeof after === 'number' ? { seq: after } : after, options);
    this.socket.start();
    if (signal?.aborted) this.close();
    signal?.addEventListener('abort', this.close);
  }

  /** The place after the event taken last: a stream that begins there goes on with the next one. */
  get place(): AsOf | undefined {
    return this.waiting.length === 0 ? (this.socket.place ?? this.taken) : this.taken;
  }

  /** Starts a run over the socket. However often the line breaks meanwhile, one run is made. */
  start(run: RunStart): Promise<StartedRun> {
    const started = this.socket.startRun(run);
    this.resume();
    return started;
  }

  next(): Promise<IteratorResult<WireEvent, void>> {
    const event = this.waiting.shift();
    if (event) {
      this.took(event);
      return Promise.resolve({ done: false, value: event });
    }
    if (this.failure) {
      const { error } = this.failure;
      this.failure = undefined;
      return Promise.reject(error);
    }
    if (this.ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.takers.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<WireEvent, void>> {
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends it; what was not taken is dropped. */
  readonly close = (): void => {
    if (this.ended && this.waiting.length === 0) return;
    this.waiting.length = 0;
    this.end();
  };

  private begin(place: AsOf): void {
    this.taken ??= place;
    this.begun.resolve(place);
  }

  private push(event: WireEvent): void {
    const taker = this.takers.shift();
    if (taker) {
      this.took(event);
      return taker.resolve({ done: false, value: event });
    }
    this.waiting.push(event);
    if (this.waiting.length >= WAITING && !this.paused && !this.socket.busy) {
      this.paused = true;
      this.socket.pause();
    }
  }

  private took(event: WireEvent): void {
    const epoch = this.socket.place?.epoch ?? this.taken?.epoch;
    if (epoch !== undefined) this.taken = { epoch, seq: event.seq };
    if (this.waiting.length === 0) this.resume();
  }

  private resume(): void {
    if (!this.paused || this.ended) return;
    this.paused = false;
    this.socket.start();
  }

  private fail(error: unknown): void {
    this.failure = { error };
    this.begun.reject(error);
    this.end();
  }

  private end(): void {
    this.ended = true;
    this.options.signal?.removeEventListener('abort', this.close);
    this.begun.reject(new DOMException('The stream was closed.', 'AbortError'));
    this.over(this);
    this.socket.stop();
    for (const { resolve, reject } of this.takers.splice(0)) {
      if (!this.failure) {
        resolve({ done: true, value: undefined });
        continue;
      }
      reject(this.failure.error);
      this.failure = undefined;
    }
  }
}
