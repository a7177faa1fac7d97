//! A log as buckets of equal width, complete ones only: what trends, seasons and outliers are looked for in.

use crate::baseline::Baseline;
use crate::log::Log;
use crate::profile::ordered;
use crate::times::{self, Base, DAY, HOUR, MINUTE};

/// The most buckets that are looked at.
const MAX_BUCKETS: i64 = 50_000;

/// One bucket. A bucket without a request has a count of 0 and no latency.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bucket {
    pub(crate) requests: u64,
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// In pico-dollars.
    pub(crate) cost: i128,
    latency: i128,
    timed: u64,
}

impl Bucket {
    /// The mean latency in milliseconds.
    pub(crate) fn latency_ms(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.latency as f64 / self.timed as f64 / 1e3)
    }

    /// The mean of the input tokens of a request.
    pub(crate) fn input_per_request(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.input as f64 / self.requests as f64)
    }

    /// The mean of the output tokens of a request.
    pub(crate) fn output_per_request(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.output as f64 / self.requests as f64)
    }
}

/// Buckets without a gap between them. The first and the last of the log are left out: it may begin and end within them.
pub(crate) struct Series {
    /// In nanoseconds.
    pub(crate) width: i64,
    /// The number of the first bucket, counted from the base of the times.
    pub(crate) first: i64,
    pub(crate) buckets: Vec<Bucket>,
    base: Base,
}

/// The least numbers of complete buckets of a day, an hour and a minute that are worth looking at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Least {
    pub(crate) days: i64,
    pub(crate) hours: i64,
    /// `None`: minutes are never used.
    pub(crate) minutes: Option<i64>,
}

impl Series {
    /// The widest buckets of which the log has enough; `None` when it has enough of none.
    pub(crate) fn of(log: &Log, baseline: Option<&Baseline<'_>>, least: Least) -> Option<Self> {
        let (order, _) = ordered(log);
        let base = log.base?;
        let at = |row: Option<&u32>| row.and_then(|row| log.time.get(*row as usize));
        let (first, last) = (at(order.first())?, at(order.last())?);
        let complete = |width: i64| last.div_euclid(width) - first.div_euclid(width) - 1;
        let minutes = least.minutes.map(|minutes| (MINUTE, minutes));
        // Rows that are sums of a day say nothing of its hours.
        let finer = [Some((HOUR, least.hours)), minutes];
        let finer = finer.into_iter().flatten().filter(|_| !log.is_aggregated());
        let (width, _) = [(DAY, least.days)]
            .into_iter()
            .chain(finer)
            .find(|(width, wanted)| (*wanted..=MAX_BUCKETS).contains(&complete(*width)))?;
        let start = first.div_euclid(width) + 1;
        let mut buckets = vec![Bucket::default(); usize::try_from(complete(width)).ok()?];
        for row in order {
            let row = row as usize;
            let Some(time) = log.time.get(row) else {
                continue;
            };
            let number = time.div_euclid(width) - start;
            let Some(bucket) = usize::try_from(number)
                .ok()
                .and_then(|at| buckets.get_mut(at))
            else {
                continue;
            };
            bucket.requests += log.requests_of(row);
            bucket.input += log.input.get(row).map_or(0, u64::from);
            bucket.output += log.output.get(row).map_or(0, u64::from);
            bucket.cost += baseline
                .and_then(|b| b.row(log, row))
                .map_or(0, |cost| cost.total());
            if let Some(micros) = log.latency_micros.get(row) {
                bucket.latency += i128::from(micros);
                bucket.timed += 1;
            }
        }
        Some(Self {
            width,
            first: start,
            buckets,
            base,
        })
    }

    /// The start of a bucket, counted from the first one; those after the last are in the future.
    pub(crate) fn start(&self, at: usize) -> String {
        let number = self
            .first
            .saturating_add(i64::try_from(at).unwrap_or(i64::MAX));
        times::format(number.saturating_mul(self.width), self.base)
    }

    /// `day`, `hour` or `minute`.
    pub(crate) fn unit(&self) -> &'static str {
        match self.width {
            DAY => "day",
            HOUR => "hour",
            _ => "minute",
        }
    }

    /// After how many buckets a bucket may look alike again, the longest such time first.
    pub(crate) fn periods(&self) -> &'static [usize] {
        match self.width {
            DAY => &[7],
            HOUR => &[168, 24],
            _ => &[],
        }
    }

    /// The place of a bucket within a period.
    pub(crate) fn phase(&self, at: usize, period: usize) -> usize {
        let number = self
            .first
            .saturating_add(i64::try_from(at).unwrap_or(i64::MAX));
        let period = i64::try_from(period).unwrap_or(1).max(1);
        usize::try_from(number.rem_euclid(period)).unwrap_or(0)
    }
}
