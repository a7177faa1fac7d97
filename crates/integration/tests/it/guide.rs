//! The three examples of the agents' guide, as `docs/examples` has them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use netra_client::Upload;
use netra_integration::{FakeModel, Reply, TestServer, TestUser, start_with_files, text_of};
use netra_protocol::event::EventKind;
use netra_protocol::id::{FileId, ThreadId};
use netra_protocol::run::{Run, RunStatus};
use serde_json::json;

use crate::Test;
use crate::expect::with_model;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A server with the examples, and a user who has a log.
struct Examples {
    _server: TestServer,
    user: TestUser,
    log: FileId,
    /// How many requests the log has.
    rows: usize,
}

impl Examples {
    async fn start(model: &FakeModel) -> Result<Self> {
        let options = with_model(model).agents(&repository().join("docs/examples"));
        let server = TestServer::start_with(options).await?;
        let user = server.user().await?;
        let path = repository().join("samples/synthetic-llm-log.csv");
        let rows = std::fs::read_to_string(&path)?.lines().count() - 1;
        let log = Upload::Path(&path);
        let log = user.client.file_upload("log.csv", log).await?.id;
        Ok(Self {
            _server: server,
            user,
            log,
            rows,
        })
    }
}

async fn ask(
    user: &TestUser,
    thread: Option<ThreadId>,
    agent: &str,
    files: &[FileId],
) -> Result<Run> {
    let start = start_with_files(agent, "How large is it?", files.to_vec());
    let run = user.client.run_start(thread, &start, None).await?;
    Ok(user.client.run_end(run.id).await?)
}

async fn last_message(user: &TestUser, run: &Run) -> Result<String> {
    let messages = user.client.messages(run.thread_id, None, None).await?.items;
    Ok(text_of(messages.last().context("there are messages")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_agent_uses_both_of_its_tools() -> Test {
    let model = FakeModel::start(|request| {
        let messages = request["messages"].as_array().cloned().unwrap_or_default();
        let results = messages.iter().filter(|one| one["role"] == "tool");
        let results: Vec<_> = results.map(|one| one["content"].to_string()).collect();
        match results.len() {
            0 => {
                let file = json!({"file": "log.csv"}).to_string();
                let names = ["log_profile", "log_cost"];
                Reply::ToolCalls(names.map(|name| (name.to_owned(), file.clone())).to_vec())
            }
            _ => {
                let good = results[0].contains("requests") && results[1].contains("cost_usd");
                Reply::Text(vec![format!("Both answered: {good}")])
            }
        }
    })
    .await?;
    let examples = Examples::start(&model).await?;
    let Examples { user, log, .. } = &examples;
    let run = ask(user, None, "log-answers", &[*log]).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(run.usage.tool_calls, 2);
    assert_eq!(last_message(user, &run).await?, "Both answered: true");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_reports_each_log_and_what_has_changed() -> Test {
    let model = FakeModel::start(|_| Reply::Text(vec!["unused".into()])).await?;
    let examples = Examples::start(&model).await?;
    let Examples {
        user, log, rows, ..
    } = &examples;
    let empty = Upload::Bytes(b"".to_vec().into());
    let empty = user.client.file_upload("empty.csv", empty).await?;
    let run = ask(user, None, "log-report", &[*log, empty.id]).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.clone().context("it has a result")?;
    assert_eq!(result["logs"][0]["requests"], *rows);
    ensure!(result["logs"][1]["problem"].is_string(), "{result}");
    let said = last_message(user, &run).await?;
    ensure!(!said.contains("last time"), "{said}");
    let again = ask(user, Some(run.thread_id), "log-report", &[*log]).await?;
    let said = last_message(user, &again).await?;
    ensure!(said.contains("+0.00 USD against the last time"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_answers_with_what_its_agents_found() -> Test {
    let model = FakeModel::start(|_| Reply::Text(vec!["It is about size.".into()])).await?;
    let examples = Examples::start(&model).await?;
    let Examples {
        user, log, rows, ..
    } = &examples;
    let run = ask(user, None, "briefing", &[*log]).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let said = last_message(user, &run).await?;
    let number = format!("{},{:03} requests in 1 logs", rows / 1000, rows % 1000);
    ensure!(
        said.contains(&number) && said.contains("It is about size."),
        "{said}"
    );
    let nested = user.events(run.id).await?.into_iter().filter(|received| {
        matches!(
            &received.event.event.kind,
            EventKind::AgentStarted {
                parent_step: Some(_),
                ..
            }
        )
    });
    assert_eq!(nested.count(), 2);

    // One that fails is said, and the other one is there.
    let empty = Upload::Bytes(b"".to_vec().into());
    let empty = user.client.file_upload("empty.csv", empty).await?;
    let run = ask(user, None, "briefing", &[empty.id]).await?;
    let result = run.result.clone().context("it goes on")?;
    assert_eq!(result["failed"], json!(["Numbers"]));
    let said = last_message(user, &run).await?;
    ensure!(
        said.contains("Not known") && said.contains("It is about size."),
        "{said}"
    );
    Ok(())
}
