//! Nodes that have Redis besides their database: it carries what they say to each other, and nobody loses anything by it,
//! whatever becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use netra_client::Socket;
use netra_integration::{FakeModel, REDIS_PASSWORD, Reply, TestProcess, TestRedis, TestUser, soon};
use netra_protocol::account::Role;
use netra_protocol::run::RunStatus;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::nodes::{Folders, over};
use crate::Test;
use crate::calls::model_agent;
use crate::expect::{names, until, until_end, until_logged};

const METRICS_TOKEN: &str = "a-token-for-the-scraper";
const CARRIES: &str = "Redis carries what nodes say to each other";
const AWAY: &str = "Redis is not reached";

/// Folders of nodes that are to use a Redis at this URL.
fn folders(model: &FakeModel, url: &str) -> Result<Folders> {
    let mut folders = Folders::new(model)?;
    for (key, value) in [
        ("NETRA__REDIS__URL", url),
        ("NETRA__METRICS__TOKEN", METRICS_TOKEN),
    ] {
        folders.options.environment.push((key.into(), value.into()));
    }
    Ok(folders)
}

/// Two nodes that both hear each other by Redis, and a user as seen by each.
async fn two(folders: &mut Folders) -> Result<([TestProcess; 2], [TestUser; 2])> {
    let (nodes, users) = folders.two(Role::Admin).await?;
    for node in &nodes {
        until_logged(node, CARRIES).await?;
    }
    Ok((nodes, users))
}

/// The sum of a metric's samples with this label, on the node that the user asks.
async fn metric(user: &TestUser, name: &str, label: (&str, &str)) -> Result<f64> {
    let scraper = user.client.with_token(METRICS_TOKEN);
    let request = scraper.request(Method::GET, "/api/metrics");
    let request = request.header("accept", "application/json");
    let metrics: Value = scraper.send(request).await?.json().await?;
    let samples = metrics[name]["samples"].as_array();
    let wanted = |sample: &&Value| label.0.is_empty() || sample["labels"][label.0] == label.1;
    let values = samples.into_iter().flatten().filter(wanted);
    Ok(values.filter_map(|sample| sample["value"].as_f64()).sum())
}

/// Lets runs end on the first node until the second one has heard of one by Redis.
async fn until_carried([here, there]: &[TestUser; 2]) -> Result<()> {
    let by_redis = ("carrier", "redis");
    let before = metric(there, "netra_node_words_heard_total", by_redis).await?;
    let heard = async {
        loop {
            here.run("echo", "a b c").await?;
            let now = metric(there, "netra_node_words_heard_total", by_redis).await?;
            if now > before {
                return anyhow::Ok(());
            }
        }
    };
    soon("a word by Redis", heard).await
}

/// Runs something over the first node, and sees all of it on a socket of the second.
async fn seen(users: &[TestUser; 2], socket: &mut Socket) -> Test {
    let [here, there] = users;
    let run = here.run("echo", "a b c").await?;
    let live = until_end(socket, run.id).await?;
    let stored = there.events(run.id).await?;
    assert_eq!(names(&live), names(&stored));
    Ok(())
}

