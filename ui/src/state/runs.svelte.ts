// The runs that the page knows, each folded from its events: live ones from the socket, earlier ones from their start.

import { hasEnded, isTerminal, type AsOf, type WireEvent, type Netra, type Run } from '../../client';
import { breather } from './intake';
import { applyEvent, mergeRun, newRun, type RunState } from './reducer';

interface Feed {
  abort: AbortController;
  /** Live events that came while the run's past is still being read. */
  live: WireEvent[];
}

export class Runs {
  states = $state<Record<string, RunState>>({});
  /** The runs whose past is being read. */
  loading = $state<Record<string, boolean>>({});
  /** The runs of which every event is known, from the first on. */
  private whole = $state<Record<string, boolean>>({});
  private feeds = new Map<string, Feed>();
  private asked = new Set<string>();

  /** `place` tells how far the socket has got. */
  constructor(
    private readonly api: Netra,
    private readonly place: () => AsOf | undefined,
  ) {}

  hasSteps(id: string): boolean {
    return this.whole[id] === true;
  }

  /** A run that was just started from here: its events are still to come. */
  begin(run: Run): RunState {
    const state = this.ensure(run);
    this.whole[run.id] = true;
    return state;
  }

  /** What a read of the run says, without its steps. */
  know(run: Run): RunState {
    return this.ensure(run);
  }

  /** A live event. Runs that are neither shown nor new are left alone. */
  receive(event: WireEvent): void {
    const feed = this.feeds.get(event.run_id);
    if (feed) {
      feed.live.push(event);
      return;
    }
    if (!this.states[event.run_id]) {
      if (event.type !== 'run_queued' && event.type !== 'run_started') return;
      const agent = (event.data as { agent?: string }).agent ?? '';
      this.states[event.run_id] = newRun(event.run_id, event.thread_id, agent, event.ts);
      this.whole[event.run_id] = true;
    }
    this.apply(this.states[event.run_id] as RunState, event);
  }

  /** Reads the run's events from its start. With an active run, up to where the socket has taken over. */
  async readSteps(id: string): Promise<void> {
    const known = this.states[id];
    if (this.feeds.has(id) || this.whole[id] || !known) return;
    const feed: Feed = { abort: new AbortController(), live: [] };
    this.feeds.set(id, feed);
    this.loading[id] = true;
    // What has ended is folded unseen and shown at once; what goes on is shown as it comes.
    const past = hasEnded(known.status);
    const state = past ? anew(known) : this.show(anew(known));
    const done = await this.follow(state, feed);
    feed.abort.abort();
    const breathe = breather();
    // More may come while these are taken in.
    for (let taken = 0; taken < feed.live.length; taken++) {
      await breathe();
      if (this.feeds.get(id) !== feed) return;
      this.apply(state, feed.live[taken] as WireEvent);
    }
    if (this.feeds.get(id) !== feed) return;
    if (done) this.whole[id] = true;
    if (past) this.show(state);
    this.feeds.delete(id);
    this.loading[id] = false;
  }

  /**
   * Until the run's past is complete: its last event is here, or the first that came live, or all that the socket was past
   * already. To wait for more than that would hold a connection for each run that waits, and a browser has few.
   */
  private async follow(state: RunState, feed: Feed): Promise<boolean> {
    const breathe = breather();
    const { signal } = feed.abort;
    const until = hasEnded(state.status) ? undefined : this.place();
    try {
      for await (const event of this.api.runs.events(state.id, { signal, until })) {
        await breathe();
        if (this.feeds.get(state.id) !== feed) return false;
        this.apply(state, event);
        const first = feed.live[0];
        if (isTerminal(event.type) || (first && event.seq >= first.seq)) return true;
      }
      return until !== undefined && !signal.aborted;
    } catch {
      // The run is not there any more, or not for this user: what the socket brings is all there is.
    }
    return false;
  }

  /** Asks anew where a queued run stands: the server tells positions only when it is asked. */
  async reread(id: string): Promise<void> {
    try {
      this.know(await this.api.runs.get(id));
    } catch {
      // Asked again later, or told by the next event.
    }
  }

  /** Looks up files that are known by id alone. */
  async readArtifacts(id: string, fileIds: string[]): Promise<void> {
    const wanted = fileIds.filter((file) => !this.asked.has(file) && !this.isArtifact(id, file));
    for (const file of wanted) this.asked.add(file);
    for (const answer of await Promise.allSettled(wanted.map((file) => this.api.files.get(file)))) {
      if (answer.status !== 'fulfilled' || this.isArtifact(id, answer.value.id)) continue;
      const { id: fileId, name, media_type: mediaType, bytes } = answer.value;
      this.states[id]?.artifacts.push({ fileId, name, mediaType, bytes });
    }
  }

  /** Forgets all: another user, or a log that cannot be resumed. */
  reset(): void {
    for (const feed of this.feeds.values()) feed.abort.abort();
    this.feeds.clear();
    this.asked.clear();
    this.states = {};
    this.whole = {};
    this.loading = {};
  }

  private isArtifact(id: string, fileId: string): boolean {
    return this.states[id]?.artifacts.some((artifact) => artifact.fileId === fileId) ?? false;
  }

  /** A result that was too large for the event stands in the run. */
  private async readResult(id: string): Promise<void> {
    try {
      const run = await this.api.runs.get(id);
      const state = this.states[id];
      if (state) mergeRun(state, run);
    } catch {
      // The page keeps saying that the result is not here; opening the conversation anew asks again.
    }
  }

  private apply(state: RunState, event: WireEvent): void {
    applyEvent(state, event);
    if (state.resultTruncated && event.type === 'run_completed') void this.readResult(state.id);
  }

  /** Puts a run in the place of what was known of it. Files that were looked up meanwhile stay. */
  private show(state: RunState): RunState {
    const found = this.states[state.id]?.artifacts.filter(({ fileId }) => !state.artifacts.some((one) => one.fileId === fileId));
    state.artifacts.push(...(found ?? []));
    this.states[state.id] = state;
    return this.states[state.id] as RunState;
  }

  private ensure(run: Run): RunState {
    this.states[run.id] ??= newRun(run.id, run.thread_id, run.agent, run.created_at);
    const state = this.states[run.id] as RunState;
    mergeRun(state, run);
    return state;
  }
}

/** The fold begins over; what the read of the run has told is kept. */
function anew(old: RunState): RunState {
  const fresh = newRun(old.id, old.threadId, old.agent, old.createdAt);
  const { status, result, error, usage, durationMs } = old;
  return { ...fresh, status, result, error, usage, durationMs, artifacts: [...old.artifacts] };
}
