// The fold of a run's events, on sequences as the contract allows them.

import { describe, expect, it } from 'vitest';
import type { Content, Run, WireEvent } from '../../client';
import { script, type Script } from './events.fixture';
import { answers, applyEvent, mergeRun, newRun, type RunState } from './reducer';

function folded(events: WireEvent[]): RunState {
  const run = newRun('run_1', 'thr_1', 'optimizer', '2026-11-22T18:00:00.000000Z');
  for (const event of events) applyEvent(run, event);
  return run;
}

function started(s: Script): WireEvent[] {
  return [
    s.event('run_started', { agent: 'optimizer', attempt: 1, input_message_id: 'msg_0' }),
    s.event('agent_started', { agent: 'optimizer', task: 'why?' }, 'optimizer', 0),
  ];
}

const usage = { input_tokens: 10, output_tokens: 4, tool_calls: 1, model_calls: 1, cost_usd: null, duration_ms: 1, peak_memory_bytes: null };

describe('a run from queue to end', () => {
  it('goes through queued and running to completed, with its result and usage', () => {
    const s = script();
    const run = folded([s.event('run_queued', { queue_position: 3, reason: 'slots' })]);
    expect(run).toMatchObject({ status: 'queued', queuePosition: 3, queueReason: 'slots' });

    for (const event of started(s)) applyEvent(run, event);
    expect(run).toMatchObject({ status: 'running', queuePosition: undefined, inputMessageId: 'msg_0' });

    applyEvent(run, s.event('agent_completed', { agent: 'optimizer', success: true, duration_ms: 5, result: 1 }, 'optimizer'));
    applyEvent(run, s.event('run_completed', { result: { text: 'x' }, usage, duration_ms: 7 }));
    expect(run).toMatchObject({ status: 'completed', result: { text: 'x' }, usage, durationMs: 7, error: undefined });
    expect(run.agents['a0']).toMatchObject({ state: 'completed', durationMs: 5 });
  });

  it('keeps the reason of a failure', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('agent_completed', { agent: 'optimizer', success: false, duration_ms: 5, result: null }, 'optimizer'),
      s.event('run_failed', { error: { code: 'budget_exceeded', message: '0.10 USD' }, usage, duration_ms: 9 }),
    ]);
    expect(run).toMatchObject({ status: 'failed', error: { code: 'budget_exceeded', message: '0.10 USD' }, durationMs: 9 });
    expect(run.agents['a0']?.state).toBe('failed');
  });

  it('ends as cancelled or timed out, with open tools closed by their events', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('tool_executing', { tool_call_id: 't1', tool_name: 'query', arguments: { sql: 'select 1' } }, 'optimizer', 1),
      s.event('tool_completed', { tool_call_id: 't1', tool_name: 'query', success: false, duration_ms: 2, result: null, error: { code: 'cancelled', message: '' } }, 'optimizer', 1),
      s.event('run_cancelled', { usage, duration_ms: 3 }),
    ]);
    expect(run.status).toBe('cancelled');
    expect(run.tools['t1']).toMatchObject({ state: 'failed', error: { code: 'cancelled' } });

    const t = script();
    const late = folded([...started(t), t.event('run_timed_out', { error: { code: 'deadline_exceeded', message: '' }, duration_ms: 3 })]);
    expect(late).toMatchObject({ status: 'timed_out', error: { code: 'deadline_exceeded' } });
  });

  it('waits for a person and goes on, with a later attempt after a crash', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('tool_executing', { tool_call_id: 't1', tool_name: 'send', arguments: {} }, 'optimizer', 1),
      s.event('approval_requested', { approval_id: 'apr_1', tool_call_id: 't1', arguments: { to: 'x' }, expires_at: 'later' }, 'optimizer', 1),
      s.event('run_waiting', { reason: 'approval' }),
    ]);
    expect(run).toMatchObject({ status: 'waiting', waitingReason: 'approval' });
    expect(run.approvals['apr_1']?.decision).toBeUndefined();
    applyEvent(run, s.event('approval_resolved', { approval_id: 'apr_1', decision: 'approve', by: 'usr_1' }));
    applyEvent(run, s.event('run_resumed', { reason: 'crash', attempt: 2 }));
    expect(run).toMatchObject({ status: 'running', attempt: 2, waitingReason: undefined });
    expect(run.approvals['apr_1']).toMatchObject({ decision: 'approve', by: 'usr_1' });
  });
});

