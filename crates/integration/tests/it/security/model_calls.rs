//! What users have of their own in calls of models: keys, and answers that are kept. Neither is ever another's, and keys
//! go to their provider alone.

use std::sync::atomic::Ordering::SeqCst;

use anyhow::{Result, ensure};
use netra_client::Method;
use netra_integration::{FakeModel, ProcessOptions, Reply, TestProcess, TestServer, TestUser};
use netra_protocol::ErrorCode;
use netra_protocol::run::{Run, RunStatus};
use serde_json::json;

use super::secrets::{CANARY, FORMS, METRICS, around, holders, put};
use crate::Test;
use crate::calls::{counting, model_agent, thoughts};
use crate::expect::{refused, with_model};

/// What a user says, which no log may have.
const SAID: &str = "what only ada may know";

async fn completed(user: &TestUser, agent: &str, words: &str) -> Result<Run> {
    let run = user.run(agent, words).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    Ok(run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_own_key_goes_to_its_provider_in_that_users_runs_and_is_found_nowhere_else() -> Test
{
    // The first call fails, so that what is said of failures is looked at too.
    let (model, _) = counting(|call| match call {
        0 => Reply::Refuse(503, None),
        _ => Reply::Text(vec!["hello".into()]),
    })
    .await?;
    let folder = tempfile::tempdir()?;
    model_agent(folder.path(), "thrifty", "cache = \"1h\"\n")?;
    let options = with_model(&model)
        .set("models.providers.fake.api_key", "the-key-of-the-server")
        .set("agents.dir", folder.path().display())
        .set("metrics.token", METRICS)
        .set("log.level", "trace");
    let process = ProcessOptions {
        environment: options.environment(),
        ..ProcessOptions::default()
    };
    let data = folder.path().join("data");
    let server = TestProcess::start_with(&data, process).await?;
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let secret = json!({ "value": CANARY, "hosts": [model.place()] });
    put(&ada.client, "model_fake", secret).await?;
    let run = completed(&ada, "thrifty", SAID).await?;
    completed(&bob, "thrifty", SAID).await?;
    assert_eq!(model.keys(), [CANARY, CANARY, "the-key-of-the-server"]);

    let mut told = serde_json::to_string(&run)?;
    for received in ada.events(run.id).await? {
        told.push_str(&received.text);
    }
    let mut unsaid = String::new();
    for (client, path) in [
        (&ada.client, "/api/secrets/model_fake"),
        (&ada.client, "/api/audit"),
        (&ada.client, "/api/agents"),
        (&ada.client, "/api/usage"),
        (&ada.client.with_token(METRICS), "/api/metrics"),
    ] {
        let answer = client.send(client.request(Method::GET, path)).await?;
        unsaid.push_str(&answer.text().await?);
    }
    let log = server.log()?;
    ensure!(log.len() > 1_000, "the log says little: {}", log.len());
    ensure!(
        unsaid.contains("netra_model_cache_lookups_total"),
        "no metric of the cache"
    );
    unsaid.push_str(&log);
    ensure!(!unsaid.contains(SAID), "told: {}", around(&unsaid, SAID));
    told.push_str(&unsaid);
    for word in FORMS {
        ensure!(
            !told.contains(word),
            "{word} was told: {}",
            around(&told, word)
        );
    }
    let holders = holders(&data, &FORMS.map(str::as_bytes))?;
    ensure!(holders.is_empty(), "{holders:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_kept_is_given_to_its_own_user_alone() -> Test {
    let (model, calls) = counting(|call| Reply::Text(vec![format!("answer {call}")])).await?;
    let agents = tempfile::tempdir()?;
    model_agent(agents.path(), "thrifty", "cache = \"1h\"\n")?;
    let server = TestServer::start_with(with_model(&model).agents(agents.path())).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    for (user, expected, made) in [
        (&ada, "answer 0", 1),
        (&ada, "answer 0", 1),
        (&bob, "answer 1", 2),
    ] {
        let run = completed(user, "thrifty", SAID).await?;
        assert_eq!(run.result, Some(json!({ "text": expected })));
        assert_eq!(calls.load(SeqCst), made);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_ready_for_those_who_have_a_key_of_their_own() -> Test {
    let agents = tempfile::tempdir()?;
    model_agent(agents.path(), "keyless", "model = \"far/gpt\"\n")?;
    let options = netra_integration::Options::new()
        .set("models.providers.far.base_url", "https://api.openai.com/v1")
        .agents(agents.path());
    let server = TestServer::start_with(options).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let elsewhere = json!({ "value": "sk-a-key-of-ada", "hosts": ["elsewhere.example"] });
    put(&ada.client, "model_far", elsewhere).await?;
    for user in [&ada, &bob] {
        let agent = user.client.agent("keyless").await?;
        let problem = agent.problem.unwrap_or_default();
        ensure!(!agent.ready && problem.contains("model_far"), "{problem}");
        refused(
            user.start("keyless", "x").await,
            422,
            ErrorCode::AgentNotReady,
        )?;
    }
    let secret = json!({ "value": "sk-a-key-of-ada", "hosts": ["api.openai.com"] });
    put(&ada.client, "model_far", secret).await?;
    ensure!(
        ada.client.agent("keyless").await?.ready,
        "not ready for ada"
    );
    ensure!(!bob.client.agent("keyless").await?.ready, "ready for bob");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_bound_elsewhere_or_not_wanted_is_not_sent() -> Test {
    let model = FakeModel::start(|_| Reply::Text(vec!["hello".into()])).await?;
    let options = |user_keys: bool| {
        with_model(&model)
            .set("models.providers.fake.api_key", "the-key-of-the-server")
            .set("models.providers.fake.user_keys", user_keys)
    };
    for (user_keys, hosts) in [(true, "elsewhere.example"), (false, model.place())] {
        let server = TestServer::start_with(options(user_keys)).await?;
        let user = server.user().await?;
        put(
            &user.client,
            "model_fake",
            json!({ "value": CANARY, "hosts": [hosts] }),
        )
        .await?;
        let run = user.run("assistant", "x").await?;
        let code = run.error.map(|error| error.code);
        let expected = user_keys.then_some(ErrorCode::ModelNotConfigured);
        assert_eq!(code, expected);
        assert!(thoughts(&user.events(run.id).await?).is_empty());
    }
    assert_eq!(model.keys(), ["the-key-of-the-server"]);
    Ok(())
}
