// The list of the user's threads, newest first, and which of them are at work.

import { isTerminal, type WireEvent, type Netra, type Thread } from '../../client';

const PAGE = 50;

export class Threads {
  items = $state<Thread[]>([]);
  loaded = $state(false);
  cursor = $state<string | undefined>();

  constructor(private readonly api: Netra) {}

  async load(): Promise<void> {
    const page = await this.api.threads.list({ limit: PAGE });
    this.items = newestFirst(page.items);
    this.cursor = page.next_cursor ?? undefined;
    this.loaded = true;
  }

  async more(): Promise<void> {
    if (!this.cursor) return;
    const page = await this.api.threads.list({ limit: PAGE, cursor: this.cursor });
    const known = new Set(this.items.map((thread) => thread.id));
    this.items = [...this.items, ...page.items.filter((thread) => !known.has(thread.id))];
    this.cursor = page.next_cursor ?? undefined;
  }

  find(id: string | undefined): Thread | undefined {
    return this.items.find((thread) => thread.id === id);
  }

  put(thread: Thread): void {
    this.items = newestFirst([thread, ...this.items.filter((other) => other.id !== thread.id)]);
  }

  async rename(id: string, title: string): Promise<void> {
    this.put(await this.api.threads.update(id, { title }));
  }

  async remove(id: string): Promise<void> {
    await this.api.threads.delete(id);
    this.items = this.items.filter((thread) => thread.id !== id);
  }

  /** Keeps the marks of work right; false when the event is of a thread that is not in the list. */
  receive(event: WireEvent): boolean {
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
  }
}

function newestFirst(threads: Thread[]): Thread[] {
  return [...threads].sort((a, b) => (a.updated_at < b.updated_at ? 1 : a.updated_at > b.updated_at ? -1 : 0));
}
