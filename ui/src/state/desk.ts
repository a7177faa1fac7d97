// Everything that the palette can do for the user who is signed in.

import type { User } from '../../client';
import { texts } from '../texts';
import type { Command } from './commands';
import { ACCOUNT, ADMIN, type Place } from './route.svelte';
import { THEMES, theme } from './theme.svelte';
import type { Workspace } from './workspace.svelte';

interface Desk {
  workspace: Workspace;
  user: User | undefined;
  go: (place: Place) => void;
  open: (threadId: string | undefined) => unknown;
  attach: () => void;
  shortcuts: () => void;
  signOut: () => unknown;
}

export function commandsFor(desk: Desk): Command[] {
  return [...deeds(desk), ...conversations(desk), ...places(desk), ...looks(desk)];
}

function deeds({ workspace, go, open, attach }: Desk): Command[] {
  const list: Command[] = [{ id: 'fresh', group: 'do', label: texts.palette.fresh, icon: 'plus', act: () => open(undefined) }];
  const run = workspace.activeRun;
  if (run) list.push({ id: 'stop', group: 'do', label: texts.palette.stop, icon: 'stop', act: () => workspace.cancel(run) });
  list.push({ id: 'attach', group: 'do', label: texts.palette.attach, icon: 'attach', act: attach });
  const runId = workspace.turns.findLast((turn) => turn.runId !== undefined)?.runId;
  if (runId) list.push({ id: 'inspect', group: 'do', label: texts.palette.inspect, icon: 'chart', act: () => go({ page: 'run', runId }) });
  for (const agent of workspace.agents.filter(({ ready }) => ready)) {
    const choose = (): void => void (workspace.agentName = agent.name);
    list.push({ id: `agent:${agent.name}`, group: 'agent', label: texts.palette.ask(agent.name), icon: 'thought', act: choose });
  }
  return list;
}

function conversations({ workspace, open }: Desk): Command[] {
  return workspace.threads.items.map((thread) => ({
    id: thread.id,
    group: 'thread',
    label: thread.title || texts.rail.untitled,
    icon: 'file',
    act: () => open(thread.id),
  }));
}

function places({ user, go }: Desk): Command[] {
  const account = ACCOUNT.map(
    (section): Command => ({
      id: `account/${section}`,
      group: 'go',
      label: `${texts.account.title}: ${texts.account.sections[section]}`,
      icon: 'key',
      act: () => go({ page: 'account', section }),
    }),
  );
  if (user?.role !== 'admin') return account;
  const admin = ADMIN.map(
    (section): Command => ({
      id: `admin/${section}`,
      group: 'go',
      label: `${texts.admin.title}: ${texts.admin.sections[section]}`,
      icon: 'shield',
      act: () => go({ page: 'admin', section }),
    }),
  );
  return [...account, ...admin];
}

function looks({ shortcuts, signOut }: Desk): Command[] {
  const themes = THEMES.map(
    (name): Command => ({ id: `theme:${name}`, group: 'do', label: texts.palette.theme(texts.rail.themes[name]), icon: 'sun', act: () => theme.choose(name) }),
  );
  return [
    ...themes,
    { id: 'keys', group: 'do', label: texts.palette.keys, icon: 'menu', act: shortcuts },
    { id: 'out', group: 'do', label: texts.palette.signOut, icon: 'out', act: signOut },
  ];
}
