// Folds the events of one run into what the page shows of it.
// The state is changed in place: it may be a Svelte proxy, which then redraws only what an event has touched.

import {
  hasEnded,
  isKnown,
  textOf,
  type EventData,
  type Failure,
  type Json,
  type Run,
  type RunStatus,
  type RunUsage,
  type WireEvent,
} from '../../client';

/** Who acts in an event, and in which step; nobody in those of the run itself. */
type Acting = Pick<WireEvent, 'agent' | 'step'>;

/** What comes out of JSON is JSON; the contract does not say which. */
export function json(value: unknown): Json {
  return (value ?? null) as Json;
}

export type Item =
  | { kind: 'thought'; id: string; text: string; progress: number | undefined }
  | { kind: 'tool'; id: string }
  | { kind: 'approval'; id: string }
  | { kind: 'agent'; id: string };

export interface AgentNode {
  id: string;
  name: string;
  task: Json;
  parent: string | undefined;
  parentStep: number | undefined;
  /** With the name, this tells apart agents that work at once. */
  step: number | undefined;
  state: 'running' | 'completed' | 'failed';
  startedAt: string;
  durationMs: number | undefined;
  result: Json;
  items: Item[];
}

export type ToolState = 'running' | 'completed' | 'failed' | 'denied';

export interface ToolCall {
  id: string;
  name: string;
  step: number | undefined;
  arguments: Json;
  purpose: string | undefined;
  state: ToolState;
  startedAt: string;
  durationMs: number | undefined;
  progress: number | undefined;
  note: string | undefined;
  result: Json;
  resultBytes: number | undefined;
  error: Pick<Failure, 'message'> & { code: string } | undefined;
  deniedBy: string | undefined;
}

export interface RunMessage {
  id: string;
  /** Who speaks: the run's own agent, or one that it has handed the conversation over to. */
  agent: string | undefined;
  text: string;
  complete: boolean;
  incomplete: boolean;
}

export interface Approval {
  id: string;
  toolCallId: string;
  arguments: Json;
  expiresAt: string;
  requestedAt: string;
  decision: 'approve' | 'deny' | undefined;
  by: string | undefined;
}

export interface Artifact {
  fileId: string;
  name: string;
  mediaType: string;
  bytes: number;
}

export interface Warning {
  limit: string;
  used: number;
  allowed: number;
}

export interface RunState {
  id: string;
  threadId: string;
  agent: string;
  status: RunStatus;
  attempt: number;
  lastSeq: number;
  queuePosition: number | undefined;
  queueReason: string | undefined;
  waitingReason: string | undefined;
  inputMessageId: string | undefined;
  deadline: string | undefined;
  createdAt: string;
  startedAt: string | undefined;
  durationMs: number | undefined;
  /** Keyed by our own id, as one agent may run several times in a run. */
  agents: Record<string, AgentNode>;
  /** Whose a step is, by the agent's name and the step's number. */
  takers: Record<string, string>;
  roots: string[];
  /** What belongs to the run itself and to no agent. */
  items: Item[];
  tools: Record<string, ToolCall>;
  messages: Record<string, RunMessage>;
  /** The messages to the user, in the order in which they began. */
  spoken: string[];
  approvals: Record<string, Approval>;
  artifacts: Artifact[];
  warnings: Warning[];
  result: Json | undefined;
  resultTruncated: boolean;
  error: Failure | undefined;
  usage: Partial<RunUsage> | undefined;
  /** Events of types that this page does not know. */
  skipped: number;
}

export function newRun(id: string, threadId: string, agent: string, createdAt: string): RunState {
  return {
    id,
    threadId,
    agent,
    status: 'queued',
    attempt: 1,
    lastSeq: 0,
    queuePosition: undefined,
    queueReason: undefined,
    waitingReason: undefined,
    inputMessageId: undefined,
    deadline: undefined,
    createdAt,
    startedAt: undefined,
    durationMs: undefined,
    agents: {},
    takers: {},
    roots: [],
    items: [],
    tools: {},
    messages: {},
    spoken: [],
    approvals: {},
    artifacts: [],
    warnings: [],
    result: undefined,
    resultTruncated: false,
    error: undefined,
    usage: undefined,
    skipped: 0,
  };
}

