// What the mock's runs do. Every figure and sentence here is made up, to fill the page with something.

const string = { type: 'string' };
export const agents = [
  { name: 'optimizer', description: 'Finds out where the costs of language models come from in a usage log (CSV or Parquet), and what would lower them.', kind: 'script', input_schema: string, tools: ['read_table', 'query', 'chart', 'price_list'], ready: true },
  { name: 'echo', description: 'Says again what was said to it.', kind: 'native', input_schema: string, tools: [], ready: true },
  { name: 'researcher', description: 'Reads pages that you name and answers with quotations.', kind: 'model', input_schema: string, tools: ['fetch'], ready: false, problem: 'agents/researcher/agent.toml:7: no model is configured under the name “fast”.' },
];

const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new Error('stopped'));
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), reject(new Error('stopped'))), { once: true });
  });

const figures = [['mon', 312], ['tue', 405], ['wed', 381], ['thu', 520], ['fri', 610], ['sat', 140], ['sun', 96]];

function bars(title, unit) {
  const body = figures.map(([day, value], i) => `<rect x="${60 + i * 78}" y="${250 - value / 3}" width="52" height="${value / 3}" rx="3" fill="#0d6b62"/><text x="${86 + i * 78}" y="272" text-anchor="middle">${day}</text><text x="${86 + i * 78}" y="${242 - value / 3}" text-anchor="middle" font-size="12">${value}</text>`).join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 300" font-family="sans-serif" font-size="13" fill="#333"><text x="20" y="24" font-size="16" font-weight="600">${title}</text><text x="20" y="42" font-size="12">${unit}</text><line x1="50" x2="600" y1="250" y2="250" stroke="#999"/>${body}</svg>`;
}

function line(title, unit) {
  const points = figures.map(([, value], i) => `${60 + i * 85},${255 - value / 3.2}`).join(' ');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 300" font-family="sans-serif" font-size="13" fill="#333"><text x="20" y="24" font-size="16" font-weight="600">${title}</text><text x="20" y="42" font-size="12">${unit}</text><polyline points="${points}" fill="none" stroke="#b4552d" stroke-width="3"/><line x1="50" x2="600" y1="255" y2="255" stroke="#999"/></svg>`;
}

const report = (cost) => `# Where the tokens go

Between the first and the last call, **two of nine callers** make 71 % of the cost. Most of it is input that is sent again and again.

![Cost per day](${cost.name})

## Findings

1. The caller \`support-summary\` sends the same 6,200 tokens of instructions with each call.
2. Calls at night are retried up to four times, each with the whole conversation.

| Caller | Calls | Input tokens | Output tokens | Cost (USD) | Share |
|---|---:|---:|---:|---:|---:|
| support-summary | 18,204 | 121,884,000 | 4,102,330 | 1,402.11 | 48 % |
| ticket-router | 40,911 | 60,020,118 | 820,114 | 668.40 | 23 % |
| search-rewrite | 9,120 | 11,204,000 | 1,220,400 | 201.77 | 7 % |

## What would lower it

- Cache the instructions of \`support-summary\`
- Cut off retries after the second attempt

\`\`\`sql
select caller, sum(input_tokens) from calls group by caller order by 2 desc
\`\`\`

> Latency per caller could not be told, as the log has no column for it.
`;

async function speak(tell, id, agent, step, text, signal, ms) {
  const message_id = id('msg');
  for (const part of text.match(/[\s\S]{1,14}/g) ?? []) {
    tell('message_delta', { message_id, delta: part }, agent, step);
    await pause(ms, signal);
  }
  tell('message_completed', { message_id, role: 'assistant', content: [{ type: 'text', text }] }, agent, step);
}

