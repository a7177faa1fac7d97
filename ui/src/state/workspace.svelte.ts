// Everything a signed-in user sees: agents, threads, the open conversation, its runs, and the line to the server.

import {
  ApiError,
  hasEnded,
  isTerminal,
  Netra,
  type Agent,
  type Approval,
  type WireEvent,
  type AsOf,
  type Connection,
  type EventSocket,
  type Message,
  type Run,
  type Thread,
} from '../../client';
import { SvelteMap } from 'svelte/reactivity';
import { texts } from '../texts';
import { isOutdated } from './edition';
import { describeError } from './errors';
import { Intake } from './intake';
import type { RunState } from './reducer';
import { route } from './route.svelte';
import { Runs } from './runs.svelte';
import type { Session } from './session.svelte';
import { Threads } from './threads.svelte';
import { inputFor } from './input';
import { lastMessageOf, turnsOf, type AttachedFile, type Turn } from './turns';
import { Uploads } from './uploads.svelte';

/** Messages are read in pages of 100; beyond this the beginning of a very long thread is left out. */
const MESSAGE_PAGES = 20;
const RUNS_READ_AT_ONCE = 30;
const STEPS_READ = 8;

export class Workspace {
  readonly api: Netra;
  readonly runs: Runs;
  readonly threads: Threads;
  readonly uploads: Uploads;

  agents = $state<Agent[]>([]);
  agentName = $state('');
  turns = $state<Turn[]>([]);
  opening = $state(false);
  connection = $state<Connection>({ state: 'stopped' });
  /** Something that went wrong, told to the user until dismissed. */
  problem = $state<string | undefined>();
  /** Read out by screen readers. */
  announcement = $state('');
  reloaded = $state(false);
  /** Why the line to the server is not tried again. */
  refusal = $state<string | undefined>();
  online = $state(navigator.onLine);
  /** The server has another page than this one. */
  outdated = $state(false);
  /** What people have opened and closed, by the id of what it is about. */
  readonly opened = new SvelteMap<string, boolean>();
  /** The question that is being asked anew, in other words. */
  editing = $state<Turn | undefined>();
  /** What was begun to be written, by conversation. */
  readonly drafts = new Map<string, string>();

  private readonly socket: EventSocket;
  private readonly intake = new Intake<WireEvent>((event) => this.receive(event));
  private editedIn: string | undefined;
  private visits = 0;
  private subscribed = false;

  constructor(readonly session: Session) {
    this.api = new Netra({ credentials: session, attempts: 1 });
    this.runs = new Runs(this.api, () => this.socket.place);
    this.threads = new Threads(this.api);
    this.uploads = new Uploads(this.api);
    this.socket = this.api.socket({
      event: (event) => this.intake.push(event),
      connection: (connection) => this.changed(connection),
      expired: () => void this.readAnew(),
      refused: (error) => {
        this.connection = { state: 'stopped' };
        this.refusal = describeError(error);
      },
    });
    session.renewed = (token) => this.socket.token(token);
  }

  async start(): Promise<void> {
    for (const name of ['online', 'offline']) addEventListener(name, this.lineChanged);
    this.socket.start();
    await this.attempt(async () => {
      await Promise.all([this.readAgents(), this.threads.load()]);
      await this.open(route.threadId);
    });
  }

  private async readAgents(): Promise<void> {
    this.agents = inOrder(await this.api.agents.list());
    this.agentName ||= this.agents[0]?.name ?? '';
  }

  stop(): void {
    for (const name of ['online', 'offline']) removeEventListener(name, this.lineChanged);
    this.socket.stop();
    this.intake.clear();
    this.runs.reset();
    this.threads.reset();
  }

  readonly nudge = (): void => {
    this.refusal = undefined;
    this.socket.nudge();
  };

  private readonly lineChanged = (): void => {
    this.online = navigator.onLine;
    if (this.online) this.nudge();
  };

  private changed(connection: Connection): void {
    this.connection = connection;
    if (connection.state === 'waiting') this.reloaded = false;
    if (connection.state !== 'live' || !connection.again) return;
    // Whoever was away may find another version of the server, and other agents.
    void isOutdated().then((is) => (this.outdated ||= is));
    // Where it fails, the line is lost again, and says so.
    void this.readAgents().catch(() => undefined);
  }

  get agent(): Agent | undefined {
    return this.agents.find((agent) => agent.name === this.agentName);
  }

  /** The run of the open thread that is at work or next in line. */
  get activeRun(): RunState | undefined {
    for (const turn of this.turns) {
      const run = turn.runId ? this.runs.states[turn.runId] : undefined;
      if (run && !hasEnded(run.status)) return run;
    }
    return undefined;
  }

