// What can go wrong, as errors that a program can tell apart.

/** An error of the server, or one of this client's own. */
export interface Reason {
  code: string;
  message: string;
  details?: unknown;
  request_id?: string;
}

/** An error of the server's contract: `code` is one of its stable codes. */
export class NetraError extends Error {
  readonly code: string;
  readonly details: unknown;
  readonly requestId: string | undefined;

  constructor(error: Reason) {
    super(error.message);
    this.name = new.target.name;
    this.code = error.code;
    this.details = error.details;
    this.requestId = error.request_id;
  }
}

/** A request that was refused. */
export class ApiError extends NetraError {
  readonly status: number;
  readonly retryAfterMs: number | undefined;

  constructor(status: number, error: Reason, retryAfterMs?: number) {
    super(error);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later, without anyone doing anything about it. */
  get passing(): boolean {
    return this.status === 429 || this.status >= 500;
  }
}

/** What the log holds now. */
export interface LogRange {
  epoch: string;
  oldest_seq: number;
  latest_seq: number;
}

/** The log does not hold what follows the cursor: read the state anew, and go on after its `as_of`. */
export class CursorExpired extends NetraError {
  readonly log: LogRange;

  constructor(error: Reason) {
    super(error);
    const { epoch = '', oldest_seq = 0, latest_seq = 0 } = (error.details ?? {}) as Partial<LogRange>;
    this.log = { epoch, oldest_seq, latest_seq };
  }
}

/** Whether to try again: a broken line is a TypeError of `fetch`. A name or address that is wrong is one as well. */
export function isPassing(error: unknown): boolean {
  return error instanceof ApiError ? error.passing : error instanceof TypeError;
}
