//! Scripts as the server drives them: start, take the next step, answer, until the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_memory::Scope;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use crate::SCRIPT_ARGUMENT;
use crate::error::{Error, ScriptException};
use crate::frame::{Kind, MAX_BODY};
use crate::limits::{Config, Limits};
use crate::meter::Meter;
use crate::process::{End, Lost};
use crate::room::{Promise, Room};
use crate::seats::{Owner, Parking, Regained, Seated, Seats, Sitter};
use crate::wire::{Failure, FromScript, ScriptLimits, ToScript};

/// How long after the end of its time a worker that does not stop by itself is killed. It covers the start of the
/// process and the way of its last message.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// What a message may have around the part that the output limit counts.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// The workers that run scripts; one per server. Clones share them.
#[derive(Clone, Debug)]
pub struct ScriptPool {
    seats: Arc<Seats>,
    room: Room,
}

/// A script and what it is given.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name that tracebacks show, such as `agents/optimizer/agent.py`.
    pub name: String,
    /// The Python text. The value of its last expression is its result.
    pub code: String,
    /// Variables that it finds set. The names must be identifiers.
    pub inputs: Map<String, Value>,
    /// Names of the functions that it can call and the server answers. Where `call` is among them, the worker itself
    /// answers that: `call(f, …)` is a call of `f` as a value, not made yet.
    pub functions: Vec<String>,
    /// The variable whose value is wanted at the end, see [`Script::kept`].
    pub keeps: Option<String>,
}

/// What a script did next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It called one of its functions, and waits. Use [`Script::answer`] or [`Script::defer`].
    Call {
        /// Names this call, for [`Script::resolve`].
        id: u32,
        /// The function.
        name: String,
        /// Its positional arguments.
        args: Vec<Value>,
        /// Its keyword arguments.
        kwargs: Map<String, Value>,
    },
    /// It printed this, and goes on.
    Printed(String),
    /// All it can do is wait for these deferred calls. Use [`Script::resolve`].
    Waiting(Vec<u32>),
    /// It ended with this result.
    Finished(Value),
}

/// One run of a script. Dropping it kills its worker at once.
///
/// While it waits for an answer it keeps its worker, unless another script needs one: then its state is kept instead,
/// and it gets a fresh worker when it goes on. So scripts that wait for other scripts cannot block them.
#[derive(Debug)]
pub struct Script {
    seats: Arc<Seats>,
    owner: Owner,
    room: Room,
    /// What it may have where there is enough.
    most: u64,
    functions: Vec<String>,
    keeps: Option<String>,
    kept: Option<Value>,
    /// How often it has asked the server.
    suspensions: u32,
    limits: Limits,
    scope: Scope,
    meter: Meter,
    state: State,
    /// The call that it made last.
    last_call: u32,
    /// Calls that are to be answered later.
    deferred: BTreeSet<u32>,
    /// How long it has computed, as its worker says.
    computed: Duration,
    printed_bytes: u64,
    /// What its worker may fill, as long as it has one; given back after the worker.
    promise: Option<Promise>,
}

#[derive(Debug)]
enum State {
    /// The worker computes until this time at the latest.
    Running(Seated, Instant),
    /// The script waits for an answer that has not been given.
    Asking(Arc<Parking>, Asked),
    /// The script waits, and this will be said to it at the next step.
    Answered(Arc<Parking>, ToScript),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Call,
    Deferred,
}

impl ScriptPool {
    /// A pool that has started nothing yet.
    pub fn new(config: Config) -> ScriptPool {
        ScriptPool {
            seats: Arc::new(Seats::new(config, SCRIPT_ARGUMENT)),
            room: Room::default(),
        }
    }

    /// Starts the configured number of warm workers. Must be called within a tokio runtime. Without it the first
    /// script does this.
    pub fn warm_up(&self) {
        self.seats.warm_up();
    }

    /// How many idle workers are ready now.
    pub fn warm_workers(&self) -> usize {
        self.seats.nursery().ready()
    }