describe('messages', () => {
  const parts = (text: string): Content[] => [{ type: 'text', text }];

  it('grow by deltas and are replaced by what was completed', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('message_delta', { message_id: 'm1', delta: 'Hel' }, 'optimizer', 1),
      s.event('message_delta', { message_id: 'm1', delta: 'lo' }, 'optimizer', 1),
    ]);
    expect(run.messages['m1']).toMatchObject({ text: 'Hello', complete: false });
    applyEvent(run, s.event('message_completed', { message_id: 'm1', role: 'assistant', content: parts('Hello.') }, 'optimizer', 1));
    applyEvent(run, s.event('message_delta', { message_id: 'm1', delta: ' late' }, 'optimizer', 1));
    expect(run.messages['m1']).toMatchObject({ text: 'Hello.', complete: true });
  });

  it('are the same when a replay has no deltas', () => {
    const build = (withDeltas: boolean): RunState => {
      const s = script();
      const events = [
        ...started(s),
        s.event('message_delta', { message_id: 'm1', delta: 'One.' }, 'optimizer', 1),
        s.event('message_completed', { message_id: 'm1', role: 'assistant', content: parts('One.') }, 'optimizer', 1),
        s.event('message_delta', { message_id: 'm2', delta: 'Two' }, 'optimizer', 2),
        s.event('message_completed', { message_id: 'm2', role: 'assistant', content: parts('Two'), incomplete: true }, 'optimizer', 2),
        s.event('run_failed', { error: { code: 'internal', message: '' }, duration_ms: 1 }),
      ];
      return folded(withDeltas ? events : events.filter((event) => event.type !== 'message_delta'));
    };
    expect(build(false)).toEqual(build(true));
    expect(answers(build(false)).map(({ text, incomplete }) => [text, incomplete])).toEqual([['One.', false], ['Two', true]]);
  });
});

