//! The failures that servers of this kind have had in public, one test each: what was wrong there is
//! tried here.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use netra_client::{Client, Error, Method, Socket};
use netra_integration::{
    FakeModel, Options, ProcessOptions, Reply, TestProcess, TestServer, TestUser, soon, start,
};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::event::EventKind;
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::id::{MessageId, ThreadId};
use netra_protocol::run::{OnBusy, RunStatus, StartRun};
use serde_json::{Value, json};

use super::world::{PASSWORD, World, unlimited};
use crate::Test;
use crate::expect::{hanging_model, refused, until, until_end, with_model};
use netra_integration::script;

fn from(after: u64) -> Subscribe {
    Subscribe {
        after: After::Seq(after),
        epoch: None,
        threads: None,
        deltas: true,
    }
}

async fn posted(
    client: &Client,
    path: &str,
    body: Value,
    key: Option<&str>,
) -> Result<Value, Error> {
    let mut request = client.request(Method::POST, path).json(&body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let text = client.send(request).await?.text().await?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// "Make the thread unless it is there" gave the thread of whoever had it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cross_user_thread_injection_by_conditional_create() -> Test {
    let server = TestServer::start_with(unlimited()).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let body = json!({"title": "of ada"});
    let own = posted(&ada.client, "/api/threads", body.clone(), Some("key")).await?;
    let thread = crate::expect::text(&own, "/id")?;
    // Nobody names the id of what is made.
    for name in ["id", "thread_id", "if_exists"] {
        for path in ["/api/threads", "/api/runs"] {
            let named = json!({"agent": "echo", "input": "x", "title": "x", name: thread});
            refused(
                posted(&bob.client, path, named, None).await,
                400,
                ErrorCode::UnknownField,
            )?;
        }
    }
    // A key is the user's own: the same one makes something else.
    let other = posted(&bob.client, "/api/threads", body.clone(), Some("key")).await?;
    assert_ne!(other["id"], own["id"]);
    let again = posted(&ada.client, "/api/threads", body, Some("key")).await?;
    assert_eq!(again["id"], own["id"], "for its owner it is the same");
    // What is only said of a thread does not reach it.
    let said = json!({"agent": "echo", "input": "x", "metadata": {"thread_id": thread}});
    let run = posted(&bob.client, "/api/runs", said, None).await?;
    assert_ne!(run["thread_id"], own["id"]);
    let id: ThreadId = thread.parse()?;
    assert_eq!(ada.client.messages(id, None, None).await?.items.len(), 0);
    Ok(())
}

/// A run started on another's thread read it, wrote to it, and interrupted its owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_on_anothers_thread() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let active = ada.start("assistant", "of ada").await?;
    model.until_open(1).await?;
    let mut socket = bob.socket().await?;
    for on_busy in [OnBusy::Queue, OnBusy::Reject, OnBusy::Interrupt] {
        let start = StartRun {
            on_busy,
            ..start("echo", "of bob")
        };
        let over_http = bob
            .client
            .run_start(Some(active.thread_id), &start, None)
            .await;
        refused(over_http, 404, ErrorCode::NotFound)?;
        let frame = netra_protocol::frame::RunStart {
            thread_id: Some(active.thread_id),
            idempotency_key: None,
            start,
        };
        refused(socket.run_start(frame).await, 0, ErrorCode::NotFound)?;
    }
    refused(
        bob.client.run_retry(active.id).await,
        404,
        ErrorCode::NotFound,
    )?;
    model.until_open(1).await?;
    let now = ada.client.run(active.id).await?;
    assert_eq!(now.status, RunStatus::Running, "nobody interrupted it");
    let messages = ada.client.messages(active.thread_id, None, None).await?;
    ensure!(!serde_json::to_string(&messages.items)?.contains("of bob"));
    assert_eq!(bob.client.runs(None, None).await?.items.len(), 0);
    Ok(())
}