    /// How many processes of this pool the system has now, ready or not.
    pub fn living_workers(&self) -> usize {
        self.seats.nursery().living()
    }

    /// Gives a script to a worker, as soon as there is one for it: users take turns, and the last worker is for a
    /// user who has none at work. The wait has no limit of its own: it counts toward the caller's deadline. What the
    /// script holds is charged to the memory scope that this is called in.
    pub async fn start(
        &self,
        ctx: &UserExecutionContext,
        source: Source,
        limits: Limits,
    ) -> Result<Script, Error> {
        self.start_metered(ctx, source, limits, Meter::default())
            .await
    }

    /// Like [`ScriptPool::start`], and `meter` reads this script's memory as long as there is the script. A meter has
    /// one script at a time.
    pub async fn start_metered(
        &self,
        ctx: &UserExecutionContext,
        source: Source,
        limits: Limits,
        meter: Meter,
    ) -> Result<Script, Error> {
        let begun = Begun {
            functions: source.functions.clone(),
            keeps: source.keeps.clone(),
        };
        let first = |limits| ToScript::Start {
            name: source.name,
            code: source.code,
            inputs: source.inputs,
            functions: source.functions,
            keeps: source.keeps,
            limits,
        };
        self.begin(ctx, first, begun, limits, meter).await
    }

    /// Whether a script can be read. It is not run.
    ///
    /// # Errors
    /// [`Error::Script`] with the line where it cannot; anything else says nothing of the script.
    pub async fn check(
        &self,
        ctx: &UserExecutionContext,
        name: String,
        code: String,
    ) -> Result<(), Error> {
        let first = |limits| ToScript::Check { name, code, limits };
        let (begun, meter) = (Begun::default(), Meter::default());
        let script = self.begin(ctx, first, begun, Limits::default(), meter);
        match script.await?.next().await? {
            Step::Finished(_) => Ok(()),
            _ => Err(Error::Protocol("it runs what it is to read".to_owned())),
        }
    }

    async fn begin(
        &self,
        ctx: &UserExecutionContext,
        first: impl FnOnce(ScriptLimits) -> ToScript,
        begun: Begun,
        limits: Limits,
        meter: Meter,
    ) -> Result<Script, Error> {
        let owner = ctx.user_id();
        let mut seated = self.seats.sit(owner).await?;
        // It stops by itself where the part of its user's memory ends that it is promised.
        let (scope, most) = (Scope::current(), limits.memory_bytes);
        meter.set(seated.process.id());
        let promise = self.room.promise(scope, owner, &meter, most);
        let limits = Limits {
            memory_bytes: promise.bytes,
            ..limits
        };
        let first = first(limits.into());
        seated.process.queue(&first).map_err(unsendable)?;
        Ok(Script {
            seats: Arc::clone(&self.seats),
            owner,
            room: self.room.clone(),
            promise: Some(promise),
            functions: begun.functions,
            keeps: begun.keeps,
            kept: None,
            suspensions: 0,
            limits,
            most,
            scope,
            meter,
            state: State::Running(seated, Instant::now() + limits.run_time + KILL_GRACE),
            last_call: 0,
            deferred: BTreeSet::new(),
            computed: Duration::ZERO,
            printed_bytes: 0,
        })
    }
}

/// What a script is held to from its first message on.
#[derive(Default)]
struct Begun {
    functions: Vec<String>,
    keeps: Option<String>,
}

