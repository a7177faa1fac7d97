// Lays the events of one run out in time: who was at work when, on what, and how long it waited.

import { isKnown, isTerminal, type WireEvent } from '../../client';

export type SpanKind = 'queue' | 'run' | 'agent' | 'thought' | 'model' | 'tool' | 'wait' | 'approval';

export interface Span {
  id: string;
  kind: SpanKind;
  label: string;
  /** How deep it is nested among the agents. */
  depth: number;
  /** Milliseconds since the run's first event. */
  from: number;
  /** Undefined while it goes on. */
  to: number | undefined;
  state: 'open' | 'good' | 'bad' | 'refused';
  note: string | undefined;
  /** The event that began it. */
  seq: number;
}

export interface Timeline {
  /** When the run's first event happened. */
  start: number;
  /** Milliseconds from there to its last event. */
  length: number;
  spans: Span[];
  ended: boolean;
}

/** An agent at work. */
interface Work {
  span: Span;
  /** The step of its caller. Agents that one step has called work side by side. */
  calledIn: number | undefined;
  caller: Work | undefined;
  /** How much of what it has begun goes on: tools, questions, messages, other agents. */
  begun: number;
  /** Since when nothing of it goes on that an event tells of, and that event. */
  idle: { at: number; seq: number } | undefined;
}

interface Fold {
  line: Timeline;
  byId: Map<string, { span: Span; work: Work | undefined }>;
  agents: Work[];
  queue: Span | undefined;
  wait: Span | undefined;
}

/**
 * The contract has no event for a call of a model. What it has are the words that a model writes: from the first piece
 * of a message to its end, which is what `model` spans show. `thought` spans are derived: the time in which an agent is at
 * work and nothing that it has begun is, so that it computes by itself or waits for its model.
 */
export class TimelineFold {
  private readonly fold: Fold;

  constructor() {
    const line: Timeline = { start: 0, length: 0, spans: [], ended: false };
    this.fold = { line, byId: new Map(), agents: [], queue: undefined, wait: undefined };
  }

  add(event: WireEvent): void {
    const { line } = this.fold;
    const ts = Date.parse(event.ts);
    if (line.start === 0) line.start = ts;
    if (!isKnown(event)) return;
    const at = Math.max(0, ts - line.start);
    line.length = Math.max(line.length, at);
    take(this.fold, event, at);
  }

  /** As it is now: what is added later changes nothing of it. */
  get now(): Timeline {
    const { line, agents } = this.fold;
    const thoughts = agents.filter(({ span }) => span.to === undefined).flatMap((work) => thoughtOf(work) ?? []);
    return { ...line, spans: [...line.spans.map((span) => ({ ...span })), ...thoughts] };
  }
}

export function timelineOf(events: WireEvent[]): Timeline {
  const fold = new TimelineFold();
  for (const event of events) fold.add(event);
  return fold.now;
}

type Begun = Omit<Span, 'to' | 'state' | 'note' | 'depth'> & { note?: string | undefined };

/** A span of the run itself, or of the agent that has begun it. */
function begin(fold: Fold, begun: Begun, work?: Work): Span {
  pause(fold, work, begun.from);
  const depth = work ? work.span.depth + 1 : 0;
  const span: Span = { note: undefined, ...begun, depth, to: undefined, state: 'open' };
  fold.line.spans.push(span);
  fold.byId.set(span.id, { span, work });
  return span;
}

function end(span: Span | undefined, at: number, state: Span['state'] = 'good', note?: string): void {
  if (!span || span.to !== undefined) return;
  span.to = at;
  span.state = state;
  if (note) span.note = note;
}

/** Ends what an agent has begun. */
function endById(fold: Fold, id: string, event: WireEvent, at: number, state: Span['state'], note?: string): void {
  const found = fold.byId.get(id);
  if (!found || found.span.to !== undefined) return;
  end(found.span, at, state, note);
  resume(fold, found.work, at, event.seq);
}

/** Something that the agent has begun goes on: what it does by itself is over. */
function pause(fold: Fold, work: Work | undefined, at: number): void {
  if (!work) return;
  work.begun += 1;
  closeThought(fold, work, at);
}

function resume(fold: Fold, work: Work | undefined, at: number, seq: number): void {
  if (!work) return;
  work.begun -= 1;
  // While the run waits for a person or for its turn there is nobody who could think.
  if (work.begun === 0 && work.span.to === undefined && !fold.wait && !fold.queue) work.idle = { at, seq };
}

function thoughtOf({ span, idle }: Work): Span | undefined {
  if (!idle) return undefined;
  const { label, depth } = span;
  return { id: `thought${idle.seq}${span.id}`, kind: 'thought', label, depth: depth + 1, from: idle.at, to: undefined, state: 'open', note: undefined, seq: idle.seq };
}

function closeThought(fold: Fold, work: Work, at: number): void {
  const span = thoughtOf(work);
  work.idle = undefined;
  if (!span || at <= span.from) return;
  end(span, at);
  fold.line.spans.push(span);
}

