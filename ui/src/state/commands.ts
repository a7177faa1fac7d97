// What the palette offers, and which of it fits what was typed.

import type { IconName } from '../components/Icon.svelte';

export interface Command {
  id: string;
  group: 'do' | 'go' | 'agent' | 'thread';
  label: string;
  icon: IconName;
  act: () => unknown;
}

/** Those whose label has all words, the ones that begin with them first; the order stays otherwise. */
export function matches(commands: Command[], text: string): Command[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return commands;
  const rank = ({ label }: Command): number => {
    const low = label.toLowerCase();
    if (!words.every((word) => low.includes(word))) return -1;
    return low.startsWith(words[0] as string) ? 2 : low.split(/\W+/).some((part) => part.startsWith(words[0] as string)) ? 1 : 0;
  };
  return commands
    .map((command) => ({ command, rank: rank(command) }))
    .filter((one) => one.rank >= 0)
    .sort((a, b) => b.rank - a.rank)
    .map((one) => one.command);
}
