//! Runs one operation over files and writes its result, for trying things out.
//!
//! `cargo run -p netra-analytics --example run-operation -- log_profile '{}' samples/synthetic-llm-log.csv`

use std::io::Write as _;
use std::time::Duration;

use netra_analytics::jobs::{self, InputFile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(op), Some(arguments)) = (words.next(), words.next()) else {
        return Err("usage: run-operation OPERATION ARGUMENTS_JSON FILE...".into());
    };
    let inputs: Vec<InputFile> = words
        .map(|path| InputFile {
            name: path.rsplit('/').next().unwrap_or(&path).to_owned(),
            media_type: "text/csv".to_owned(),
            path: path.into(),
        })
        .collect();
    let arguments = serde_json::from_str(&arguments)?;
    let result = jobs::run(
        &op,
        arguments,
        &inputs,
        Duration::from_secs(120),
        &mut |_, _| (),
    )?;
    let mut out = std::io::stdout().lock();
    match result["content"].as_str() {
        Some(svg) => writeln!(out, "{svg}")?,
        None => writeln!(out, "{}", serde_json::to_string_pretty(&result)?)?,
    }
    Ok(())
}
