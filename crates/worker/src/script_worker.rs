//! The process that runs one script: monty, the line to the server, and nothing else.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::mem;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use monty::{Dump, FunctionCall, MontyRun, ResolveFutures, RunProgress, Session, SessionRef, dump};
use monty_types::{
    CompileOptions, ExcType, ExtFunctionResult, MontyException, MontyObject, NameLookupResult,
    PrintWriter, PrintWriterCallback, ResourceLimits, ResourceTracker,
};
use serde_json::Value;

use crate::confine::{self, Confined};
use crate::error::Traceback;
use crate::frame::{self, Kind, Line};
use crate::value;
use crate::wire::{Answer, Failure, FromScript, ScriptLimits, ToScript};

/// Printed text is sent when this much has collected, or when the oldest of it has waited this long.
const PRINT_BYTES: usize = 8 * 1024;
const PRINT_WAIT: Duration = Duration::from_millis(10);

/// The whole life of a worker for one script. Call it first in `main` when the first argument is
/// [`crate::SCRIPT_ARGUMENT`], and return what it returns.
pub fn subprocess_main() -> ExitCode {
    match work() {
        Ok(Some(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn work() -> io::Result<Option<io::Result<()>>> {
    let confined = confine::confine(&[])?;
    // Everything that is not trusted is parsed on the thread that has the stack for it.
    confine::on_large_stack(move || {
        let (input, output) = (io::stdin().lock(), io::stdout().lock());
        Worker::new(Line::new(input, output), confined).serve()
    })
}

struct Worker<R, W> {
    line: Line<R, W>,
    confined: Confined,
    name: String,
    functions: HashSet<String>,
    output_bytes: u64,
    memory_bytes: u64,
    print: Printed,
}

/// A step of the script, or the exception that ended it.
type Progress = Result<RunProgress, MontyException>;

impl<R: Read, W: Write> Worker<R, W> {
    fn new(line: Line<R, W>, confined: Confined) -> Worker<R, W> {
        Worker {
            line,
            confined,
            name: String::new(),
            functions: HashSet::new(),
            output_bytes: 0,
            memory_bytes: 0,
            print: Printed::default(),
        }
    }

    /// Runs one script, from its beginning or from a snapshot, to its end.
    fn serve(mut self) -> io::Result<()> {
        let Some(first) = self.line.receive_message()? else {
            return Ok(());
        };
        let progress = match first {
            ToScript::Start {
                name,
                code,
                inputs,
                functions,
                limits,
            } => {
                let (names, values) = value::inputs(inputs);
                self.adopt(functions, limits)?;
                self.name = name;
                let run = MontyRun::new(code, &self.name, names, CompileOptions::default());
                let tracker = ResourceTracker::new(resources(limits));
                self.step(|print| run?.start(values, tracker, print))?
            }
            ToScript::Restore { functions, limits } => {
                let Some((Kind::Snapshot, snapshot)) = self.line.receive()? else {
                    return Err(io::Error::other("no snapshot"));
                };
                self.adopt(functions, limits)?;
                let dump = Dump::load(&snapshot).map_err(io::Error::other)?;
                drop(snapshot);
                self.name = dump.script_name;
                let Session::Running(progress) = dump.state else {
                    return Err(io::Error::other("not a snapshot of a script"));
                };
                self.resume(*progress)?
            }
            _ => return Err(io::Error::other("nothing to run")),
        };
        match self.drive(progress) {
            // The server is gone, or has nothing more to say: either way nobody waits for this script.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            other => other,
        }
    }

    fn adopt(&mut self, functions: Vec<String>, limits: ScriptLimits) -> io::Result<()> {
        self.functions = functions.into_iter().collect();
        self.output_bytes = limits.output_bytes;
        self.memory_bytes = limits.memory_bytes;
        confine::limit_processor(Duration::from_micros(limits.run_time_us))?;
        self.confined.limit_memory(limits.memory_bytes)
    }

    /// Lets the script run to its next stop, and sends what it has printed by then.
    fn step(&mut self, run: impl FnOnce(PrintWriter<'_>) -> Progress) -> io::Result<Progress> {
        let mut writer = Printer {
            line: &mut self.line,
            printed: &mut self.print,
            broken: None,
        };
        let progress = run(PrintWriter::Callback(&mut writer));
        writer.flush();
        match writer.broken {
            Some(error) => Err(error),
            None => Ok(progress),
        }
    }

    fn drive(&mut self, first: Progress) -> io::Result<()> {
        let mut progress = first;
        loop {
            progress = match progress {
                Err(exception) => return self.failed(&exception),
                Ok(RunProgress::Complete(result)) => return self.finished(result),
                Ok(RunProgress::NameLookup(lookup)) => {
                    let known =
                        lookup.object_id().is_none() && self.functions.contains(&lookup.name);
                    let answer = if known {
                        let name = lookup.name.clone();
                        NameLookupResult::Value(MontyObject::Function {
                            name,
                            docstring: None,
                        })
                    } else {
                        NameLookupResult::Undefined
                    };
                    self.step(|print| lookup.resume(answer, print))?
                }
                Ok(RunProgress::OsCall(call)) => {
                    // A script has no file system, no environment and no clock, only its functions.
                    let denied = call.function_call.on_no_handler();
                    self.step(|print| call.resume(denied, print))?
                }
                Ok(RunProgress::FunctionCall(call)) => self.call(call)?,
                Ok(RunProgress::ResolveFutures(futures)) => {
                    // The interpreter's order changes from run to run.
                    let mut pending = futures.pending_call_ids().to_vec();
                    pending.sort_unstable();
                    self.line.send(&FromScript::Waiting {
                        pending,
                        computed_us: micros(futures.tracker()),
                    })?;
                    self.resume(RunProgress::ResolveFutures(futures))?
                }
            }
        }
    }

    /// Announces a call and waits for its answer. Arguments that cannot leave the script raise `TypeError` in it.
    fn call(&mut self, mut call: FunctionCall) -> io::Result<Progress> {
        if call.object_id.is_none() && !self.functions.contains(&call.function_name) {
            let unknown = ExtFunctionResult::NotFound(call.function_name.clone());
            return self.step(|print| call.resume(unknown, print));
        }
        let computed_us = micros(call.tracker());
        // Cloned: a snapshot that is taken while the script waits must hold them too.
        let announced = match (announce(&call, computed_us), call.object_id) {
            (Ok(announced), None) => announced,
            (Ok(_), Some(_)) => return self.raise(call, "objects of the host do not exist here"),
            (Err(what), _) => {
                let name = mem::take(&mut call.function_name);
                return self.raise(
                    call,
                    &format!("{name}() was given what cannot leave a script: {what}"),
                );
            }
        };
        if self.send_within_limit(&announced)? {
            self.resume(RunProgress::FunctionCall(call))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn raise(&mut self, call: FunctionCall, message: &str) -> io::Result<Progress> {
        let exception = MontyException::new(ExcType::TypeError, Some(message.to_owned()));
        self.step(|print| call.resume(exception, print))
    }

    /// Waits for what the server has to say to a script that waits, and lets the script go on with it.
    fn resume(&mut self, suspended: RunProgress) -> io::Result<Progress> {
        let message = loop {
            match self.line.receive_message()? {
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(ToScript::Snapshot) => {
                    confine::allow_snapshot(self.memory_bytes);
                    let snapshot = dump(&self.name, None, SessionRef::Running(&suspended));
                    self.line
                        .send_snapshot(&snapshot.map_err(io::Error::other)?)?;
                }
                Some(message) => break message,
            }
        };
        match (message, suspended) {
            (ToScript::Answer(answer), RunProgress::FunctionCall(call)) => {
                let answer = external(answer);
                self.step(|print| call.resume(answer, print))
            }
            (ToScript::Defer, RunProgress::FunctionCall(call)) => {
                self.step(|print| call.resume_pending(print))
            }
            (ToScript::Resolve(answers), RunProgress::ResolveFutures(futures)) => {
                self.resolve(futures, answers)
            }
            _ => Err(io::Error::other("an answer to what was not asked")),
        }
    }

    fn resolve(
        &mut self,
        futures: ResolveFutures,
        answers: Vec<(u32, Answer)>,
    ) -> io::Result<Progress> {
        let answers = answers
            .into_iter()
            .map(|(id, answer)| (id, external(answer)))
            .collect();
        self.step(|print| futures.resume(answers, print))
    }

    fn finished(&mut self, result: MontyObject) -> io::Result<()> {
        match value::to_json(result) {
            Ok(value) => self
                .send_within_limit(&FromScript::Finished { value })
                .map(drop),
            Err(what) => self
                .line
                .send(&FromScript::Failed(Failure::Raised(Traceback {
                    kind: "TypeError".to_owned(),
                    message: format!("the script ends with what cannot leave it: {what}"),
                    line: None,
                    traceback: String::new(),
                }))),
        }
    }

    fn failed(&mut self, exception: &MontyException) -> io::Result<()> {
        let message = exception.message().unwrap_or_default();
        let failure = match exception.exc_type() {
            ExcType::MemoryError if message.starts_with("memory limit exceeded") => Failure::Memory,
            ExcType::TimeoutError if message.starts_with("time limit exceeded") => Failure::Time,
            kind => Failure::Raised(Traceback {
                kind: kind.to_string(),
                message: message.to_owned(),
                line: exception.traceback().last().map(|frame| frame.start.line),
                traceback: exception.to_string(),
            }),
        };
        self.line.send(&FromScript::Failed(failure))
    }

    /// Sends a message, or says that it is too large and returns false.
    fn send_within_limit(&mut self, message: &FromScript) -> io::Result<bool> {
        let mut encoded = Vec::new();
        frame::append_message(&mut encoded, message)?;
        let fits = encoded.len() as u64 <= self.output_bytes;
        if fits {
            self.line.send_encoded(&encoded)?;
        } else {
            self.line.send(&FromScript::Failed(Failure::Output))?;
        }
        Ok(fits)
    }
}

fn announce(call: &FunctionCall, computed_us: u64) -> Result<FromScript, String> {
    let args = call
        .args
        .iter()
        .cloned()
        .map(value::to_json)
        .collect::<Result<Vec<Value>, _>>()?;
    Ok(FromScript::Call {
        id: call.call_id,
        name: call.function_name.clone(),
        args,
        kwargs: value::keywords(call.kwargs.clone())?,
        computed_us,
    })
}

fn external(answer: Answer) -> ExtFunctionResult {
    match answer {
        Ok(value) => ExtFunctionResult::Return(value::to_script(value)),
        Err(exception) => {
            let kind = exception.kind.parse().unwrap_or(ExcType::RuntimeError);
            ExtFunctionResult::Error(MontyException::new(kind, Some(exception.message)))
        }
    }
}

fn resources(limits: ScriptLimits) -> ResourceLimits {
    ResourceLimits::default()
        .max_duration(Duration::from_micros(limits.run_time_us))
        .max_memory(usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX))
        .max_recursion_depth(limits.recursion)
}

fn micros(tracker: &ResourceTracker) -> u64 {
    u64::try_from(tracker.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Text that was printed and not sent yet.
#[derive(Default)]
struct Printed {
    text: String,
    since: Option<Instant>,
}

/// Sends what the script prints, in pieces that are neither tiny nor late.
struct Printer<'a, R, W> {
    line: &'a mut Line<R, W>,
    printed: &'a mut Printed,
    broken: Option<io::Error>,
}

impl<R: Read, W: Write> Printer<'_, R, W> {
    fn push(&mut self, text: &str) -> Result<(), MontyException> {
        self.printed.text.push_str(text);
        if self.printed.since.is_none() {
            self.printed.since = Some(Instant::now());
        }
        self.flush_if_due()
    }

    fn flush_if_due(&mut self) -> Result<(), MontyException> {
        let late = self
            .printed
            .since
            .is_some_and(|since| since.elapsed() >= PRINT_WAIT);
        if late || self.printed.text.len() >= PRINT_BYTES {
            self.flush();
        }
        match self.broken {
            Some(_) => Err(MontyException::runtime_error(
                "nobody reads what is printed",
            )),
            None => Ok(()),
        }
    }

    fn flush(&mut self) {
        self.printed.since = None;
        if self.printed.text.is_empty() {
            return;
        }
        let text = mem::take(&mut self.printed.text);
        if let Err(error) = self.line.send(&FromScript::Printed { text }) {
            self.broken = Some(error);
        }
    }
}

impl<R: Read, W: Write> PrintWriterCallback for Printer<'_, R, W> {
    fn stdout_write(&mut self, output: Cow<'_, str>) -> Result<(), MontyException> {
        self.push(&output)
    }

    fn stdout_push(&mut self, end: char) -> Result<(), MontyException> {
        self.push(end.encode_utf8(&mut [0; 4]))
    }

    fn poll_flush(&mut self) -> Result<(), MontyException> {
        self.flush_if_due()
    }
}
