// Two people on one server at the same time: neither sees anything of the other.

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage.mjs';

const stage = new Stage();
beforeAll(() => stage.open());
afterEach((test) => stage.clear(test.task));
afterAll(() => stage.close());

/** The ids of everything that is this visitor's own, as the server has told them. */
function ids(visitor) {
  return new Set(visitor.received.flatMap((text) => text.match(/\b(?:run|thr|fil|msg|tcl|ses|usr)_[0-9a-z]{26}\b/g) ?? []));
}

it('keeps two users apart while both work', async () => {
  const model = await stage.model();
  const server = await stage.server({ users: ['ada', 'bob'], model });
  const [ada, bob] = await Promise.all([stage.user(server, 'ada'), stage.user(server, 'bob')]);
  await ada.choose('assistant');
  await ada.attach({ name: 'walrus.csv', mimeType: 'text/csv', buffer: Buffer.from('a,b\n1,2\n') });
  await ada.ask('the walrus question');
  const first = await model.next();
  await bob.choose('assistant');
  await bob.ask('the pelican question');
  const second = await model.next();
  first.say('walrus answer');
  second.say('pelican answer');
  await ada.sees('walrus answer');
  await bob.sees('pelican answer');
  first.end();
  second.end();
  await ada.run('Done');
  await bob.run('Done');

  const thread = new URL(ada.page.url()).pathname;
  expect(thread).toMatch(/^\/threads\/thr_/);
  for (const [visitor, foreign] of [[ada, /pelican/], [bob, /walrus/]]) {
    expect(await visitor.page.locator('body').innerText()).not.toMatch(foreign);
    expect(visitor.received.join('\n')).not.toMatch(foreign);
  }
  const [hers, his] = [ids(ada), ids(bob)];
  expect(hers.size).toBeGreaterThan(3);
  expect(his.size).toBeGreaterThan(3);
  expect([...hers].filter((id) => his.has(id))).toEqual([]);

  // Her address shows him nothing, not even that there is something.
  bob.expectTrouble(/status of 404.*\/api\/threads\/thr_/);
  bob.expectTrouble(/status of 404.*\/api\/threads\/thr_\w+\/messages/);
  await bob.page.goto(server.url + thread);
  await bob.sees(/^This is not there \(any more\)/);
  await bob.page.waitForURL(`${server.url}/`);
  expect(bob.received.join('\n')).not.toMatch(/walrus/);
});

it('leaves nothing of one user to the next one in the same browser', async () => {
  const server = await stage.server({ users: ['ada', 'bob'] });
  const desk = await stage.user(server, 'ada');
  await desk.choose('echo');
  await desk.ask('the walrus question');
  await desk.run('Done');
  await desk.page.getByRole('button', { name: 'Sign out' }).click();
  await desk.signIn('bob');
  await desk.isIn();
  await desk.sees('Your conversations will be listed here.');
  expect(await desk.page.locator('body').innerText()).not.toContain('walrus');
  // Nor does the way back lead to it.
  desk.expectTrouble(/status of 404.*\/api\/threads\//);
  await desk.choose('echo');
  await desk.ask('the pelican question');
  await desk.run('Done');
  expect(await desk.page.locator('body').innerText()).not.toContain('walrus');
});