describe('agents', () => {
  it('nest: what a sub-agent does stays with it', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('tool_executing', { tool_call_id: 't1', tool_name: 'agent', arguments: {} }, 'optimizer', 1),
      s.event('agent_started', { agent: 'data', parent_step: 1, task: 'count' }, 'data', 2),
      s.event('agent_thinking', { message: 'hm' }, 'data', 2),
      s.event('agent_completed', { agent: 'data', success: true, duration_ms: 4, result: 7 }, 'data', 2),
      s.event('tool_completed', { tool_call_id: 't1', tool_name: 'agent', success: true, duration_ms: 5, result: 7 }, 'optimizer', 1),
      s.event('agent_thinking', { message: 'good' }, 'optimizer', 4),
    ]);
    expect(run.roots).toEqual(['a0']);
    expect(run.agents['a0']?.items.map((item) => `${item.kind}:${item.id}`)).toEqual(['tool:t1', 'agent:a1', 'thought:evt_8']);
    expect(run.agents['a1']).toMatchObject({ name: 'data', parent: 'a0', state: 'completed', result: 7 });
    expect(run.agents['a1']?.items.map((item) => item.kind)).toEqual(['thought']);
    expect(answers(run)).toEqual([]);
  });

  it('that run side by side have the same parent', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('agent_started', { agent: 'a', parent_step: 1, task: '' }, 'a', 2),
      s.event('agent_started', { agent: 'b', parent_step: 1, task: '' }, 'b', 3),
      s.event('tool_executing', { tool_call_id: 't1', tool_name: 'query', arguments: {} }, 'a', 4),
      s.event('agent_started', { agent: 'c', parent_step: 4, task: '' }, 'c', 5),
    ]);
    expect(Object.values(run.agents).map(({ name, parent }) => [name, parent])).toEqual([
      ['optimizer', undefined],
      ['a', 'a0'],
      ['b', 'a0'],
      ['c', 'a1'],
    ]);
  });

  it('of the same name are told apart: the innermost that is at work is meant', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('agent_started', { agent: 'data', parent_step: 1, task: 'first' }, 'data', 1),
      s.event('agent_completed', { agent: 'data', success: true, duration_ms: 1, result: null }, 'data', 1),
      s.event('agent_started', { agent: 'data', parent_step: 2, task: 'second' }, 'data', 2),
      s.event('agent_thinking', { message: 'again' }, 'data', 2),
    ]);
    expect(run.agents['a1']).toMatchObject({ state: 'completed', items: [] });
    expect(run.agents['a2']).toMatchObject({ state: 'running', items: [{ kind: 'thought', text: 'again' }] });
  });

  it('of the same name that work at once are told apart by their step', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('agent_started', { agent: 'data', parent_step: 1, task: 'first' }, 'data', 2),
      s.event('agent_started', { agent: 'data', parent_step: 1, task: 'second' }, 'data', 3),
      s.event('agent_thinking', { message: 'mine' }, 'data', 2),
      s.event('agent_completed', { agent: 'data', success: true, duration_ms: 4, result: 1 }, 'data', 2),
    ]);
    expect(run.agents['a1']).toMatchObject({ state: 'completed', result: 1, items: [{ text: 'mine' }] });
    expect(run.agents['a2']).toMatchObject({ state: 'running', result: null, items: [] });
    applyEvent(run, s.event('agent_completed', { agent: 'data', success: false, duration_ms: 9, result: null }, 'data', 3));
    expect(run.agents['a2']).toMatchObject({ state: 'failed', durationMs: 9 });
  });

  it('keep the calls of tools apart, also after one of the same name has begun', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('agent_started', { agent: 'data', parent_step: 1, task: 'first' }, 'data', 2),
      s.event('tool_executing', { tool_call_id: 't1', tool_name: 'send', arguments: {} }, 'data', 4),
      s.event('agent_started', { agent: 'data', parent_step: 1, task: 'second' }, 'data', 3),
      s.event('approval_requested', { approval_id: 'apr_1', tool_call_id: 't1', arguments: {}, expires_at: 'later' }, 'data', 4),
    ]);
    expect(run.agents['a1']?.items.map((item) => item.kind)).toEqual(['tool', 'approval']);
    expect(run.agents['a2']?.items).toEqual([]);
  });

  it('that got the conversation give the answer of the run', () => {
    const s = script();
    const said = (id: string, text: string, agent: string, step: number, incomplete = false): WireEvent =>
      s.event('message_completed', { message_id: id, role: 'assistant', content: [{ type: 'text', text }], incomplete }, agent, step);
    const run = folded([
      ...started(s),
      said('m1', 'One moment.', 'optimizer', 1),
      s.event('tool_executing', { tool_call_id: 't1', tool_name: 'handoff_complaints', arguments: { message: 'angry' } }, 'optimizer', 1),
      s.event('agent_started', { agent: 'complaints', parent_step: 1, task: '' }, 'complaints', 2),
      s.event('message_delta', { message_id: 'm2', delta: 'I am so' }, 'complaints', 3),
      said('m2', 'I am sorry.', 'complaints', 3),
      s.event('agent_completed', { agent: 'complaints', success: true, duration_ms: 4, result: 'I am sorry.' }, 'complaints', 2),
    ]);
    expect(run.agents['a1']?.parent).toBe('a0');
    expect(answers(run).map(({ agent, text }) => [agent, text])).toEqual([
      ['optimizer', 'One moment.'],
      ['complaints', 'I am sorry.'],
    ]);
  });

  it('show one bar for a line that is told again with more progress', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('agent_thinking', { message: 'reading', progress: 0.2 }, 'optimizer', 1),
      s.event('agent_thinking', { message: 'reading', progress: 0.9 }, 'optimizer', 1),
    ]);
    expect(run.agents['a0']?.items).toEqual([{ kind: 'thought', id: 'evt_3', text: 'reading', progress: 0.9 }]);
  });
});

