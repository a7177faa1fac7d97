// The list of the user's threads, newest first, and which of them are at work.

import { SvelteSet } from 'svelte/reactivity';
import { isTerminal, type WireEvent, type Netra, type Run, type Thread } from '../../client';

const PAGE = 50;
/** How many of the latest runs are looked at for who waits. */
const RUNS = 100;

export class Threads {
  items = $state<Thread[]>([]);
  loaded = $state(false);
  cursor = $state<string | undefined>();
  /** The threads in which a run waits for the user. */
  waiting = new SvelteSet<string>();
  /** What the server has found, newest first; undefined when nothing is looked for. */
  found = $state<Thread[] | undefined>();
  private looked = 0;
  /** The threads of which an event has told whether they wait: it is newer than what was asked for. */
  private readonly told = new Set<string>();

  constructor(private readonly api: Netra) {}

  async load(): Promise<void> {
    this.told.clear();
    const [page, runs] = await Promise.all([this.api.threads.list({ limit: PAGE }), this.api.runs.list({ limit: RUNS })]);
    this.items = newestFirst(page.items);
    this.cursor = page.next_cursor ?? undefined;
    this.loaded = true;
    for (const run of runs.items) this.know(run);
    const known = new Set(runs.items.map((run) => run.id));
    void this.ask(page.items.filter(({ active_run_id: id }) => id != null && !known.has(id)));
  }

  /** What goes on in these is not known from the latest runs: it began before them. */
  private async ask(threads: Thread[]): Promise<void> {
    for (const { active_run_id: id } of threads) {
      if (id != null) await this.api.runs.get(id).then((run) => this.know(run), () => undefined);
    }
  }

  private know(run: Run): void {
    if (run.status === 'waiting' && !this.told.has(run.thread_id)) this.waiting.add(run.thread_id);
  }

  async more(): Promise<void> {
    if (!this.cursor) return;
    const page = await this.api.threads.list({ limit: PAGE, cursor: this.cursor });
    const known = new Set(this.items.map((thread) => thread.id));
    const more = page.items.filter((thread) => !known.has(thread.id));
    this.items = [...this.items, ...more];
    this.cursor = page.next_cursor ?? undefined;
    void this.ask(more.filter((thread) => !this.waiting.has(thread.id)));
  }

  /** Looks for a text in titles and messages. An answer that a later question has overtaken is dropped. */
  async search(text: string): Promise<void> {
    const turn = ++this.looked;
    const q = text.trim();
    if (q === '') {
      this.found = undefined;
      return;
    }
    const page = await this.api.threads.list({ q, limit: PAGE });
    if (turn === this.looked) this.found = page.items;
  }

  find(id: string | undefined): Thread | undefined {
    return this.items.find((thread) => thread.id === id);
  }

  put(thread: Thread): void {
    this.items = newestFirst([thread, ...this.items.filter((other) => other.id !== thread.id)]);
    this.found = this.found?.map((other) => (other.id === thread.id ? thread : other));
  }

  async rename(id: string, title: string): Promise<void> {
    this.put(await this.api.threads.update(id, { title }));
  }

  async remove(id: string): Promise<void> {
    await this.api.threads.delete(id);
    this.items = this.items.filter((thread) => thread.id !== id);
    this.found = this.found?.filter((thread) => thread.id !== id);
  }

  /** Keeps the marks of work right; false when the event is of a thread that is not in the list. */
  receive(event: WireEvent): boolean {
    const waits = event.type === 'run_waiting';
    if (waits || event.type === 'run_resumed' || isTerminal(event.type)) {
      this.told.add(event.thread_id);
      if (waits) this.waiting.add(event.thread_id);
      else this.waiting.delete(event.thread_id);
    }
    const thread = this.find(event.thread_id);
    if (!thread) return false;
    if (isTerminal(event.type)) {
      if (thread.active_run_id === event.run_id) thread.active_run_id = null;
    } else if (event.type === 'run_started' || event.type === 'run_resumed') {
      thread.active_run_id = event.run_id;
    }
    return true;
  }

  reset(): void {
    this.items = [];
    this.cursor = undefined;
    this.loaded = false;
    this.found = undefined;
    this.waiting.clear();
    this.told.clear();
  }
}

function newestFirst(threads: Thread[]): Thread[] {
  return [...threads].sort((a, b) => (a.updated_at < b.updated_at ? 1 : a.updated_at > b.updated_at ? -1 : 0));
}
