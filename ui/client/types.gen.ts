// The contract's types, made from openapi/netra.json by `cargo xtask openapi`. Do not change by hand.

/** An audit record of anybody. */
export interface AdminAuditEntry {
  /** What was done, such as `tool.call`. */
  action: string;
  /** Who did it: a user's id, or a part of the server. */
  actor: string;
  /** When. */
  at: Timestamp;
  /** What else belongs to it; never content. */
  details: unknown;
  /** The keyed hash over this record and the one before, in hexadecimal. */
  hash?: string | null;
  /** Never changes. */
  id: AuditId;
  /** To what: a name or an id. */
  object: string;
  /** How it ended, such as `completed`, `denied` or `failed`. */
  outcome: string;
  /** The request that it belongs to. */
  request_id: RequestId;
  /** The number in the user's chain, from 1; absent in records from before there was one. */
  seq?: number | null;
  /** In whose audit it stands. The account may be gone. */
  user_id: UserId;
}

/** Somebody's run as admins see it: whose it is and how it goes, and nothing of what it is about. */
export interface AdminRun {
  /** The agent that answers. */
  agent: string;
  /** Rises only after a crash or a lost lease. */
  attempt: number;
  /** When it was asked for. */
  created_at: Timestamp;
  /** When it ends by itself. */
  deadline?: null | Timestamp;
  /** When it ended. */
  ended_at?: null | Timestamp;
  /** Why it failed, without the words, which may tell of its content. */
  error_code?: null | ErrorCode;
  /** Never changes. */
  id: RunId;
  /** The place in its user's queue, from 1, while it is queued on this node. */
  queue_position?: number | null;
  /** When its first engine began. */
  started_at?: null | Timestamp;
  /** Where it stands. */
  status: RunStatus;
  /** Its conversation. */
  thread_id: ThreadId;
  /** What it has used. */
  usage: RunUsage;
  /** Whose it is. */
  user_id: UserId;
}

/** Where a subscription begins. */
export type After = number | 'now';

/** An agent that this user may run. */
export interface Agent {
  /** For people. */
  description: string;
  /** JSON Schema of the input. A text input stands for `{"text": …}`. */
  input_schema: unknown;
  /** How it is made. */
  kind: AgentKind;
  /** To start it by. */
  name: string;
  /** JSON Schema of the result. */
  output_schema?: unknown;
  /** Why it cannot; of one that can, what is wrong with its newest files, which have not taken its place. */
  problem?: string | null;
  /** Whether it can run now. */
  ready: boolean;
  /** Names of the tools that it may call. */
  tools: string[];
}

/** How an agent is made. */
export type AgentKind = 'model' | 'script' | 'native' | 'http';

/** A tool call that waits for a person. */
export interface Approval {
  /** What it would be called with. */
  arguments: unknown;
  /** When it is denied by itself. */
  expires_at: Timestamp;
  /** To answer it by. */
  id: ApprovalId;
  /** Why a person is asked. */
  reason: string;
  /** The run that waits. */
  run_id: RunId;
  /** Where it stands. */
  state: ApprovalState;
  /** The call that waits. */
  tool_call_id: ToolCallId;
  /** The tool's name. */
  tool_name: string;
}

export type ApprovalId = string;

/** Fields of `approval.respond`. */
export interface ApprovalRespond {
  /** Other arguments than asked for; validated again. */
  arguments?: unknown;
  /** Yes or no. */
  decision: Decision;
  /** For the audit and the agent; at most 2,000 characters. */
  note?: string | null;
  /** The approval. */
  approval_id: ApprovalId;
}

/** Where an approval stands. */
export type ApprovalState = 'pending' | 'approved' | 'denied';

/** A position in a user's log. Subscribing after it misses nothing and repeats nothing. */
export interface AsOf {
  /** Names the log; changes when the log is another than the client knew. */
  epoch: string;
  /** The last event's number in the snapshot. */
  seq: number;
}

/** Something that was done in a user's name or to what is the user's. */
export interface AuditEntry {
  /** What was done, such as `tool.call`. */
  action: string;
  /** Who did it: a user's id, or a part of the server. */
  actor: string;
  /** When. */
  at: Timestamp;
  /** What else belongs to it; never content. */
  details: unknown;
  /** The keyed hash over this record and the one before, in hexadecimal. */
  hash?: string | null;
  /** Never changes. */
  id: AuditId;
  /** To what: a name or an id. */
  object: string;
  /** How it ended, such as `completed`, `denied` or `failed`. */
  outcome: string;
  /** The request that it belongs to. */
  request_id: RequestId;
  /** The number in the user's chain, from 1; absent in records from before there was one. */
  seq?: number | null;
}

export type AuditId = string;

/** Fields of `auth.refresh`. */
export interface AuthRefresh {
  /** The new access token, of the same user. */
  token: string;
}

/** An account as an admin has made or changed it. */
export interface ChangedUser {
  /** When the account was made. */
  created_at: Timestamp;
  /** A disabled user can do nothing. */
  disabled: boolean;
  /** The groups that admins have put the user into, for policies; absent where there are none. */
  groups?: string[];
  /** Never changes. */
  id: UserId;
  /** Who the user is elsewhere; absent for who has an account here only. */
  identity?: null | Identity;
  /** The limits in force. */
  limits: Limits;
  /** The name to sign in with. */
  name: string;
  /** From the database, never from the caller. */
  plan: Plan;
  /** From the database, never from the caller. */
  role: Role;
  /** Where one was asked for. */
  reset_link?: null | Link;
}

