//! The program that the tests of this crate start as their worker: both kinds of worker, with jobs that
//! misbehave, and what holds foreign programs.

mod escape;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use netra_worker::{InputFile, JobError, sandbox};
use serde_json::{Value, json};

#[global_allocator]
static GLOBAL: netra_memory::Allocator = netra_memory::Allocator::new();

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(netra_worker::SCRIPT_ARGUMENT) => netra_worker::subprocess_main(),
        Some(netra_worker::ANALYSIS_ARGUMENT) => netra_worker::analysis_main(job),
        Some(sandbox::SANDBOX_ARGUMENT) => sandbox::supervisor_main(),
        Some(sandbox::STAGE_ARGUMENT) => {
            sandbox::stage_main(&std::env::args().nth(2).unwrap_or_default())
        }
        Some("escape") => escape::main(std::env::args().skip(2)),
        Some("server") => server::main(std::env::args().skip(2)),
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
        "process" => Ok(json!({ "id": std::process::id() })),
        // What is not a worker's business: each must be refused.
        "read" => tell(std::fs::read_to_string(path(&arguments))),
        "list" => tell(std::fs::read_dir(path(&arguments)).map(|_| Value::Null)),
        "spawn" => tell(
            std::process::Command::new("/bin/true")
                .status()
                .map(|_| Value::Null),
        ),
        "connect" => tell(std::net::TcpStream::connect("127.0.0.1:9").map(|_| Value::Null)),
        "unix_socket" => tell(std::os::unix::net::UnixDatagram::unbound().map(|_| Value::Null)),
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
        "write" => tell(std::fs::write(path(&arguments), "text").map(|()| Value::Null)),
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

fn path(arguments: &Value) -> &str {
    arguments["path"].as_str().unwrap_or_default()
}

/// What came of it: the error's number where it failed.
fn tell<T: Into<Value>>(outcome: std::io::Result<T>) -> Result<Value, JobError> {
    outcome.map(Into::into).map_err(|error| JobError {
        code: "io".to_owned(),
        message: error.to_string(),
        details: error.raw_os_error().map(Value::from),
    })
}
