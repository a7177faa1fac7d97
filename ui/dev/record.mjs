// Records whole runs of the real server that NETRA_BINARY names, as its clients get them: what the folds are tested on.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LOG = new URL('../../samples/synthetic-llm-log.csv', import.meta.url).pathname;
const runs = [
  ['echo', [], 'good morning'],
  ['optimizer', ['--file', LOG], 'Cut the cost by 30 %'],
];
const data = mkdtempSync(join(tmpdir(), 'netra-record-'));
for (const [agent, options, question] of runs) {
  const { stdout, stderr, status } = spawnSync(process.env.NETRA_BINARY ?? '', ['run', agent, '--data', data, '--json', ...options, question], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`netra run ${agent} ended with ${status}: ${stderr}`);
  writeFileSync(new URL(`../src/state/golden/${agent}.jsonl`, import.meta.url), stdout);
}