/** What a client sends, after `id` has been taken off. */
export type ClientFrame = {
  /** The answer carries it back; at most 128 bytes. */
  id: number | string;
  /** The agent's name. */
  agent: string;
  /** Files of this user for the run, at most 50. */
  files?: FileId[];
  /** A text, or an object that fits the agent's schema. */
  input: unknown;
  /** What the client keeps with it; at most 16 KiB. */
  metadata?: Record<string, unknown> | null;
  /** What to do when the thread has an active run. */
  on_busy?: OnBusy;
  /** What to do when all slots are in use. */
  on_limit?: OnLimit;
  /** Queued and running time, in milliseconds; at most the user's limit `run_timeout_max_ms`. */
  timeout_ms?: number | null;
  /** As the header of the same name. */
  idempotency_key?: string | null;
  /** The conversation; a new one when absent. */
  thread_id?: null | ThreadId;
  type: 'run.start';
} | {
  /** The answer carries it back; at most 128 bytes. */
  id: number | string;
  /** The run. */
  run_id: RunId;
  type: 'run.cancel';
} | {
  /** The answer carries it back; at most 128 bytes. */
  id: number | string;
  /** Other arguments than asked for; validated again. */
  arguments?: unknown;
  /** Yes or no. */
  decision: Decision;
  /** For the audit and the agent; at most 2,000 characters. */
  note?: string | null;
  /** The approval. */
  approval_id: ApprovalId;
  type: 'approval.respond';
} | {
  /** The answer carries it back; at most 128 bytes. */
  id: number | string;
  /** Where to begin. */
  after?: After;
  /** Whether `message_delta` is wanted. */
  deltas?: boolean;
  /** The log that `after` belongs to; unchecked when absent. */
  epoch?: string | null;
  /** Only events of these threads; all when absent. */
  threads?: ThreadId[] | null;
  type: 'subscribe';
} | {
  /** The answer carries it back; at most 128 bytes. */
  id?: number | string;
  /** The client has this event and all before. */
  seq: number;
  type: 'delivered';
} | {
  /** The answer carries it back; at most 128 bytes. */
  id: number | string;
  /** The new access token, of the same user. */
  token: string;
  type: 'auth.refresh';
} | {
  /** The answer carries it back; at most 128 bytes. */
  id: number | string;
  type: 'ping';
};

export type ConnectionId = string;

/** A part of a message. */
export type Content = {
  /** The text. */
  text: string;
  type: 'text';
} | {
  /** Its size in bytes. */
  bytes: number;
  /** The file. */
  file_id: FileId;
  /** Its media type. */
  media_type: string;
  /** Its name. */
  name: string;
  type: 'file';
} | {
  /** The arguments. */
  arguments: unknown;
  /** The call. */
  tool_call_id: ToolCallId;
  /** The tool's name. */
  tool_name: string;
  type: 'tool_call';
} | {
  /** The failure. */
  error?: null | Failure;
  /** The result; null after a failure. */
  result: unknown;
  /** The call. */
  tool_call_id: ToolCallId;
  type: 'tool_result';
};

/** Makes an invitation. */
export interface CreateInvite {
  /** How long it is good, in milliseconds, at most 90 days; 7 days when absent. */
  expires_in_ms?: number | null;
  /** What they have booked; `free` when absent. */
  plan?: Plan;
  /** What whoever takes it may do; `user` when absent. */
  role?: Role;
}

/** Makes an API key. */
export interface CreateKey {
  /** When it ends, in the future; never when absent. */
  expires_at?: null | Timestamp;
  /** For people: 1 to 100 characters. */
  name: string;
  /** What the key may do: at least one scope, and none that its maker lacks. */
  scopes: Array<'read' | 'run' | 'files' | 'account' | 'approve' | 'admin' | 'metrics' | 'service'>;
}

/** Makes a thread. */
export interface CreateThread {
  /** At most 16 KiB. */
  metadata?: Record<string, unknown> | null;
  /** At most 200 characters. */
  title?: string | null;
}

/** Makes an account. */
export interface CreateUser {
  /** The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id. */
  name: string;
  /** 12 to 128 characters, none of the common ones. Absent: the answer has a link by which the user sets one. */
  password?: string | null;
  /** What the user has booked; `free` when absent. */
  plan?: Plan;
  /** What the user may do; `user` when absent. */
  role?: Role;
}

/** What a user used in a day. */
export interface DayUsage {
  /** Cost in US dollars; null where a price is not known. */
  cost_usd?: number | null;
  /** The day in UTC, as `2026-11-22`. */
  day: string;
  /** Tokens given to models. */
  input_tokens: number;
  /** Model calls made. */
  model_calls: number;
  /** Tokens that models gave. */
  output_tokens: number;
  /** Runs that ended on this day. */
  runs: number;
  /** Tool calls made. */
  tool_calls: number;
}

/** An answer. */
export type Decision = 'approve' | 'deny';

/** Fields of `delivered`. */
export interface Delivered {
  /** The client has this event and all before. */
  seq: number;
}

/** All things that the server needs. */
export interface Dependencies {
  /** One by one. */
  dependencies: Dependency[];
  /** `ok` when all are. */
  status: string;
}

/** One thing that the server needs. */
export interface Dependency {
  /** How long the probe took, in milliseconds. */
  duration_ms: number;
  /** `store`, `redis` where it is configured, `workers`, `models`, or `tool_server NAME` for each that is configured. */
  name: string;
  /** What the probe said when it failed. */
  problem?: string | null;
  /** `ok` or `failed`. */
  status: string;
}

/** No fields. */
export interface Empty {}

/** The body of every error answer. */
export interface ErrorBody {
  /** What went wrong. */
  error: ErrorDetail;
}

