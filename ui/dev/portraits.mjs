// Takes the pictures of docs/images: a finished report of the real server, its beginning beside its charts.

import { mkdir } from 'node:fs/promises';
import { Server } from '../e2e/server.mjs';
import { Visitor, openBrowser } from '../e2e/visitor.mjs';

const out = new URL('../../docs/images/', import.meta.url).pathname;
const log = process.argv[2] ?? new URL('../../samples/synthetic-llm-log.csv', import.meta.url).pathname;
/** Puts pictures side by side. */
async function side(browser, pictures, path) {
  const page = await browser.newPage({ viewport: { width: 1140 + 800 + 60, height: 1040 } });
  const images = pictures.map((png) => `<img src="data:image/png;base64,${png.toString('base64')}">`);
  const style = 'body{margin:0;padding:20px;display:flex;gap:20px}img{border-radius:12px;outline:1px solid #8886}';
  await page.setContent(`<style>${style}</style>${images.join('')}`);
  await page.waitForFunction(() => [...document.images].every((image) => image.complete));
  await page.screenshot({ path, omitBackground: true });
  await page.close();
}

await mkdir(out, { recursive: true });
const browser = await openBrowser();
const server = await Server.start();
try {
  await server.addUser('ada');
  for (const colorScheme of ['light', 'dark']) {
    const ada = await Visitor.arrive(browser, server.url, { width: 1140, height: 1000, colorScheme });
    const { page } = ada;
    await ada.open();
    await ada.signIn('ada');
    await ada.isIn();
    await ada.choose('optimizer');
    await ada.attach(log);
    await ada.ask('Cut the cost by 30 % without slower answers');
    await ada.run('Done');
    await page.locator('article img').nth(1).waitFor();
    await page.waitForFunction(() => [...document.querySelectorAll('article img')].every((image) => image.complete && image.naturalWidth > 0));
    await page.getByRole('button', { name: /^Steps/ }).click();
    await page.mouse.move(0, 0);
    await page.locator('.scroller').evaluate((node) => (node.scrollTop = 0));
    const top = await page.screenshot({ animations: 'disabled' });
    // The same page further down, without the list of conversations.
    await page.setViewportSize({ width: 800, height: 1000 });
    await page.locator('article img').first().evaluate((image) => image.scrollIntoView());
    const charts = await page.screenshot({ animations: 'disabled' });
    await side(browser, [top, charts], `${out}chat-${colorScheme}.png`);
    await ada.leave();
  }
} finally {
  await browser.close();
  await server.close();
}
