// What the list of events says of each in a few words, and by which kinds it can be filtered.

import { isKnown, textOf, type WireEvent } from '../../client';
import { argumentLine, oneLine } from '../format';

export const KINDS = ['run', 'agent', 'message', 'tool', 'approval', 'other'] as const;
export type EventKind = (typeof KINDS)[number];

/** There are few types, and events by the ten thousand. */
const kinds = new Map<string, EventKind>();

/** What does not say by its first word where it belongs. */
const ELSEWHERE: Record<string, EventKind> = { limit_warning: 'run', artifact_created: 'tool' };

export function kindOf({ type }: { type: string }): EventKind {
  const known = kinds.get(type);
  if (known) return known;
  const kind = ELSEWHERE[type] ?? KINDS.find((one) => type.startsWith(`${one}_`)) ?? 'other';
  kinds.set(type, kind);
  return kind;
}

/** The event's own words; of one that this page does not know, its data. */
export function gist(event: WireEvent): string {
  if (!isKnown(event)) return oneLine((event as { data: unknown }).data);
  switch (event.type) {
    case 'agent_thinking':
      return event.data.message;
    case 'agent_started':
      return oneLine(event.data.task);
    case 'message_delta':
      return oneLine(event.data.delta);
    case 'message_completed':
      return oneLine(textOf(event.data.content));
    case 'tool_executing':
      return `${event.data.tool_name} ${argumentLine(event.data.arguments)}`;
    case 'tool_progress':
      return `${event.data.message ?? ''} ${event.data.progress == null ? '' : `${Math.round(100 * event.data.progress)} %`}`.trim();
    case 'agent_completed':
      return oneLine(event.data.result);
    case 'tool_completed':
      return `${event.data.tool_name} ${event.data.error ? event.data.error.message : oneLine(event.data.result)}`;
    case 'tool_denied':
      return `${event.data.tool_name} ${event.data.layer}: ${event.data.reason}`;
    case 'artifact_created':
      return event.data.name;
    case 'run_failed':
    case 'run_timed_out':
    case 'run_cancelled':
      return `${event.data.error?.code ?? ''} ${event.data.error?.message ?? ''}`;
    default:
      return argumentLine(event.data);
  }
}