/** A stable error code. Each has a page in `docs/errors/`. */
export type ErrorCode = 'invalid_request' | 'unknown_field' | 'invalid_input' | 'unauthenticated' | 'token_expired' | 'forbidden' | 'origin_refused' | 'not_found' | 'conflict' | 'thread_busy' | 'approval_resolved' | 'run_ended' | 'idempotency_key_reused' | 'cursor_expired' | 'too_large' | 'unsupported_media_type' | 'agent_not_ready' | 'rate_limited' | 'slots_exhausted' | 'queue_full' | 'internal' | 'overloaded' | 'draining' | 'store_unavailable' | 'memory_limit_exceeded' | 'budget_exceeded' | 'step_limit_exceeded' | 'tool_call_limit_exceeded' | 'depth_limit_exceeded' | 'deadline_exceeded' | 'cancelled' | 'agent_failed' | 'model_unavailable' | 'model_not_configured' | 'output_invalid' | 'interrupted' | 'attempts_exhausted' | 'outcome_unknown' | 'tool_failed' | 'tool_timeout' | 'tool_denied';

/** What went wrong, for people and programs. */
export interface ErrorDetail {
  /** The stable code. */
  code: ErrorCode;
  /** The field, the limit, or what else belongs to the code. */
  details?: unknown;
  /** Where the code is explained. */
  docs: string;
  /** What happened and what to do, for the caller. */
  message: string;
  /** To be named when asking the operator. */
  request_id: RequestId;
}

export type EventId = string;

/** The error of a run or of a tool call. */
export interface Failure {
  /** The stable code. */
  code: ErrorCode;
  /** What else belongs to the code. */
  details?: unknown;
  /** What happened, for the user. */
  message: string;
}

/** A file, without its content. */
export interface File {
  /** Size in bytes. */
  bytes: number;
  /** When it was stored. */
  created_at: Timestamp;
  /** Never changes. */
  id: FileId;
  /** The media type, such as `text/csv`. */
  media_type: string;
  /** For people; not unique. */
  name: string;
  /** The run that made it. */
  run_id?: null | RunId;
  /** SHA-256 of the content, in hexadecimal. */
  sha256: string;
}

export type FileId = string;

/** Makes a new thread of an old one's messages. */
export interface ForkThread {
  /** The last message to take; all when absent. */
  after_message_id?: null | MessageId;
}

/** What a form has: one file, in a field of any name. */
export interface Form {
  /** With the file's name. */
  file: string;
}

/** The state and nothing else. */
export interface Health {
  /** `live` or `ready`. */
  status: string;
}

/** Who a user is elsewhere: whoever is known there is one user here, whatever names they have. */
export interface Identity {
  /** Who knows them: the id of the user whose service token named them, or the address of an issuer of tokens. */
  issuer: string;
  /** Their id there. */
  subject: string;
}

/** An invitation that nobody has taken yet. */
export interface Invite {
  /** When it was made. */
  created_at: Timestamp;
  /** When it ends. */
  expires_at: Timestamp;
  /** To take it back. */
  id: InviteId;
  /** In the answer to making it only. */
  link?: null | Link;
  /** What they have booked. */
  plan: Plan;
  /** What whoever takes it may do. */
  role: Role;
}

export type InviteId = string;

/** What everybody holds on this node now, and what must be nothing. */
export interface Isolation {
  /** When this was looked at. */
  at: Timestamp;
  /** What must be 0. */
  must_be_zero: MustBeZero;
  /** All of them together. */
  node: NodeHoldings;
  /** The users who hold anything, or have reached a limit since the start; who holds the most memory is first. */
  users: UserHoldings[];
}

/** An API key, without its secret. */
export interface Key {
  /** When it was made. */
  created_at: Timestamp;
  /** When it ends. */
  expires_at?: null | Timestamp;
  /** Never changes. */
  id: KeyId;
  /** When it was last used, to about a minute. */
  last_used_at?: null | Timestamp;
  /** For people. */
  name: string;
  /** What the key may do. */
  scopes: string[];
  /** The secret, `ntr_…`; in the answer to making it only. */
  secret?: string | null;
}

export type KeyId = string;

/** Deletes the account of who asks. */
export interface Leave {
  /** Needed where the account has one and the sign-in is older than ten minutes, or there is none. */
  password?: string | null;
}

/** Limits in place of others: what is absent stays as it is below. */
export interface LimitOverrides {
  /** How long an approval may be answered, in milliseconds. */
  approval_ttl_ms?: number | null;
  /** Attempts of a run after crashes. */
  attempts?: number | null;
  /** Tokens of models per day; none: without a bound. */
  budget_tokens?: number | null;
  /** Money for models per day, in US dollars; none: without a bound. */
  budget_usd?: number | null;
  /** Concurrent executions over all threads and nodes. */
  concurrent_runs?: number | null;
  /** Nesting of sub-agents. */
  depth?: number | null;
  /** HTTP requests per minute of each API key; of a service token those for all whom it acts for together. */
  key_requests_per_minute?: number | null;
  /** Memory of all the user's runs, workers and children on one node, in MiB. */
  memory_mib?: number | null;
  /** The longest text of a message, in characters. */
  message_chars?: number | null;
  /** WebSocket messages per socket in ten seconds. */
  messages_per_10s?: number | null;
  /** One model call, in milliseconds. */
  model_call_ms?: number | null;
  /** Runs that may wait for a slot. */
  queued_runs?: number | null;
  /** HTTP requests per minute. */
  requests_per_minute?: number | null;
  /** The longest deadline that a run may ask for, in milliseconds. */
  run_timeout_max_ms?: number | null;
  /** Deadline of a run that names none: queued and running time, in milliseconds. */
  run_timeout_ms?: number | null;
  /** Open WebSockets. */
  sockets?: number | null;
  /** Steps of a run. */
  steps?: number | null;
  /** One tool call, in milliseconds. */
  tool_call_ms?: number | null;
  /** Tool calls of a run. */
  tool_calls?: number | null;
  /** The largest upload, in MiB. */
  upload_mib?: number | null;
}

