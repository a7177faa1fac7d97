// The headers of a tool server as they are written into a form. Their values are secrets, told by name.

import type { SecretUse } from '../../client';

export interface HeaderField {
  name: string;
  secret: string;
  prefix: string;
}

/** A word before the value is set off by a blank, which nobody sees to write it. */
export function headersOf(fields: HeaderField[]): Record<string, SecretUse> {
  return Object.fromEntries(
    fields.map(({ name, secret, prefix }) => [name.trim(), { secret: secret.trim(), ...(prefix.trim() === '' ? {} : { prefix: `${prefix.trim()} ` }) }]),
  );
}