/** Takes over what a read of the run says, unless the events have already told more. */
export function mergeRun(state: RunState, run: Run): void {
  state.agent = run.agent;
  if (run.result !== undefined && run.result !== null) {
    state.result = json(run.result);
    state.resultTruncated = false;
  }
  if (run.usage) state.usage = { ...state.usage, ...run.usage };
  if (run.error) state.error = run.error;
  if (run.started_at) state.startedAt ??= run.started_at;
  if (hasEnded(state.status)) return;
  if (run.status === 'queued' && state.status === 'queued') state.queuePosition = run.queue_position ?? undefined;
  if (!hasEnded(run.status) && state.lastSeq > 0) return;
  state.status = run.status;
  state.attempt = run.attempt ?? state.attempt;
  state.queuePosition = run.queue_position ?? undefined;
  if (hasEnded(run.status)) state.durationMs ??= run.usage?.duration_ms;
}

/** Folds one event in. Returns false when it changed nothing: seen before, or of an unknown type. */
export function applyEvent(run: RunState, event: WireEvent): boolean {
  if (event.seq <= run.lastSeq) return false;
  run.lastSeq = event.seq;
  if (!isKnown(event)) {
    run.skipped += 1;
    return false;
  }
  fold(run, event);
  return true;
}

function fold(run: RunState, event: WireEvent): void {
  switch (event.type) {
    case 'run_queued':
      run.status = 'queued';
      run.queuePosition = event.data.queue_position;
      run.queueReason = event.data.reason;
      return;
    case 'run_started':
      return runStarted(run, event);
    case 'run_waiting':
      run.status = 'waiting';
      run.waitingReason = event.data.reason;
      return;
    case 'run_resumed':
      run.status = 'running';
      run.waitingReason = undefined;
      run.attempt = event.data.attempt ?? run.attempt;
      run.deadline = event.data.deadline ?? undefined;
      return;
    case 'agent_started':
      return agentStarted(run, event, event.data);
    case 'agent_completed':
      return agentCompleted(run, event, event.data);
    case 'agent_thinking':
      return agentThinking(run, event, event.data);
    case 'message_delta': {
      const message = messageOf(run, event, event.data.message_id);
      if (!message.complete) message.text += event.data.delta;
      return;
    }
    case 'message_completed': {
      const message = messageOf(run, event, event.data.message_id);
      message.text = textOf(event.data.content);
      message.complete = true;
      message.incomplete = event.data.incomplete ?? false;
      return;
    }
    case 'tool_executing':
    case 'tool_progress':
    case 'tool_completed':
    case 'tool_denied':
      return foldTool(run, event);
    case 'approval_requested':
      return approvalRequested(run, event, event.data);
    case 'approval_resolved': {
      const approval = run.approvals[event.data.approval_id];
      if (approval) {
        approval.decision = event.data.decision;
        approval.by = event.data.by;
      }
      return;
    }
    case 'artifact_created':
      return artifactCreated(run, event.data);
    case 'limit_warning': {
      const known = run.warnings.find((warning) => warning.limit === event.data.limit);
      if (known) Object.assign(known, event.data);
      else run.warnings.push({ ...event.data });
      return;
    }
    default:
      return runEnded(run, event);
  }
}

type Ending = Extract<WireEvent, { type: 'run_completed' | 'run_failed' | 'run_cancelled' | 'run_timed_out' }>;

function runStarted(run: RunState, event: Extract<WireEvent, { type: 'run_started' }>): void {
  run.status = 'running';
  run.agent = event.data.agent;
  run.attempt = event.data.attempt;
  run.deadline = event.data.deadline ?? undefined;
  run.inputMessageId = event.data.input_message_id;
  run.startedAt = event.ts;
  run.queuePosition = undefined;
  run.queueReason = undefined;
}

