//! What the tool calls of one run share: its files, its artifacts, its workers.

use std::any::Any;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use netra_context::{Secret, UserExecutionContext};
use netra_events::{Emission, UserWebSocketEmitter};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::file::File;
use netra_protocol::id::{FileId, ToolCallId};
use netra_store::{Changes, Idempotency, JournalEntry, JournalKind, Readable, Secrets, Store};
use netra_worker::{
    Analysis, AnalysisLimits, Error as WorkerError, InputFile, Job, Limits, Meter, ScriptPool,
    Source, Step,
};
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::dispatcher::Caller;
use crate::redact::Redaction;
use crate::short::cut_text;
use crate::tool::Call;

/// The most bytes that one artifact may have.
const MAX_ARTIFACT_BYTES: u64 = 16 * 1024 * 1024;
/// The most bytes that one analysis may give back.
const MAX_ANALYSIS_BYTES: u64 = 8 * 1024 * 1024;
/// The longest words of progress in an event, in bytes.
const MAX_PROGRESS_BYTES: usize = 1024;

/// What the tool calls of one run share. Owned by the run's dispatcher; dropping it ends the
/// run's worker process.
pub struct RunScope {
    store: Store,
    secrets: Secrets,
    /// What its tools were given of them.
    redaction: Redaction,
    /// The names of these, as the journal has them.
    given: Mutex<BTreeSet<String>>,
    emitter: Arc<UserWebSocketEmitter>,
    files: Vec<File>,
    /// Files of an earlier attempt that the user has been told of.
    announced: parking_lot::Mutex<HashSet<FileId>>,
    /// One process for all analyses of the run, started by the first; one job at a time.
    analysis: Mutex<Analysis>,
    /// Where programs of the run's agents compute.
    scripts: ScriptPool,
    /// Reads the one program that computes now.
    program: Mutex<Meter>,
    meters: [Meter; 2],
    /// What tools keep for as long as the run, by a name of theirs.
    kept: parking_lot::Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
}

impl RunScope {
    pub(crate) fn new(
        (store, secrets): (Store, Secrets),
        emitter: Arc<UserWebSocketEmitter>,
        files: Vec<File>,
        analysis: Analysis,
        scripts: ScriptPool,
    ) -> Self {
        let program = Meter::default();
        let meters = [analysis.meter(), program.clone()];
        Self {
            store,
            secrets,
            redaction: Redaction::default(),
            given: Mutex::default(),
            emitter,
            files,
            announced: parking_lot::Mutex::default(),
            analysis: Mutex::new(analysis),
            scripts,
            program: Mutex::new(program),
            meters,
            kept: parking_lot::Mutex::default(),
        }
    }

    /// Read the memory of the worker processes that the run's tools have.
    pub fn meters(&self) -> [Meter; 2] {
        self.meters.clone()
    }

    /// What a tool keeps under this name until the run's engine ends; `make` is called where there
    /// is nothing yet, or something of another type.
    pub fn kept<T: Any + Send + Sync>(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut kept = self.kept.lock();
        let found = kept.get(name).cloned().map(Arc::downcast::<T>);
        if let Some(Ok(found)) = found {
            return found;
        }
        let made = Arc::new(make());
        kept.insert(name.to_owned(), Arc::clone(&made) as _);
        made
    }

    pub(crate) fn emitter(&self) -> &UserWebSocketEmitter {
        &self.emitter
    }

    /// Where the user's files and notes are; each call says on whose behalf it looks.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Opens a secret, by its name, for whoever sends it to this place: `api.example.com`, or with a port
    /// where that is not 443. What comes back from there has it no more.
    ///
    /// # Errors
    /// In words, where there is none, or none for this place.
    pub async fn secret(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
        place: &str,
    ) -> Result<Secret, String> {
        let opened = self.secrets.reveal(ctx, name, place).await;
        let secret = opened.map_err(|error| match error {
            netra_store::Error::NotFound => format!("there is no secret {name:?}"),
            netra_store::Error::Conflict(_) => {
                format!("the secret {name:?} is not for {place}; its owner says where it may go")
            }
            error => format!("the secret {name:?} cannot be opened: {error}"),
        })?;
        self.redaction.add(name, &secret);
        self.note_given(ctx, name).await?;
        Ok(secret)
    }

    /// Before a secret is given out, the journal names it: whoever goes on with the run has to look for it.
    async fn note_given(&self, ctx: &UserExecutionContext, name: &str) -> Result<(), String> {
        let mut given = self.given.lock().await;
        if given.contains(name) {
            return Ok(());
        }
        let changes = Changes {
            journal: vec![JournalEntry {
                key: format!("secret/{name}"),
                kind: JournalKind::SecretGiven,
                step: 1,
                value: name.into(),
            }],
            ..Changes::default()
        };
        let noted = self.emitter.commit(ctx, changes, Vec::new()).await;
        noted
            .map_err(|error| format!("the use of the secret {name:?} cannot be noted: {error}"))?;
        given.insert(name.to_owned());
        Ok(())
    }

