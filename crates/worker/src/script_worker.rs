//! The process that runs one script: monty, the line to the server, and nothing else.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::mem;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use monty::{
    Dump, MontyRepl, MontyRun, ReplFunctionCall, ReplProgress, ReplResolveFutures, ReplStartError,
    Session, SessionRef, dump,
};
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
    /// The variable whose value is wanted at the end.
    keeps: Option<String>,
    print: Printed,
}

/// A step of the script, or the exception that ended it. A script is the one snippet of a session, so that
/// its variables can be looked at when it has ended.
type Progress = Result<ReplProgress, Box<ReplStartError>>;

/// What the interpreter calls the one snippet; people know it by the script's name.
const SNIPPET: &str = "<python-input-0>";
/// Makes a call that `gather` is given: it is answered here, as nothing happens yet.
const DEFERRED: &str = "call";

impl<R: Read, W: Write> Worker<R, W> {
    fn new(line: Line<R, W>, confined: Confined) -> Worker<R, W> {
        Worker {
            line,
            confined,
            name: String::new(),
            functions: HashSet::new(),
            output_bytes: 0,
            memory_bytes: 0,
            keeps: None,
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
                keeps,
                limits,
            } => {
                let inputs = value::inputs(inputs);
                self.adopt(functions, limits)?;
                (self.name, self.keeps) = (name, keeps);
                let tracker = ResourceTracker::new(resources(limits));
                let session = MontyRepl::new(&self.name, tracker, CompileOptions::default());
                self.step(|print| session.feed_start(&code, inputs, print))?
            }
            ToScript::Check { name, code, limits } => {
                self.adopt(Vec::new(), limits)?;
                self.name = name;
                return self.check(code);
            }
            ToScript::Restore {
                functions,
                keeps,
                limits,
            } => {
                let Some((Kind::Snapshot, snapshot)) = self.line.receive()? else {
                    return Err(io::Error::other("no snapshot"));
                };
                self.adopt(functions, limits)?;
                self.keeps = keeps;
                let dump = Dump::load(&snapshot).map_err(io::Error::other)?;
                drop(snapshot);
                self.name = dump.script_name;
                let Session::Suspended(progress) = dump.state else {
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

    /// Reads a script without running it.
    fn check(&mut self, code: String) -> io::Result<()> {
        match MontyRun::new(code, &self.name, Vec::new(), CompileOptions::default()) {
            Ok(_) => self.line.send(&FromScript::Finished {
                value: Value::Null,
                kept: None,
            }),
            Err(exception) => self.failed(&exception),
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
            let computed_us = progress.as_ref().map_or(0, |at| micros(at.tracker()));
            progress = match progress {
                Err(ended) => return self.failed(&ended.error),
                Ok(ReplProgress::Complete { repl, value }) => return self.finished(repl, value),
                Ok(ReplProgress::NameLookup(lookup)) => {
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
                Ok(ReplProgress::OsCall(call)) => {
                    // A script has no file system, no environment and no clock, only its functions.
                    let denied = call.function_call.on_no_handler();
                    self.step(|print| call.resume(denied, print))?
                }
                Ok(ReplProgress::FunctionCall(call)) => self.call(call, computed_us)?,
                Ok(ReplProgress::ResolveFutures(futures)) => {
                    // The interpreter's order changes from run to run.
                    let mut pending = futures.pending_call_ids().to_vec();
                    pending.sort_unstable();
                    self.line.send(&FromScript::Waiting {
                        pending,
                        computed_us,
                    })?;
                    self.resume(ReplProgress::ResolveFutures(futures))?
                }
            }
        }
    }

    /// Announces a call and waits for its answer. Arguments that cannot leave the script raise `TypeError` in it.
    fn call(&mut self, mut call: ReplFunctionCall, computed_us: u64) -> io::Result<Progress> {
        if call.object_id.is_none() && !self.functions.contains(&call.function_name) {
            let unknown = ExtFunctionResult::NotFound(call.function_name.clone());
            return self.step(|print| call.resume(unknown, print));
        }
        if call.object_id.is_none() && call.function_name == DEFERRED {
            return match self.deferred(&call) {
                Ok(deferred) => self.step(|print| call.resume(deferred, print)),
                Err(what) => self.raise(call, &what),
            };
        }
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
            self.resume(ReplProgress::FunctionCall(call))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn raise(&mut self, call: ReplFunctionCall, message: &str) -> io::Result<Progress> {
        let exception = MontyException::new(ExcType::TypeError, Some(message.to_owned()));
        self.step(|print| call.resume(exception, print))
    }

    /// Waits for what the server has to say to a script that waits, and lets the script go on with it.
    fn resume(&mut self, suspended: ReplProgress) -> io::Result<Progress> {
        let message = loop {
            match self.line.receive_message()? {
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(ToScript::Snapshot) => {
                    confine::allow_snapshot(self.memory_bytes);
                    let snapshot = dump(&self.name, None, SessionRef::Suspended(&suspended));
                    self.line
                        .send_snapshot(&snapshot.map_err(io::Error::other)?)?;
                }
                Some(message) => break message,
            }
        };
        match (message, suspended) {
            (ToScript::Answer(answer), ReplProgress::FunctionCall(call)) => {
                let answer = external(answer);
                self.step(|print| call.resume(answer, print))
            }
            (ToScript::Defer, ReplProgress::FunctionCall(call)) => {
                self.step(|print| call.resume_pending(print))
            }
            (ToScript::Resolve(answers), ReplProgress::ResolveFutures(futures)) => {
                self.resolve(futures, answers)
            }
            _ => Err(io::Error::other("an answer to what was not asked")),
        }
    }

    fn resolve(
        &mut self,
        futures: ReplResolveFutures,
        answers: Vec<(u32, Answer)>,
    ) -> io::Result<Progress> {
        let answers = answers
            .into_iter()
            .map(|(id, answer)| (id, external(answer)))
            .collect();
        self.step(|print| futures.resume(answers, print))
    }

    /// A call that is to be made later, as a value: what it calls, and with what.
    fn deferred(&self, call: &ReplFunctionCall) -> Result<MontyObject, String> {
        let Some((MontyObject::Function { name, .. }, args)) = call.args.split_first() else {
            return Err(format!(
                "{DEFERRED}() needs one of the script's functions first"
            ));
        };
        if !self.functions.contains(name) {
            return Err(format!("{DEFERRED}() cannot make calls of {name}()"));
        }
        let field = |name: &str, value| (MontyObject::String(name.to_owned()), value);
        let fields = [
            field("function", MontyObject::String(name.clone())),
            field("args", MontyObject::List(args.to_vec())),
            field(
                "kwargs",
                MontyObject::Dict(call.kwargs.iter().cloned().collect()),
            ),
        ];
        Ok(MontyObject::Dict(fields.into_iter().collect()))
    }

    fn finished(&mut self, mut session: MontyRepl, result: MontyObject) -> io::Result<()> {
        let kept = match self.keeps.take() {
            None => Ok(None),
            Some(name) => match session.feed_run(&name, Vec::new(), PrintWriter::Disabled) {
                Ok(kept) => value::to_json(kept)
                    .map(Some)
                    .map_err(|what| format!("{name} holds what cannot leave the script: {what}")),
                Err(exception) => return self.failed(&exception),
            },
        };
        let result = value::to_json(result)
            .map_err(|what| format!("the script ends with what cannot leave it: {what}"));
        match result.and_then(|value| Ok((value, kept?))) {
            Ok((value, kept)) => self
                .send_within_limit(&FromScript::Finished { value, kept })
                .map(drop),
            Err(message) => self
                .line
                .send(&FromScript::Failed(Failure::Raised(Traceback {
                    kind: "TypeError".to_owned(),
                    message,
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
                traceback: exception.to_string().replace(SNIPPET, &self.name),
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

fn announce(call: &ReplFunctionCall, computed_us: u64) -> Result<FromScript, String> {
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
