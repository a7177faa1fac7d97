//! The process that works on users' files for one run.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use netra_analytics::jobs::InputFile;
use serde_json::Value;

use crate::confine;
use crate::error::JobError;
use crate::frame::{self, Line};
use crate::wire::{FromAnalysis, ToAnalysis};

/// What the program can do with files, such as `netra_analytics::jobs::run`: carries out `op` with its arguments on
/// the inputs within a time, and may report its share of progress (0 to 1) with a word on what it is doing.
pub type JobFn<E = JobError> = fn(
    op: &str,
    arguments: Value,
    inputs: &[InputFile],
    time: Duration,
    progress: &mut dyn FnMut(f32, &str),
) -> Result<Value, E>;

/// The whole life of a worker for the files of one run. Call it first in `main` when the first argument is
/// [`crate::ANALYSIS_ARGUMENT`], and return what it returns.
pub fn analysis_main<E: Into<JobError> + 'static>(run: JobFn<E>) -> ExitCode {
    match work(run) {
        Ok(Some(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The limits and the files come from the server alone, so they are read before there is another thread.
fn work<E: Into<JobError> + 'static>(run: JobFn<E>) -> io::Result<Option<io::Result<()>>> {
    let Some(first) = Line::new(io::stdin().lock(), io::sink()).receive_message()? else {
        return Ok(Some(Ok(())));
    };
    let ToAnalysis::Limits {
        memory_bytes,
        output_bytes,
        wall_time_ms,
        files,
    } = first
    else {
        return Err(io::Error::other("a job before its limits"));
    };
    let mut confined = confine::confine(&files)?;
    netra_memory::worker::count_sqlite().map_err(io::Error::other)?;
    confined.limit_memory(memory_bytes)?;
    let time = Duration::from_millis(wall_time_ms);
    confine::on_large_stack(move || {
        let line = Line::new(io::stdin().lock(), io::stdout().lock());
        serve(line, (run, time), output_bytes)
    })
}

fn serve<R: Read, W: Write, E: Into<JobError>>(
    mut line: Line<R, W>,
    (run, time): (JobFn<E>, Duration),
    output_bytes: u64,
) -> io::Result<()> {
    while let Some(message) = line.receive_message()? {
        let ToAnalysis::Job {
            op,
            arguments,
            inputs,
        } = message
        else {
            return Err(io::Error::other("limits were given twice"));
        };
        let mut broken = None;
        let mut progress = |share: f32, message: &str| {
            let message = FromAnalysis::Progress {
                share,
                message: message.to_owned(),
            };
            if let Err(error) = line.send(&message) {
                broken = Some(error);
            }
        };
        let outcome = run(&op, arguments, &inputs, time, &mut progress);
        if let Some(error) = broken {
            return Err(error);
        }
        match outcome {
            Ok(result) => send_result(&mut line, result, output_bytes)?,
            Err(error) => line.send(&FromAnalysis::Failed(error.into()))?,
        }
    }
    Ok(())
}

fn send_result<R: Read, W: Write>(
    line: &mut Line<R, W>,
    result: Value,
    output_bytes: u64,
) -> io::Result<()> {
    let mut encoded = Vec::new();
    frame::append_message(&mut encoded, &FromAnalysis::Done { result })?;
    if encoded.len() as u64 > output_bytes {
        return line.send(&FromAnalysis::TooLarge);
    }
    line.send_encoded(&encoded)
}
