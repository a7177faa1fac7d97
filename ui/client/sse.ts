// Server-sent events read from a `fetch` body, because `EventSource` cannot send the bearer header.

import type { AnyEvent } from './types';

/** Yields the JSON of each `data:` field group; comments, ids and names are passed over. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<AnyEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let data: string[] = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split(/\r\n|\n|\r/);
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.startsWith('data:')) {
          data.push(line.slice(line[5] === ' ' ? 6 : 5));
        } else if (line === '' && data.length > 0) {
          const event = parse(data.join('\n'));
          data = [];
          if (event) yield event;
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function parse(text: string): AnyEvent | undefined {
  try {
    const value = JSON.parse(text) as AnyEvent;
    return typeof value.seq === 'number' && typeof value.run_id === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