function runEnded(run: RunState, event: Ending): void {
  run.status = event.type.slice('run_'.length) as RunStatus;
  run.durationMs = event.data.duration_ms;
  run.queuePosition = undefined;
  run.waitingReason = undefined;
  if (event.data.usage) run.usage = event.data.usage;
  if (event.type === 'run_completed') {
    run.resultTruncated = event.data.result_truncated ?? false;
    // A truncated result stands in the run; one that has been read from there is not thrown away.
    if (!run.resultTruncated || run.result === undefined) run.result = json(event.data.result);
  } else if (event.data.error) {
    run.error = event.data.error;
  }
}

// ---- agents ---------------------------------------------------------------

function openAgents(run: RunState): AgentNode[] {
  return Object.values(run.agents).filter((node) => node.state === 'running');
}

/**
 * Who has started this agent: the one whose open tool call is of the step that the event names, else the parent of a
 * sibling that was started by the same step, else the innermost agent that is still at work.
 */
function parentOf(run: RunState, parentStep: number | undefined): AgentNode | undefined {
  const open = openAgents(run);
  if (parentStep !== undefined) {
    const owns = (item: Item): boolean => {
      const tool = item.kind === 'tool' ? run.tools[item.id] : undefined;
      return tool?.state === 'running' && tool.step === parentStep;
    };
    const caller = open.findLast((node) => node.items.some(owns));
    if (caller) return caller;
    const sibling = open.findLast((node) => node.parentStep === parentStep);
    if (sibling) return sibling.parent === undefined ? undefined : run.agents[sibling.parent];
  }
  return open.at(-1);
}

function agentStarted(run: RunState, event: WireEvent, data: EventData['agent_started']): void {
  const parentStep = data.parent_step ?? undefined;
  const parent = parentOf(run, parentStep);
  const id = `a${Object.keys(run.agents).length}`;
  run.agents[id] = {
    id,
    name: data.agent,
    task: data.task ?? null,
    parent: parent?.id,
    parentStep,
    step: event.step ?? undefined,
    state: 'running',
    startedAt: event.ts,
    durationMs: undefined,
    result: null,
    items: [],
  };
  take(run, event.step, run.agents[id]);
  if (parent) parent.items.push({ kind: 'agent', id });
  else {
    run.roots.push(id);
    run.items.push({ kind: 'agent', id });
  }
}

/** Begin and end of one agent have the same name and step. */
function agentCompleted(run: RunState, event: WireEvent, data: EventData['agent_completed']): void {
  const named = openAgents(run).filter((open) => open.name === data.agent);
  const node = event.step == null ? named.at(-1) : named.findLast((open) => open.step === event.step);
  if (!node) return;
  node.state = data.success ? 'completed' : 'failed';
  node.durationMs = data.duration_ms;
  node.result = json(data.result);
}

/** An agent has begun with this step, or has called a tool in it. */
function take(run: RunState, step: number | null | undefined, node: AgentNode | undefined): void {
  if (step != null && node) run.takers[`${node.name} ${step}`] = node.id;
}

/** The agent that an event belongs to: the one of that name whose step it is, else the innermost open one, else the last. */
function owner(run: RunState, { agent, step }: Acting): AgentNode | undefined {
  if (agent == null) return undefined;
  const named = Object.values(run.agents).filter((node) => node.name === agent);
  const taker = step == null ? undefined : run.agents[run.takers[`${agent} ${step}`] ?? ''];
  return taker ?? named.findLast((node) => node.state === 'running') ?? named.at(-1);
}

function add(run: RunState, event: Acting, item: Item): AgentNode | undefined {
  const node = owner(run, event);
  (node?.items ?? run.items).push(item);
  return node;
}

/** How far back a line that is told again is looked for: all of a long run would be looked through for each event. */
const LATEST = 20;

