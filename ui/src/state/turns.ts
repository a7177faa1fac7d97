// Puts a thread's messages and runs together as turns: what was asked, the run that answered, and what it said.

import { textOf, type Message, type Run } from '../../client';
import { answers, type RunState } from './reducer';

export interface AttachedFile {
  id: string;
  name: string | undefined;
  bytes?: number | undefined;
}

export interface Turn {
  key: string;
  runId: string | undefined;
  question: { text: string; files: AttachedFile[]; at: string; messageId?: string | undefined } | undefined;
  /** What the thread has stored of the assistant's messages, shown when the run's own events are not at hand. */
  replies: { id: string; agent: string | undefined; text: string; complete: boolean }[];
}

function filesOf(message: Message): AttachedFile[] {
  return message.content.flatMap((part) => (part.type === 'file' ? [{ id: part.file_id, name: part.name, bytes: part.bytes }] : []));
}

/** Runs that no message speaks of (still queued, or started anew) become turns of their own, in order of time. */
export function turnsOf(messages: Message[], runs: Pick<Run, 'id' | 'created_at'>[]): Turn[] {
  const dated: { at: string; turn: Turn }[] = [];
  const byRun = new Map<string, Turn>();
  const ordered = [...messages].sort((a, b) => compare(a.created_at, b.created_at) || compare(a.id, b.id));
  let last: Turn | undefined;
  for (const message of ordered) {
    const runId = message.run_id ?? undefined;
    if (message.role === 'user') {
      const question = { text: textOf(message.content), files: filesOf(message), at: message.created_at, messageId: message.id };
      last = { key: message.id, runId, question, replies: [] };
      dated.push({ at: message.created_at, turn: last });
      if (runId) byRun.set(runId, last);
      continue;
    }
    if (message.role !== 'assistant') continue;
    let turn: Turn | undefined = runId ? byRun.get(runId) : last;
    if (!turn && last && runId && (last.runId === undefined)) {
      // The question was stored before its run was known.
      last.runId = runId;
      byRun.set(runId, last);
      turn = last;
    }
    if (!turn) {
      turn = { key: message.id, runId, question: undefined, replies: [] };
      dated.push({ at: message.created_at, turn });
      if (runId) byRun.set(runId, turn);
    }
    turn.replies.push({
      id: message.id,
      agent: message.agent ?? undefined,
      text: textOf(message.content),
      complete: message.complete,
    });
  }
  for (const run of runs) {
    if (byRun.has(run.id)) continue;
    dated.push({ at: run.created_at, turn: { key: run.id, runId: run.id, question: undefined, replies: [] } });
  }
  return dated.sort((a, b) => compare(a.at, b.at)).map(({ turn }) => turn);
}

/** The last message of a turn that the thread has stored: a fork takes everything up to it along. */
export function lastMessageOf(turn: Turn, run: RunState | undefined): string | undefined {
  const spoken = run ? answers(run).filter((message) => message.complete && !message.incomplete) : [];
  const replies = turn.replies.filter((reply) => reply.complete);
  return spoken.at(-1)?.id ?? replies.at(-1)?.id ?? turn.question?.messageId ?? run?.inputMessageId;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
