//! `netra events verify` finds what is wrong, in a folder and on a server.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_context::{BackgroundKind, UserExecutionContext};
use netra_integration::{Beside, TestProcess, TestServer, output, soon};
use netra_protocol::id::{RunId, UserId};
use netra_store::Changes;
use serde_json::{Value, json};

use crate::Test;
use crate::expect::{hanging_model, until, until_end};
use crate::logs::busy;

/// Writes a run whose agent thinks before it has begun, which no engine does.
async fn write_nonsense(data: &Path, user_id: UserId) -> Result<RunId> {
    let beside = Beside::open(data)?;
    let ctx = beside.user(user_id);
    let run = beside.run(&ctx, "nonsense").await?;
    let thought = beside.thought(&run, "too soon");
    beside
        .store
        .commit(&ctx, &run, Changes::default(), vec![thought])
        .await?;
    Ok(run.id)
}

/// The exit code and the report.
async fn verify(arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let all = [&["events", "verify", "--json"], arguments].concat();
    let told = output(&all, "").await?;
    let report = serde_json::from_slice(&told.stdout)
        .with_context(|| String::from_utf8_lossy(&told.stderr).into_owned())?;
    Ok((told.status.code(), report))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_found_in_a_folder_and_on_a_server() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let server = TestProcess::start(data.path()).await?;
    let ada = server.user("ada").await?;
    let bob = server.user("bob").await?;
    for text in ["one", "two"] {
        ada.run("echo", text).await?;
    }
    bob.run("echo", "three").await?;
    let token = ada.client.token().context("it has one")?;
    let of_server = ["--server", server.url(), "--token", &token];

    let (code, report) = verify(&of_server).await?;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
    assert_eq!((&report["users"], &report["runs"]), (&json!(1), &json!(2)));
    assert_eq!(report["missing_judged"], false);
    let (code, report) = verify(&["--data", &folder]).await?;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
    assert_eq!((&report["users"], &report["runs"]), (&json!(2), &json!(3)));
    assert_eq!(report["missing_judged"], true);

    let run = write_nonsense(data.path(), ada.id).await?;
    for source in [&of_server[..], &["--data", &folder]] {
        let (code, report) = verify(source).await?;
        assert_eq!(code, Some(1));
        let [finding] = report["findings"].as_array().context("a list")?.as_slice() else {
            anyhow::bail!("{report}")
        };
        assert_eq!(finding["user"], "ada");
        assert_eq!(finding["run"], run.to_string());
        ensure!(finding["seq"].is_u64(), "{finding}");
        let problem = finding["problem"].as_str().unwrap_or_default();
        ensure!(problem.contains("the run has not started"), "{problem}");
    }
    let (code, _) = verify(&["--data", &folder, "--user", "bob"]).await?;
    assert_eq!(code, Some(0), "another one's log is well");
    let told = output(&["events", "verify", "--data", &folder], "").await?;
    let told = String::from_utf8(told.stdout)?;
    ensure!(told.contains(&format!("ada {run} at ")), "{told}");
    ensure!(
        told.contains("2 logs with") && told.contains("1 findings"),
        "{told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_a_run_that_retention_has_cut_is_no_nonsense() -> Test {
    let (_model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let old = user.start("assistant", "hello").await?;
    until(&mut socket, "agent_started").await?;
    let kept = user.start("assistant", "hello").await?;
    until(&mut socket, "agent_started").await?;
    user.client.run_cancel(old.id).await?;
    until_end(&mut socket, old.id).await?;
    let beside = Beside::open(server.data())?;
    let between = beside.runtime.now();
    user.client.run_cancel(kept.id).await?;
    until_end(&mut socket, kept.id).await?;

    let sweep = UserExecutionContext::for_background(&beside.runtime, BackgroundKind::Sweep);
    let cut = beside.store.expire(&sweep, between).await?;
    ensure!(cut > 0, "the beginning of the first run is gone");
    let mut rest = user.feed().await?;
    let first = soon("what is left", rest.next_event()).await?;
    ensure!(first.event.seq > 1, "what is left begins later: {first:?}");
    let folder = server.data().to_string_lossy().into_owned();
    let token = user.client.token().context("it has one")?;
    let of_server = ["--server", server.url(), "--token", &token];
    for source in [&of_server[..], &["--data", &folder]] {
        let (code, report) = verify(source).await?;
        assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
        assert_eq!(report["runs"], 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_goes_on_while_it_is_read_is_well() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let token = user.client.token().context("it has one")?;
    let of_server = ["--server", server.url(), "--token", &token];
    let enough = tokio::sync::watch::channel(false).0;
    let looks = async {
        let mut reports = Vec::new();
        for _ in 0..5 {
            reports.push(verify(&of_server).await);
        }
        enough.send_replace(true);
        reports
    };
    let (reports, ended) = tokio::join!(looks, busy(&user, &enough));
    ended?;
    for report in reports {
        let (code, report) = report?;
        assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
    }
    Ok(())
}
