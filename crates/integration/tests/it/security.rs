//! Two users at once: neither sees anything of the other, by any way.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use netra_client::{Method, Upload};
use netra_integration::{TestServer, TestUser, soon, start_with_files};
use netra_protocol::ErrorCode;
use netra_protocol::frame::{ClientFrame, RunCancel, RunStart, Subscribe};
use netra_protocol::id::{FileId, RunId, ThreadId};
use netra_protocol::run::Run;
use netra_protocol::thread::CreateThread;

use crate::Test;
use crate::expect::{refused, until_end};

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
fn ids(text: &str) -> BTreeSet<String> {
    let kinds = [
        "usr_", "ses_", "thr_", "msg_", "run_", "tcl_", "evt_", "fil_", "apr_", "aud_",
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

/// Status, headers and body of a refused answer, without the one thing that may differ.
async fn refusal(
    user: &TestUser,
    method: Method,
    path: &str,
    body: Option<&str>,
) -> Result<String> {
    let mut request = user.client.request(method, path);
    if let Some(body) = body {
        request = request
            .header("content-type", "application/json")
            .body(body.to_owned());
    }
    let answer = request.send().await?;
    let status = answer.status();
    // What is wrong with a parameter may be told, if it is told of every id alike.
    let wrong = path.contains("wrong") || body.is_some_and(|body| body.contains("wrong"));
    ensure!(status == 404 || wrong && status == 400, "{path}: {status}");
    let mut headers: Vec<_> = answer.headers().keys().map(ToString::to_string).collect();
    headers.sort();
    let text = answer.text().await?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    let id = value["error"]["request_id"]
        .as_str()
        .context("every error has a request id")?;
    Ok(format!("{status} {headers:?} {}", text.replace(id, "ID")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_object_looks_exactly_like_a_missing_one() -> Test {
    let server = TestServer::start().await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let (run, file) = live(&ada, "adamant").await?;
    let missing_run = RunId::from_parts(1, 1).to_string();
    let missing_thread = ThreadId::from_parts(1, 1).to_string();
    let missing_file = FileId::from_parts(1, 1).to_string();
    let (run_id, thread_id, file_id) = (
        run.id.to_string(),
        run.thread_id.to_string(),
        file.to_string(),
    );

    // Some are wrong on purpose: what is wrong must not be told of one id and not of the other.
    let tries: [(Method, &str, Option<&str>); 18] = [
        (Method::GET, "/api/runs/RUN", None),
        (Method::GET, "/api/runs/RUN/wait?timeout_ms=1", None),
        (Method::GET, "/api/runs/RUN/wait?timeout_ms=wrong", None),
        (Method::GET, "/api/runs/RUN/events", None),
        (Method::GET, "/api/runs/RUN/events?after=999999", None),
        (Method::POST, "/api/runs/RUN/cancel", None),
        (Method::POST, "/api/runs/RUN/retry", None),
        (Method::GET, "/api/threads/THREAD", None),
        (Method::GET, "/api/threads/THREAD/messages", None),
        (
            Method::GET,
            "/api/threads/THREAD/messages?limit=wrong",
            None,
        ),
        (
            Method::PATCH,
            "/api/threads/THREAD",
            Some(r#"{"title": "mine now"}"#),
        ),
        (
            Method::PATCH,
            "/api/threads/THREAD",
            Some(r#"{"wrong": 1}"#),
        ),
        (Method::DELETE, "/api/threads/THREAD", None),
        (Method::POST, "/api/threads/THREAD/fork", Some("{}")),
        (
            Method::POST,
            "/api/threads/THREAD/runs",
            Some(r#"{"agent": "echo", "input": "x"}"#),
        ),
        (Method::GET, "/api/files/FILE", None),
        (Method::GET, "/api/files/FILE/content", None),
        (Method::DELETE, "/api/files/FILE", None),
    ];
    for (method, path, body) in tries {
        let fill = |run: &str, thread: &str, file: &str| {
            path.replace("RUN", run)
                .replace("THREAD", thread)
                .replace("FILE", file)
        };
        let foreign = fill(&run_id, &thread_id, &file_id);
        let missing = fill(&missing_run, &missing_thread, &missing_file);
        let foreign = refusal(&bob, method.clone(), &foreign, body).await?;
        let missing = refusal(&bob, method.clone(), &missing, body).await?;
        assert_eq!(foreign, missing, "{method} {path}");
    }
    // Nothing of it has changed anything.
    assert_eq!(ada.client.run(run.id).await?.status, run.status);
    assert_eq!(ada.client.file_content(file).await?, "adamant");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_objects_cannot_be_used_in_bodies_or_frames() -> Test {
    let server = TestServer::start().await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let (run, file) = live(&ada, "adamant").await?;

    let with_file = start_with_files("echo", "x", vec![file]);
    let foreign = bob.client.run_start(None, &with_file, None).await;
    refused(foreign, 404, ErrorCode::NotFound)?;

    let mut socket = bob.socket().await?;
    let start = |thread, files| {
        ClientFrame::RunStart(RunStart {
            thread_id: thread,
            idempotency_key: None,
            start: start_with_files("echo", "x", files),
        })
    };
    for frame in [
        ClientFrame::RunCancel(RunCancel { run_id: run.id }),
        start(Some(run.thread_id), vec![]),
        start(None, vec![file]),
    ] {
        refused(socket.request(frame).await, 0, ErrorCode::NotFound)?;
    }
    // A filter on another's thread gives nothing, and does not tell that there is such a thread.
    let threads = Some(vec![run.thread_id]);
    let filter = Subscribe {
        after: netra_protocol::frame::After::Seq(0),
        epoch: None,
        threads,
        deltas: true,
    };
    let subscribed = socket.subscribe(filter).await;
    if let Ok(subscribed) = &subscribed {
        assert_eq!(subscribed.latest_seq, 0);
    } else {
        refused(subscribed, 0, ErrorCode::NotFound)?;
    }
    assert_eq!(bob.client.runs(None, None).await?.items.len(), 0);
    assert_eq!(ada.client.runs(None, None).await?.items.len(), 1);
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
    if let Ok(stolen) = bob.client.threads(None, Some(100), Some(&cursor)).await {
        ensure!(stolen.items.is_empty(), "{stolen:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_user_is_no_admin() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let metrics = user.client.request(Method::GET, "/api/metrics");
    refused(user.client.send(metrics).await, 403, ErrorCode::Forbidden)?;
    let admin = server
        .user_as(netra_protocol::account::Role::Admin, None)
        .await?;
    let metrics = admin.client.request(Method::GET, "/api/metrics");
    admin.client.send(metrics).await?;
    Ok(())
}
