// A person in front of the page: what they do, what they see, and everything that goes wrong meanwhile.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import { PASSWORD } from './server.mjs';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const PATIENCE_MS = 20_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** WCAG 2.2, A and AA, and what is good practice beside it. */
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

export function openBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
}

export class Visitor {
  /** Console errors and warnings, defects of the page, violations of the policy, requests to other hosts. */
  troubles = [];
  /** Everything that came over the network to this visitor. */
  received = [];
  #expected = [];

  /** @param {import('playwright-core').Browser} browser */
  static async arrive(browser, url, { width = 1400, height = 900, colorScheme = 'light', ...more } = {}) {
    const visitor = new Visitor();
    visitor.url = url;
    visitor.context = await browser.newContext({ viewport: { width, height }, colorScheme, acceptDownloads: true, ...more });
    visitor.context.setDefaultTimeout(PATIENCE_MS);
    visitor.page = await visitor.context.newPage();
    await visitor.#watch();
    return visitor;
  }

  async #watch() {
    const { page, troubles } = this;
    const trouble = (text) => troubles.push(text);
    await page.exposeFunction('reportViolation', (text) => trouble(`policy: ${text}`));
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) trouble(`${message.text()} ${message.location().url}`);
    });
    page.on('pageerror', (error) => trouble(`defect: ${error.stack ?? error}`));
    page.on('request', (request) => {
      if (!request.url().startsWith(this.url) && !/^(blob|data):/.test(request.url())) trouble(`outside: ${request.url()}`);
    });
    page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => this.received.push(String(payload))));
    page.on('response', (response) => {
      if (!/\/api\//.test(response.url())) return;
      void response.text().then((text) => this.received.push(text)).catch(() => undefined);
    });
  }

  /** The browser itself writes refused and failed requests to the console; those that belong to the story are named. */
  expectTrouble(pattern) {
    this.#expected.push(pattern);
  }

  get unexpected() {
    return this.troubles.filter((text) => !this.#expected.some((pattern) => pattern.test(text)));
  }

  /** Goes to the page without being signed in: whether there is a session only the server can say. */
  async open(path = '/') {
    this.expectTrouble(/status of 401.*\/api\/auth\/refresh$/);
    await this.page.goto(this.url + path);
  }

  async signIn(name, password = PASSWORD) {
    await this.page.getByLabel('Name', { exact: true }).fill(name);
    await this.page.getByLabel('Password').fill(password);
    await this.page.getByRole('button', { name: 'Sign in' }).click();
  }

  async isIn() {
    await this.sees('Agents on this server');
    await this.page.getByTitle('Connected').waitFor();
  }

  async choose(agent) {
    await this.page.getByRole('button', { name: /^Agent:/ }).click();
    await this.page.getByRole('radio', { name: new RegExp(`^${agent}\\b`) }).click();
  }

  async attach(...files) {
    await this.page.locator('input[type=file]').setInputFiles(files);
    for (const file of files) {
      const name = typeof file === 'string' ? file.split('/').at(-1) : file.name;
      await this.page.getByText(`${name} is attached.`).waitFor({ state: 'attached' });
    }
  }

  async ask(text) {
    await this.page.getByLabel('Your question').fill(text);
    await this.page.keyboard.press('Enter');
  }

  async sees(text) {
    await this.page.getByText(text).first().waitFor();
  }

  /** The run at this place of the conversation, from 0; waits until it has come to this state. */
  async run(state, index = 0) {
    const run = this.page.locator('article section[aria-busy]').nth(index);
    await run.locator('.badge', { hasText: state }).waitFor();
    return run;
  }

  get conversations() {
    return this.page.getByRole('navigation', { name: 'Conversations' });
  }

  /** What axe finds wrong with the page as it is shown now. */
  async barriers() {
    // Not as a script element, which the page's policy forbids, and rightly.
    if (!(await this.page.evaluate(() => 'axe' in globalThis))) await this.page.evaluate(`${AXE}; undefined`);
    const { passes, violations } = await this.page.evaluate(
      (values) => globalThis.axe.run(document, { runOnly: { type: 'tag', values }, resultTypes: ['violations'] }),
      RULES,
    );
    // A checker that has not looked at anything finds nothing wrong either.
    if (passes.length === 0) throw new Error('axe applied no rule');
    return violations.flatMap(({ id, help, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${help}: ${target}: ${failureSummary}`));
  }

  scrollsSideways() {
    return this.page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  }

  /** What sticks out of the window, and tables that do not show all of their columns. */
  cutOff() {
    return this.page.evaluate(() => {
      /** Whether somebody decided that this may be cut: it can be scrolled to, or ends in an ellipsis. */
      const mayBe = (node) => {
        for (let at = node; at; at = at.parentElement) {
          const { overflowX, textOverflow } = getComputedStyle(at);
          if (overflowX !== 'visible' && at !== node) return overflowX === 'auto' || overflowX === 'scroll' || textOverflow === 'ellipsis';
        }
        return false;
      };
      const found = [];
      for (const node of document.querySelectorAll('body *')) {
        const { left, right, width } = node.getBoundingClientRect();
        if (width < 2 || !node.checkVisibility({ visibilityProperty: true })) continue;
        const words = `${node.tagName} ${node.className} ${node.textContent.trim().slice(0, 40)}`;
        if ((left < -1 || right > innerWidth + 1) && !mayBe(node)) found.push(`out of the window: ${words}`);
        if (node.matches('.table-box') && node.scrollWidth > node.clientWidth + 1) found.push(`${node.scrollWidth - node.clientWidth} px of a table: ${words}`);
      }
      return found.slice(0, 5);
    });
  }

  /** What is out of sight must not make the page longer than the window: it would be pushed about by whatever gets the focus. */
  outgrows() {
    return this.page.evaluate(() => [document.documentElement, document.querySelector('.desk')].some((node) => node && node.scrollHeight > node.clientHeight));
  }

  leave() {
    return this.context.close();
  }
}
