//! How a run ends: one terminal event, with the final messages and the run's state, in one
//! transaction.

use std::time::Duration;

use netra_context::{Limit, Trace, UserExecutionContext};
use netra_events::{Emission, UserWebSocketEmitter};
use netra_memory::Scope;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::{EventKind, MAX_RESULT_BYTES};
use netra_protocol::run::RunStatus;
use netra_protocol::usage::RunUsage;
use netra_store::{Changes, RunUpdate};
use netra_tools::{bytes_of, cut_text, shorten};
use serde_json::Value;

use crate::spans;

/// The longest message of a run's error, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// The most details of a run's error, in bytes of JSON.
const MAX_DETAILS_BYTES: usize = 64 * 1024;
/// How often the end is written anew while the store cannot be written, and the first pause; each
/// pause is twice the one before.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How a run ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    Completed(Value),
    Failed(Failure),
    Cancelled(Failure),
    TimedOut(Failure),
}

impl Ending {
    /// The ending that belongs to an error's code.
    pub(crate) fn of_failure(failure: Failure) -> Self {
        match failure.code {
            ErrorCode::DeadlineExceeded => Self::TimedOut(failure),
            ErrorCode::Cancelled => Self::Cancelled(failure),
            _ => Self::Failed(failure),
        }
    }

    pub(crate) fn timed_out(timeout_ms: u64) -> Self {
        let words = format!("the run did not end within {timeout_ms} ms");
        Self::TimedOut(Failure::new(ErrorCode::DeadlineExceeded, words))
    }

    pub(crate) fn status(&self) -> RunStatus {
        match self {
            Self::Completed(_) => RunStatus::Completed,
            Self::Failed(_) => RunStatus::Failed,
            Self::Cancelled(_) => RunStatus::Cancelled,
            Self::TimedOut(_) => RunStatus::TimedOut,
        }
    }

    /// Why, where it is not with a result.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Completed(_) => None,
            Self::Failed(failure) | Self::Cancelled(failure) | Self::TimedOut(failure) => {
                Some(failure)
            }
        }
    }

    /// The limit that has ended the run, where one has.
    fn limit(&self) -> Option<Limit> {
        let failure = self.failure()?;
        let named = || failure.details.as_ref()?.get("limit")?.as_str();
        Some(match failure.code {
            ErrorCode::DeadlineExceeded => Limit::RunTimeout,
            ErrorCode::StepLimitExceeded => Limit::Steps,
            ErrorCode::ToolCallLimitExceeded => Limit::ToolCalls,
            ErrorCode::DepthLimitExceeded => Limit::Depth,
            ErrorCode::AttemptsExhausted => Limit::Attempts,
            ErrorCode::MemoryLimitExceeded if named() == Some("node_memory_mib") => {
                Limit::NodeMemory
            }
            ErrorCode::MemoryLimitExceeded => Limit::Memory,
            ErrorCode::BudgetExceeded if named() == Some("budget_usd") => Limit::BudgetUsd,
            ErrorCode::BudgetExceeded if named() == Some("budget_tokens") => Limit::BudgetTokens,
            _ => return None,
        })
    }

    fn bounded(self) -> Self {
        let cut = |failure: Failure| Failure {
            code: failure.code,
            message: cut_text(&failure.message, MAX_MESSAGE_BYTES),
            details: failure
                .details
                .map(|details| shorten(&details, MAX_DETAILS_BYTES)),
        };
        match self {
            Self::Completed(result) => Self::Completed(result),
            Self::Failed(failure) => Self::Failed(cut(failure)),
            Self::Cancelled(failure) => Self::Cancelled(cut(failure)),
            Self::TimedOut(failure) => Self::TimedOut(cut(failure)),
        }
    }

    fn event(&self, usage: RunUsage) -> EventKind {
        let duration_ms = usage.duration_ms;
        match self.clone() {
            Self::Completed(result) => {
                let result_truncated = bytes_of(&result) > MAX_RESULT_BYTES;
                let result = if result_truncated {
                    Value::Null
                } else {
                    result
                };
                EventKind::RunCompleted {
                    result,
                    result_truncated,
                    usage,
                    duration_ms,
                }
            }
            Self::Failed(error) => EventKind::RunFailed {
                error,
                usage,
                duration_ms,
            },
            Self::Cancelled(error) => EventKind::RunCancelled {
                error,
                usage,
                duration_ms,
            },
            Self::TimedOut(error) => EventKind::RunTimedOut {
                error,
                usage,
                duration_ms,
            },
        }
    }

    fn update(&self, usage: RunUsage) -> RunUpdate {
        let mut update = RunUpdate::to(self.status());
        update.usage = Some(usage);
        match self {
            Self::Completed(result) => update.result = Some(result.clone()),
            Self::Failed(error) | Self::Cancelled(error) | Self::TimedOut(error) => {
                update.error = Some(error.clone());
            }
        }
        update
    }
}