    /// Looks for the secrets of these names from now on, which earlier attempts of the run were given.
    pub(crate) async fn remember(
        &self,
        ctx: &UserExecutionContext,
        names: &BTreeSet<String>,
    ) -> Result<(), String> {
        for name in names {
            let found = self.secrets.to_conceal(ctx, name).await;
            let found =
                found.map_err(|error| format!("the secret {name:?} cannot be opened: {error}"))?;
            if found.is_empty() {
                tracing::warn!(
                    secret = name,
                    "a secret that the run was given has been deleted, and is not looked for any more"
                );
            }
            for secret in found {
                self.redaction.add(name, &secret);
            }
        }
        self.given.lock().await.extend(names.iter().cloned());
        Ok(())
    }

    /// What came from outside, without the secrets that the run has sent there.
    pub fn without_secrets(&self, value: Value) -> Value {
        self.redaction.value(value)
    }

    /// Takes the secrets that the run's tools were given out of what they give back.
    pub(crate) fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// The files that the user gave to the run.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The user has been told of these files by an earlier attempt.
    pub fn announced(&self, files: impl IntoIterator<Item = FileId>) {
        self.announced.lock().extend(files);
    }

    /// Stores a file that the run made, once for each key of the run: an attempt that comes after
    /// gets the first one's. Also gives whether the user is still to be told of it.
    ///
    /// # Errors
    /// As [`Store::file_begin`] and the writer's.
    pub async fn keep_file(
        &self,
        ctx: &UserExecutionContext,
        key: &str,
        (name, media_type): (String, String),
        content: &[u8],
        limit_bytes: u64,
    ) -> Result<(File, bool), netra_store::Error> {
        let run = self.emitter.run().id;
        let once = Idempotency {
            key: format!("netra/{run}/{key}"),
            operation: "run_file".to_owned(),
            // The first one stays, whatever a later attempt would have written.
            body_hash: [0; 32],
        };
        let mut writer = self
            .store
            .file_begin(ctx, name, media_type, Some(run), limit_bytes)
            .await?;
        writer.write(content).await?;
        let file = writer.finish(Some(&once)).await?.value;
        let is_new = !self.announced.lock().contains(&file.id);
        Ok((file, is_new))
    }

    pub(crate) async fn progress(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        tool_call_id: ToolCallId,
        progress: Option<f64>,
        message: Option<String>,
    ) -> Result<(), Failure> {
        let kind = EventKind::ToolProgress {
            tool_call_id,
            progress: progress.map(|fraction| fraction.clamp(0.0, 1.0)),
            message: message.map(|text| cut_text(&self.redaction.text(text), MAX_PROGRESS_BYTES)),
        };
        self.tell(ctx, caller, kind).await
    }

    pub(crate) async fn artifact(
        &self,
        ctx: &UserExecutionContext,
        (caller, key): (&Caller<'_>, &str),
        name: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<File, Failure> {
        let name = self.redaction.text(name.to_owned());
        let named = (file_name(&name), media_type.to_owned());
        let content = self.redaction.bytes(content);
        let kept = self.keep_file(ctx, key, named, &content, MAX_ARTIFACT_BYTES);
        let (file, is_new) = kept.await.map_err(|error| store_failure(&error))?;
        if !is_new {
            return Ok(file);
        }
        let kind = EventKind::ArtifactCreated {
            file_id: file.id,
            name: file.name.clone(),
            media_type: file.media_type.clone(),
            bytes: file.bytes,
        };
        self.tell(ctx, caller, kind).await?;
        Ok(file)
    }

    async fn tell(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        kind: EventKind,
    ) -> Result<(), Failure> {
        self.emitter
            .emit(ctx, vec![caller.emission(kind)])
            .await
            .map(drop)
            .map_err(|error| Failure::new(error.code(), error.to_string()))
    }

    /// Runs one operation over files in the run's own worker process, and tells the user how it
    /// goes on.
    pub(crate) async fn analyse(
        &self,
        call: &Call<'_>,
        operation: &str,
        inputs: Vec<InputFile>,
    ) -> Result<Value, Failure> {
        let job = Job {
            op: operation.to_owned(),
            arguments: call.arguments.clone(),
            inputs,
        };
        let mut analysis = self.analysis.lock().await;
        // Only the newest progress is of interest, so a slow log holds nothing up.
        let (newest, mut changes) = watch::channel(None::<(f32, String)>);
        let mut note = |fraction: f32, text: &str| {
            newest.send_replace(Some((fraction, text.to_owned())));
        };
        let mut work = std::pin::pin!(analysis.run(&job, &mut note));
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result.map_err(worker_failure),
                Ok(()) = changes.changed() => {
                    let newest = changes.borrow_and_update().clone();
                    if let Some((fraction, text)) = newest {
                        let words = (!text.is_empty()).then_some(text);
                        call.progress(Some(f64::from(fraction)), words).await?;
                    }
                }
            }
        }
    }

