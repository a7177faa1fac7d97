// Server-sent events, cut at any place.

import { expect, it } from 'vitest';
import { readEvents } from './sse';

it.each([1, 2, 7, 1000])('reads events from pieces of %i bytes', async (size) => {
  const text = ': hello\n\nid: e:1\nevent: a\ndata: {"seq":1,"run_id":"r","type":"ä"}\n\nevent: position\ndata: {"seq":2}\n\ndata: {"seq":3,\ndata: "run_id":"r"}\n\n';
  const bytes = new TextEncoder().encode(text);
  const body = new ReadableStream<Uint8Array>({
    start(control) {
      for (let at = 0; at < bytes.length; at += size) control.enqueue(bytes.slice(at, at + size));
      control.close();
    },
  });
  const seen = [];
  for await (const event of readEvents(body)) seen.push([event.seq, event.type]);
  expect(seen).toEqual([[1, 'ä'], [3, undefined]]);
});
