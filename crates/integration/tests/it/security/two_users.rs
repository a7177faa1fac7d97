//! Two users at once: neither sees anything of the other, by any way.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use netra_client::{Method, Upload};
use netra_integration::{TestServer, TestUser, soon, start_with_files};
use netra_protocol::ErrorCode;
use netra_protocol::id::FileId;
use netra_protocol::run::Run;
use netra_protocol::thread::CreateThread;

use crate::Test;
use crate::expect::until_end;

/// All that a user has, in every list there is, as text.
async fn everything(user: &TestUser) -> Result<String> {
    let mut all = String::new();
    for path in [
        "/api/auth/me",
        "/api/auth/sessions",
        "/api/agents",
        "/api/tools",
        "/api/files?limit=100",
        "/api/threads?limit=100",
        "/api/threads?q=secret",
        "/api/runs?limit=100",
        "/api/usage",
    ] {
        let answer = user
            .client
            .send(user.client.request(Method::GET, path))
            .await;
        all.push_str(&answer.with_context(|| path.to_owned())?.text().await?);
    }
    Ok(all)
}

/// Every id in a text, of any kind.
pub(super) fn ids(text: &str) -> BTreeSet<String> {
    let kinds = [
        "usr_", "ses_", "thr_", "msg_", "run_", "tcl_", "evt_", "fil_", "apr_", "aud_", "req_",
    ];
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.len() == 30 && kinds.iter().any(|kind| word.starts_with(kind)))
        .map(str::to_owned)
        .collect()
}

/// Runs and files of one user, with a word that only that user knows.
async fn live(user: &TestUser, word: &str) -> Result<(Run, FileId)> {
    let name = format!("{word}.txt");
    let file = user
        .client
        .file_upload(&name, Upload::Bytes(word.to_owned().into()))
        .await?;
    let start = start_with_files("echo", format!("the secret is {word}"), vec![file.id]);
    let run = user.client.run_start(None, &start, None).await?;
    Ok((user.client.run_end(run.id).await?, file.id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_of_two_users_sees_anything_of_the_other() -> Test {
    let server = TestServer::start().await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let (mut of_ada, mut of_bob) = (ada.socket().await?, bob.socket().await?);
    // SSE of everything, open while the other one works.
    let request = bob.client.request(Method::GET, "/api/events?after=0");
    let mut sse = bob.client.send(request).await?.bytes_stream();

    let (mut ada_runs, mut bob_runs) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let (of_ada, of_bob) = (format!("adamant{round}"), format!("bobsled{round}"));
        let (one, two) = tokio::join!(live(&ada, &of_ada), live(&bob, &of_bob));
        ada_runs.push(one?.0);
        bob_runs.push(two?.0);
    }
    let mut seen_by_ada = String::new();
    for run in &ada_runs {
        for received in until_end(&mut of_ada, run.id).await? {
            seen_by_ada.push_str(&received.text);
        }
    }
    let mut seen_by_bob = String::new();
    for run in &bob_runs {
        for received in until_end(&mut of_bob, run.id).await? {
            seen_by_bob.push_str(&received.text);
        }
    }
    while seen_by_bob.matches("event: run_completed").count()
        + seen_by_bob.matches("\"type\":\"run_completed\"").count()
        < 2 * bob_runs.len()
    {
        let piece: Bytes = soon("SSE", sse.next())
            .await
            .context("the stream goes on")??;
        seen_by_bob.push_str(&String::from_utf8_lossy(&piece));
    }
    seen_by_ada.push_str(&everything(&ada).await?);
    seen_by_bob.push_str(&everything(&bob).await?);

    ensure!(seen_by_ada.contains("adamant4") && seen_by_bob.contains("bobsled4"));
    ensure!(!seen_by_ada.contains("bobsled") && !seen_by_bob.contains("adamant"));
    let both: Vec<_> = ids(&seen_by_ada)
        .intersection(&ids(&seen_by_bob))
        .cloned()
        .collect();
    ensure!(both.is_empty(), "seen by both: {both:?}");
    ensure!(
        ids(&seen_by_ada).len() > 20,
        "the comparison has something to compare"
    );
    // Numbers too: each user's log counts for itself.
    let first = ada.events(ada_runs[0].id).await?[0].event.seq;
    assert_eq!(first, 1, "the other's events did not count");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_anothers_list_gives_nothing_of_it() -> Test {
    let server = TestServer::start().await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    for number in 0..3 {
        let title = Some(format!("adamant {number}"));
        ada.client
            .thread_create(&CreateThread {
                title,
                metadata: None,
            })
            .await?;
    }
    let page = ada.client.threads(None, Some(1), None).await?;
    let cursor = page.next_cursor.context("there are more")?;
    let stolen = bob.client.threads(None, Some(100), Some(&cursor)).await;
    let refused = stolen.err().context("another user's cursor is taken")?;
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest));
    let rest = ada.client.threads(None, Some(100), Some(&cursor)).await?;
    assert_eq!(rest.items.len(), 2, "her own goes on");
    Ok(())
}