impl Script {
    /// Waits for what the script does next. After [`Step::Call`] and [`Step::Waiting`] it must be answered first.
    /// Dropping the future loses nothing; the next call goes on waiting.
    pub async fn next(&mut self) -> Result<Step, Error> {
        if matches!(self.state, State::Answered(..)) {
            self.go_on().await?;
        }
        let (seated, until) = match &mut self.state {
            State::Running(seated, until) => (seated, *until),
            State::Asking(..) => return Err(Error::Misuse("it waits for an answer")),
            State::Answered(..) | State::Ended => return Err(Error::Misuse("it has ended")),
        };
        let process = &mut seated.process;
        let max = usize::try_from(self.limits.output_bytes)
            .unwrap_or(MAX_BODY)
            .min(MAX_BODY);
        let received = timeout_at(until, async {
            if process.owes_snapshot {
                // It was asked for when another script was short of workers, and is not needed any more.
                if let (Kind::Message, _) = process.receive(MAX_BODY).await? {
                    return Err(Lost::Nonsense("no snapshot came".to_owned()));
                }
                process.owes_snapshot = false;
            }
            process
                .receive_message::<FromScript>(max + ENVELOPE_BYTES)
                .await
        });
        let outcome = match received.await {
            Ok(Ok(message)) => self.digest(message),
            Ok(Err(lost)) => Err(self.lost(lost)),
            Err(_) => Err(self.time_limit()),
        };
        if outcome.is_err() {
            self.state = State::Ended;
        }
        if matches!(self.state, State::Ended) {
            self.meter.set(None);
            self.promise = None;
        }
        outcome
    }

    /// Answers the call that the script waits for: with a value, or with an exception that the call raises.
    pub fn answer(&mut self, answer: Result<Value, ScriptException>) {
        self.say(Asked::Call, ToScript::Answer(answer));
    }

    /// Lets the script go on without the answer: its call returns something to `await`. The answer is due when the
    /// script reports [`Step::Waiting`]; so calls under `asyncio.gather` run at the same time.
    pub fn defer(&mut self) {
        self.deferred.insert(self.last_call);
        self.say(Asked::Call, ToScript::Defer);
    }

    /// Answers a deferred call that the script is [`Step::Waiting`] for. Several can be answered before the next step.
    pub fn resolve(&mut self, id: u32, answer: Result<Value, ScriptException>) {
        self.deferred.remove(&id);
        if let State::Answered(_, ToScript::Resolve(answers)) = &mut self.state {
            answers.push((id, answer));
        } else {
            self.say(Asked::Deferred, ToScript::Resolve(vec![(id, answer)]));
        }
    }

    /// Memory that is its worker's alone, in bytes, now; 0 while it has none.
    pub fn worker_bytes(&self) -> u64 {
        self.meter.bytes()
    }

    /// Reads the same from elsewhere, while a step is awaited.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// What the variable of [`Source::keeps`] held at the end.
    pub fn kept(&mut self) -> Option<Value> {
        self.kept.take()
    }

    /// How long it has computed up to its last call.
    pub fn computed(&self) -> Duration {
        self.computed
    }

