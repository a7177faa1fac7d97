// What a test file needs: one browser, and servers, models and visitors that are gone after each test.

import { expect } from 'vitest';
import { mkdir } from 'node:fs/promises';
import { Model } from './model.mjs';
import { Server } from './server.mjs';
import { Visitor, openBrowser } from './visitor.mjs';

export class Stage {
  #browser;
  #servers = [];
  #models = [];
  #visitors = [];

  async open() {
    this.#browser = await openBrowser();
  }

  /** A running server, with these accounts, where one is wanted with a model. */
  async server({ users = [], model, settings = {}, args = [] } = {}) {
    const server = await Server.start({ args, settings: { ...model?.settings, ...settings } });
    this.#servers.push(server);
    for (const user of users) await server.addUser(user);
    return server;
  }

  async model() {
    const model = await Model.start();
    this.#models.push(model);
    return model;
  }

  /** A browser of its own: no cookie is shared with anyone. */
  async visitor(server, view = {}) {
    const visitor = await Visitor.arrive(this.#browser, server.url, view);
    this.#visitors.push(visitor);
    return visitor;
  }

  /** A visitor who is signed in. */
  async user(server, name, view = {}) {
    const visitor = await this.visitor(server, view);
    await visitor.open();
    await visitor.signIn(name);
    await visitor.isIn();
    return visitor;
  }

  /** After each test: nothing may have gone wrong that the test did not name. */
  async clear(task) {
    if (task?.result?.state === 'fail') await this.#picture(task.name);
    const troubles = this.#visitors.flatMap((visitor) => visitor.unexpected);
    await Promise.all(this.#visitors.splice(0).map((visitor) => visitor.leave()));
    for (const model of this.#models.splice(0)) model.close();
    await Promise.all(this.#servers.splice(0).map((server) => server.close()));
    expect(troubles).toEqual([]);
  }

  async #picture(name) {
    const folder = process.env.NETRA_E2E_PICTURES;
    if (!folder) return;
    await mkdir(folder, { recursive: true });
    for (const [index, { page }] of this.#visitors.entries()) {
      await page.screenshot({ path: `${folder}/${name.replace(/\W+/g, '-')}-${index}.png` }).catch(() => undefined);
    }
  }

  async close() {
    await this.#browser?.close();
  }
}