function agentThinking(run: RunState, event: WireEvent, data: EventData['agent_thinking']): void {
  const items = owner(run, event)?.items ?? run.items;
  // The same line told again with another number is one progress bar, not many lines.
  const same = (item: Item): boolean => item.kind === 'thought' && item.text === data.message && (item.progress ?? 1) < 1;
  const bar = data.progress != null ? items.slice(-LATEST).findLast(same) : undefined;
  if (bar?.kind === 'thought') {
    bar.progress = data.progress ?? undefined;
    return;
  }
  items.push({ kind: 'thought', id: event.event_id, text: data.message, progress: data.progress ?? undefined });
}

// ---- messages, tools, the rest ---------------------------------------------

/** Only who speaks to the user sends messages, so all of them are the answer, however deep a conversation was handed over. */
function messageOf(run: RunState, { agent }: WireEvent, id: string): RunMessage {
  const known = run.messages[id];
  if (known) return known;
  run.messages[id] = { id, agent: agent ?? undefined, text: '', complete: false, incomplete: false };
  run.spoken.push(id);
  // Read back, because a proxy hands out another object than the one that was put in.
  return run.messages[id] as RunMessage;
}

type ToolEvent = Extract<WireEvent, { type: 'tool_executing' | 'tool_progress' | 'tool_completed' | 'tool_denied' }>;

function toolOf(run: RunState, event: ToolEvent): ToolCall {
  const id = event.data.tool_call_id;
  const known = run.tools[id];
  if (known) return known;
  run.tools[id] = {
    id,
    name: 'tool_name' in event.data ? event.data.tool_name : '',
    step: event.step ?? undefined,
    arguments: null,
    purpose: undefined,
    state: 'running',
    startedAt: event.ts,
    durationMs: undefined,
    progress: undefined,
    note: undefined,
    result: null,
    resultBytes: undefined,
    error: undefined,
    deniedBy: undefined,
  };
  take(run, event.step, add(run, event, { kind: 'tool', id }));
  return run.tools[id] as ToolCall;
}

function foldTool(run: RunState, event: ToolEvent): void {
  const tool = toolOf(run, event);
  switch (event.type) {
    case 'tool_executing':
      tool.name = event.data.tool_name;
      tool.arguments = json(event.data.arguments);
      tool.purpose = event.data.purpose ?? undefined;
      return;
    case 'tool_progress':
      if (event.data.progress != null) tool.progress = event.data.progress;
      if (event.data.message != null) tool.note = event.data.message;
      return;
    case 'tool_completed':
      tool.name = event.data.tool_name;
      tool.state = event.data.success ? 'completed' : 'failed';
      tool.durationMs = event.data.duration_ms;
      tool.result = json(event.data.result);
      tool.resultBytes = event.data.result_bytes;
      tool.error = event.data.error ?? undefined;
      tool.progress = undefined;
      return;
    case 'tool_denied':
      tool.name = event.data.tool_name;
      tool.state = 'denied';
      tool.deniedBy = event.data.layer;
      tool.error = { code: 'denied', message: event.data.reason };
  }
}

function approvalRequested(run: RunState, event: WireEvent, data: EventData['approval_requested']): void {
  run.approvals[data.approval_id] = {
    id: data.approval_id,
    toolCallId: data.tool_call_id,
    arguments: json(data.arguments),
    expiresAt: data.expires_at,
    requestedAt: event.ts,
    decision: undefined,
    by: undefined,
  };
  add(run, event, { kind: 'approval', id: data.approval_id });
}

function artifactCreated(run: RunState, data: EventData['artifact_created']): void {
  if (run.artifacts.some((artifact) => artifact.fileId === data.file_id)) return;
  run.artifacts.push({ fileId: data.file_id, name: data.name, mediaType: data.media_type, bytes: data.bytes });
}

/** What was said to the user, in the order in which it began. */
export function answers(run: RunState): RunMessage[] {
  return run.spoken.flatMap((id) => run.messages[id] ?? []);
}
