// The public contract as types: bodies of the REST interface, frames and events of the socket.

export type Role = 'user' | 'developer' | 'admin';
export type RunStatus = 'queued' | 'running' | 'waiting' | 'completed' | 'failed' | 'cancelled' | 'timed_out';
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface User {
  id: string;
  name: string;
  role: Role;
  plan: string;
  disabled: boolean;
  created_at: string;
}

export interface Login {
  access_token: string;
  refresh_token?: string;
  expires_in_ms: number;
  user: User;
}

/** A place in the user's log: everything up to `seq` of the log named `epoch`. */
export interface AsOf {
  epoch: string;
  seq: number;
}

export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
  as_of?: AsOf;
}

export interface Agent {
  name: string;
  description: string;
  kind: 'model' | 'script' | 'native' | 'http';
  input_schema: Json;
  tools: string[];
  ready: boolean;
  problem?: string | null;
}

export interface Thread {
  id: string;
  title: string | null;
  created_at: string;
  updated_at: string;
  active_run_id?: string | null;
  as_of?: AsOf;
}

/** One part of a message. Parts of an unknown type are kept and not shown. */
export interface ContentPart {
  type: string;
  text?: string;
  file_id?: string;
  id?: string;
  name?: string;
  bytes?: number;
  [key: string]: unknown;
}

export interface Message {
  id: string;
  thread_id: string;
  run_id?: string | null;
  role: 'user' | 'assistant' | 'tool';
  agent?: string | null;
  content: ContentPart[] | string;
  complete: boolean;
  created_at: string;
}

/** Why a run, a tool call or a request did not succeed. */
export interface Failure {
  code: string;
  message: string;
  details?: Json;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cost_usd: number | null;
  tool_calls: number;
  model_calls: number;
  peak_memory_bytes: number | null;
  duration_ms: number;
}

export interface Run {
  id: string;
  thread_id: string;
  agent: string;
  status: RunStatus;
  attempt: number;
  queue_position?: number | null;
  created_at: string;
  started_at?: string | null;
  ended_at?: string | null;
  deadline?: string | null;
  result?: Json;
  error?: Failure | null;
  usage?: Partial<Usage> | null;
  as_of?: AsOf;
}

export interface StartRun {
  agent: string;
  input: string;
  files?: string[];
}

export interface FileInfo {
  id: string;
  name: string;
  media_type: string;
  bytes: number;
  run_id?: string | null;
  created_at: string;
}

export interface ErrorBody extends Failure {
  request_id?: string;
  docs?: string;
}

// ---- socket ---------------------------------------------------------------

interface Envelope {
  seq: number;
  /** The `seq` sent before this one on the same subscription; absent on server-sent events. */
  prev?: number;
  event_id: string;
  ts: string;
  thread_id: string;
  run_id: string;
  agent?: string;
  step?: number;
}

export interface EventData {
  run_queued: { queue_position: number; reason: 'slots' | 'thread_busy' | 'engines' | (string & {}) };
  run_started: { agent: string; deadline: string | null; attempt: number; input_message_id?: string };
  run_waiting: { reason: string };
  run_resumed: { reason: string; attempt: number; deadline: string | null };
  agent_started: { agent: string; parent_step?: number | null; task: Json };
  agent_thinking: { message: string; progress?: number | null };
  message_delta: { message_id: string; delta: string };
  message_completed: { message_id: string; role: string; content: ContentPart[] | string; incomplete?: boolean };
  tool_executing: { tool_call_id: string; tool_name: string; arguments: Json; purpose?: string | null };
  tool_progress: { tool_call_id: string; progress?: number | null; message?: string | null };
  tool_completed: {
    tool_call_id: string;
    tool_name: string;
    success: boolean;
    duration_ms: number;
    result: Json;
    result_bytes?: number;
    error?: Failure | null;
  };
  tool_denied: { tool_call_id: string; tool_name: string; layer: string; reason: string };
  approval_requested: { approval_id: string; tool_call_id: string; arguments: Json; expires_at: string };
  approval_resolved: { approval_id: string; decision: 'approve' | 'deny'; by: string };
  artifact_created: { file_id: string; name: string; media_type: string; bytes: number };
  agent_completed: { agent: string; success: boolean; duration_ms: number; result: Json };
  run_completed: { result: Json; result_truncated?: boolean; usage?: Partial<Usage>; duration_ms: number };
  run_failed: { error: Failure; usage?: Partial<Usage>; duration_ms: number };
  run_cancelled: { error?: Failure; usage?: Partial<Usage>; duration_ms: number };
  run_timed_out: { error?: Failure; usage?: Partial<Usage>; duration_ms: number };
  limit_warning: { limit: string; used: number; allowed: number };
}

export type EventType = keyof EventData;
export type RunEvent = { [T in EventType]: Envelope & { type: T; data: EventData[T] } }[EventType];
/** An event as it comes from outside: its type may be one that this client does not know yet. */
export type AnyEvent = RunEvent | (Envelope & { type: string; data: unknown });

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

export function isKnown(event: AnyEvent): event is RunEvent {
  return Object.hasOwn(EVENT_TYPES, event.type);
}

export function isTerminal(type: string): boolean {
  return type === 'run_completed' || type === 'run_failed' || type === 'run_cancelled' || type === 'run_timed_out';
}

export function hasEnded(status: RunStatus): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled' || status === 'timed_out';
}

/** The text of a message's content, its text parts joined. */
export function textOf(content: ContentPart[] | string): string {
  if (typeof content === 'string') return content;
  return content
    .filter((part) => part.type === 'text' && typeof part.text === 'string')
    .map((part) => part.text)
    .join('');
}
