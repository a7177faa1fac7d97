// The files that are attached to the question being written: uploaded at once, sent by id.

import { ApiError, type Netra } from '../../client';
import { describeError } from './errors';
import { previewOf, type Preview } from './preview';
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

export class Uploads {
  items = $state<Upload[]>([]);
  private next = 0;
  private aborts = new Map<number, AbortController>();

  constructor(private readonly api: Netra) {}

  get busy(): boolean {
    return this.items.some((item) => item.state === 'uploading');
  }

  add(files: Iterable<File>): void {
    for (const file of files) void this.upload(file);
  }

  remove(key: number): void {
    this.aborts.get(key)?.abort();
    this.items = this.items.filter((item) => item.key !== key);
  }

  /** Files that are on the server already, of a question that is asked again. */
  attach(files: AttachedFile[]): void {
    for (const { id, name = id, bytes = 0 } of files) {
      this.items.push({ key: this.next++, name, bytes, progress: 1, state: 'done', fileId: id, problem: undefined, preview: undefined });
    }
  }

  clear(): void {
    for (const { key } of [...this.items]) this.remove(key);
  }

  /** The finished files, which then belong to the question that was sent. */
  take(): Upload[] {
    const done = this.items.filter((item) => item.state === 'done');
    this.items = this.items.filter((item) => item.state !== 'done');
    return done;
  }

  private async upload(file: File): Promise<void> {
    const key = this.next++;
    const abort = new AbortController();
    this.aborts.set(key, abort);
    this.items.push({
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
      const item = this.items.find((other) => other.key === key);
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
