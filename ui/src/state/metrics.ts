// Numbers of the server over time: its metrics, measured again and again, as series for charts.

import type { Json, MetricsHistory } from '../../client';

export interface Point {
  at: number;
  value: number;
}

/** The sum over all labels of each metric at one moment. */
export interface Sample {
  at: number;
  values: Record<string, number>;
}

type Fields = { [key: string]: Json };

/** What `GET /api/metrics` says as JSON: names, each with its samples. Of a histogram the count is taken. */
export function sampleOf(metrics: Json, at: number): Sample {
  const values: Record<string, number> = {};
  for (const [name, metric] of Object.entries(metrics as Record<string, Fields>)) {
    for (const sample of (metric['samples'] ?? []) as Fields[]) {
      const part = String(sample['name']);
      if (part !== name && part !== `${name}_count`) continue;
      values[name] = (values[name] ?? 0) + Number(sample['value']);
    }
  }
  return { at, values };
}

/** One labelled sample, such as the memory of the node. */
export function labelled(metrics: Json, name: string, label: string, value: string): number | undefined {
  const metric = (metrics as Record<string, Fields>)[name];
  const found = ((metric?.['samples'] ?? []) as Fields[]).find((sample) => (sample['labels'] as Fields)[label] === value);
  return found ? Number(found['value']) : undefined;
}

export function gauge(samples: Sample[], name: string): Point[] {
  return samples.flatMap(({ at, values }) => (values[name] === undefined ? [] : [{ at, value: values[name] }]));
}

/** The server's own history of the last hour. */
export function historyOf({ points }: MetricsHistory): Sample[] {
  return points.map(({ at, values }) => ({ at: Date.parse(at), values }));
}

/** What a counter rose by in a second, between each two samples; a restarted server begins at zero again. */
export function rate(samples: Sample[], name: string): Point[] {
  const points: Point[] = [];
  for (let i = 1; i < samples.length; i++) {
    const [before, after] = [samples[i - 1] as Sample, samples[i] as Sample];
    const seconds = (after.at - before.at) / 1000;
    const now = after.values[name];
    if (seconds <= 0 || now === undefined) continue;
    const rose = now - (before.values[name] ?? 0);
    points.push({ at: after.at, value: (rose < 0 ? now : rose) / seconds });
  }
  return points;
}
