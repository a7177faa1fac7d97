//! `isolation`: what an engine costs, and what it costs to count every byte of it.
//!
//! What is measured inside of one process is an example of the engine, built with three allocators; here they are
//! started in turn.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::growth;
use crate::note;
use crate::report::{self, Report, median};

const ALL: [&str; 5] = ["creation", "idle", "cost", "error", "growth"];

/// Pairs of measurements with and without counting; the noise of these machines is larger than what is looked for.
const PAIRS: usize = 9;

/// What must be reached: part, figure, and what it has to be below. Of the cost it is the processor's time, which tells
/// less of what else the machine does than the throughput beside it.
const BOUNDS: [(&str, &str, f64); 5] = [
    ("creation", "p50_us", 10.0),
    ("idle", "resident_mib", 300.0),
    ("cost", "processor_percent", 5.0),
    ("error", "p99_percent", 1.0),
    ("growth", "heap_bytes_per_run", growth::BOUND),
];

pub(crate) struct Bench {
    /// Where `counted`, `uncounted` and `measured` are.
    pub(crate) programs: PathBuf,
    /// Of each measurement of cost and error.
    pub(crate) seconds: u64,
    /// To look for growth over.
    pub(crate) runs: usize,
}

impl Bench {
    pub(crate) async fn measure(self, only: &[String], json: bool) -> Result<()> {
        let (mut report, mut missed) = (Report::new(json), Vec::new());
        for name in report::wanted(&ALL, only)? {
            let measured = match name {
                "cost" => self.cost().await,
                "growth" => Box::pin(growth::measure(self.runs)).await,
                "error" => self.part("measured", name).await,
                _ => self.part("counted", name).await,
            };
            let measured = measured.with_context(|| name.to_owned())?;
            missed.extend(over(name, &measured)?);
            report.add(name, measured);
        }
        report.end()?;
        ensure!(missed.is_empty(), "not reached: {}", missed.join("; "));
        Ok(())
    }

    async fn part(&self, program: &str, part: &str) -> Result<Value> {
        let mut command = Command::new(self.programs.join(program));
        command.arg(part).arg(self.seconds.to_string());
        report::of_program(&mut command).await
    }

    /// The same load with and without counting, in turn, each first as often as the other. The processor's time is
    /// compared besides the throughput, because it tells less of what else the machine does.
    async fn cost(&self) -> Result<Value> {
        let mut ratios = Vec::new();
        let (mut counted, mut bare) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let order = ["counted", "uncounted"];
            let (first, second) = (order[pair % 2], order[1 - pair % 2]);
            let (one, other) = (self.runs(first).await?, self.runs(second).await?);
            let (with, without) = if first == "counted" {
                (one, other)
            } else {
                (other, one)
            };
            note(&format!(
                "cost: {:.0} runs/s with, {:.0} without",
                with.0, without.0
            ));
            ratios.push((without.0 / with.0, with.1 / without.1));
            counted.push(with.0);
            bare.push(without.0);
        }
        let throughput = ratios.iter().map(|ratio| ratio.0).collect();
        let processor = ratios.iter().map(|ratio| ratio.1).collect();
        Ok(json!({
            "runs_per_second_counted": median(counted),
            "runs_per_second_bare": median(bare),
            "throughput_percent": (median(throughput) - 1.0) * 100.0,
            "processor_percent": (median(processor) - 1.0) * 100.0,
        }))
    }

    /// Runs per second, and the processor's time for each.
    async fn runs(&self, program: &str) -> Result<(f64, f64)> {
        let measured = self.part(program, "runs").await?;
        let of = |name: &str| measured[name].as_f64().context("a number");
        Ok((of("runs_per_second")?, of("processor_us_per_run")?))
    }
}

/// What a part has not reached.
fn over(part: &str, measured: &Value) -> Result<Vec<String>> {
    let mut over = Vec::new();
    for (_, figure, bound) in BOUNDS.iter().filter(|(of, ..)| *of == part) {
        let is = measured[figure].as_f64();
        let is = is.with_context(|| format!("{part} has no {figure}"))?;
        if is >= *bound {
            over.push(format!(
                "{part}: {figure} is {is:.2}, must be below {bound}"
            ));
        }
    }
    Ok(over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_reached_fails_and_says_so() {
        let over = |part, measured| over(part, &measured).unwrap();
        assert!(over("creation", json!({"p50_us": 9.9})).is_empty());
        let missed = over("creation", json!({"p50_us": 10.0}));
        assert_eq!(missed, ["creation: p50_us is 10.00, must be below 10"]);
        assert_eq!(over("idle", json!({"resident_mib": 400})).len(), 1);
        assert!(super::over("error", &json!({})).is_err());
        assert!(
            ALL.iter()
                .all(|part| BOUNDS.iter().any(|(of, ..)| of == part))
        );
    }
}