/// Routes that stream or wait forgot the checks that the plain ones had, at their start or later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_skipped_on_stream_or_wait() -> Test {
    let world = World::start().await?;
    let (ada, bob) = (world.user(Role::User).await?, world.user(Role::User).await?);
    let objects = world.furnish(&ada, "of ada").await?;
    let nobody = world.server.anonymous()?;
    let expired = world.server.client_for(&ada, Duration::ZERO).await?;
    for run in objects.of_kind("RunId")? {
        for path in ["", "/wait?timeout_ms=0", "/events", "/events?after=0"] {
            let path = format!("/api/runs/{run}{path}");
            let ask = async |client: &Client| {
                let request = client.request(Method::GET, &path);
                client.send(request.header("last-event-id", "1")).await
            };
            refused(ask(&nobody).await, 401, ErrorCode::Unauthenticated)?;
            refused(ask(&expired).await, 401, ErrorCode::TokenExpired)?;
            refused(ask(&bob.client).await, 404, ErrorCode::NotFound)?;
            ask(&ada.client).await.context(path.clone())?;
        }
    }
    // What was allowed when it began ends with the sign-in.
    let tokens = nobody.login(&ada.name, PASSWORD).await?;
    let signed_in = nobody.with_token(tokens.access_token);
    let all = signed_in.request(Method::GET, "/api/events");
    let mut stream = signed_in.send(all).await?.bytes_stream();
    signed_in.logout().await?;
    let end = async { while stream.next().await.is_some_and(|piece| piece.is_ok()) {} };
    soon("the end of the stream", end).await;
    Ok(())
}

/// `Access-Control-Allow-Origin: *`, or the asker's own Origin, with credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wildcard_cors_with_credentials() -> Test {
    let options = Options::new().set("server.allowed_origins", "https://good.example");
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let own = server.url().to_owned();
    let origins = [
        "https://evil.example",
        "https://good.example.evil.example",
        "http://good.example",
        "null",
        &format!("{own}.evil.example"),
    ];
    for path in [
        "/api/auth/me",
        "/api/runs",
        "/api/auth/refresh",
        "/api/events",
        "/ws",
    ] {
        for origin in origins {
            for method in [Method::GET, Method::POST, Method::OPTIONS] {
                let request = user.client.request(method.clone(), path);
                let request = request
                    .header("origin", origin)
                    .header("cookie", "netra_refresh=x")
                    .header("access-control-request-method", "POST")
                    .header("access-control-request-headers", "authorization");
                let answer = request.send().await?;
                let what = format!("{method} {path} from {origin}: {}", answer.status());
                for header in answer.headers().keys() {
                    ensure!(
                        !header.as_str().starts_with("access-control"),
                        "{what}: {header}"
                    );
                }
                assert_eq!(answer.status(), 403, "{what}");
            }
        }
    }
    for origin in ["https://good.example", &own] {
        let me = user.client.request(Method::GET, "/api/auth/me");
        user.client.send(me.header("origin", origin)).await?;
    }
    Ok(())
}

fn resident(server: &TestProcess) -> Result<u64> {
    let pid = server.pid().context("it runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("VmRSS")?.trim().parse::<u64>()? * 1024)
}

async fn process() -> Result<(TestProcess, tempfile::TempDir)> {
    let data = tempfile::tempdir()?;
    let options = ProcessOptions {
        environment: unlimited().environment(),
        ..ProcessOptions::default()
    };
    Ok((TestProcess::start_with(data.path(), options).await?, data))
}

const MIB: u64 = 1024 * 1024;

/// Events for clients that read slowly were kept in memory, without an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlimited_replay_buffer() -> Test {
    const RUNS: u64 = 150;
    const SOCKETS: usize = 8;
    let (server, _data) = process().await?;
    let ada = server.user("ada").await?;
    let large = "x".repeat(95_000);
    let flood = async || -> Result<()> {
        for _ in 0..RUNS / 5 {
            let runs = (0..5).map(|_| ada.run("echo", large.as_str()));
            futures::future::try_join_all(runs).await?;
        }
        Ok(())
    };
    flood().await?;
    let before = resident(&server)?;
    // These take nothing while they are not read.
    let mut deaf = Vec::new();
    for _ in 0..SOCKETS {
        deaf.push(ada.socket().await?);
    }
    flood().await?;
    let after = resident(&server)?;
    let log = RUNS * 4 * large.len() as u64;
    // Each mailbox holds 4 MiB at most, and the events in them are shared.
    let kept = after.saturating_sub(before);
    ensure!(
        kept < log / 2,
        "{} MiB of {} MiB were kept",
        kept / MIB,
        log / MIB
    );
    // They were promised every event, and get it from the log.
    for socket in &mut deaf {
        let mut ended = 0;
        while ended < RUNS {
            let received = soon("an event", socket.next_event()).await?;
            ended += u64::from(received.event.event.kind.is_terminal());
        }
    }
    Ok(())
}

