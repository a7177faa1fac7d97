// Takes events in without holding up the page: what comes waits for the next frame, and a frame folds what it has time for.

const BUDGET_MS = 8;
/** A page that nobody looks at draws no frames. */
const NO_FRAME_MS = 100;

export class Intake<T> {
  private waiting: T[] = [];
  private taken = 0;
  private planned = false;

  constructor(
    private readonly fold: (item: T) => void,
    private readonly frame: (work: () => void) => void = nextFrame,
    private readonly now: () => number = () => performance.now(),
  ) {}

  push(item: T): void {
    this.waiting.push(item);
    this.plan();
  }

  /** Forgets what has not been folded yet. */
  clear(): void {
    this.waiting = [];
    this.taken = 0;
  }

  private plan(): void {
    if (this.planned) return;
    this.planned = true;
    this.frame(() => this.work());
  }

  private work(): void {
    this.planned = false;
    const until = this.now() + BUDGET_MS;
    while (this.taken < this.waiting.length) {
      const item = this.waiting[this.taken++] as T;
      this.fold(item);
      if (this.now() >= until) break;
    }
    if (this.taken < this.waiting.length) this.plan();
    else this.clear();
  }
}

/** Lets the page breathe in a long loop: waits for the next frame whenever the time is used up. */
export function breather(): () => Promise<void> | undefined {
  let until = performance.now() + BUDGET_MS;
  return () => {
    if (performance.now() < until) return undefined;
    return new Promise((resolve) =>
      nextFrame(() => {
        until = performance.now() + BUDGET_MS;
        resolve();
      }),
    );
  };
}

/** At the next frame, or soon where no frame comes. */
function nextFrame(work: () => void): void {
  let done = false;
  const once = (): void => {
    if (done) return;
    done = true;
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    work();
  };
  const timer = setTimeout(once, NO_FRAME_MS);
  const frame = requestAnimationFrame(once);
}
