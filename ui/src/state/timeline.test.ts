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
  expect(spans.map(({ kind, label, depth }) => `${depth} ${kind} ${label}`)).toEqual(['0 run a', '1 agent a', '2 thought a', '2 agent b', '3 thought b', '3 tool query', '2 model a']);
  expect(spans.filter(({ kind }) => kind !== 'thought').every((span) => span.to !== undefined && span.state === 'bad')).toBe(true);
});

it('shows the time in which a model only decides on its tools', () => {
  const s = script();
  const { spans } = timelineOf([
    s.event('run_started', { agent: 'a' }),
    s.event('agent_started', { agent: 'a', task: '' }, 'a', 1),
    s.event('agent_thinking', { message: 'It is long.' }, 'a', 1),
    s.event('tool_executing', { tool_call_id: 't', tool_name: 'query' }, 'a', 1),
    s.event('tool_completed', { tool_call_id: 't', tool_name: 'query', success: true, duration_ms: 1 }, 'a', 1),
    s.event('agent_started', { agent: 'b', task: '', parent_step: 2 }, 'b', 3),
    s.event('agent_started', { agent: 'c', task: '', parent_step: 2 }, 'c', 4),
    s.event('agent_completed', { agent: 'c', success: true, duration_ms: 1 }, 'c', 4),
    s.event('agent_completed', { agent: 'b', success: true, duration_ms: 1 }, 'b', 3),
    s.event('message_completed', { message_id: 'm', role: 'assistant', content: [] }, 'a', 5),
    s.event('agent_completed', { agent: 'a', success: true, duration_ms: 1 }, 'a', 1),
    s.event('run_completed', { result: 1, duration_ms: 1 }),
  ]);
  const thoughts = spans.filter(({ kind }) => kind === 'thought');
  expect(thoughts.map(({ label, depth, from, to }) => [label, depth, from, to])).toEqual([
    ['a', 2, 1_000, 3_000],
    ['a', 2, 4_000, 5_000],
    ['c', 3, 6_000, 7_000],
    ['b', 3, 5_000, 8_000],
    ['a', 2, 8_000, 9_000],
    ['a', 2, 9_000, 10_000],
  ]);
});

it('lets nobody think while the run waits for a person or for its turn', () => {
  const s = script();
  const { spans } = timelineOf([
    s.event('run_started', { agent: 'a' }),
    s.event('agent_started', { agent: 'a', task: '' }, 'a', 1),
    s.event('approval_requested', { approval_id: 'apr', tool_call_id: 't' }, 'a', 1),
    s.event('run_waiting', { reason: 'approval' }),
    s.event('approval_resolved', { approval_id: 'apr', decision: 'approve', by: 'usr_1' }),
    s.event('run_queued', { queue_position: 1, reason: 'slots' }),
    s.event('run_resumed', { reason: 'approval', attempt: 1 }),
    s.event('tool_executing', { tool_call_id: 't', tool_name: 'send' }, 'a', 1),
  ]);
  const thoughts = spans.filter(({ kind }) => kind === 'thought');
  expect(thoughts.map(({ from, to }) => [from, to])).toEqual([[1_000, 2_000], [6_000, 7_000]]);
});

it('goes on while the run does', () => {
  const s = script();
  const { spans, ended } = timelineOf([s.event('run_started', { agent: 'a' }), s.event('agent_started', { agent: 'a', task: '' })]);
  expect(ended).toBe(false);
  expect(spans.map(({ kind }) => kind)).toEqual(['run', 'agent', 'thought']);
  expect(spans.every((span) => span.to === undefined && span.state === 'open')).toBe(true);
});

it('has round steps on its axis', () => {
  expect(ticks(1_000)).toEqual([0, 200, 400, 600, 800, 1_000]);
  expect(ticks(0)).toEqual([0]);
  expect(ticks(7_300).length).toBeLessThan(10);
});
