// The files that are attached to the question being written: uploaded at once, sent by id. Each conversation has its own.

import { ApiError, type Netra } from '../../client';
import { describeError } from './errors';
import { previewOf, type Preview } from './preview';
import { route } from './route.svelte';
import type { AttachedFile } from './turns';

export interface Upload {
  key: number;
  name: string;
  bytes: number;
  /** 0 to 1 */
  progress: number;
  state: 'uploading' | 'done' | 'failed';
  fileId: string | undefined;
  problem: string | undefined;
  /** What can be said of its content before anyone has read it. */
  preview: Preview | undefined;
}

/** A conversation that is not begun yet has no id. */
type Conversation = string | undefined;

export class Uploads {
  private readonly piles = $state<Record<string, Upload[]>>({});
  private next = 0;
  private aborts = new Map<number, AbortController>();

  constructor(private readonly api: Netra) {}

  /** Those of the open conversation. */
  get items(): Upload[] {
    return this.piles[route.threadId ?? ''] ?? [];
  }

  get busy(): boolean {
    return this.items.some((item) => item.state === 'uploading');
  }

  add(files: Iterable<File>): void {
    for (const file of files) void this.upload(file);
  }

  remove(key: number): void {
    this.aborts.get(key)?.abort();
    for (const [place, pile] of Object.entries(this.piles)) this.piles[place] = pile.filter((item) => item.key !== key);
  }

  /** Files that are on the server already, of a question that is asked again. */
  attach(files: AttachedFile[]): void {
    for (const { id, name = id, bytes = 0 } of files) {
      this.put({ key: this.next++, name, bytes, progress: 1, state: 'done', fileId: id, problem: undefined, preview: undefined });
    }
  }

  clear(conversation: Conversation = route.threadId): void {
    for (const { key } of this.piles[conversation ?? ''] ?? []) this.remove(key);
  }

  /** The finished files, which then belong to the question that was sent. */
  take(): Upload[] {
    const { items } = this;
    this.piles[route.threadId ?? ''] = items.filter((item) => item.state !== 'done');
    return items.filter((item) => item.state === 'done');
  }

  /** They were not sent after all. */
  giveBack(uploads: Upload[], conversation: Conversation): void {
    this.piles[conversation ?? ''] = [...uploads, ...(this.piles[conversation ?? ''] ?? [])];
  }

  /** A new conversation has got its id: what is attached to it meanwhile goes along. */
  carry(to: string): void {
    this.piles[to] = [...(this.piles[to] ?? []), ...(this.piles[''] ?? [])];
    this.piles[''] = [];
  }

  private put(upload: Upload): void {
    this.piles[route.threadId ?? ''] = [...this.items, upload];
  }

  private async upload(file: File): Promise<void> {
    const key = this.next++;
    const abort = new AbortController();
    this.aborts.set(key, abort);
    this.put({
      key,
      name: file.name,
      bytes: file.size,
      progress: 0,
      state: 'uploading',
      fileId: undefined,
      problem: undefined,
      preview: undefined,
    });
    const change = (part: Partial<Upload>): void => {
      const item = Object.values(this.piles).flat().find((other) => other.key === key);
      if (item) Object.assign(item, part);
    };
    void previewOf(file).then((preview) => change({ preview }));
    try {
      const stored = await this.api.files.upload(file.name, file, {
        progress: (progress) => change({ progress }),
        signal: abort.signal,
      });
      change({ state: 'done', progress: 1, fileId: stored.id, name: stored.name, bytes: stored.bytes });
    } catch (error) {
      if (error instanceof ApiError || !abort.signal.aborted) change({ state: 'failed', problem: describeError(error) });
    } finally {
      this.aborts.delete(key);
    }
  }
}
