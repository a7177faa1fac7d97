// Says in words what went wrong with a request.

import { ApiError } from '../../client';
import { texts } from '../texts';
import { NotAnObject } from './input';

export function describeError(error: unknown): string {
  if (error instanceof NotAnObject) return texts.composer.notAnObject;
  if (error instanceof ApiError) {
    const known = (texts.requestErrors as Record<string, string>)[error.code];
    const words = known ?? (error.message || texts.errorStatus(error.status));
    // The server's own sentence names the file, the limit or the field; ours only the kind.
    return known && error.message && error.message !== known ? withDetail(known, error.message) : words;
  }
  // `fetch` and the upload report a broken line as a TypeError; anything else is a defect of this page.
  if (error instanceof TypeError && /fetch|network|load/i.test(error.message)) return texts.unreachable;
  console.error(error);
  return texts.defect;
}

/** The reason of a run's or a tool's failure. */
export function describeFailure(failure: { code: string; message?: string } | undefined): string {
  if (!failure) return texts.noReason;
  const known = (texts.runErrors as Record<string, string>)[failure.code];
  if (!known) return failure.message || failure.code;
  return failure.message ? withDetail(known, failure.message) : known;
}

/** What the server adds need not be a sentence. */
function withDetail(words: string, detail: string): string {
  return `${words.replace(/\.$/, ':')} ${detail}`;
}
