//! The team with a model: it explains and answers questions in the thread, and brings no number of its own. And without.

use anyhow::{Context as _, ensure};
use netra_client::Upload;
use netra_integration::{FakeModel, Options, Reply, TestServer, start, start_with_files};
use netra_protocol::run::{Run, RunStatus};
use serde_json::Value;

use super::flows::sample;
use crate::Test;
use crate::expect::{text, with_model};
use netra_integration::script;

/// What the model is sent.
fn prompt(request: &Value) -> String {
    request["messages"].to_string()
}

async fn report_in_a_thread(
    server: &TestServer,
) -> anyhow::Result<(netra_integration::TestUser, Run)> {
    let user = server.user().await?;
    let file = user
        .client
        .file_upload("log.csv", Upload::Path(&sample()))
        .await?;
    let start = start_with_files("optimizer", "Cut the cost by 30 %", vec![file.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    Ok((user, run))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_explains_with_the_reports_numbers_only() -> Test {
    let model = FakeModel::start(|request| {
        let asked = prompt(request);
        let words = if asked.contains("Why is that?") {
            "Because 5,000 requests were looked at [log_profile#1]. You would save 987,654 dollars."
        } else {
            "The log has 5,000 requests [log_profile#1]. It is 12,345 times too dear. Start with caching."
        };
        Reply::Text(vec![words.into()])
    })
    .await?;
    let server = TestServer::start_with(with_model(&model)).await?;
    let (user, run) = report_in_a_thread(&server).await?;
    let told = run.result.context("a result")?;
    let explanation = text(&told, "/explanation")?;
    ensure!(
        explanation.contains("5,000 requests") && explanation.contains("Start with caching."),
        "{explanation}"
    );
    ensure!(
        !explanation.contains("12,345"),
        "it is no number of the report: {explanation}"
    );
    ensure!(
        told["missing"]
            .to_string()
            .contains("numbers that the report does not have"),
        "{}",
        told["missing"]
    );
    ensure!(text(&told, "/report_markdown")?.contains("## In plain words"));

    // A question without a file is about the report of the thread; the next one still is.
    for question in ["Why is that?", "And why is that? Why is that?"] {
        let again = user
            .client
            .run_start(Some(run.thread_id), &start("optimizer", question), None)
            .await?;
        let again = user.client.run_end(again.id).await?;
        let answer = again.result.context("a result")?;
        let words = text(&answer, "/report_markdown")?;
        ensure!(
            words.starts_with("Because 5,000 requests were looked at [log_profile#1]."),
            "{words}"
        );
        ensure!(!words.contains("987,654"), "{words}");
        assert_eq!(answer["follow_up_of"]["run_id"], run.id.to_string());
        assert_eq!(
            answer["data"], told["data"],
            "the numbers stay those of the report"
        );
        assert_eq!(again.usage.tool_calls, 1, "nothing was computed anew");
    }
    // Another thread knows nothing of it.
    let other = user.run("optimizer", "Why is that?").await?;
    assert_eq!(
        other.result.context("a result")?["data"]["rows"],
        Value::Null
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_model_a_follow_up_is_looked_up_in_the_report() -> Test {
    let server = TestServer::start().await?;
    let (user, run) = report_in_a_thread(&server).await?;
    let told = run.result.context("a result")?;
    ensure!(told.get("explanation").is_none(), "nobody wrote one");
    ensure!(
        !told["missing"].to_string().contains("explanation"),
        "and nobody misses it"
    );
    let again = user
        .client
        .run_start(
            Some(run.thread_id),
            &start("optimizer", "How slow is the latency by model?"),
            None,
        )
        .await?;
    let answer = user
        .client
        .run_end(again.id)
        .await?
        .result
        .context("a result")?;
    let words = text(&answer, "/report_markdown")?;
    ensure!(
        words.contains("Latency in ms, by model, length and load")
            && words.contains("[latency_drivers#1]"),
        "{words}"
    );
    let again = user
        .client
        .run_start(Some(run.thread_id), &start("optimizer", "xylophone?"), None)
        .await?;
    let answer = user
        .client
        .run_end(again.id)
        .await?
        .result
        .context("a result")?;
    ensure!(text(&answer, "/report_markdown")?.contains("says nothing on this"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_that_fails_takes_nothing_from_the_report() -> Test {
    let agents = tempfile::tempdir()?;
    let manifest = "listed = false\ninput_schema = { type = \"object\" }\n";
    script(
        agents.path(),
        "optimizer-explain",
        manifest,
        "raise RuntimeError('lost for words')\n",
    )?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let (_, run) = report_in_a_thread(&server).await?;
    let told = run.result.context("a result")?;
    ensure!(
        told["missing"].to_string().contains("lost for words"),
        "{}",
        told["missing"]
    );
    assert_eq!(told["data"]["rows"], 5_000);
    ensure!(
        told["options"]
            .as_array()
            .is_some_and(|options| options.len() > 3)
    );
    Ok(())
}