/// An event between reading the state and subscribing was seen by neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_then_subscribe_gap() -> Test {
    let pieces: Vec<String> = (0..80).map(|number| format!("{number} ")).collect();
    let whole = pieces.concat();
    let model =
        FakeModel::start(move |_| Reply::Slowly(pieces.clone(), Duration::from_millis(5))).await?;
    let server = TestServer::start_with(with_model(&model)).await?;
    let user = server.user().await?;
    let mut halfway = 0;
    for round in 0..8 {
        let mut live = user.socket().await?;
        let run = user.start("assistant", "count").await?;
        // At another place of the answer in each round.
        for _ in 0..round {
            until(&mut live, "message_delta").await?;
        }
        let messages = user.client.messages(run.thread_id, None, None).await?;
        let as_of = messages
            .as_of
            .context("the first page says when it was read")?;
        let mut text = String::new();
        let mut message: Option<MessageId> = None;
        if let Some(answer) = messages
            .items
            .iter()
            .find(|message| message.agent.is_some())
        {
            text = netra_integration::text_of(answer);
            message = Some(answer.id);
            halfway += usize::from(!answer.complete && !text.is_empty());
        }
        let mut late = Socket::connect(&user.client).await?;
        late.subscribe(from(as_of.seq)).await?;
        for received in until_end(&mut late, run.id).await? {
            if let EventKind::MessageDelta { message_id, delta } = &received.event.event.kind {
                ensure!(message.is_none_or(|known| known == *message_id));
                message = Some(*message_id);
                text.push_str(delta);
            }
        }
        assert_eq!(
            text, whole,
            "round {round}: what was read and what came after"
        );
    }
    ensure!(
        halfway > 3,
        "only {halfway} were read while they were written"
    );
    Ok(())
}

/// State of one session was everybody's: pausing one paused all, a race gave one user another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_global_state() -> Test {
    let agents = tempfile::tempdir()?;
    let code = "kept = [input['text']]\n\
                def add(value):\n    kept.append(value)\n    return len(kept)\n\
                think('in between')\nadd(input['text'])\nthink('again')\n\
                {'kept': kept, 'again': input['text']}\n";
    script(agents.path(), "stateful", "", code)?;
    let asks = "consent(question=input['text'])\n";
    script(agents.path(), "asker", "tools = [\"consent\"]\n", asks)?;
    let options = unlimited()
        .agents(agents.path())
        .tool(netra_integration::TestTool::consent());
    let server = TestServer::start_with(options).await?;
    let ada = server.user().await?;
    let mut socket = ada.socket().await?;
    let paused = ada.start("asker", "wait").await?;
    until(&mut socket, "run_waiting").await?;

    let users: Vec<TestUser> = futures::future::try_join_all((0..5).map(|_| server.user())).await?;
    let runs = users
        .iter()
        .flat_map(|user| (0..6).map(move |number| (user, number)));
    let runs = runs.map(async |(user, number)| -> Result<()> {
        let own = format!("{}-{number}", user.id);
        let run = user.run("stateful", own.as_str()).await?;
        let expected = json!({"kept": [own, own], "again": own});
        ensure!(run.result == Some(expected), "{own}: {run:?}");
        Ok(())
    });
    futures::future::try_join_all(runs).await?;
    assert_eq!(ada.client.run(paused.id).await?.status, RunStatus::Waiting);
    Ok(())
}

/// Each request left something on the heap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heap_growth_per_request() -> Test {
    const ROUND: u64 = 1_000;
    let (server, _data) = process().await?;
    let ada = server.user("ada").await?;
    let round = async || -> Result<u64> {
        for _ in 0..ROUND / 20 {
            let requests = (0..20).map(async |_| -> Result<()> {
                let run = ada.run("echo", "a small one").await?;
                ada.events(run.id).await?;
                drop(Socket::connect(&ada.client).await);
                Ok(())
            });
            futures::future::try_join_all(requests).await?;
        }
        resident(&server)
    };
    // Caches and pools fill first. What stays of each run stays in every round; pages that the allocator happens to
    // keep do not.
    let warm = round().await?;
    let after = round().await?;
    let later = round().await?;
    let each = after.saturating_sub(warm).min(later.saturating_sub(after)) / ROUND;
    // The database's caches go on filling, with half of this; an engine or a socket is more.
    ensure!(
        each < 8192,
        "{each} bytes stay of each run, its stream and its socket"
    );
    Ok(())
}
