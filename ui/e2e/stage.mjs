// What a test file needs: one browser, and servers, models and visitors that are gone after each test.

import { expect } from 'vitest';
import { mkdir } from 'node:fs/promises';
import { Model } from './model.mjs';
import { Server } from './server.mjs';
import { PostOffice } from './tools.mjs';
import { Visitor, openBrowser } from './visitor.mjs';

export class Stage {
  #browser;
  #servers = [];
  #models = [];
  #offices = [];
  #visitors = [];

  async open() {
    this.#browser = await openBrowser();
  }

  /** A running server, with these accounts, where one is wanted with a model. */
  async server({ users = [], admins = [], model, settings = {}, args = [], config } = {}) {
    const server = await Server.start({ args, config, settings: { ...model?.settings, ...settings } });
    this.#servers.push(server);
    for (const user of users) await server.addUser(user);
    for (const admin of admins) await server.addUser(admin, 'admin');
    return server;
  }

  async model() {
    const model = await Model.start();
    this.#models.push(model);
    return model;
  }

  /** A tool server that wants a person's word, and the agent that calls it. */
  async postOffice() {
    const office = await PostOffice.start();
    this.#offices.push(office);
    return office;
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

  get browser() {
    return this.#browser;
  }

  /** After each test: nothing may have gone wrong that the test did not name. */
  async clear(task) {
    if (task?.result?.state === 'fail') await this.#picture(task.name);
    const troubles = this.#visitors.flatMap((visitor) => visitor.unexpected);
    await Promise.all(this.#visitors.splice(0).map((visitor) => visitor.leave()));
    for (const model of this.#models.splice(0)) model.close();
    for (const office of this.#offices.splice(0)) office.close();
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