function openAgents(fold: Fold): Work[] {
  return fold.agents.filter(({ span }) => span.to === undefined);
}

/** Who acts in an event: the agent of that name, or the innermost one that is at work. */
function actor(fold: Fold, agent: string | null | undefined): Work | undefined {
  const open = openAgents(fold);
  return open.findLast(({ span }) => span.label === agent) ?? open.at(-1);
}

function take(fold: Fold, event: WireEvent, at: number): void {
  const { seq } = event;
  switch (event.type) {
    case 'run_queued':
      fold.queue ??= begin(fold, { id: `queue${seq}`, kind: 'queue', label: event.data.reason, from: at, seq });
      return;
    case 'run_started':
      leaveQueue(fold, at);
      begin(fold, { id: 'run', kind: 'run', label: event.data.agent, from: at, seq });
      return;
    case 'run_waiting':
      fold.wait = begin(fold, { id: `wait${seq}`, kind: 'wait', label: event.data.reason, from: at, seq });
      return;
    case 'run_resumed':
      leaveQueue(fold, at);
      end(fold.wait, at);
      fold.wait = undefined;
      for (const work of openAgents(fold)) if (work.begun === 0) work.idle ??= { at, seq };
      return;
    case 'agent_started':
      return agentStarted(fold, event, at);
    case 'agent_completed': {
      const work = openAgents(fold).findLast(({ span }) => span.label === event.data.agent);
      if (!work) return;
      closeThought(fold, work, at);
      end(work.span, at, event.data.success ? 'good' : 'bad');
      return resume(fold, work.caller, at, seq);
    }
    default:
      return takeWork(fold, event, at);
  }
}

function leaveQueue(fold: Fold, at: number): void {
  end(fold.queue, at);
  fold.queue = undefined;
}

function agentStarted(fold: Fold, event: Extract<WireEvent, { type: 'agent_started' }>, at: number): void {
  const calledIn = event.data.parent_step ?? undefined;
  const open = openAgents(fold);
  const beside = calledIn === undefined ? undefined : open.findLast((work) => work.calledIn === calledIn);
  const caller = beside ? beside.caller : open.at(-1);
  const { seq } = event;
  pause(fold, caller, at);
  const depth = (caller?.span.depth ?? 0) + 1;
  const span: Span = { id: `agent${seq}`, kind: 'agent', label: event.data.agent, depth, from: at, to: undefined, state: 'open', note: event.data.task, seq };
  fold.line.spans.push(span);
  fold.agents.push({ span, calledIn, caller, begun: 0, idle: { at, seq } });
}

function takeWork(fold: Fold, event: WireEvent, at: number): void {
  const { seq } = event;
  const work = actor(fold, event.agent);
  switch (event.type) {
    case 'message_delta':
      if (fold.byId.has(event.data.message_id)) return;
      begin(fold, { id: event.data.message_id, kind: 'model', label: event.agent ?? '', from: at, seq }, work);
      return;
    case 'message_completed':
      // Folded away deltas leave a message that was there at once.
      if (!fold.byId.has(event.data.message_id)) {
        begin(fold, { id: event.data.message_id, kind: 'model', label: event.agent ?? '', from: at, seq }, work);
      }
      return endById(fold, event.data.message_id, event, at, event.data.incomplete ? 'bad' : 'good');
    case 'tool_executing':
      begin(fold, { id: event.data.tool_call_id, kind: 'tool', label: event.data.tool_name, from: at, seq, note: event.data.purpose ?? undefined }, work);
      return;
    case 'tool_completed':
      return endById(fold, event.data.tool_call_id, event, at, event.data.success ? 'good' : 'bad', event.data.error?.message);
    case 'tool_denied': {
      const id = `${event.data.tool_call_id}!`;
      begin(fold, { id, kind: 'tool', label: event.data.tool_name, from: at, seq }, work);
      return endById(fold, id, event, at, 'refused', event.data.reason);
    }
    case 'approval_requested':
      begin(fold, { id: event.data.approval_id, kind: 'approval', label: '', from: at, seq }, work);
      return;
    case 'approval_resolved':
      return endById(fold, event.data.approval_id, event, at, event.data.decision === 'approve' ? 'good' : 'refused', event.data.by);
    default:
      if (isTerminal(event.type)) closeAll(fold, event, at);
  }
}

function closeAll(fold: Fold, event: WireEvent, at: number): void {
  const good = event.type === 'run_completed';
  for (const work of openAgents(fold)) closeThought(fold, work, at);
  for (const span of fold.line.spans) end(span, at, good || span.kind === 'queue' ? 'good' : 'bad');
  fold.line.ended = true;
}

/** Round steps for the axis: about `wanted` of them in this length. */
export function ticks(lengthMs: number, wanted = 6): number[] {
  if (lengthMs <= 0) return [0];
  const rough = lengthMs / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough) ?? rough;
  return Array.from({ length: Math.floor(lengthMs / step) + 1 }, (_, index) => index * step);
}