  /** Shows a thread, or an empty page for a new one. */
  async open(threadId: string | undefined): Promise<void> {
    if (this.editing) this.stopEditing();
    const visit = ++this.visits;
    this.turns = [];
    if (threadId === undefined) {
      this.opening = false;
      if (!this.subscribed) this.subscribe();
      return;
    }
    this.opening = true;
    try {
      await this.read(threadId, visit);
    } catch (error) {
      if (visit !== this.visits) return;
      this.problem = describeError(error);
      if (error instanceof ApiError && error.status === 404) route.open(undefined, true);
      if (!this.subscribed) this.subscribe();
    } finally {
      if (visit === this.visits) this.opening = false;
    }
  }

  async send(text: string): Promise<boolean> {
    const from = route.threadId;
    const files = this.uploads.take();
    const ids = files.flatMap((file) => file.fileId ?? []);
    const sent = await this.attempt(async () => {
      const input = inputFor(this.agent, text);
      const threadId = this.editing ? await this.branch(this.editing) : route.threadId;
      this.editing = undefined;
      const run = await this.api.runs.start({
        agent: this.agentName,
        input,
        ...(ids.length > 0 ? { files: ids } : {}),
        thread_id: threadId,
      });
      const shown = files.map((file) => ({ id: file.fileId ?? '', name: file.name, bytes: file.bytes }));
      this.show(run, text, shown, threadId);
    });
    if (!sent) this.uploads.giveBack(files, from);
    return sent;
  }

  async cancel(run: RunState): Promise<void> {
    try {
      await this.api.runs.cancel(run.id);
    } catch (error) {
      if (error instanceof ApiError && error.code === 'run_ended') return;
      this.problem = describeError(error);
    }
  }

  retry(run: RunState): Promise<boolean> {
    return this.attempt(async () => {
      const asked = this.turns.find((turn) => turn.runId === run.id)?.question;
      const again = await this.api.runs.retry(run.id);
      this.show(again, asked?.text ?? '', asked?.files ?? [], run.threadId);
    });
  }

  resolve(approvalId: string, answer: { decision: 'approve' | 'deny'; note?: string; arguments?: unknown }): Promise<boolean> {
    return this.attempt(() => this.api.approvals.resolve(approvalId, answer));
  }