    /// Runs a program without functions in a worker of its own, one at a time. Gives what it
    /// printed, and its value.
    pub(crate) async fn compute(
        &self,
        ctx: &UserExecutionContext,
        source: Source,
        limits: Limits,
    ) -> (String, Result<Value, WorkerError>) {
        let meter = self.program.lock().await;
        let mut printed = String::new();
        let started = self
            .scripts
            .start_metered(ctx, source, limits, meter.clone());
        let mut script = match started.await {
            Ok(script) => script,
            Err(error) => return (printed, Err(error)),
        };
        let result = loop {
            match script.next().await {
                Ok(Step::Printed(text)) => printed.push_str(&text),
                Ok(Step::Finished(value)) => break Ok(value),
                Ok(Step::Call { .. } | Step::Waiting(_)) => {
                    break Err(WorkerError::Protocol("it called what there is not".into()));
                }
                Err(error) => break Err(error),
            }
        };
        (printed, result)
    }

    /// The files that were given to the run, for a worker.
    pub(crate) async fn inputs(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<InputFile>, Failure> {
        let mut inputs = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let found = self
                .store
                .file(ctx, file.id)
                .for_read()
                .await
                .map_err(|error| {
                    let words = format!("the file {} cannot be read: {error}", file.name);
                    Failure::new(ErrorCode::ToolFailed, words)
                })?;
            inputs.push(self.input(&found));
        }
        Ok(inputs)
    }

    /// A file for a worker.
    pub(crate) fn input(&self, file: &Readable<File>) -> InputFile {
        InputFile {
            name: file.name.clone(),
            media_type: file.media_type.clone(),
            path: self.store.file_path(file),
        }
    }
}

/// What the run's worker process may use: what its user may.
pub(crate) fn analysis_limits(ctx: &UserExecutionContext) -> AnalysisLimits {
    let limits = ctx.limits().cloned().unwrap_or_default();
    AnalysisLimits {
        memory_bytes: limits.memory_mib.saturating_mul(1024 * 1024),
        wall_time: Duration::from_millis(limits.tool_call_ms),
        output_bytes: MAX_ANALYSIS_BYTES,
    }
}

fn store_failure(error: &netra_store::Error) -> Failure {
    let code = match error {
        netra_store::Error::Memory(_) => ErrorCode::MemoryLimitExceeded,
        _ => ErrorCode::ToolFailed,
    };
    Failure::new(code, format!("the file cannot be stored: {error}"))
}

/// What a worker's failure means to the agent that called the tool.
pub(crate) fn worker_failure(error: WorkerError) -> Failure {
    match error {
        WorkerError::Job(job) => {
            let failure = Failure::new(ErrorCode::ToolFailed, job.message);
            let mut details = serde_json::json!({ "reason": job.code });
            if let Some(more) = job.details {
                details["details"] = more;
            }
            failure.with_details(details)
        }
        WorkerError::MemoryLimit { .. } | WorkerError::NoRoom(_) => {
            Failure::new(ErrorCode::MemoryLimitExceeded, error.to_string())
        }
        WorkerError::TimeLimit { .. } => Failure::new(ErrorCode::ToolTimeout, error.to_string()),
        other => Failure::new(ErrorCode::ToolFailed, other.to_string()),
    }
}

/// A name that is a name everywhere: no folders, no control characters, not empty, not too long.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    match clean.trim().trim_start_matches('.') {
        "" => "artifact".to_owned(),
        text => cut_text(text, 200),
    }
}

impl Caller<'_> {
    /// An event of this agent at this step.
    pub(crate) fn emission(&self, kind: EventKind) -> Emission {
        Emission::of_agent(self.agent, self.step, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_has_no_folders_and_no_tricks() {
        for (given, stored) in [
            ("report.md", "report.md"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\x.csv", "x.csv"),
            ("..", "artifact"),
            ("a\nb\0.md", "ab.md"),
            ("", "artifact"),
        ] {
            assert_eq!(file_name(given), stored);
        }
        assert!(file_name(&"x".repeat(999)).len() <= 200);
    }
}