/** What one user may use. Defaults are the contract's, section 4. */
export interface Limits {
  /** How long an approval may be answered, in milliseconds. */
  approval_ttl_ms: number;
  /** Attempts of a run after crashes. */
  attempts: number;
  /** Tokens of models per day; none: without a bound. */
  budget_tokens: number | null;
  /** Money for models per day, in US dollars; none: without a bound. */
  budget_usd: number | null;
  /** Concurrent executions over all threads and nodes. */
  concurrent_runs: number;
  /** Nesting of sub-agents. */
  depth: number;
  /** HTTP requests per minute of each API key; of a service token those for all whom it acts for together. */
  key_requests_per_minute: number;
  /** Memory of all the user's runs, workers and children on one node, in MiB. */
  memory_mib: number;
  /** The longest text of a message, in characters. */
  message_chars: number;
  /** WebSocket messages per socket in ten seconds. */
  messages_per_10s: number;
  /** One model call, in milliseconds. */
  model_call_ms: number;
  /** Runs that may wait for a slot. */
  queued_runs: number;
  /** HTTP requests per minute. */
  requests_per_minute: number;
  /** The longest deadline that a run may ask for, in milliseconds. */
  run_timeout_max_ms: number;
  /** Deadline of a run that names none: queued and running time, in milliseconds. */
  run_timeout_ms: number;
  /** Open WebSockets. */
  sockets: number;
  /** Steps of a run. */
  steps: number;
  /** One tool call, in milliseconds. */
  tool_call_ms: number;
  /** Tool calls of a run. */
  tool_calls: number;
  /** The largest upload, in MiB. */
  upload_mib: number;
}

/** A link that is good once. It is in this answer and nowhere else. */
export interface Link {
  /** When it ends. */
  expires_at: Timestamp;
  /** What the link carries. */
  token: string;
  /** For a person's browser. */
  url: string;
}

/** Signs in. */
export interface Login {
  /** The account's name. */
  name: string;
  /** Its password. */
  password: string;
}

/** Memory of one user. */
export interface MemoryHoldings {
  /** Bytes in the server; none where the server does not count them. */
  heap_bytes?: number | null;
  /** The most that the user may hold. */
  limit_bytes: number;
  /** The most bytes of all three since the user's memory was last empty; none as above. */
  peak_bytes?: number | null;
  /** Bytes in programs of tool servers. */
  program_bytes?: number;
  /** Bytes in worker processes. */
  worker_bytes: number;
}

/** One message. */
export interface Message {
  /** The agent that speaks. */
  agent?: string | null;
  /** False while it is being written, or when it was cut off. */
  complete: boolean;
  /** What is said. */
  content: Content[];
  /** When it began. */
  created_at: Timestamp;
  /** Never changes. */
  id: MessageId;
  /** Who speaks. */
  role: MessageRole;
  /** The run that it started or came from. */
  run_id?: null | RunId;
  /** The conversation. */
  thread_id: ThreadId;
}

export type MessageId = string;

/** Who speaks. */
export type MessageRole = 'user' | 'assistant' | 'tool';

/** How the server's figures were, at most an hour back. */
export interface MetricsHistory {
  /** Between two points, in milliseconds. */
  interval_ms: number;
  /** What was measured at each point, oldest first. A figure that was not there yet is absent. */
  points: MetricsPoint[];
}

/** The figures of one moment. */
export interface MetricsPoint {
  /** When. */
  at: Timestamp;
  /** By the metric's name, over all of its labels together. */
  values: Record<string, number>;
}

/** A model that is configured. */
export interface Model {
  /** Whether agents that name no model get this one. */
  default: boolean;
  /** Whether it is shown pictures. */
  images: boolean;
  /** How the provider is spoken to: `openai`, `azure`, `anthropic`, `gemini` or `ollama`. */
  kind: string;
  /** As agents name it, `provider/model`; `provider/*` stands for every name that a provider has. */
  name: string;
  /** Whether it holds its answers to a JSON Schema itself. */
  native_schema: boolean;
  /** What it costs; absent where no price is known. */
  price?: null | ModelPrice;
  /** Why it cannot be used; absent when it can, as far as is known without a call. */
  problem?: string | null;
}

/** Prices in US dollars per million tokens, for prompts of usual length. */
export interface ModelPrice {
  /** Of the part of requests that the provider had in its cache. */
  cached_input?: number | null;
  /** Of requests. */
  input: number;
  /** Of answers. */
  output: number;
  /** The price list that names it, with its date. */
  source?: string | null;
}

/** What must be 0. Looked at several times, and the least of it counts, because runs come and go meanwhile: what stays above 0 is a defect. */
export interface MustBeZero {
  /** Engines that were made and not released, and that no run has: created − cleaned − active. */
  engines_lost: number;
  /** Events that were about to reach another user, and were stopped, since the start. */
  foreign_events: number;
  /** Slots and places in queues that no run has. */
  seats_without_run: number;
  /** Tasks that drive a run which is not there any more. */
  tasks_without_run: number;
  /** Worker processes that are neither ready for a run nor known to one. */
  workers_without_run: number;
}

/** What all users hold together. */
export interface NodeHoldings {
  /** Open WebSockets and event streams. */
  connections: number;
  /** Bytes in the server that are accounted for; none where the server does not count them. */
  heap_bytes?: number | null;
  /** Bytes in programs of tool servers, those included that serve everybody. */
  program_bytes?: number;
  /** Slots of the node; `allowed` is the most engines at once. */
  slots: Slots;
  /** Those of them that belong to no user; none as above. */
  system_bytes?: number | null;
  /** Tasks that have not ended. */
  tasks: number;
  /** Worker processes with a run. */
  workers: number;
}

/** What to do when the thread has an active run. */
export type OnBusy = 'queue' | 'reject' | 'interrupt';

/** What to do when all slots are in use. */
export type OnLimit = 'queue' | 'reject';

