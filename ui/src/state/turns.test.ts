// Messages and runs as turns.

import { expect, it } from 'vitest';
import type { Message } from '../../client';
import { turnsOf } from './turns';

function message(id: string, role: Message['role'], text: string, run_id: string | null, extra: Partial<Message> = {}): Message {
  return { id, thread_id: 'thr_1', run_id, role, content: [{ type: 'text', text }], complete: true, created_at: `2026-01-01T00:00:0${id.at(-1)}Z`, ...extra };
}

it('puts question, run and replies together, whatever the order of the list', () => {
  const turns = turnsOf(
    [
      message('msg_4', 'assistant', 'B', 'run_2'),
      message('msg_1', 'user', 'a?', 'run_1', { content: [{ type: 'text', text: 'a?' }, { type: 'file', file_id: 'fil_1', name: 'x.csv', media_type: 'text/csv', bytes: 3 }] }),
      message('msg_2', 'assistant', 'A', 'run_1', { agent: 'echo' }),
      message('msg_3', 'user', 'b?', null),
    ],
    [],
  );
  expect(turns.map(({ runId, question, replies }) => [runId, question?.text, replies.map((reply) => reply.text)])).toEqual([
    ['run_1', 'a?', ['A']],
    ['run_2', 'b?', ['B']],
  ]);
  expect(turns[0]?.question?.files).toEqual([{ id: 'fil_1', name: 'x.csv', bytes: 3 }]);
});

it('shows runs without a message at their time, and leaves tool messages to the steps', () => {
  const turns = turnsOf(
    [message('msg_1', 'user', 'a?', 'run_1'), message('msg_2', 'tool', '{}', 'run_1')],
    [{ id: 'run_2', created_at: '2026-01-01T00:00:05Z' }, { id: 'run_1', created_at: '2026-01-01T00:00:01Z' }],
  );
  expect(turns.map((turn) => [turn.runId, turn.replies.length])).toEqual([['run_1', 0], ['run_2', 0]]);
});