describe('tools', () => {
  it('have arguments, progress, result and duration, or the layer that refused them', () => {
    const s = script();
    const run = folded([
      ...started(s),
      s.event('tool_executing', { tool_call_id: 't1', tool_name: 'query', arguments: { sql: 'select 1' }, purpose: 'see' }, 'optimizer', 1),
      s.event('tool_progress', { tool_call_id: 't1', progress: 0.5, message: 'half' }, 'optimizer', 1),
    ]);
    expect(run.tools['t1']).toMatchObject({ state: 'running', progress: 0.5, note: 'half', purpose: 'see', arguments: { sql: 'select 1' } });
    applyEvent(run, s.event('tool_completed', { tool_call_id: 't1', tool_name: 'query', success: true, duration_ms: 12, result: [1], result_bytes: 900 }, 'optimizer', 1));
    applyEvent(run, s.event('tool_denied', { tool_call_id: 't2', tool_name: 'shell', layer: 'role', reason: 'not for users' }, 'optimizer', 2));
    expect(run.tools['t1']).toMatchObject({ state: 'completed', durationMs: 12, result: [1], resultBytes: 900, progress: undefined });
    expect(run.tools['t2']).toMatchObject({ name: 'shell', state: 'denied', deniedBy: 'role', error: { message: 'not for users' } });
    expect(run.agents['a0']?.items.map((item) => item.id)).toEqual(['t1', 't2']);
  });
});

describe('what must not disturb', () => {
  it('events seen before are ignored by their seq', () => {
    const s = script();
    const events = [...started(s), s.event('message_delta', { message_id: 'm1', delta: 'ab' }, 'optimizer', 1)];
    const run = folded(events);
    const before = structuredClone(run);
    for (const event of events) expect(applyEvent(run, event)).toBe(false);
    expect(run).toEqual(before);
  });

  it('unknown types are skipped and counted, also those with names of built-in properties', () => {
    const s = script();
    const run = folded([...started(s), s.raw('mood_changed', { mood: 'good' }), s.raw('toString', {})]);
    expect(run.skipped).toBe(2);
    expect(run.status).toBe('running');
    applyEvent(run, s.event('run_completed', { result: null, duration_ms: 1 }));
    expect(run.status).toBe('completed');
  });

  it('artifacts and warnings are listed once each, warnings with their last figure', () => {
    const s = script();
    const file = { file_id: 'fil_1', name: 'a.svg', media_type: 'image/svg+xml', bytes: 9 };
    const run = folded([
      ...started(s),
      s.event('artifact_created', file, 'optimizer', 1),
      s.event('artifact_created', file, 'optimizer', 2),
      s.event('limit_warning', { limit: 'memory', used: 80, allowed: 100 }),
      s.event('limit_warning', { limit: 'memory', used: 95, allowed: 100 }),
    ]);
    expect(run.artifacts).toEqual([{ fileId: 'fil_1', name: 'a.svg', mediaType: 'image/svg+xml', bytes: 9 }]);
    expect(run.warnings).toEqual([{ limit: 'memory', used: 95, allowed: 100 }]);
  });
});

describe('a read of the run', () => {
  const read: Run = { id: 'run_1', thread_id: 'thr_1', agent: 'optimizer', status: 'running', attempt: 1, created_at: '', usage, metadata: {} };

  it('brings the result that was too large for its event', () => {
    const s = script();
    const run = folded([...started(s), s.event('run_completed', { result: null, result_truncated: true, duration_ms: 1 })]);
    expect(run).toMatchObject({ resultTruncated: true, result: null });
    mergeRun(run, { ...read, status: 'completed', result: { big: true } });
    expect(run).toMatchObject({ resultTruncated: false, result: { big: true }, status: 'completed' });
  });

  it('never takes a run back that its events have moved on', () => {
    const s = script();
    const run = folded([...started(s), s.event('run_completed', { result: 1, duration_ms: 1 })]);
    mergeRun(run, { ...read, status: 'queued', queue_position: 4 });
    expect(run).toMatchObject({ status: 'completed', queuePosition: undefined });
  });
});