export async function play({ run, body, tell, id, store, signal, question }) {
  const began = Date.now();
  const slow = body.input.includes('slow');
  const ms = (value) => (slow ? value * 6 : value);
  const open = [];
  const calls = new Map();
  let tools = 0;
  const usage = () => ({ input_tokens: 18402, output_tokens: 2210, cost_usd: 0.0412, tool_calls: tools, model_calls: 4, peak_memory_bytes: 48_000_000, duration_ms: Date.now() - began });
  const enter = (agent, task, parent_step) => (open.push([agent, Date.now()]), tell('agent_started', { agent, task, ...(parent_step ? { parent_step } : {}) }, agent, parent_step ?? 0));
  const leave = (success, result) => {
    const [agent, at] = open.pop();
    tell('agent_completed', { agent, success, duration_ms: Date.now() - at, result }, agent, 9);
  };
  const begin = (agent, step, tool_name, args, purpose) => {
    const tool_call_id = id('tcl');
    tools += 1;
    calls.set(tool_call_id, [agent, step, tool_name, Date.now()]);
    tell('tool_executing', { tool_call_id, tool_name, arguments: args, ...(purpose ? { purpose } : {}) }, agent, step);
    return tool_call_id;
  };
  const end = (tool_call_id, success, result, error) => {
    const [agent, step, tool_name, at] = calls.get(tool_call_id);
    calls.delete(tool_call_id);
    const text = JSON.stringify(result) ?? '';
    tell('tool_completed', { tool_call_id, tool_name, success, duration_ms: Date.now() - at, result, result_bytes: text.length * 7, ...(error ? { error } : {}) }, agent, step);
  };
  const finish = (type, data) => {
    for (const call of [...calls.keys()].reverse()) end(call, false, null, { code: 'cancelled', message: '' });
    while (open.length > 0) leave(false, null);
    tell(type, { ...data, usage: usage(), duration_ms: Date.now() - began });
  };
  try {
    if (slow) {
      tell('run_queued', { queue_position: 2, reason: 'slots' });
      await pause(1500, signal);
    }
    tell('run_started', { agent: run.agent, deadline: new Date(Date.now() + 300000).toISOString(), attempt: 1, input_message_id: question.id });
    enter(run.agent, body.input);
    if (run.agent === 'echo') {
      await speak(tell, id, 'echo', 1, body.input, signal, 20);
      leave(true, { text: body.input });
      return finish('run_completed', { result: { text: body.input } });
    }
    tell('agent_thinking', { message: 'First look at the columns and the time covered, then ask the two analysts.' }, run.agent, 1);
    await pause(ms(120), signal);
    const read = begin(run.agent, 2, 'read_table', { file: body.files?.[0] ?? 'usage.csv', limit: 5 }, 'See which columns there are');
    await pause(ms(150), signal);
    end(read, true, { columns: ['ts', 'caller', 'model', 'input_tokens', 'output_tokens'], rows: 84120 });
    const ask = begin(run.agent, 3, 'agent', { name: 'cost-analyst', task: 'Split the cost by caller and day' });
    enter('cost-analyst', 'Split the cost by caller and day, name the three largest, and draw the days as a chart so that peaks are seen', 3);
    tell('agent_thinking', { message: 'Reading the table', progress: 0.35 }, 'cost-analyst', 4);
    const query = begin('cost-analyst', 5, 'query', { sql: 'select caller, sum(cost_usd) as cost from calls group by caller order by cost desc limit 10' });
    for (const progress of [0.2, 0.45, 0.7, 0.9]) {
      tell('tool_progress', { tool_call_id: query, progress, message: `${Math.round(progress * 84120).toLocaleString('en')} of 84,120 rows` }, 'cost-analyst', 5);
      await pause(ms(220), signal);
    }
    if (body.input.includes('fail')) {
      end(query, false, null, { code: 'agent_failed', message: 'No column is named “cost_usd”; there are ts, caller, model, input_tokens, output_tokens.' });
      await speak(tell, id, run.agent, 6, 'The log was read, and its **84,120 rows** cover one week. Then the split by', signal, 20);
      return finish('run_failed', { error: { code: 'model_unavailable', message: 'All three providers answered with status 503.' } });
    }
    end(query, true, [{ caller: 'support-summary', cost: 1402.11 }, { caller: 'ticket-router', cost: 668.4 }]);
    tell('agent_thinking', { message: 'Reading the table', progress: 1 }, 'cost-analyst', 5);
    if (body.input.includes('deny')) tell('tool_denied', { tool_call_id: id('tcl'), tool_name: 'fetch', layer: 'agent policy', reason: 'This agent may not reach the network.' }, 'cost-analyst', 6);
    const chart = begin('cost-analyst', 6, 'chart', { kind: 'bar', x: 'day', y: 'cost' });
    const cost = store('cost-per-day.svg', 'image/svg+xml', bars('Cost per day', 'USD'));
    await pause(ms(150), signal);
    tell('artifact_created', { file_id: cost.id, name: cost.name, media_type: cost.media_type, bytes: cost.bytes }, 'cost-analyst', 6);
    end(chart, true, { file_id: cost.id });
    leave(true, { largest: ['support-summary', 'ticket-router', 'search-rewrite'] });
    end(ask, true, { largest: ['support-summary', 'ticket-router', 'search-rewrite'] });
    if (slow) tell('limit_warning', { limit: 'run_deadline', used: 246000, allowed: 300000 });
    const other = begin(run.agent, 7, 'agent', { name: 'latency-analyst', task: 'How long do calls take?' });
    enter('latency-analyst', 'How long do calls take?', 7);
    await speak(tell, id, 'latency-analyst', 8, 'There is no column with a duration, so I cannot tell. I draw the **number of calls** instead.', signal, ms(15));
    const calls_ = store('calls-per-day.svg', 'image/svg+xml', line('Calls per day', 'hundreds'));
    const table = store('by-caller.csv', 'text/csv', 'caller,cost\nsupport-summary,1402.11\n');
    for (const file of [calls_, table]) tell('artifact_created', { file_id: file.id, name: file.name, media_type: file.media_type, bytes: file.bytes }, 'latency-analyst', 8);
    leave(true, { answer: null });
    end(other, true, { answer: null });
    await speak(tell, id, run.agent, 9, 'Two callers make **71 %** of the cost, chiefly by input that is sent again with each call. The report has the figures.', signal, ms(20));
    leave(true, { summary: 'Two callers make 71 % of the cost.' });
    const result = {
      report_markdown: report(cost),
      summary: 'Cutting repeated instructions and late retries would take away about a third of the cost.',
      data: { rows: 84120, first_ts: '2026-11-02T00:00:11Z', last_ts: '2026-11-08T23:58:40Z', input_tokens: 193108118, output_tokens: 6142844, percentiles: {}, bad_rows: 14, unmapped_columns: [] },
      options: [{ name: 'prompt cache', saving_fraction: 0.27, assumptions: [], source_calls: 18204 }],
      actions: ['Cache the instructions of support-summary'],
      missing: ['Latency per caller: the log has no duration.'],
      artifacts: [cost.id, calls_.id, table.id],
    };
    finish('run_completed', { result });
  } catch {
    finish('run_cancelled', { error: { code: 'cancelled', message: '' } });
  }
}
