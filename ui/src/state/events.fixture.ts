// Builds sequences of events for tests, numbered as the server numbers them.

import type { WireEvent, EventData, EventType } from '../../client';

export interface Script {
  /** With the fields of `data` that the test is about. */
  event<T extends EventType>(type: T, data: Partial<EventData[T]>, agent?: string, step?: number): WireEvent;
  raw(type: string, data: unknown): WireEvent;
}

export function script(runId = 'run_1'): Script {
  let seq = 0;
  const raw = (type: string, data: unknown, agent?: string, step?: number): WireEvent => {
    seq += 1;
    return {
      type,
      seq,
      prev: seq - 1,
      event_id: `evt_${seq}`,
      ts: `2026-11-22T18:00:${String(seq % 60).padStart(2, '0')}.000000Z`,
      thread_id: 'thr_1',
      run_id: runId,
      ...(agent === undefined ? {} : { agent }),
      ...(step === undefined ? {} : { step }),
      data,
    } as WireEvent;
  };
  return { raw, event: raw };
}