  /** What the server says of an approval, with all its arguments; undefined when it knows of none (any more). */
  async asked(approvalId: string): Promise<Approval | undefined> {
    let cursor: string | undefined;
    do {
      const page = await this.api.approvals.list({ limit: 100, cursor });
      const found = page.items.find(({ id }) => id === approvalId);
      if (found) return found;
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
    return undefined;
  }

  /** A new conversation with everything up to the end of this turn. */
  fork(turn: Turn): Promise<boolean> {
    return this.attempt(async () => {
      const thread = await this.forkAfter(turn);
      route.open(thread.id);
      await this.open(thread.id);
      this.announcement = texts.announce.forked;
    });
  }

  /** Takes a question back into the composer. It is sent in a conversation of its own, as what was said stays said. */
  edit(turn: Turn): void {
    this.editing = turn;
    this.editedIn = route.threadId;
    this.uploads.clear();
    this.uploads.attach(turn.question?.files ?? []);
  }

  stopEditing(): void {
    this.editing = undefined;
    this.uploads.clear(this.editedIn);
  }

  /** The conversation that an edited question goes into: what was said before it, or a new one when it was the first. */
  private async branch(turn: Turn): Promise<string | undefined> {
    const before = this.turns[this.turns.findIndex((one) => one.key === turn.key) - 1];
    const thread = before ? await this.forkAfter(before) : undefined;
    if (thread) {
      route.open(thread.id);
      await this.open(thread.id);
    } else {
      route.open(undefined);
      await this.open(undefined);
    }
    return thread?.id;
  }

  private async forkAfter(turn: Turn): Promise<Thread> {
    const thread = await this.api.threads.fork(route.threadId ?? '', lastMessageOf(turn, this.runs.states[turn.runId ?? '']));
    this.threads.put(thread);
    return thread;
  }

  /** Runs something and tells what went wrong; true when nothing did. */
  async attempt(act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (error) {
      this.problem = describeError(error);
      return false;
    }
  }

  private subscribe(after?: AsOf): void {
    this.subscribed = true;
    this.socket.subscribe(after);
  }

  /** Puts a run that was just accepted at the end of the conversation. */
  private show(run: Run, text: string, files: AttachedFile[], from: string | undefined): void {
    this.runs.begin(run);
    void this.refreshThread(run.thread_id);
    // The user may have gone to another thread while the request was under way.
    if (route.threadId !== from) return;
    if (from === undefined) {
      this.visits += 1;
      route.open(run.thread_id, true);
      this.uploads.carry(run.thread_id);
    }
    if (this.turns.some((turn) => turn.runId === run.id)) return;
    const question = text || files.length > 0 ? { text, files, at: run.created_at } : undefined;
    this.turns.push({ key: run.id, runId: run.id, question, replies: [] });
  }

  private async read(threadId: string, visit: number): Promise<void> {
    const [thread, { messages, asOf }, recent] = await Promise.all([
      this.api.threads.get(threadId),
      this.readMessages(threadId),
      this.api.runs.list({ limit: 100 }),
    ]);
    if (visit !== this.visits) return;
    this.threads.put(thread);
    const runs = recent.items.filter((run) => run.thread_id === threadId);
    const turns = turnsOf(messages, runs);
    const ids = turns.flatMap((turn) => turn.runId ?? []);
    if (thread.active_run_id && !ids.includes(thread.active_run_id)) {
      ids.push(thread.active_run_id);
      turns.push({ key: thread.active_run_id, runId: thread.active_run_id, question: undefined, replies: [] });
    }
    // Without a place of the socket nobody could say up to where the runs are to be read.
    if (!this.subscribed || !this.socket.place) this.subscribe(asOf);
    await this.readRuns(ids.filter((id) => this.runs.states[id] === undefined).slice(-RUNS_READ_AT_ONCE));
    if (visit !== this.visits) return;
    this.turns = turns;
    this.agentName = this.runs.states[ids.at(-1) ?? '']?.agent || this.agentName;
    void this.readRecentSteps(ids, visit);
  }

  /** The steps of what goes on and of the latest runs, one run after the other; those of older ones are read when asked for. */
  private async readRecentSteps(ids: string[], visit: number): Promise<void> {
    const goesOn = ids.filter((id) => {
      const run = this.runs.states[id];
      return run && !hasEnded(run.status);
    });
    for (const id of new Set([...goesOn, ...ids.slice(-STEPS_READ).reverse()])) {
      if (visit !== this.visits) return;
      if (this.runs.states[id]) await this.runs.readSteps(id);
    }
  }

  private async readRuns(ids: string[]): Promise<void> {
    const read = await Promise.allSettled(ids.map((id) => this.api.runs.get(id)));
    for (const answer of read) if (answer.status === 'fulfilled') this.runs.know(answer.value);
  }

  private async readMessages(threadId: string): Promise<{ messages: Message[]; asOf: AsOf | undefined }> {
    const first = await this.api.threads.messages(threadId);
    const messages = first.items;
    let cursor = first.next_cursor ?? undefined;
    for (let page = 1; cursor && page < MESSAGE_PAGES; page++) {
      const next = await this.api.threads.messages(threadId, { cursor });
      messages.push(...next.items);
      cursor = next.next_cursor ?? undefined;
    }
    return { messages, asOf: first.as_of ?? undefined };
  }

  private receive(event: WireEvent): void {
    this.runs.receive(event);
    if (!this.threads.receive(event)) void this.refreshThread(event.thread_id);
    if (event.type === 'run_started' || event.type === 'run_queued') this.arrived(event);
    if (event.type === 'approval_requested') this.announcement = texts.announce.asked(event.agent ?? '');
    if (isTerminal(event.type)) {
      void this.refreshThread(event.thread_id);
      if (event.thread_id === route.threadId) this.announceEnd(event.run_id);
    }
  }

  /** A run of the open thread that another window or program has started. */
  private arrived(event: WireEvent): void {
    if (event.thread_id !== route.threadId || this.opening) return;
    if (event.type === 'run_started') this.announcement = texts.announce.started(this.runs.states[event.run_id]?.agent ?? '');
    if (this.turns.some((turn) => turn.runId === event.run_id)) return;
    const visit = this.visits;
    void this.attempt(async () => {
      const { messages } = await this.readMessages(event.thread_id);
      if (visit !== this.visits || this.turns.some((turn) => turn.runId === event.run_id)) return;
      const turn = turnsOf(messages, []).find((one) => one.runId === event.run_id);
      this.turns.push(turn ?? { key: event.run_id, runId: event.run_id, question: undefined, replies: [] });
    });
  }

  private announceEnd(runId: string): void {
    const run = this.runs.states[runId];
    if (run) this.announcement = texts.announce.ended(run.agent, texts.run.status[run.status]);
  }

  private refreshing = new Set<string>();

  private async refreshThread(id: string): Promise<void> {
    if (this.refreshing.has(id)) return;
    this.refreshing.add(id);
    try {
      this.threads.put(await this.api.threads.get(id));
    } catch {
      // Deleted meanwhile, or the server is away: the list is read again with the next start.
    } finally {
      this.refreshing.delete(id);
    }
  }

  private async readAnew(): Promise<void> {
    this.intake.clear();
    this.runs.reset();
    this.subscribed = false;
    this.reloaded = true;
    await this.attempt(() => this.threads.load());
    await this.open(route.threadId);
  }
}

/** Those that can be asked now come first, and of those the ones that do more than to answer back. */
function inOrder(agents: Agent[]): Agent[] {
  const rank = ({ ready, name, kind }: Agent): number => (ready ? 4 : 0) + (name === 'optimizer' ? 2 : kind === 'native' ? 0 : 1);
  return [...agents].sort((a, b) => rank(b) - rank(a) || (a.name < b.name ? -1 : 1));
}
