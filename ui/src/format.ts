// Numbers, sizes and times as people read them.

const integer = new Intl.NumberFormat('en');
const compactNumber = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export function count(value: number): string {
  return integer.format(value);
}

export function compact(value: number): string {
  return value < 10_000 ? integer.format(value) : compactNumber.format(value);
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const parts = hours > 0 ? [[hours, 'h'], [minutes, 'min']] : [[minutes, 'min'], [whole % 60, 's']];
  return parts.flatMap(([number, unit], index) => (index > 0 && number === 0 ? [] : `${number} ${unit}`)).join(' ');
}

export function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function usd(value: number): string {
  return `$${value.toFixed(value < 1 ? 4 : 2)}`;
}

export function moment(time: string): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' });
}

/** To the second, with the zone, for who wants to know exactly. */
export function exact(time: string): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  return date.toLocaleString('en', { dateStyle: 'full', timeStyle: 'long' });
}

export function day(time: string): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toLocaleDateString('en', { dateStyle: 'medium', timeZone: 'UTC' });
}

const DAY_MS = 86_400_000;

/** From the first to the last day, as short as it can be said; with the time of day where it is about hours. */
export function period(first: string, last: string): string {
  const [from, to] = [new Date(first), new Date(last)];
  if (Number.isNaN(from.getTime()) || Number.isNaN(to.getTime())) return `${first} – ${last}`;
  const hours = to.getTime() - from.getTime() < 2 * DAY_MS;
  const style = hours ? ({ timeStyle: 'short', hourCycle: 'h23' } as const) : {};
  const range = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeZone: 'UTC', ...style }).formatRange(from, to);
  return hours ? `${range} UTC` : range;
}

/** How long ago, coarsely, for lists. */
export function ago(time: string, now: number): string {
  const ms = now - new Date(time).getTime();
  if (Number.isNaN(ms)) return '';
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ago`;
  const days = Math.floor(hours / 24);
  return days < 30 ? `${days} d ago` : day(time);
}

/** A JSON value on one line, cut after `limit` characters. */
export function oneLine(value: unknown, limit = 120): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  const flat = text.replace(/\s+/g, ' ').trim();
  return flat.length > limit ? `${flat.slice(0, limit - 1)}…` : flat;
}

/** What an agent was asked, on one line: its words. Data that it was given are not words. */
export function taskLine(task: unknown, limit = 160): string {
  if (typeof task === 'object' && task !== null) {
    const { text } = task as { text?: unknown };
    return typeof text === 'string' ? oneLine(text, limit) : '';
  }
  // The server cuts long tasks, so JSON may have lost its end.
  const flat = oneLine(task ?? '', limit);
  return /^[{[]/.test(flat) ? '' : flat;
}

/** A JSON value laid out for reading. */
export function pretty(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value, null, 2) ?? '');
}

/** Arguments as `name: value` pairs, which read better than JSON. Tables and the like only where there is nothing plain. */
export function argumentLine(value: unknown, limit = 120): string {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value === null ? '' : oneLine(value, limit);
  const all = Object.entries(value);
  const plain = all.filter(([, part]) => typeof part !== 'object');
  const pairs = (plain.length > 0 ? plain : all).map(([key, part]) => `${key}: ${oneLine(part, 60)}`);
  return oneLine(pairs.join(', '), limit);
}

/** The time of day, for axes and points. */
export function time(at: number): string {
  return new Date(at).toLocaleTimeString('en', { hourCycle: 'h23' });
}
