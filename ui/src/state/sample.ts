// A log to try the agents on, for whoever has none at hand: made up, and marked as such by its name.

import address from '../../../samples/synthetic-llm-log.csv?url';

/** Comes from the server that the page came from, when it is wanted. */
export async function sampleLog(): Promise<File> {
  const answer = await fetch(address);
  if (!answer.ok) throw new TypeError(`the sample: ${answer.status}`);
  return new File([await answer.blob()], 'synthetic-llm-log.csv', { type: 'text/csv' });
}
