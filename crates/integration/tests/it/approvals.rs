//! What agents ask a person, answered over the command line.

use anyhow::{Context as _, Result, ensure};
use netra_integration::{Options, TestServer, TestTool, TestUser, output};
use netra_protocol::run::{Run, RunStatus};
use serde_json::{Value, json};

use crate::Test;
use crate::expect::until;
use netra_integration::script;

/// A server with an agent that asks, and who asks it.
struct Scene {
    server: TestServer,
    _agents: tempfile::TempDir,
    ada: TestUser,
}

impl Scene {
    async fn new() -> Result<Self> {
        let agents = tempfile::tempdir()?;
        let asks = "consent(question=input['text'])\n";
        script(agents.path(), "asker", "tools = [\"consent\"]\n", asks)?;
        let options = Options::new()
            .agents(agents.path())
            .tool(TestTool::consent());
        let server = TestServer::start_with(options).await?;
        Ok(Self {
            ada: server.user().await?,
            server,
            _agents: agents,
        })
    }

    /// A run that waits for an answer.
    async fn waiting(&self, question: &str) -> Result<Run> {
        let mut socket = self.ada.socket().await?;
        let run = self.ada.start("asker", question).await?;
        until(&mut socket, "run_waiting").await?;
        Ok(run)
    }

    /// `netra approvals …` as this user: the exit code, what it says, and what it complains of.
    async fn said(&self, user: &str, words: &[&str]) -> Result<(Option<i32>, String, String)> {
        let data = self.server.data().to_string_lossy();
        let arguments = [&["approvals"], words, &["--data", &data, "--user", user]].concat();
        let ended = output(&arguments, "").await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            ended.status.code(),
            text(&ended.stdout),
            text(&ended.stderr),
        ))
    }

    async fn listed(&self, words: &[&str]) -> Result<Vec<Value>> {
        let words = [&["list", "--json"], words].concat();
        let (code, told, problem) = self.said(&self.ada.name, &words).await?;
        ensure!(code == Some(0), "{problem}");
        Ok(serde_json::from_str(&told)?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_is_listed_and_answered_once() -> Test {
    let scene = Scene::new().await?;
    let ada = scene.ada.name.as_str();
    let run = scene.waiting("first").await?;
    let listed = scene.listed(&[]).await?;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["run_id"], json!(run.id));
    assert_eq!(listed[0]["arguments"], json!({"question": "first"}));
    let id = listed[0]["id"].as_str().context("an id")?;
    let (_, table, _) = scene.said(ada, &["list"]).await?;
    ensure!(table.contains(id) && table.contains("pending"), "{table}");

    // Whose it is not, is told of nothing; who is nobody, is not made.
    let bob = scene.server.user().await?.name;
    let (code, _, problem) = scene.said(&bob, &["approve", id]).await?;
    ensure!(
        code == Some(7) && problem.contains("no such object"),
        "{problem}"
    );
    let (code, _, problem) = scene.said("nobody", &["list"]).await?;
    ensure!(
        code == Some(2) && problem.contains("no user `nobody`"),
        "{problem}"
    );

    let broken = ["approve", id, "--arguments", "{"];
    assert_eq!(scene.said(ada, &broken).await?.0, Some(2));
    let edited = [
        "approve",
        id,
        "--arguments",
        r#"{"question": "second"}"#,
        "--note",
        "so",
    ];
    let (code, told, problem) = scene.said(ada, &edited).await?;
    ensure!(
        code == Some(0) && told.contains("is approved"),
        "{told}{problem}"
    );
    let ended = scene.ada.client.run_end(run.id).await?;
    assert_eq!(ended.status, RunStatus::Completed, "{:?}", ended.error);
    assert_eq!(ended.result.context("a result")?["question"], "second");
    let (code, _, problem) = scene.said(ada, &["deny", id]).await?;
    ensure!(
        code == Some(7) && problem.contains("approval_resolved"),
        "{problem}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_denied_is_not_made() -> Test {
    let scene = Scene::new().await?;
    let ada = scene.ada.name.as_str();
    let run = scene.waiting("may I").await?;
    let id = scene.listed(&[]).await?[0]["id"]
        .as_str()
        .context("an id")?
        .to_owned();
    let words = ["deny", &id, "--note", "not today", "--json"];
    let (code, told, problem) = scene.said(ada, &words).await?;
    ensure!(code == Some(0), "{problem}");
    let told: Value = serde_json::from_str(&told)?;
    assert_eq!(told["state"], "denied");
    let ended = scene.ada.client.run_end(run.id).await?;
    let error = ended.error.context("it was not made")?;
    ensure!(error.message.contains("not today"), "{error:?}");
    assert_eq!(scene.listed(&[]).await?, Vec::<Value>::new());
    assert_eq!(scene.listed(&["--all"]).await?.len(), 1);
    Ok(())
}
