// Builds sequences of events for tests, numbered as the server numbers them.

import type { AnyEvent, EventData, EventType } from '../../client/types';

export interface Script {
  event<T extends EventType>(type: T, data: EventData[T], agent?: string, step?: number): AnyEvent;
  raw(type: string, data: unknown): AnyEvent;
}

export function script(runId = 'run_1'): Script {
  let seq = 0;
  const raw = (type: string, data: unknown, agent?: string, step?: number): AnyEvent => {
    seq += 1;
    return {
      type,
      seq,
      event_id: `evt_${seq}`,
      ts: `2026-11-22T18:00:${String(seq % 60).padStart(2, '0')}.000000Z`,
      thread_id: 'thr_1',
      run_id: runId,
      ...(agent === undefined ? {} : { agent }),
      ...(step === undefined ? {} : { step }),
      data,
    };
  };
  return { raw, event: raw };
}