async fn redis_of(user: &TestUser) -> Result<(u16, Value)> {
    let client = &user.client;
    let ready = client.request(Method::GET, "/health/ready").send().await?;
    let request = client.request(Method::GET, "/health/dependencies");
    let found = request.header(
        "authorization",
        format!("Bearer {}", client.token().context("it has one")?),
    );
    let found: Value = found.send().await?.json().await?;
    let all = found["dependencies"].as_array().context("a list")?;
    let redis = all.iter().find(|one| one["name"] == "redis");
    Ok((
        ready.status().as_u16(),
        redis.context("it is listed")?.clone(),
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_cancels_go_to_other_nodes_by_redis() -> Test {
    let redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang("half an ans".into())).await?;
    let mut folders = folders(&model, &redis.url())?;
    let (nodes, users) = two(&mut folders).await?;
    until_carried(&users).await?;
    let [here, there] = &users;
    let mut socket = there.socket().await?;
    seen(&users, &mut socket).await?;

    let run = here.start("assistant", "hello").await?;
    until(&mut socket, "message_delta").await?;
    there.client.run_cancel(run.id).await?;
    until(&mut socket, "run_cancelled").await?;
    assert_eq!(
        here.client.run_end(run.id).await?.status,
        RunStatus::Cancelled
    );
    let (ready, found) = redis_of(there).await?;
    assert_eq!((ready, &found["status"]), (200, &Value::from("ok")));
    assert_eq!(metric(there, "netra_redis_up", ("", "")).await?, 1.0);
    for node in &nodes {
        ensure!(!node.log()?.contains(REDIS_PASSWORD));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_costs_no_event_and_carries_again_when_it_is_back() -> Test {
    let mut redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let mut folders = folders(&model, &redis.url())?;
    let (nodes, users) = two(&mut folders).await?;
    until_carried(&users).await?;
    let mut socket = users[1].socket().await?;
    seen(&users, &mut socket).await?;
    redis.kill().await?;
    // At once, whether they know it already or not.
    seen(&users, &mut socket).await?;
    for node in &nodes {
        until_logged(node, AWAY).await?;
    }
    seen(&users, &mut socket).await?;
    let (ready, found) = redis_of(&users[1]).await?;
    assert_eq!((ready, &found["status"]), (200, &Value::from("failed")));
    assert_eq!(metric(&users[1], "netra_redis_up", ("", "")).await?, 0.0);

    redis.start_again().await?;
    until_carried(&users).await?;
    seen(&users, &mut socket).await?;
    for node in &nodes {
        let log = node.log()?;
        assert_eq!(log.matches(CARRIES).count(), 2, "{log}");
        assert_eq!(log.matches(AWAY).count(), 1, "{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_is_left_alone_until_it_answers() -> Test {
    let redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let mut folders = folders(&model, &redis.url())?;
    let (nodes, users) = two(&mut folders).await?;
    let mut socket = users[1].socket().await?;
    redis.signal(Signal::STOP)?;
    seen(&users, &mut socket).await?;
    for node in &nodes {
        until_logged(node, AWAY).await?;
    }
    seen(&users, &mut socket).await?;
    redis.signal(Signal::CONT)?;
    until_carried(&users).await?;
    seen(&users, &mut socket).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_or_is_not_there_is_said_and_keeps_no_server_from_starting() -> Test {
    let redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let nowhere = format!("redis://:{REDIS_PASSWORD}@127.0.0.1:1");
    let wrong = format!("redis://:{REDIS_PASSWORD}-but-wrong@{}", redis.place());
    for url in [nowhere, wrong] {
        let mut folders = folders(&model, &url)?;
        let one = folders.start_first().await?;
        let two = folders.start_another().await?;
        for node in [&one, &two] {
            until_logged(node, "Redis is still not reached").await?;
        }
        let here = one.user_as("ada", Role::Admin).await?;
        let users = [here.clone(), over(&two, &here)?];
        let mut socket = users[1].socket().await?;
        seen(&users, &mut socket).await?;
        let (ready, found) = redis_of(&users[0]).await?;
        assert_eq!((ready, &found["status"]), (200, &Value::from("failed")));
        ensure!(!found.to_string().contains(REDIS_PASSWORD), "{found}");
        ensure!(!one.log()?.contains(REDIS_PASSWORD));
    }
    Ok(())
}

/// Hears everything that is published.
async fn eavesdropper(redis: &TestRedis) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(redis.place()).await?;
    let asked = format!("AUTH {REDIS_PASSWORD}\r\nPSUBSCRIBE *\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let mut said = Vec::new();
    while !said.ends_with(b"*\r\n:1\r\n") {
        said.push(soon("a subscription", stream.read_u8()).await?);
    }
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_else_has_the_same_redis_reads_nothing_and_is_not_heard() -> Test {
    let redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let (mut ours, mut theirs) = (
        folders(&model, &redis.url())?,
        folders(&model, &redis.url())?,
    );
    let (_nodes, users) = two(&mut ours).await?;
    let (_others, strangers) = two(&mut theirs).await?;
    let mut stream = eavesdropper(&redis).await?;
    until_carried(&users).await?;
    let secret = "the-word-that-nobody-else-may-read";
    users[0].run("echo", secret).await?;
    until_carried(&users).await?;

    let mut overheard = vec![0; 1 << 20];
    let count = soon("what is published", stream.read(&mut overheard)).await?;
    let overheard = String::from_utf8_lossy(&overheard[..count]);
    ensure!(overheard.contains(":words"), "{overheard}");
    for private in [secret, "run_started", "echo"] {
        ensure!(!overheard.contains(private), "{private}");
    }
    // The strangers have a channel of their own, on which nothing of ours came.
    let refused = metric(&strangers[1], "netra_node_words_refused_total", ("", "")).await?;
    assert_eq!(refused, 0.0);
    ensure!(strangers[1].client.runs(None, None).await?.items.is_empty());
    Ok(())
}

/// Sign-ins with a wrong password that are let through on this node, until one is refused for their number.
async fn guesses(user: &TestUser, name: &str) -> Result<u32> {
    let anonymous = user.client.anonymous();
    let mut count = 0;
    loop {
        let refused = anonymous.login(name, "a wrong password").await;
        match refused.err().and_then(|error| error.status()) {
            Some(401) => count += 1,
            Some(429) => return Ok(count),
            other => bail!("{other:?} after {count}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_counted_over_all_nodes_and_by_shares_without_redis() -> Test {
    let mut redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let mut folders = folders(&model, &redis.url())?;
    let limit = ("NETRA__LIMITS__LOGINS_PER_MINUTE".into(), "4".into());
    folders.options.environment.push(limit);
    let (nodes, users) = two(&mut folders).await?;
    until_carried(&users).await?;
    let [here, there] = &users;
    assert_eq!(guesses(here, "ada").await?, 4);
    assert_eq!(guesses(there, "ada").await?, 0);
    assert_eq!(guesses(there, "bob").await?, 4);
    assert_eq!(guesses(here, "bob").await?, 0);

    redis.kill().await?;
    for node in &nodes {
        until_logged(node, AWAY).await?;
    }
    assert_eq!(guesses(here, "eve").await?, 2);
    assert_eq!(guesses(there, "eve").await?, 2);
    // What was counted before is not forgotten.
    assert_eq!(guesses(here, "ada").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_disabled_on_one_node_is_refused_by_all_with_and_without_redis() -> Test {
    let mut redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let mut folders = folders(&model, &redis.url())?;
    // They ask until they are refused, and not for asking.
    let limit = (
        "NETRA__LIMITS__REQUESTS_PER_MINUTE".into(),
        "1000000".into(),
    );
    folders.options.environment.push(limit);
    let (nodes, users) = two(&mut folders).await?;
    until_carried(&users).await?;
    for name in ["bob", "eve"] {
        let bob = over(&nodes[1], &nodes[0].user(name).await?)?;
        let mut socket = bob.socket().await?;
        // Its credentials are remembered there for a minute.
        bob.client.me().await?;
        let path = format!("/api/admin/users/{}", bob.id);
        let change = users[0].client.request(Method::PATCH, &path);
        let change = change.json(&serde_json::json!({"disabled": true}));
        users[0].client.send(change).await?;
        let refused = async { while bob.client.me().await.is_ok() {} };
        soon("a refusal", refused).await;
        let closed = async { while socket.next_event().await.is_ok() {} };
        soon("the socket to be closed", closed).await;
        if name == "bob" {
            redis.kill().await?;
            for node in &nodes {
                until_logged(node, AWAY).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_node_opens_one_socket_on_any() -> Test {
    let redis = TestRedis::start().await?;
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let mut folders = folders(&model, &redis.url())?;
    let (nodes, [here, _]) = two(&mut folders).await?;
    let ticket = here.client.ws_ticket().await?.ticket;
    let http = reqwest::Client::new();
    let open = async |node: &TestProcess| {
        let url = format!("{}/ws?ticket={ticket}", node.url());
        let request = http.get(url).header("connection", "upgrade");
        let request = request
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
        Ok::<_, anyhow::Error>(request.send().await?.status().as_u16())
    };
    assert_eq!(open(&nodes[1]).await?, 101);
    for node in &nodes {
        assert_eq!(open(node).await?, 401);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_one_node_keeps_another_gives_to_the_same_user_alone() -> Test {
    let redis = TestRedis::start().await?;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let model = FakeModel::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Reply::Text(vec!["the kept answer".into()])
    })
    .await?;
    let agents = tempfile::tempdir()?;
    model_agent(agents.path(), "thrifty", "cache = \"1h\"\n")?;
    let mut folders = folders(&model, &redis.url())?;
    let dir = agents.path().display().to_string();
    let key = "NETRA__AGENTS__DIR".into();
    folders.options.environment.push((key, dir));
    let (nodes, [here, there]) = two(&mut folders).await?;
    let stranger = over(&nodes[1], &nodes[0].user("bob").await?)?;
    for (user, times) in [(&here, 1), (&there, 1), (&stranger, 2)] {
        let run = user.run("thrifty", "hello").await?;
        assert_eq!(run.status, RunStatus::Completed);
        let result = run.result.context("it has a result")?;
        assert_eq!(result["text"], "the kept answer");
        assert_eq!(asked.load(Ordering::SeqCst), times);
    }
    Ok(())
}
