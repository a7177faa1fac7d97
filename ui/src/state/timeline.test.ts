// Events laid out in time.

import { expect, it } from 'vitest';
import { script } from './events.fixture';
import { ticks, timelineOf, type Span } from './timeline';

const found = (spans: Span[], kind: string): Span | undefined => spans.find((span) => span.kind === kind);

it('has a span for each wait: in the queue, for a person, for an answer', () => {
  const s = script();
  const { spans, length } = timelineOf([
    s.event('run_queued', { queue_position: 1, reason: 'slots' }),
    s.event('run_started', { agent: 'mailer', attempt: 1 }),
    s.event('agent_started', { agent: 'mailer', task: '' }),
    s.event('approval_requested', { approval_id: 'apr_1', tool_call_id: 't1' }, 'mailer', 1),
    s.event('run_waiting', { reason: 'approval' }),
    s.event('approval_resolved', { approval_id: 'apr_1', decision: 'deny', by: 'usr_1' }),
    s.event('run_resumed', { reason: 'approval', attempt: 1 }),
    s.event('tool_denied', { tool_call_id: 't1', tool_name: 'send', layer: 'approval', reason: 'not to her' }, 'mailer', 1),
    s.event('agent_completed', { agent: 'mailer', success: true, duration_ms: 1 }, 'mailer'),
    s.event('run_completed', { result: 1, duration_ms: 8_000 }),
  ]);
  expect(length).toBe(9_000);
  expect(found(spans, 'queue')).toMatchObject({ from: 0, to: 1_000 });
  expect(found(spans, 'wait')).toMatchObject({ from: 4_000, to: 6_000 });
  expect(found(spans, 'approval')).toMatchObject({ from: 3_000, to: 5_000, state: 'refused' });
  expect(found(spans, 'tool')).toMatchObject({ label: 'send', state: 'refused', note: 'not to her' });
  expect(found(spans, 'run')).toMatchObject({ from: 1_000, to: 9_000, state: 'good' });
});

it('nests agents, and closes what a cancel leaves open', () => {
  const s = script();
  const { spans, ended } = timelineOf([
    s.event('run_started', { agent: 'a' }),
    s.event('agent_started', { agent: 'a', task: '' }),
    s.event('agent_started', { agent: 'b', task: '', parent_step: 1 }),
    s.event('tool_executing', { tool_call_id: 't', tool_name: 'query' }, 'b', 2),
    s.event('message_delta', { message_id: 'm', delta: 'x' }, 'a', 1),
    s.event('run_cancelled', { duration_ms: 1 }),
  ]);
  expect(ended).toBe(true);
  expect(spans.map(({ kind, label, depth }) => `${depth} ${kind} ${label}`)).toEqual(['0 run a', '1 agent a', '2 agent b', '3 tool query', '2 model a']);
  expect(spans.every((span) => span.to !== undefined && span.state === 'bad')).toBe(true);
});

it('goes on while the run does', () => {
  const s = script();
  const { spans, ended } = timelineOf([s.event('run_started', { agent: 'a' }), s.event('agent_started', { agent: 'a', task: '' })]);
  expect(ended).toBe(false);
  expect(spans.every((span) => span.to === undefined && span.state === 'open')).toBe(true);
});

it('has round steps on its axis', () => {
  expect(ticks(1_000)).toEqual([0, 200, 400, 600, 800, 1_000]);
  expect(ticks(0)).toEqual([0]);
  expect(ticks(7_300).length).toBeLessThan(10);
});
