//! Calls of models that go wrong or cost too much, on a whole server: budgets, tries, other models.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use anyhow::{Context as _, Result, ensure};
use netra_client::{Method, Received};
use netra_integration::{FakeModel, Options, Reply, TestServer, TestUser};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use serde_json::Value;

use crate::Test;
use crate::expect::with_model;

/// Writes a model agent into a folder of agents.
pub(crate) fn model_agent(dir: &Path, name: &str, manifest: &str) -> Result<()> {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    let head = "description = \"of a test\"\nkind = \"model\"\ninstructions = \"say.md\"\n";
    std::fs::write(folder.join("agent.toml"), format!("{head}{manifest}"))?;
    std::fs::write(folder.join("say.md"), "Be brief.")?;
    Ok(())
}

/// What the user was told besides the answer.
pub(crate) fn thoughts(events: &[Received]) -> Vec<String> {
    let thoughts = events
        .iter()
        .filter_map(|received| match &received.event.event.kind {
            EventKind::AgentThinking { message, .. } => Some(message.clone()),
            _ => None,
        });
    thoughts.collect()
}

/// A model that counts its calls.
pub(crate) async fn counting(
    reply: impl Fn(usize) -> Reply + Send + Sync + 'static,
) -> Result<(FakeModel, Arc<AtomicUsize>)> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let model = FakeModel::start(move |_| reply(counted.fetch_add(1, SeqCst))).await?;
    Ok((model, calls))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_parallel_runs_with_a_budget_for_six_calls_make_at_most_six() -> Test {
    let (model, calls) = counting(|_| Reply::Hang("so far".into())).await?;
    let agents = tempfile::tempdir()?;
    // A request is far below 10,000 tokens, so 660,000 have room for six calls and not for seven.
    model_agent(agents.path(), "wordy", "max_output_tokens = 100000\n")?;
    let options = with_model(&model)
        .agents(agents.path())
        .set("limits.concurrent_runs", 10)
        .set("limits.budget_tokens", 660_000);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let started = (0..10).map(|_| user.start("wordy", "go"));
    let runs = futures::future::try_join_all(started).await?;
    model.until_open(6).await?;
    let mut refused = 0;
    while refused < 4 {
        let runs = user.client.runs(None, None).await?.items;
        refused = runs
            .iter()
            .filter(|run| run.status == RunStatus::Failed)
            .count();
    }
    for run in runs {
        let run = user.client.run(run.id).await?;
        if run.status == RunStatus::Failed {
            let error = run.error.context("why")?;
            assert_eq!(error.code, ErrorCode::BudgetExceeded);
        } else {
            user.client.run_cancel(run.id).await?;
        }
    }
    model.until_open(0).await?;
    assert_eq!(calls.load(SeqCst), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_call_is_made_again_and_the_user_is_told() -> Test {
    let (model, calls) = counting(|call| match call {
        0 => Reply::Refuse(429, Some(1)),
        _ => Reply::Text(vec!["hello".into()]),
    })
    .await?;
    let server = TestServer::start_with(with_model(&model)).await?;
    let user = server.user().await?;
    let run = user.run("assistant", "hi").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!((calls.load(SeqCst), run.usage.model_calls), (2, 1));
    let told = thoughts(&user.events(run.id).await?);
    ensure!(
        told.iter()
            .any(|words| words.contains("limits the rate") && words.contains("try 2 of 3")),
        "{told:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_says_which_price_list_its_cost_is_by_and_not_which_file_that_is() -> Test {
    let (model, _) = counting(|_| Reply::Text(vec!["hello".into()])).await?;
    let folder = tempfile::tempdir()?;
    let prices = folder.path().join("prices.toml");
    // The model tells of 11 tokens in and 7 out.
    let list = "name = \"our contract\"\ndate = \"2026-11-01\"\n\
        [[model]]\nid = \"small\"\nprovider = \"mine\"\ninput = 1000\noutput = 2000\n";
    std::fs::write(&prices, list)?;
    let options = with_model(&model)
        .set("models.price_file", prices.display().to_string())
        .set("models.providers.fake.prices", "mine");
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let usage = user.run("assistant", "hi").await?.usage;
    assert_eq!(usage.cost_usd, Some(0.025));
    assert_eq!(
        usage.price_sources,
        ["our contract (2026-11-01, the server's)"]
    );
    // What has no price is by no list.
    let server = TestServer::start_with(with_model(&model)).await?;
    let usage = server.user().await?.run("assistant", "hi").await?.usage;
    assert_eq!((usage.cost_usd, usage.price_sources), (None, vec![]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_answers_where_the_first_does_not() -> Test {
    let (broken, tries) = counting(|_| Reply::Refuse(500, None)).await?;
    let (good, calls) = counting(|_| Reply::Text(vec!["from the other".into()])).await?;
    let agents = tempfile::tempdir()?;
    model_agent(agents.path(), "careful", "fallback = [\"good/large\"]\n")?;
    model_agent(agents.path(), "alone", "fallback = []\n")?;
    let options = with_model(&broken)
        .agents(agents.path())
        .set("models.providers.good.base_url", good.url())
        .set("models.retries", 1);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let run = user.run("careful", "hi").await?;
    assert_eq!(
        run.result,
        Some(serde_json::json!({"text": "from the other"}))
    );
    assert_eq!((tries.load(SeqCst), calls.load(SeqCst)), (2, 1));
    let told = thoughts(&user.events(run.id).await?);
    ensure!(
        told.iter()
            .any(|words| words.contains("good/large answers in place of fake/small")),
        "{told:?}"
    );
    let run = user.run("alone", "hi").await?;
    assert_eq!(run.error.context("why")?.code, ErrorCode::ModelUnavailable);
    assert_eq!(calls.load(SeqCst), 1);
    Ok(())
}

/// The sum of a metric's samples that have this label; 0 where there are none yet.
async fn counted(admin: &TestUser, name: &str, (label, of): (&str, &str)) -> Result<f64> {
    let request = admin.client.request(Method::GET, "/api/metrics");
    let request = request.header("accept", "application/json");
    let metrics: Value = admin.client.send(request).await?.json().await?;
    let samples = metrics[name]["samples"].as_array().into_iter().flatten();
    let wanted = samples.filter(|sample| sample["labels"][label] == of);
    Ok(wanted.filter_map(|sample| sample["value"].as_f64()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_calls_of_models_come_to_is_counted() -> Test {
    let (broken, tries) = counting(|_| Reply::Refuse(500, None)).await?;
    let (good, _) = counting(|call| {
        let answer = if call == 4 { "{}" } else { "{\"n\": 42}" };
        Reply::Text(vec![answer.into()])
    })
    .await?;
    let agents = tempfile::tempdir()?;
    let hopeful = "model = \"shaky/small\"\nfallback = [\"steady/large\"]\n";
    model_agent(agents.path(), "hopeful", hopeful)?;
    let exact =
        "model = \"steady/large\"\noutput_schema = { type = \"object\", required = [\"n\"] }\n";
    model_agent(agents.path(), "exact", exact)?;
    let poor = "model = \"steady/large\"\nrun_budget_tokens = 1\n";
    model_agent(agents.path(), "poor", poor)?;
    // Metrics are those of the process: no other test has providers of these names.
    let options = Options::new()
        .agents(agents.path())
        .set("models.providers.shaky.base_url", broken.url())
        .set("models.providers.steady.base_url", good.url())
        .set("models.retries", 1);
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let user = server.user().await?;
    for _ in 0..3 {
        let run = user.run("hopeful", "hi").await?;
        assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    }
    // The fifth failure in a row is the last that is asked for.
    assert_eq!(tries.load(SeqCst), 5);
    for (name, label, expected) in [
        ("netra_model_retries_total", ("provider", "shaky"), 3.0),
        ("netra_model_fallbacks_total", ("from", "shaky/small"), 3.0),
        (
            "netra_model_circuits_opened_total",
            ("provider", "shaky"),
            1.0,
        ),
        ("netra_model_circuit_open", ("provider", "shaky"), 1.0),
    ] {
        assert_eq!(counted(&admin, name, label).await?, expected, "{name}");
    }
    // These have no label that is this test's own, and others may add to them meanwhile.
    for (agent, name, label) in [
        (
            "exact",
            "netra_structured_outputs_total",
            ("outcome", "first_try"),
        ),
        (
            "exact",
            "netra_structured_outputs_total",
            ("outcome", "repaired"),
        ),
        (
            "poor",
            "netra_model_budget_refused_total",
            ("limit", "run_budget_tokens"),
        ),
    ] {
        let before = counted(&admin, name, label).await?;
        user.run(agent, "hi").await?;
        ensure!(counted(&admin, name, label).await? > before, "{label:?}");
    }
    Ok(())
}