    fn say(&mut self, expected: Asked, message: ToScript) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Asking(parking, asked) if asked == expected => State::Answered(parking, message),
            // An answer to what was not asked: the next step says so.
            other => other,
        };
    }

    /// Gets a worker for a script that has its answer, and puts the answer in line.
    async fn go_on(&mut self) -> Result<(), Error> {
        let State::Answered(parking, _) = &self.state else {
            return Ok(());
        };
        let regained = self.seats.regain(parking).await;
        let State::Answered(_, message) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        let mut seated = match regained? {
            Regained::Same(seated) => seated,
            Regained::Fresh(mut seated, snapshot) => {
                self.meter.set(seated.process.id());
                self.promise = None;
                let (owner, most) = (self.owner, self.most);
                let promise = self.room.promise(self.scope, owner, &self.meter, most);
                self.limits.memory_bytes = promise.bytes;
                self.promise = Some(promise);
                let restore = ToScript::Restore {
                    functions: self.functions.clone(),
                    keeps: self.keeps.clone(),
                    limits: self.limits.into(),
                };
                seated.process.queue(&restore).map_err(unsendable)?;
                seated
                    .process
                    .queue_snapshot(&snapshot)
                    .map_err(unsendable)?;
                seated
            }
            Regained::Lost(lost) => return Err(self.lost(lost)),
        };
        seated.process.queue(&message).map_err(unsendable)?;
        self.meter.set(seated.process.id());
        let left = self.limits.run_time.saturating_sub(self.computed);
        self.state = State::Running(seated, Instant::now() + left + KILL_GRACE);
        Ok(())
    }

    fn digest(&mut self, message: FromScript) -> Result<Step, Error> {
        match message {
            FromScript::Printed { text } => {
                self.printed_bytes = self.printed_bytes.saturating_add(text.len() as u64);
                if self.printed_bytes > self.limits.output_bytes {
                    return Err(self.output_limit());
                }
                Ok(Step::Printed(text))
            }
            FromScript::Call {
                id,
                name,
                args,
                kwargs,
                computed_us,
            } => {
                if !self.functions.contains(&name) {
                    return Err(Error::Protocol("a call of an unknown function".to_owned()));
                }
                self.suspensions += 1;
                if self.suspensions > self.limits.suspensions {
                    return Err(Error::SuspensionLimit {
                        limit: self.limits.suspensions,
                    });
                }
                self.last_call = id;
                self.wait(Asked::Call, computed_us);
                Ok(Step::Call {
                    id,
                    name,
                    args,
                    kwargs,
                })
            }
            FromScript::Waiting {
                pending,
                computed_us,
            } => {
                if pending.is_empty() || !pending.iter().all(|id| self.deferred.contains(id)) {
                    return Err(Error::Protocol(
                        "it waits for what was not deferred".to_owned(),
                    ));
                }
                self.wait(Asked::Deferred, computed_us);
                Ok(Step::Waiting(pending))
            }
            FromScript::Finished { value, kept } => {
                self.state = State::Ended;
                self.kept = kept;
                Ok(Step::Finished(value))
            }
            FromScript::Failed(failure) => Err(match failure {
                Failure::Memory => self.memory_limit(),
                Failure::Time => self.time_limit(),
                Failure::Output => self.output_limit(),
                Failure::Raised(traceback) => Error::Script(traceback),
            }),
        }
    }

    fn wait(&mut self, asked: Asked, computed_us: u64) {
        self.computed = self.computed.max(Duration::from_micros(computed_us));
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Running(seated, _) => {
                let memory = usize::try_from(self.limits.memory_bytes).unwrap_or(MAX_BODY);
                let max_snapshot = memory.saturating_mul(2).min(MAX_BODY);
                let meter = self.meter.clone();
                let sitter = Sitter {
                    owner: self.owner,
                    scope: self.scope,
                    meter,
                    max_snapshot,
                };
                State::Asking(self.seats.wait(seated, sitter), asked)
            }
            other => other,
        };
    }

    fn lost(&self, lost: Lost) -> Error {
        match lost {
            Lost::Ended(status) => match Lost::end(status) {
                End::Memory => self.memory_limit(),
                End::Time => self.time_limit(),
                End::Other(status) => Error::WorkerDied { status },
            },
            Lost::TooLarge => self.output_limit(),
            Lost::NoRoom(over) => Error::NoRoom(over),
            Lost::Nonsense(what) => Error::Protocol(what),
        }
    }

    fn memory_limit(&self) -> Error {
        Error::MemoryLimit {
            limit_bytes: self.limits.memory_bytes,
        }
    }

    fn time_limit(&self) -> Error {
        Error::TimeLimit {
            limit: self.limits.run_time,
        }
    }

    fn output_limit(&self) -> Error {
        Error::OutputLimit {
            limit_bytes: self.limits.output_bytes,
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.meter.set(None);
    }
}

fn unsendable(error: std::io::Error) -> Error {
    Error::Protocol(format!("it cannot be told: {error}"))
}

impl From<Limits> for ScriptLimits {
    fn from(limits: Limits) -> ScriptLimits {
        ScriptLimits {
            memory_bytes: limits.memory_bytes,
            run_time_us: u64::try_from(limits.run_time.as_micros()).unwrap_or(u64::MAX),
            recursion: limits.recursion,
            output_bytes: limits.output_bytes,
        }
    }
}
