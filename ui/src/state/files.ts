// Contents of the user's files, read with the access token and handed out as blob addresses.

import type { Netra } from '../../client';

const images = new WeakMap<Netra, Map<string, Promise<string>>>();
const KEPT = 60;

/** An address for `<img>`. An SVG shown in an image runs no script. Old addresses are given back. */
export function imageUrl(api: Netra, fileId: string): Promise<string> {
  const cache = images.get(api) ?? new Map<string, Promise<string>>();
  images.set(api, cache);
  const known = cache.get(fileId);
  if (known) return known;
  const url = api.files.content(fileId).then((blob) => URL.createObjectURL(blob));
  cache.set(fileId, url);
  url.catch(() => cache.delete(fileId));
  for (const [id, old] of [...cache].slice(0, Math.max(0, cache.size - KEPT))) {
    cache.delete(id);
    void old.then((address) => URL.revokeObjectURL(address)).catch(() => undefined);
  }
  return url;
}

/** Saves a file. As a stream of bytes, so that the browser never opens it as a page of this origin. */
export async function download(api: Netra, fileId: string, name: string): Promise<void> {
  save(new Blob([await api.files.content(fileId)], { type: 'application/octet-stream' }), name);
}

export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
