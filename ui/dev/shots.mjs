// Takes pictures of the page against the mock: widths, themes and states, into dev/shots/.

import { mkdir } from 'node:fs/promises';
import { chromium } from 'playwright-core';

const base = process.env.BASE ?? 'http://127.0.0.1:8080';
const out = new URL('./shots/', import.meta.url).pathname;
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
await mkdir(out, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: flags });
const troubles = [];

async function visit(width, colorScheme, height = 900) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme });
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && troubles.push(message.text()));
  page.on('pageerror', (error) => troubles.push(String(error)));
  page.on('request', (request) => !/^(http:\/\/127\.0\.0\.1|blob:|data:)/.test(request.url()) && troubles.push(`outside: ${request.url()}`));
  page.on('requestfailed', (request) => /ws|api/.test(request.url()) && !/events/.test(request.url()) && troubles.push(`failed: ${request.url()}`));
  return page;
}

const ask = async (page, text) => {
  await page.getByLabel('Your question').fill(text);
  await page.keyboard.press('Enter');
};
const shot = (page, name) => page.screenshot({ path: `${out}${name}.png` });
const ended = (page, word) => page.locator('.badge', { hasText: word }).last().waitFor({ timeout: 60_000 });

for (const [width, scheme] of [[1400, 'light'], [900, 'dark'], [360, 'light'], [360, 'dark'], [1400, 'dark']]) {
  const tag = `${width}-${scheme}`;
  const page = await visit(width, scheme);
  await page.goto(base);
  await page.getByText('Agents on this server').waitFor();
  await shot(page, `empty-${tag}`);
  await page.getByRole('button', { name: /^Agent:/ }).click();
  await shot(page, `picker-${tag}`);
  await page.keyboard.press('Escape');
  await page.locator('input[type=file]').setInputFiles({ name: 'usage-of-november-with-a-rather-long-name.csv', mimeType: 'text/csv', buffer: Buffer.from('ts,caller\n'.repeat(9000)) });
  await page.getByText('is attached.').waitFor({ state: 'attached' });
  await page.getByLabel('Your question').fill('Where do our tokens go, and what would lower the cost?');
  await shot(page, `attached-${tag}`);
  await page.keyboard.press('Enter');
  await page.locator('progress').last().waitFor();
  await page.waitForTimeout(300);
  await shot(page, `streaming-${tag}`);
  await ended(page, 'Done');
  await page.waitForTimeout(500);
  await shot(page, `report-${tag}`);
  await page.locator('article section section').scrollIntoViewIfNeeded();
  await page.locator('.scroller').evaluate((node) => (node.scrollTop = 0));
  await page.waitForTimeout(200);
  await shot(page, `report-top-${tag}`);
  await page.getByRole('button', { name: /Steps/ }).click();
  await page.getByRole('button', { name: /cost-analyst Split/ }).first().click();
  await page.waitForTimeout(200);
  await shot(page, `steps-${tag}`);
  await ask(page, 'please fail now');
  await ended(page, 'Failed');
  await page.waitForTimeout(300);
  await shot(page, `failed-${tag}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  if (wide) troubles.push(`${tag}: the page scrolls sideways`);
  if (width === 360) {
    await page.getByLabel('Show conversations').click();
    await page.waitForTimeout(300);
    await shot(page, `rail-${tag}`);
  }
  await page.close();
}

// Reload during a run, a cut line, stop, sign out, sign in, set up.
const page = await visit(1400, 'light');
await page.goto(base);
await page.getByText('Agents on this server').waitFor();
await ask(page, 'slow deny');
await page.getByText('in the queue').waitFor();
await shot(page, 'queued');
await page.locator('progress').last().waitFor({ timeout: 20_000 });
await page.reload();
await page.locator('progress').last().waitFor({ timeout: 20_000 });
await page.evaluate(() => fetch('/mock/cut', { method: 'POST' }));
await page.getByText('Connection lost').first().waitFor();
await shot(page, 'lost');
await page.getByText(/Reconnected, \d+ event/).first().waitFor({ timeout: 20_000 });
await page.getByText('Refused by agent policy').waitFor({ timeout: 20_000 });
await shot(page, 'reconnected');
await page.getByRole('button', { name: 'Stop' }).click();
await ended(page, 'Stopped');
await page.waitForTimeout(300);
await shot(page, 'stopped');
await page.reload();
await ended(page, 'Stopped');
await page.getByText('cost-analyst').or(page.getByText('Steps')).first().waitFor();
await shot(page, 'stopped-reloaded');
await page.getByRole('button', { name: 'Sign out' }).click();
await page.getByRole('button', { name: 'Sign in' }).waitFor();
await page.getByLabel('Name').fill('ada');
await page.getByLabel('Password').fill('wrong');
await page.keyboard.press('Enter');
await page.getByRole('alert').waitFor();
await shot(page, 'sign-in');
await page.goto(`${base}/setup?token=abc`);
await page.getByLabel('Your name').waitFor();
await shot(page, 'set-up');
await page.getByLabel('Your name').fill('ada');
await page.getByLabel('Choose a password').fill('a long enough one');
await page.getByLabel('Repeat the password').fill('a long enough one');
await page.keyboard.press('Enter');
await page.getByText('Agents on this server').waitFor();
await browser.close();
console.log(troubles.length === 0 ? 'no troubles' : [...new Set(troubles)].join('\n'));