/** A tool server that a user has added for the own agents. */
export interface OwnToolServer {
  /** When the name came up. */
  created_at: Timestamp;
  /** The headers that are sent, with the names of their secrets. */
  headers: Record<string, SecretUse>;
  /** Tools that it offers and Netra does not take, each with the reason. */
  left_out: string[];
  /** As the user has named it; its tools are named `my_NAME__tool`. */
  name: string;
  /** Why it is away. */
  problem?: string | null;
  /** The version of the protocol that is spoken with it, once it has answered. */
  protocol?: string | null;
  /** Where it stands. */
  state: ToolServerState;
  /** How it names itself and its version, once it has answered. */
  title?: string | null;
  /** The names of its tools. */
  tools: string[];
  /** When it was put. */
  updated_at: Timestamp;
  /** Where it answers. */
  url: string;
}

/** One page of a list. */
export interface PageAdminAuditEntry {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: AdminAuditEntry[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageAdminRun {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: AdminRun[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageAgent {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Agent[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageApproval {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Approval[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageAuditEntry {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: AuditEntry[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageFile {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: File[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageInvite {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Invite[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageKey {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Key[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageMessage {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Message[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageModel {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Model[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageOwnToolServer {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: OwnToolServer[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageRun {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Run[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageSession {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Session[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageThread {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Thread[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageTool {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: Tool[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageToolServer {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: ToolServer[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** One page of a list. */
export interface PageUser {
  /** The log's position of this snapshot, where the operation promises one. */
  as_of?: null | AsOf;
  /** The items, newest first unless the operation says otherwise. */
  items: User[];
  /** Give this as `?cursor=` for the next page; null at the end. */
  next_cursor?: string | null;
}

/** What a user has booked; limits follow from it. */
export type Plan = 'free' | 'pro' | 'enterprise';

/** The limits of each plan, where they are not those of the configuration. A change holds from then on, without a restart. */
export interface Plans {
  /** Of `enterprise`. */
  enterprise: LimitOverrides;
  /** Of `free`. */
  free: LimitOverrides;
  /** Of `pro`. */
  pro: LimitOverrides;
}

/** Keeps a secret, in place of the one that had the name. */
export interface PutSecret {
  /** The hosts that tools may send it to, at most 20: `api.example.com`, or `wiki.intranet:8080` where the port is not 443. Nowhere when there are none. */
  hosts?: string[];
  /** The secret itself: 8 to 16,384 bytes, none of them a control character. */
  value: string;
}

/** A tool server of the user's own is to be there, in place of the one that had the name. */
export interface PutToolServer {
  /** Headers that are sent with every request, at most 10; their values are secrets. */
  headers?: Record<string, SecretUse>;
  /** Where it answers: `https://`, a public host, without user and password. */
  url: string;
}

/** Why a run waits in the queue. */
export type QueueReason = 'slots' | 'thread_busy' | 'engines';

/** Asks for a new access token. */
export interface Refresh {
  /** Absent where the browser's cookie carries it. */
  refresh_token?: string | null;
}

/** Makes an account. */
export interface Register {
  /** Where registration is by invitation. */
  invite?: string | null;
  /** The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id. */
  name: string;
  /** 12 to 128 characters. */
  password: string;
}

export type RequestId = string;

/** Sets a new password by a one-time token. */
export interface Reset {
  /** 12 to 128 characters. */
  password: string;
  /** From the link that an admin made. */
  token: string;
}

/** The answer to an approval. */
export interface ResolveApproval {
  /** Other arguments than asked for; validated again. */
  arguments?: unknown;
  /** Yes or no. */
  decision: Decision;
  /** For the audit and the agent; at most 2,000 characters. */
  note?: string | null;
}

/** Who answered an approval. */
export type ResolvedBy = string;

/** How much harm a tool can do. */
export type Risk = 'low' | 'medium' | 'high';

/** What a user may do on the server. */
export type Role = 'user' | 'developer' | 'admin';

/** A run. */
export interface Run {
  /** The agent's name. */
  agent: string;
  /** The log's position of this snapshot, when one run was read. */
  as_of?: null | AsOf;
  /** From 1; rises after a crash or a lost lease only. */
  attempt: number;
  /** When it was accepted. */
  created_at: Timestamp;
  /** When it ends by itself. */
  deadline?: null | Timestamp;
  /** When it ended. */
  ended_at?: null | Timestamp;
  /** Why it failed. */
  error?: null | Failure;
  /** Never changes. */
  id: RunId;
  /** What the client keeps with it. */
  metadata: Record<string, unknown>;
  /** From 1, while it is queued. */
  queue_position?: number | null;
  /** What it gave. */
  result?: unknown;
  /** The same, in the answer to starting it. */
  run_id?: null | RunId;
  /** When its engine began. */
  started_at?: null | Timestamp;
  /** Where it stands. */
  status: RunStatus;
  /** Its conversation. */
  thread_id: ThreadId;
  /** What it used. */
  usage: RunUsage;
}

/** Fields of `run.cancel`. */
export interface RunCancel {
  /** The run. */
  run_id: RunId;
}

export type RunId = string;

/** Fields of `run.start`. */
export interface RunStart {
  /** The agent's name. */
  agent: string;
  /** Files of this user for the run, at most 50. */
  files?: FileId[];
  /** A text, or an object that fits the agent's schema. */
  input: unknown;
  /** What the client keeps with it; at most 16 KiB. */
  metadata?: Record<string, unknown> | null;
  /** What to do when the thread has an active run. */
  on_busy?: OnBusy;
  /** What to do when all slots are in use. */
  on_limit?: OnLimit;
  /** Queued and running time, in milliseconds; at most the user's limit `run_timeout_max_ms`. */
  timeout_ms?: number | null;
  /** As the header of the same name. */
  idempotency_key?: string | null;
  /** The conversation; a new one when absent. */
  thread_id?: null | ThreadId;
}

/** Where a run stands: `queued → running ⇄ waiting → completed | failed | cancelled | timed_out`. */
export type RunStatus = 'queued' | 'running' | 'waiting' | 'completed' | 'failed' | 'cancelled' | 'timed_out';

/** What one run used. Absent numbers were not measured. */
export interface RunUsage {
  /** Cost of the models in US dollars; null where a price is not known. */
  cost_usd: number | null;
  /** From acceptance to end, in milliseconds. */
  duration_ms: number;
  /** Tokens given to models. */
  input_tokens: number;
  /** Model calls made. */
  model_calls: number;
  /** Tokens that models gave. */
  output_tokens: number;
  /** The most memory that it held, in bytes; null where the server does not count it. */
  peak_memory_bytes: number | null;
  /** The price lists that `cost_usd` is by, with their dates; absent where no price is known. */
  price_sources?: string[];
  /** Tool calls made. */
  tool_calls: number;
}

/** A secret without its value. */
export interface SecretInfo {
  /** When the name came up. */
  created_at: Timestamp;
  /** The hosts that tools may send it to. */
  hosts: string[];
  /** Stands for it in the arguments of tools. */
  name: string;
  /** When the value was put. */
  updated_at: Timestamp;
}

/** A secret by its name, where its value is to stand. */
export interface SecretUse {
  /** What stands before the value, such as `Bearer ` with the blank. */
  prefix?: string;
  /** The name of the secret. */
  secret: string;
}

/** What the server sends besides events. */
export type ServerFrame = {
  /** This socket. */
  connection_id: ConnectionId;
  /** Names the log. */
  epoch: string;
  /** Between two pings, in milliseconds. */
  heartbeat_interval_ms: number;
  /** The last event's number. */
  latest_seq: number;
  /** `netra.v1`. */
  protocol: string;
  /** The server's version. */
  server_version: string;
  type: 'connection_ready';
  /** Whose it is. */
  user_id: UserId;
} | {
  /** The client's. */
  id: unknown;
  type: 'ack';
} | {
  /** Why. */
  error: ErrorDetail;
  /** The client's. */
  id: unknown;
  type: 'error';
} | {
  /** The client's. */
  id: unknown;
  type: 'pong';
} | {
  /** Everything up to here was sent or does not pass the filter. */
  seq: number;
  type: 'position';
};

/** One sign-in that is still good. */
export interface Session {
  /** When it began. */
  created_at: Timestamp;
  /** Whether the asking request belongs to it. */
  current: boolean;
  /** When it ends if it is not refreshed. */
  expires_at: Timestamp;
  /** To revoke it. */
  id: SessionId;
  /** When it was last refreshed. */
  last_used_at: Timestamp;
}

export type SessionId = string;

/** Makes the first admin. */
export interface Setup {
  /** The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id. */
  name: string;
  /** 12 to 128 characters. */
  password: string;
  /** From the set-up link that the server printed. */
  token: string;
}

/** Slots of a user, now. */
export interface SlotUsage {
  /** Slots that the user has. */
  allowed: number;
  /** Runs that wait for a slot. */
  queued: number;
  /** Runs that execute. */
  running: number;
}

/** Execution slots. */
export interface Slots {
  /** How many may execute at once. */
  allowed: number;
  /** Runs that wait for a slot. */
  queued: number;
  /** Runs that execute. */
  running: number;
  /** Runs that wait for a person; they hold no slot. */
  waiting: number;
}

/** Starts a run. */
export interface StartRun {
  /** The agent's name. */
  agent: string;
  /** Files of this user for the run, at most 50. */
  files?: FileId[];
  /** A text, or an object that fits the agent's schema. */
  input: unknown;
  /** What the client keeps with it; at most 16 KiB. */
  metadata?: Record<string, unknown> | null;
  /** What to do when the thread has an active run. */
  on_busy?: OnBusy;
  /** What to do when all slots are in use. */
  on_limit?: OnLimit;
  /** Queued and running time, in milliseconds; at most the user's limit `run_timeout_max_ms`. */
  timeout_ms?: number | null;
}

/** Asks for events. */
export interface Subscribe {
  /** Where to begin. */
  after?: After;
  /** Whether `message_delta` is wanted. */
  deltas?: boolean;
  /** The log that `after` belongs to; unchecked when absent. */
  epoch?: string | null;
  /** Only events of these threads; all when absent. */
  threads?: ThreadId[] | null;
}

/** A conversation. */
export interface Thread {
  /** The run that is queued, running or waiting on it. */
  active_run_id?: null | RunId;
  /** The log's position of this snapshot, when one thread was read. */
  as_of?: null | AsOf;
  /** When it was made. */
  created_at: Timestamp;
  /** Never changes. */
  id: ThreadId;
  /** What the client keeps with it. */
  metadata: Record<string, unknown>;
  /** For people; at first the beginning of the first message. */
  title: string;
  /** When it or one of its messages last changed. */
  updated_at: Timestamp;
}

export type ThreadId = string;

/** A ticket that opens one WebSocket. */
export interface Ticket {
  /** Life of the ticket, in milliseconds. */
  expires_in_ms: number;
  /** To be sent as `/ws?ticket=…`, once. */
  ticket: string;
}

export type Timestamp = string;

/** The answer to signing in and to refreshing. */
export interface Tokens {
  /** A JWT, to be sent as `Authorization: Bearer …`. */
  access_token: string;
  /** Life of the access token, in milliseconds. */
  expires_in_ms: number;
  /** Opaque; each can be used once. */
  refresh_token: string;
  /** Who has signed in. */
  user: User;
}

/** A tool that this user may call or not, and why. */
export interface Tool {
  /** Whether this user may call it. */
  allowed: boolean;
  /** For people and models. */
  description: string;
  /** Whether calling it twice does no harm. */
  idempotent: boolean;
  /** JSON Schema of the arguments. */
  input_schema: unknown;
  /** To call it by. */
  name: string;
  /** Whether a person is asked before each call. */
  needs_approval: boolean;
  /** The named permission that it needs. */
  permission: string;
  /** Why not. */
  reason?: string | null;
  /** How much harm it can do. */
  risk: Risk;
}

export type ToolCallId = string;

/** A server that tools come from, as admins see it. */
export interface ToolServer {
  /** How many instances have ended by themselves since the start. */
  crashes: number;
  /** How many instances of it run now. */
  instances: number;
  /** Tools that it offers and Netra does not take, each with the reason. */
  left_out: string[];
  /** As it is configured; its tools are named `NAME__tool`. */
  name: string;
  /** Why it is away. */
  problem?: string | null;
  /** The version of the protocol that is spoken with it, once it has answered. */
  protocol?: string | null;
  /** Whom one instance of it serves. */
  scope: ToolServerScope;
  /** Where it stands. */
  state: ToolServerState;
  /** How it names itself and its version, once it has answered. */
  title?: string | null;
  /** The names of its tools. */
  tools: string[];
  /** How it is reached. */
  transport: ToolServerTransport;
}

/** Whom one instance of a tool server serves. */
export type ToolServerScope = 'user' | 'run' | 'shared';

/** Where a tool server stands. */
export type ToolServerState = 'starting' | 'ready' | 'away' | 'per_user';

/** How a tool server is reached. */
export type ToolServerTransport = 'stdio' | 'http';

/** What a user's calls of one tool used. Each call counts when it ends, once. */
export interface ToolUsage {
  /** Calls that ran. */
  calls: number;
  /** Calls that were refused, and did not run. */
  denied: number;
  /** How long the calls took together, in milliseconds. */
  duration_ms: number;
  /** Those of them that gave no result. */
  failed: number;
  /** What they gave together, in bytes of JSON. */
  result_bytes: number;
  /** The tool's name; empty for calls of what the agent does not have, whatever they named. */
  tool: string;
}

/** Changes a thread; what is absent stays. */
export interface UpdateThread {
  /** Replaces the whole map; at most 16 KiB. */
  metadata?: Record<string, unknown> | null;
  /** At most 200 characters. */
  title?: string | null;
}

/** Changes an account. What is absent stays as it is. */
export interface UpdateUser {
  /** A disabled user can do nothing: sessions and API keys end for good, sockets close, runs are cancelled. */
  disabled?: boolean | null;
  /** The groups that the user is in from now on, for policies: at most 32, each of 1 to 64 letters, digits, `.`, `_` or `-`. */
  groups?: string[] | null;
  /** The user's own limits from now on, in place of those of the plan; `{}` takes all away. */
  limits?: null | LimitOverrides;
  /** What the user has booked. */
  plan?: null | Plan;
  /** Makes a link by which the user can set a new password, once. Links of before are no longer good. */
  reset_link?: boolean | null;
  /** What the user may do. */
  role?: null | Role;
}

/** A user's own figures. */
export interface Usage {
  /** The last 90 days on which something was used, newest first. */
  days: DayUsage[];
  /** Slots in use and allowed, now. */
  slots: SlotUsage;
  /** The tools that were called in the last 90 days, the most called first; at most 100. */
  tools?: ToolUsage[];
}

/** A user, as the user and admins see it. */
export interface User {
  /** When the account was made. */
  created_at: Timestamp;
  /** A disabled user can do nothing. */
  disabled: boolean;
  /** The groups that admins have put the user into, for policies; absent where there are none. */
  groups?: string[];
  /** Never changes. */
  id: UserId;
  /** Who the user is elsewhere; absent for who has an account here only. */
  identity?: null | Identity;
  /** The limits in force. */
  limits: Limits;
  /** The name to sign in with. */
  name: string;
  /** From the database, never from the caller. */
  plan: Plan;
  /** From the database, never from the caller. */
  role: Role;
}

/** What one user holds. */
export interface UserHoldings {
  /** How often the user has reached each limit since the start, by its key in the configuration. Limits that were never reached are absent. */
  limits_hit: Record<string, number>;
  /** Memory; none where the user has no request, socket, run or program here. */
  memory?: null | MemoryHoldings;
  /** Whose name it is; none where the account is gone. */
  name?: string | null;
  /** Execution slots. */
  slots: Slots;
  /** Open WebSockets. */
  sockets: number;
  /** Open event streams. */
  streams: number;
  /** Who. */
  user_id: UserId;
  /** Worker processes. */
  workers: number;
}

export type UserId = string;

/** What every event carries besides `type` and `data`. */
export interface EventEnvelope {
  /** The agent that acts; absent in events of the run itself. */
  agent?: string | null;
  /** Never changes. */
  event_id: EventId;
  /** The run. */
  run_id: RunId;
  /** The step of the run in which it acts, from 1; absent in events of the run itself. */
  step?: number | null;
  /** The conversation. */
  thread_id: ThreadId;
  /** When it happened. */
  ts: Timestamp;
  /** The number of what was sent before it on this subscription. */
  prev: number;
  /** Its number in the user's log, from 1, in commit order. */
  seq: number;
}

/** What each type of event carries in `data`. */
export interface EventData {
  /** It has to wait: no free slot, a busy thread, or a full node. */
  run_queued: {
    /** From 1, in the user's own queue. */
    queue_position: number;
    /** What it waits for. */
    reason: QueueReason;
  };
  /** The engine exists. */
  run_started: {
    /** The agent's name. */
    agent: string;
    /** From 1. */
    attempt: number;
    /** When the run ends by itself. */
    deadline: Timestamp;
    /** The message that asked. */
    input_message_id: MessageId;
  };
  /** A person is asked, and the slot is given back until the answer. */
  run_waiting: {
    /** For what. */
    reason: string;
  };
  /** The run goes on, after a person, a crash or a drain. */
  run_resumed: {
    /** From 1. */
    attempt: number;
    /** When the run ends by itself. */
    deadline: Timestamp;
    /** After what: `approval`, `crash` or `drain`. */
    reason: string;
  };
  /** An agent (the run's own or a sub-agent) begins. */
  agent_started: {
    /** The agent's name. */
    agent: string;
    /** The step of the agent that called it; absent for the run's own agent. */
    parent_step?: number | null;
    /** What it is to do, in short. */
    task: string;
  };
  /** A reasoning step, progress, or plan. */
  agent_thinking: {
    /** In words. */
    message: string;
    /** From 0 to 1. */
    progress?: number | null;
  };
  /** Text of the answer, as it is written. */
  message_delta: {
    /** What is added. */
    delta: string;
    /** The message that grows. */
    message_id: MessageId;
  };
  /** A whole message of the assistant; one for each that had a delta. */
  message_completed: {
    /** What is said, in parts as in REST. */
    content: Content[];
    /** True when it was cut off. */
    incomplete?: boolean;
    /** The message. */
    message_id: MessageId;
    /** Who speaks. */
    role: MessageRole;
  };
  /** All checks passed; the tool is about to run. */
  tool_executing: {
    /** What it is called with, in short form. */
    arguments: unknown;
    /** Why, in words. */
    purpose?: string | null;
    /** The call. */
    tool_call_id: ToolCallId;
    /** The tool's name. */
    tool_name: string;
  };
  /** A long tool goes on. */
  tool_progress: {
    /** In words. */
    message?: string | null;
    /** From 0 to 1. */
    progress?: number | null;
    /** The call. */
    tool_call_id: ToolCallId;
  };
  /** Once for every `tool_executing`. */
  tool_completed: {
    /** From call to end, in milliseconds. */
    duration_ms: number;
    /** Why it failed. */
    error?: null | Failure;
    /** The result in short form. */
    result: unknown;
    /** Size of the whole result, in bytes of JSON. */
    result_bytes: number;
    /** Whether it gave a result. */
    success: boolean;
    /** The call. */
    tool_call_id: ToolCallId;
    /** The tool's name. */
    tool_name: string;
  };
  /** A check said no; the tool did not run. */
  tool_denied: {
    /** Which: `agent_list`, `policy`, `schema`, `limits`, `rate`, or `approval` where a person said no. */
    layer: string;
    /** Why. */
    reason: string;
    /** The call. */
    tool_call_id: ToolCallId;
    /** The tool's name. */
    tool_name: string;
  };
  /** A person is asked about a tool call. */
  approval_requested: {
    /** To answer it by. */
    approval_id: ApprovalId;
    /** What the tool would be called with, in short form. */
    arguments: unknown;
    /** When it is denied by itself. */
    expires_at: Timestamp;
    /** The call that waits. */
    tool_call_id: ToolCallId;
  };
  /** The question is answered, once. */
  approval_resolved: {
    /** The question. */
    approval_id: ApprovalId;
    /** A user's id, `expiry` or `cancel`. */
    by: ResolvedBy;
    /** Yes or no. */
    decision: Decision;
    /** The call that waited. */
    tool_call_id: ToolCallId;
  };
  /** A file or a chart for the user was made. */
  artifact_created: {
    /** Its size in bytes. */
    bytes: number;
    /** The file. */
    file_id: FileId;
    /** Its media type. */
    media_type: string;
    /** Its name. */
    name: string;
  };
  /** An agent ends. */
  agent_completed: {
    /** The agent's name. */
    agent: string;
    /** From start to end, in milliseconds. */
    duration_ms: number;
    /** The result in short form; null on failure. */
    result: unknown;
    /** Whether it gave a result. */
    success: boolean;
  };
  /** The run has ended with a result. */
  run_completed: {
    /** From acceptance to end, in milliseconds. */
    duration_ms: number;
    /** The result; null where it is over 128 KiB. */
    result: unknown;
    /** True where the result stands in the run alone. */
    result_truncated?: boolean;
    /** What the run used. */
    usage: RunUsage;
  };
  /** The run has ended with an error. */
  run_failed: {
    /** From acceptance to end, in milliseconds. */
    duration_ms: number;
    /** Why. */
    error: Failure;
    /** What the run used. */
    usage: RunUsage;
  };
  /** A person or a later run stopped it. */
  run_cancelled: {
    /** From acceptance to end, in milliseconds. */
    duration_ms: number;
    /** By whom or what. */
    error: Failure;
    /** What the run used. */
    usage: RunUsage;
  };
  /** The run's deadline has passed. */
  run_timed_out: {
    /** From acceptance to end, in milliseconds. */
    duration_ms: number;
    /** Which. */
    error: Failure;
    /** What the run used. */
    usage: RunUsage;
  };
  /** 80 % of a limit are used; at most once for each limit of a run. */
  limit_warning: {
    /** What is allowed. */
    allowed: number;
    /** The limit's key: `run_timeout_ms` (in milliseconds), `memory_mib` (in MiB, over all runs of the user), `budget_usd` or `budget_tokens` (over the user's day), `run_budget_usd` or `run_budget_tokens`. */
    limit: string;
    /** What is used. */
    used: number;
  };
}

export type EventType = keyof EventData;
export type EventDataOf<T extends EventType> = EventData[T];

/** An event of one type. A server that is newer may send types that are not listed: pass them over. */
export type EventOf<T extends EventType> = T extends EventType
  ? EventEnvelope & { type: T; data: EventData[T] }
  : never;

/** An event as a socket or an SSE stream carries it; `type` tells what `data` is. */
export type WireEvent = EventOf<EventType>;
