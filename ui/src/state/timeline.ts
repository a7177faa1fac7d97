// Lays the events of one run out in time: who was at work when, on what, and how long it waited.

import { isKnown, isTerminal, type WireEvent } from '../../client';

export type SpanKind = 'queue' | 'run' | 'agent' | 'model' | 'tool' | 'wait' | 'approval';

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

interface Fold {
  line: Timeline;
  byId: Map<string, Span>;
  agents: Span[];
  /** The text that is being written, by agent. */
  queue: Span | undefined;
  wait: Span | undefined;
}

/**
 * The contract has no event for a call of a model. What it has are the words that a model writes: from the first piece
 * of a message to its end, which is what `model` spans show.
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
    const { line } = this.fold;
    return { ...line, spans: line.spans.map((span) => ({ ...span })) };
  }
}

export function timelineOf(events: WireEvent[]): Timeline {
  const fold = new TimelineFold();
  for (const event of events) fold.add(event);
  return fold.now;
}

function begin(fold: Fold, span: Omit<Span, 'to' | 'state' | 'note'> & { note?: string | undefined }): Span {
  const begun: Span = { note: undefined, ...span, to: undefined, state: 'open' };
  fold.line.spans.push(begun);
  fold.byId.set(begun.id, begun);
  return begun;
}

function end(span: Span | undefined, at: number, state: Span['state'] = 'good', note?: string): void {
  if (!span || span.to !== undefined) return;
  span.to = at;
  span.state = state;
  if (note) span.note = note;
}

function depthOf(fold: Fold, agent: string | null | undefined): number {
  const open = fold.agents.filter((span) => span.to === undefined);
  return (open.findLast((span) => span.label === agent) ?? open.at(-1))?.depth ?? 0;
}

function take(fold: Fold, event: WireEvent, at: number): void {
  switch (event.type) {
    case 'run_queued':
      fold.queue ??= begin(fold, { id: `queue${event.seq}`, kind: 'queue', label: event.data.reason, depth: 0, from: at, seq: event.seq });
      return;
    case 'run_started':
      leaveQueue(fold, at);
      begin(fold, { id: 'run', kind: 'run', label: event.data.agent, depth: 0, from: at, seq: event.seq });
      return;
    case 'run_waiting':
      fold.wait = begin(fold, { id: `wait${event.seq}`, kind: 'wait', label: event.data.reason, depth: 0, from: at, seq: event.seq });
      return;
    case 'run_resumed':
      leaveQueue(fold, at);
      end(fold.wait, at);
      fold.wait = undefined;
      return;
    case 'agent_started': {
      const open = fold.agents.filter((span) => span.to === undefined);
      const depth = (open.at(-1)?.depth ?? 0) + 1;
      const id = `agent${event.seq}`;
      fold.agents.push(begin(fold, { id, kind: 'agent', label: event.data.agent, depth, from: at, seq: event.seq, note: event.data.task }));
      return;
    }
    case 'agent_completed': {
      const span = fold.agents.findLast((open) => open.to === undefined && open.label === event.data.agent);
      return end(span, at, event.data.success ? 'good' : 'bad');
    }
    default:
      return takeWork(fold, event, at);
  }
}

function leaveQueue(fold: Fold, at: number): void {
  end(fold.queue, at);
  fold.queue = undefined;
}

function takeWork(fold: Fold, event: WireEvent, at: number): void {
  const { seq } = event;
  const depth = depthOf(fold, event.agent) + 1;
  switch (event.type) {
    case 'message_delta':
      if (fold.byId.has(event.data.message_id)) return;
      begin(fold, { id: event.data.message_id, kind: 'model', label: event.agent ?? '', depth, from: at, seq });
      return;
    case 'message_completed':
      // Folded away deltas leave a message that was there at once.
      if (!fold.byId.has(event.data.message_id)) {
        begin(fold, { id: event.data.message_id, kind: 'model', label: event.agent ?? '', depth, from: at, seq });
      }
      return end(fold.byId.get(event.data.message_id), at, event.data.incomplete ? 'bad' : 'good');
    case 'tool_executing':
      begin(fold, { id: event.data.tool_call_id, kind: 'tool', label: event.data.tool_name, depth, from: at, seq, note: event.data.purpose ?? undefined });
      return;
    case 'tool_completed':
      return end(fold.byId.get(event.data.tool_call_id), at, event.data.success ? 'good' : 'bad', event.data.error?.message);
    case 'tool_denied': {
      const span = begin(fold, { id: `${event.data.tool_call_id}!`, kind: 'tool', label: event.data.tool_name, depth, from: at, seq });
      return end(span, at, 'refused', event.data.reason);
    }
    case 'approval_requested':
      begin(fold, { id: event.data.approval_id, kind: 'approval', label: '', depth, from: at, seq });
      return;
    case 'approval_resolved':
      return end(fold.byId.get(event.data.approval_id), at, event.data.decision === 'approve' ? 'good' : 'refused', event.data.by);
    default:
      if (isTerminal(event.type)) closeAll(fold, event, at);
  }
}

function closeAll(fold: Fold, event: WireEvent, at: number): void {
  const good = event.type === 'run_completed';
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
