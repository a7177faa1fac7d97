// What goes with the generated types of the contract: short names, and questions that are asked of them.

import type { AsOf, Content, EventType, RunStatus } from './types.gen.js';

export type * from './types.gen.js';

/** What the contract leaves to agents and tools: any JSON. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** One page of any list. */
export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
  as_of?: AsOf | null;
}

const EVENT_TYPES: Record<EventType, true> = {
  run_queued: true,
  run_started: true,
  run_waiting: true,
  run_resumed: true,
  agent_started: true,
  agent_thinking: true,
  message_delta: true,
  message_completed: true,
  tool_executing: true,
  tool_progress: true,
  tool_completed: true,
  tool_denied: true,
  approval_requested: true,
  approval_resolved: true,
  artifact_created: true,
  agent_completed: true,
  run_completed: true,
  run_failed: true,
  run_cancelled: true,
  run_timed_out: true,
  limit_warning: true,
};

/** Whether this version knows the type: a newer server may send others, which are passed over. */
export function isKnown(event: { type: string }): boolean {
  return Object.hasOwn(EVENT_TYPES, event.type);
}

/** Whether an event of this type is the last one of its run. */
export function isTerminal(type: string): boolean {
  return type === 'run_completed' || type === 'run_failed' || type === 'run_cancelled' || type === 'run_timed_out';
}

export function hasEnded(status: RunStatus): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled' || status === 'timed_out';
}

/** The text of a message's content, its text parts joined. */
export function textOf(content: Content[]): string {
  return content.map((part) => (part.type === 'text' ? part.text : '')).join('');
}
