//! Model agents against the mock, in each of the three formats: how their runs go, and how they end.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{Options, TestServer, TestUser};
use netra_protocol::event::EventKind;
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::{ErrorCode, Event};
use serde_json::json;

use super::installed::{FORMATS, Mock};
use crate::Test;

/// A server with an agent for each format.
struct World {
    server: TestServer,
    user: TestUser,
    _mock: Mock,
    _files: tempfile::TempDir,
}

impl World {
    async fn start(model_call_ms: u64) -> Result<Self> {
        let mock = Mock::start().await?;
        let files = tempfile::tempdir()?;
        for kind in FORMATS {
            write_agent(files.path(), kind)?;
        }
        let file = mock.configuration(files.path())?;
        let options = Options::new()
            .file(&file)
            .agents(&files.path().join("agents"))
            .set("limits.model_call_ms", model_call_ms)
            // Tries have tests of their own; here they would open circuits.
            .set("models.retries", 0);
        let server = TestServer::start_with(options).await?;
        let user = server.user().await?;
        Ok(Self {
            server,
            user,
            _mock: mock,
            _files: files,
        })
    }

    /// What comes of this question in each format.
    async fn ask(&self, question: &str) -> Result<Vec<(&'static str, Run, Vec<Event>)>> {
        let mut all = Vec::new();
        for kind in FORMATS {
            let run = self.user.start(kind, question).await?;
            // While it goes: pieces of messages may be folded away afterwards.
            let events = self.user.events(run.id).await?.into_iter();
            let events = events.map(|received| received.event.event).collect();
            let run = self.user.client.run_end(run.id).await?;
            all.push((kind, run, events));
        }
        Ok(all)
    }
}

fn write_agent(files: &Path, kind: &str) -> Result<()> {
    let folder = files.join("agents").join(kind);
    std::fs::create_dir_all(&folder)?;
    let manifest = format!(
        "description = \"Asks.\"\nkind = \"model\"\ninstructions = \"instructions.md\"\n\
         model = \"{kind}/m\"\ntools = [\"time_now\"]\n"
    );
    std::fs::write(folder.join("agent.toml"), manifest)?;
    std::fs::write(folder.join("instructions.md"), "Be brief.")?;
    Ok(())
}

/// The names of the events, without those whose number is not promised.
fn names(events: &[Event]) -> Vec<&'static str> {
    let kinds = events.iter().map(|event| &event.kind);
    let kinds = kinds.filter(|kind| !kind.is_delta() && kind.name() != "agent_thinking");
    kinds.map(EventKind::name).collect()
}

fn deltas(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::MessageDelta { delta, .. } => Some(delta.as_str()),
            _ => None,
        })
        .collect()
}

fn thoughts(events: &[Event]) -> String {
    let thought = |event: &Event| match &event.kind {
        EventKind::AgentThinking { message, .. } => Some(message.clone()),
        _ => None,
    };
    events.iter().filter_map(thought).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_and_thoughts_are_streamed_and_counted() -> Test {
    let world = World::start(60_000).await?;
    for (kind, run, events) in world.ask("say hello").await? {
        let text = "Hello from the other side, in several pieces.";
        ensure!(run.status == RunStatus::Completed, "{kind}: {run:?}");
        ensure!(
            run.result == Some(json!({ "text": text })),
            "{kind}: {run:?}"
        );
        ensure!(deltas(&events).concat() == text, "{kind}: {events:?}");
        ensure!(
            thoughts(&events).contains("A greeting is wanted."),
            "{kind}"
        );
        let usage = (
            run.usage.input_tokens,
            run.usage.output_tokens,
            run.usage.model_calls,
        );
        ensure!(usage == (20, 6, 1), "{kind}: {usage:?}");
        ensure!(
            run.usage.cost_usd.is_none(),
            "{kind}: nobody has said whose prices hold"
        );
        let expected = [
            "run_started",
            "agent_started",
            "message_completed",
            "agent_completed",
            "run_completed",
        ];
        ensure!(names(&events) == expected, "{kind}: {:?}", names(&events));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_are_called_one_or_two_at_a_time_and_their_results_are_understood() -> Test {
    let world = World::start(60_000).await?;
    for (question, calls) in [("one tool", 1), ("two tools", 2)] {
        for (kind, run, events) in world.ask(question).await? {
            ensure!(run.status == RunStatus::Completed, "{kind}: {run:?}");
            ensure!(
                run.result == Some(json!({ "text": "Now I know." })),
                "{kind}: {run:?}"
            );
            let counts = (run.usage.tool_calls, run.usage.model_calls);
            ensure!(counts == (calls, 2), "{kind}: {counts:?}");
            for name in ["tool_executing", "tool_completed"] {
                let found = names(&events)
                    .iter()
                    .filter(|found| **found == name)
                    .count();
                ensure!(found as u64 == calls, "{kind}: {found} {name}");
            }
            let failed = |event: &Event| {
                matches!(&event.kind, EventKind::ToolCompleted { success: false, .. })
            };
            ensure!(!events.iter().any(failed), "{kind}: {events:?}");
        }
    }
    Ok(())
}

/// A run that failed because the model gave no answer, with everything closed and no word of the provider.
fn has_failed(kind: &str, run: &Run, events: &[Event]) -> Test {
    ensure!(run.status == RunStatus::Failed, "{kind}: {run:?}");
    let error = run.error.as_ref().context("an error")?;
    ensure!(
        error.code == ErrorCode::ModelUnavailable,
        "{kind}: {error:?}"
    );
    ensure!(
        !error.message.contains("private words"),
        "{kind}: {error:?}"
    );
    let names = names(events);
    ensure!(names.first() == Some(&"run_started"), "{kind}: {names:?}");
    ensure!(
        names.ends_with(&["agent_completed", "run_failed"]),
        "{kind}: {names:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_refuses_or_garbles_fails_the_run_and_says_why() -> Test {
    let world = World::start(60_000).await?;
    for (question, says) in [
        ("limited", "limits the rate"),
        ("broken", "status 500"),
        ("overloaded", "overloaded"),
        ("malformed", "cannot be read"),
    ] {
        for (kind, run, events) in world.ask(question).await? {
            has_failed(kind, &run, &events)?;
            let error = run.error.as_ref().context("an error")?;
            ensure!(error.message.contains(says), "{kind}: {error:?}");
            ensure!(deltas(&events).is_empty(), "{kind}: {events:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_off_is_no_answer() -> Test {
    let world = World::start(60_000).await?;
    for (kind, run, events) in world.ask("cut").await? {
        has_failed(kind, &run, &events)?;
        let said = deltas(&events).concat();
        ensure!(!said.is_empty(), "{kind}: nothing came before the cut");
        let incomplete = |event: &Event| {
            matches!(
                &event.kind,
                EventKind::MessageCompleted {
                    incomplete: true,
                    ..
                }
            )
        };
        ensure!(events.iter().any(incomplete), "{kind}: {events:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_is_waited_for_and_an_endless_one_is_not() -> Test {
    let world = World::start(3_000).await?;
    for (kind, run, _) in world.ask("a little slow").await? {
        ensure!(run.status == RunStatus::Completed, "{kind}: {run:?}");
    }
    for (kind, run, events) in world.ask("endless").await? {
        has_failed(kind, &run, &events)?;
        let error = run.error.as_ref().context("an error")?;
        ensure!(error.message.contains("3000 ms"), "{kind}: {error:?}");
    }
    ensure!(
        world.server.url().starts_with("http://"),
        "the server goes on"
    );
    Ok(())
}
