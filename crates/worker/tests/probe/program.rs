//! The program that the tests of this crate start as their worker: both kinds of worker, with jobs that misbehave.

use std::process::ExitCode;
use std::time::Duration;

use netra_worker::{InputFile, JobError};
use serde_json::{Value, json};

#[global_allocator]
static GLOBAL: netra_memory::Allocator = netra_memory::Allocator::new();

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(netra_worker::SCRIPT_ARGUMENT) => netra_worker::subprocess_main(),
        Some(netra_worker::ANALYSIS_ARGUMENT) => netra_worker::analysis_main(job),
        _ => ExitCode::from(2),
    }
}

fn job(
    op: &str,
    arguments: Value,
    inputs: &[InputFile],
    time: Duration,
    progress: &mut dyn FnMut(f32, &str),
) -> Result<Value, JobError> {
    match op {
        "sizes" => {
            progress(0.5, "measuring");
            let size =
                |input: &InputFile| std::fs::metadata(&input.path).map_or(0, |data| data.len());
            Ok(inputs
                .iter()
                .map(|input| json!({ "name": input.name, "size": size(input) }))
                .collect())
        }
        "process" => {
            let environment = std::fs::read("/proc/self/environ").map_or(1, |bytes| bytes.len());
            let descriptors: Vec<String> = std::fs::read_dir("/proc/self/fd")
                .map(|entries| {
                    entries
                        .flatten()
                        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
                        .map(|target| target.to_string_lossy().into_owned())
                        .filter(|target| !target.starts_with("/proc/"))
                        .collect()
                })
                .unwrap_or_default();
            let id = std::process::id();
            Ok(json!({ "id": id, "environment": environment, "descriptors": descriptors }))
        }
        "allocate" => {
            let bytes = arguments["bytes"].as_u64().unwrap_or(0);
            let block = vec![1_u8; usize::try_from(bytes).unwrap_or(0)];
            Ok(json!(
                block.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            ))
        }
        "hoard" => {
            let mut hoard: Vec<String> = Vec::new();
            loop {
                hoard.push(format!("{:>100}", hoard.len()));
            }
        }
        "spin" => loop {
            std::hint::spin_loop();
        },
        "talk" => Ok(Value::String("x".repeat(1 << 20))),
        "panic" => std::panic::resume_unwind(Box::new("a bug")),
        "write" => match std::fs::write(arguments["path"].as_str().unwrap_or_default(), "text") {
            Ok(()) => Ok(Value::Null),
            Err(error) => Err(JobError {
                code: "io".to_owned(),
                message: error.to_string(),
                details: None,
            }),
        },
        _ if op.starts_with("log_") || op == "sql_query" => {
            netra_analytics::jobs::run(op, arguments, inputs, time, progress)
                .map_err(JobError::from)
        }
        _ => Err(JobError {
            code: "unknown_op".to_owned(),
            message: format!("there is no job {op}"),
            details: Some(json!({ "op": op })),
        }),
    }
}
