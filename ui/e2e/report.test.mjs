// The optimizer's report over a log of one's own: the tree while it works, the figures, the charts, what is taken home.

import { existsSync, readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const LOG = new URL('../../samples/synthetic-llm-log.csv', import.meta.url).pathname;
/** Microsoft's, under CC-BY 4.0, hence not in the repository but where there is one beside it. */
const REAL_LOG = process.env.NETRA_REAL_LOG ?? new URL('../../../shared/data/azure-llm-inference-2023-code.csv', import.meta.url).pathname;
const NO_REAL_LOG = `not checked: there is no ${REAL_LOG}: it is data/AzureLLMInferenceTrace_code.csv of github.com/Azure/AzurePublicDataset, and NETRA_REAL_LOG names it where it lies elsewhere`;
const QUESTION = 'Cut the cost by 30 % without slower answers';
const TEAM = ['optimizer-triage', 'optimizer-data', 'optimizer-optimization', 'optimizer-actions', 'optimizer-reporting'];
const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** Waits until every picture of the report has been loaded and drawn. */
async function charts(page) {
  await page.locator('article img').nth(1).waitFor();
  await page.waitForFunction(() => [...document.querySelectorAll('article img')].every((image) => image.complete && image.naturalWidth > 0));
  return page.locator('article img').count();
}

/** Notes each agent that comes into the tree of a run that is at work. */
async function watchTree(page) {
  await page.evaluate(() => {
    window.agentsThatCame = [];
    const look = () => {
      for (const { textContent: name } of document.querySelectorAll('section[aria-busy=true] .steps .name')) {
        if (!window.agentsThatCame.includes(name)) window.agentsThatCame.push(name);
      }
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
  });
}

async function saved(page, press) {
  const [download] = await Promise.all([page.waitForEvent('download'), press()]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), 'utf8') };
}

it('shows the team at work and its report, with charts in place, and keeps it', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  const { page } = ada;
  await ada.choose('optimizer');
  await ada.attach(LOG);
  await watchTree(page);
  await ada.ask(QUESTION);
  const run = await ada.run('Done');
  // The tree grew while the run worked: the team came into it one by one, in the order of their work.
  const came = await page.evaluate(() => window.agentsThatCame);
  expect(came.slice(0, 4)).toEqual(['optimizer', 'optimizer-triage', 'optimizer-data-helper', 'optimizer-data']);
  expect(await charts(page)).toBeGreaterThanOrEqual(2);
  expect(await page.getByRole('button', { name: 'Stop' }).count()).toBe(0);

  // Its beginning is what is seen first, at once and when it is opened again.
  const head = page.locator('article section[aria-busy] .head');
  const seesHead = () => head.evaluate((node) => node.getBoundingClientRect().top >= 0 && node.getBoundingClientRect().bottom <= innerHeight);
  expect(await seesHead()).toBe(true);

  // The figure at the top is the number of rows of the file, counted here.
  const rows = readFileSync(LOG, 'utf8').trim().split('\n').length - 1;
  const shown = await run.locator('dt', { hasText: 'Rows' }).locator('xpath=following-sibling::dd').innerText();
  expect(Number(shown.replaceAll(',', ''))).toBe(rows);

  const paper = await saved(page, () => page.getByRole('button', { name: 'Download Markdown' }).click());
  expect(paper.name).toMatch(/^report-run_\w+\.md$/);
  expect(paper.text).toContain(rows.toLocaleString('en'));
  const title = /^# (.+)$/m.exec(paper.text)?.[1] ?? 'the report has no title';
  await run.getByRole('heading', { name: title }).waitFor();

  const chart = await saved(page, () => run.getByRole('button', { name: /^Download .*\.svg/ }).first().click());
  expect(chart.text).toMatch(/^<svg|^<\?xml/);

  await run.getByRole('button', { name: 'JSON', exact: true }).click();
  expect(JSON.parse(await run.getByLabel('Result as JSON').innerText())).toHaveProperty('report_markdown', paper.text);
  await run.getByRole('button', { name: 'Report', exact: true }).click();

  await page.reload();
  await ada.run('Done');
  expect(await charts(page)).toBeGreaterThanOrEqual(2);
  expect(await seesHead()).toBe(true);
  await page.getByRole('button', { name: /^Steps/ }).click();
  for (const agent of TEAM) await page.locator('.steps').getByText(agent, { exact: true }).waitFor();
});

it('is readable without barriers, wide and narrow, light and dark', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('optimizer');
  await ada.attach(LOG);
  await ada.ask(QUESTION);
  await ada.run('Done');
  await charts(ada.page);
  await ada.page.getByRole('button', { name: /^Steps/ }).click();
  await ada.page.getByRole('button', { name: /optimizer-data \d/ }).click();
  await ada.page.getByText('log_profile', { exact: true }).waitFor();
  for (const width of [1400, 900, 360]) {
    for (const colorScheme of ['light', 'dark']) {
      await ada.page.setViewportSize({ width, height: 900 });
      await ada.page.emulateMedia({ colorScheme });
      expect(await ada.barriers(), `${width} ${colorScheme}`).toEqual([]);
      expect(await ada.scrollsSideways(), `${width} ${colorScheme}`).toBe(false);
    }
  }
  await ada.page.getByRole('button', { name: 'Show conversations' }).click();
  await ada.conversations.getByText(QUESTION).waitFor();
  expect(await ada.barriers()).toEqual([]);
});

it('says what is wrong with a file, and goes on with a good one in the same conversation', async () => {
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('optimizer');
  await ada.attach({ name: 'empty.csv', mimeType: 'text/csv', buffer: Buffer.alloc(0) });
  await ada.ask(QUESTION);
  const first = await ada.run('Done');
  await first.getByRole('heading', { name: 'What is missing' }).waitFor();
  await first.getByText('empty.csv').first().waitFor();

  await ada.attach(LOG);
  await ada.ask(QUESTION);
  await ada.run('Done', 1);
  expect(await charts(ada.page)).toBeGreaterThanOrEqual(2);
});

it('tells of a real log what it holds, and what cannot be answered from it', async ({ skip }) => {
  if (!existsSync(REAL_LOG)) {
    // The reporter keeps what a skip says to itself.
    console.log(NO_REAL_LOG);
    skip();
  }
  const server = await stage.server({ users: ['ada'] });
  const ada = await stage.user(server, 'ada');
  await ada.choose('optimizer');
  await ada.attach(REAL_LOG);
  await ada.ask(QUESTION);
  const run = await ada.run('Done');
  expect(await charts(ada.page)).toBeGreaterThanOrEqual(1);
  const lines = readFileSync(REAL_LOG, 'utf8').trim().split(/\r?\n/).slice(1).map((line) => line.split(','));
  const figure = (name) => run.locator('dt', { hasText: name }).locator('xpath=following-sibling::dd').innerText();
  expect(await figure('Rows')).toBe(lines.length.toLocaleString('en'));
  const read = lines.reduce((sum, cells) => sum + Number(cells[1]), 0);
  await run.getByText(read.toLocaleString('en')).first().waitFor();
  // It has neither models nor prices nor times of answers.
  await run.getByRole('heading', { name: 'What is missing' }).waitFor();
  expect(await ada.barriers()).toEqual([]);
});