/// What is committed together with the end: what closes the rest of the run, in order.
#[derive(Debug, Default)]
pub(crate) struct Last {
    pub(crate) emissions: Vec<Emission>,
    pub(crate) messages: Vec<netra_protocol::message::Message>,
    pub(crate) audit: Vec<netra_store::AuditRecord>,
    pub(crate) journal: Vec<netra_store::JournalEntry>,
    pub(crate) settled: Vec<netra_store::Settlement>,
}

/// Writes the end of a run, and says whether there is nothing more to be written of it here. While the store cannot be
/// written it is tried again for a few seconds; a run whose end could not be written is found at the next start, or by
/// its node once the database is back.
pub(crate) async fn commit(
    ctx: &UserExecutionContext,
    (emitter, trace): (&UserWebSocketEmitter, Option<Trace>),
    ending: Ending,
    last: Last,
    usage: RunUsage,
) -> bool {
    let ending = ending.bounded();
    let status = ending.status();
    let limit = ending.limit();
    let seconds = Duration::from_millis(usage.duration_ms).as_secs_f64();
    let mut emissions = last.emissions;
    emissions.push(Emission::of_run(ending.event(usage.clone())));
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        let changes = Changes {
            run: Some(ending.update(usage.clone())),
            messages: last.messages.clone(),
            journal: last.journal.clone(),
            settled: last.settled.clone(),
            audit: last.audit.clone(),
            ..Changes::default()
        };
        // The server's work: no run may lack the memory to end.
        let committing = emitter.commit(ctx, changes, emissions.clone());
        match Scope::system().wrap(committing).await {
            Ok(_) => {
                if let Some(limit) = limit {
                    ctx.runtime().limit_hit(emitter.run().owner(), limit);
                }
                metrics::counter!("netra_runs_ended_total", "status" => status.as_str())
                    .increment(1);
                metrics::histogram!("netra_run_seconds", "status" => status.as_str())
                    .record(seconds);
                spans::run_ended(ctx, trace, emitter.run(), &ending, &usage);
                return true;
            }
            // It has ended elsewhere, goes on elsewhere, or was deleted with its thread: there is nothing to end.
            Err(
                netra_store::Error::RunEnded
                | netra_store::Error::Fenced
                | netra_store::Error::NotFound,
            ) => return true,
            Err(error) if attempt == ATTEMPTS => {
                tracing::error!(run.id = %emitter.run().id, %error, "the end of a run was not written");
            }
            Err(error) => {
                tracing::warn!(run.id = %emitter.run().id, %error, "the end of a run is written anew");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_result_stands_in_the_run_alone() {
        let ending = Ending::Completed(Value::String("x".repeat(MAX_RESULT_BYTES)));
        let EventKind::RunCompleted {
            result,
            result_truncated,
            ..
        } = ending.event(RunUsage::default())
        else {
            panic!("another event");
        };
        assert!(result.is_null() && result_truncated);
        assert!(ending.update(RunUsage::default()).result.is_some());
    }

    #[test]
    fn the_code_decides_the_terminal_event() {
        for (code, status) in [
            (ErrorCode::DeadlineExceeded, RunStatus::TimedOut),
            (ErrorCode::Cancelled, RunStatus::Cancelled),
            (ErrorCode::AgentFailed, RunStatus::Failed),
        ] {
            assert_eq!(Ending::of_failure(Failure::new(code, "")).status(), status);
        }
    }
}
