//! Exact statistics: no sketch and no sampling, so that a number can be checked against the file by hand.

use serde_json::{Map, Value, json};

use crate::output::round;

/// How a percentile is defined here.
pub(crate) const PERCENTILE_METHOD: &str = "nearest rank, exact: with the n values sorted, the p-th percentile is the \
    value at position ceil(p * n / 100), counted from 1; it is always a value of the data";

/// The value at the nearest rank of the `percent`-th percentile in sorted values.
pub(crate) fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Count, extremes, mean and percentiles of whole numbers, each shown after division by `unit`.
pub(crate) fn summary(sorted: &[i64], unit: i64) -> Map<String, Value> {
    let show = |value: Option<i64>| match value {
        None => Value::Null,
        Some(value) if unit == 1 => json!(value),
        Some(value) => json!(round(value as f64 / unit as f64, 3)),
    };
    let sum: i128 = sorted.iter().map(|v| i128::from(*v)).sum();
    let mean = match sorted.len() {
        0 => Value::Null,
        n => json!(round(sum as f64 / n as f64 / unit as f64, 3)),
    };
    let mut out = Map::new();
    out.insert("count".to_owned(), json!(sorted.len()));
    out.insert("min".to_owned(), show(sorted.first().copied()));
    out.insert("max".to_owned(), show(sorted.last().copied()));
    out.insert("mean".to_owned(), mean);
    for percent in [50, 90, 95, 99] {
        out.insert(format!("p{percent}"), show(nearest_rank(sorted, percent)));
    }
    out
}

/// A histogram of sorted counts: at most about forty bins of a round width, or 1-2-5 steps when a few values are far
/// larger than the rest. A bin holds `from <= value < to`.
pub(crate) fn histogram(sorted: &[u32]) -> Option<Value> {
    let max = u64::from(*sorted.last()?);
    let median = u64::from(nearest_rank(sorted, 50)?);
    let steep = max > 20 * median.max(1);
    let mut edges = if steep {
        edges_125(max)
    } else {
        edges_linear(max)
    };
    if steep {
        // Steps below the smallest value would be empty bins on the left.
        let min = u64::from(*sorted.first()?);
        edges.drain(..edges.partition_point(|edge| *edge <= min).saturating_sub(1));
    }
    let mut bins = Vec::with_capacity(edges.len());
    let mut start = 0;
    for pair in edges.windows(2) {
        let end = sorted.partition_point(|value| u64::from(*value) < pair[1]);
        bins.push(json!({ "from": pair[0], "to": pair[1], "count": end - start }));
        start = end;
    }
    Some(json!({ "scale": if steep { "1-2-5" } else { "linear" }, "bins": bins }))
}

fn edges_linear(max: u64) -> Vec<u64> {
    let mut width = 1;
    let mut steps = [2, 5, 10].iter().cycle();
    let mut decade = 1;
    while max / width >= 40 {
        let step = steps.next().copied().unwrap_or(10);
        width = decade * step;
        if step == 10 {
            decade *= 10;
        }
    }
    (0..=max / width + 1).map(|index| index * width).collect()
}

fn edges_125(max: u64) -> Vec<u64> {
    let mut edges = vec![0, 1];
    let mut decade = 1;
    loop {
        for step in [2, 5, 10] {
            edges.push(decade * step);
            if decade * step > max {
                return edges;
            }
        }
        decade *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank_by_hand() {
        let values = [15, 20, 35, 40, 50];
        assert_eq!(nearest_rank(&values, 5), Some(15));
        assert_eq!(nearest_rank(&values, 30), Some(20));
        assert_eq!(nearest_rank(&values, 40), Some(20));
        assert_eq!(nearest_rank(&values, 50), Some(35));
        assert_eq!(nearest_rank(&values, 100), Some(50));
        assert_eq!(nearest_rank(&[1, 2, 3, 4], 50), Some(2));
        assert_eq!(nearest_rank::<u32>(&[], 50), None);
    }

    #[test]
    fn every_value_is_in_one_bin() {
        for values in [
            vec![0],
            vec![0, 1, 39, 40],
            vec![1, 1, 1, 5_000, u32::MAX - 1],
            vec![7_437; 9],
        ] {
            let histogram = histogram(&values).unwrap();
            let bins = histogram["bins"].as_array().unwrap();
            assert!(bins.len() <= 42, "{}", bins.len());
            let counted: u64 = bins.iter().map(|bin| bin["count"].as_u64().unwrap()).sum();
            assert_eq!(counted, values.len() as u64);
            for (bin, next) in bins.iter().zip(bins.iter().skip(1)) {
                assert_eq!(bin["to"], next["from"]);
            }
        }
    }
}
