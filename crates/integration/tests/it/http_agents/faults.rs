//! Endpoints that hang, die, talk nonsense or too much, and what an endpoint cannot reach.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};
use netra_client::Upload;
use netra_integration::{FakeEndpoint, Options, Said, TestServer, soon};
use netra_protocol::ErrorCode;
use netra_protocol::run::RunStatus;
use serde_json::json;

use super::{agent, calls, result, turn_of};
use crate::Test;
use crate::expect::until;

fn think() -> serde_json::Value {
    json!({"type": "think", "message": "hm"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_fail_has_its_words_and_the_server_goes_on() -> Test {
    const JSON: &str = "application/json";
    let wrong: Vec<(&str, Said, &str, &str)> = vec![
        (
            "hangs",
            Said::Hang(vec![think()]),
            "timeout",
            "within 700 ms",
        ),
        ("dies", Said::Die(vec![think()]), "cut_off", "broke off"),
        ("stops", Said::Steps(vec![think()]), "cut_off", "broke off"),
        (
            "noise",
            Said::Raw(200, JSON, b"<html>".to_vec()),
            "nonsense",
            "no JSON",
        ),
        (
            "binary",
            Said::Raw(200, JSON, vec![0xff; 1000]),
            "nonsense",
            "no JSON",
        ),
        (
            "empty",
            Said::Raw(200, JSON, Vec::new()),
            "cut_off",
            "broke off",
        ),
        (
            "dances",
            Said::Step(json!({"type": "dance"})),
            "nonsense",
            "dance",
        ),
        ("idle", calls(json!([])), "nonsense", "at least one call"),
        (
            "lines",
            Said::Raw(
                200,
                JSON,
                format!("{}\n{}\n", think(), think()).into_bytes(),
            ),
            "nonsense",
            "application/x-ndjson",
        ),
        (
            "error",
            Said::Raw(500, JSON, b"{}".to_vec()),
            "status",
            "status 500",
        ),
        (
            "elsewhere",
            Said::Raw(302, JSON, Vec::new()),
            "redirect",
            "not followed",
        ),
        (
            "endless",
            Said::Endless(1 << 20),
            "too_large",
            "8388608 bytes",
        ),
    ];
    let agents = tempfile::tempdir()?;
    let mut endpoints = Vec::new();
    for (name, said, ..) in &wrong {
        let said = said.clone();
        let endpoint = FakeEndpoint::start(move |_| said.clone()).await?;
        let timeout_ms = if *name == "hangs" { 700 } else { 30_000 };
        let manifest = format!("timeout_ms = {timeout_ms}\n");
        agent(agents.path(), name, endpoint.url(), &manifest)?;
        endpoints.push(endpoint);
    }
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    for ((name, _, reason, words), endpoint) in wrong.iter().zip(&endpoints) {
        let run = soon(name, user.run(name, "go")).await?;
        let error = run.error.with_context(|| format!("{name} fails"))?;
        let told = (error.code, &error.details.unwrap_or_default()["endpoint"]);
        assert_eq!(told, (ErrorCode::AgentFailed, &json!(reason)), "{name}");
        ensure!(error.message.contains(words), "{name}: {}", error.message);
        ensure!(!error.message.contains("127.0.0.1"), "{}", error.message);
        // What was not worked on may be brought again; none of these is.
        assert_eq!(endpoint.seen().len(), 1, "{name}");
        // Of a body without end no more is taken than the bound and what lies in buffers.
        ensure!(
            endpoint.sent() <= 64 << 20,
            "{} bytes were taken",
            endpoint.sent()
        );
    }
    assert_eq!(
        user.run("echo", "still here").await?.status,
        RunStatus::Completed
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_mib_are_not_read_and_not_held() -> Test {
    let endpoint = FakeEndpoint::start(|turn| match turn["input"]["text"].as_str() {
        Some("large") => Said::Raw(200, "application/json", vec![b' '; 64 << 20]),
        // Eight bytes of text for each list, and many times that once it is read.
        _ => {
            let lists = format!(
                "{{\"type\":\"result\",\"result\":[{}1]}}",
                "[[],[]],".repeat(900_000)
            );
            Said::Raw(200, "application/json", lists.into_bytes())
        }
    })
    .await?;
    let agents = tempfile::tempdir()?;
    agent(agents.path(), "own", endpoint.url(), "")?;
    let options = Options::new().agents(agents.path());
    let server = TestServer::start_with(options.set("limits.memory_mib", 48)).await?;
    let user = server.user().await?;
    let large = user.run("own", "large").await?;
    let error = large.error.context("it is refused")?;
    ensure!(
        error.message.contains("more than 8388608 bytes"),
        "{error:?}"
    );
    let deep = user.run("own", "deep").await?;
    let error = deep.error.context("there is no room for it")?;
    assert_eq!(error.code, ErrorCode::MemoryLimitExceeded, "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_has_not_arrived_is_brought_again() -> Test {
    let first = std::sync::atomic::AtomicBool::new(true);
    let endpoint = FakeEndpoint::start(move |_| {
        match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            true => Said::Raw(503, "text/plain", b"starting".to_vec()),
            false => result(json!("up")),
        }
    })
    .await?;
    let agents = tempfile::tempdir()?;
    agent(agents.path(), "own", endpoint.url(), "")?;
    // A port where nobody listens, and that no other test's endpoint gets meanwhile.
    let gone = tokio::net::TcpSocket::new_v4()?;
    gone.bind((std::net::Ipv4Addr::LOCALHOST, 0).into())?;
    let address = format!("http://{}/", gone.local_addr()?);
    agent(agents.path(), "gone", &address, "")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    assert_eq!(
        user.run("own", "go").await?.result,
        Some(json!({"text": "up"}))
    );
    let seen = endpoint.seen();
    assert_eq!(
        seen[0].header("idempotency-key"),
        seen[1].header("idempotency-key")
    );
    let error = user
        .run("gone", "go")
        .await?
        .error
        .context("nobody is there")?;
    ensure!(error.message.contains("cannot be reached"), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_endpoint() -> Test {
    let endpoint = FakeEndpoint::start(|_| Said::Hang(vec![think()])).await?;
    let agents = tempfile::tempdir()?;
    agent(agents.path(), "own", endpoint.url(), "")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("own", "go").await?;
    until(&mut socket, "agent_thinking").await?;
    user.client.run_cancel(run.id).await?;
    let ended = user.client.run_end(run.id).await?;
    assert_eq!(ended.status, RunStatus::Cancelled);
    let seen = endpoint.until_seen(2).await?;
    assert_eq!(seen[1].method.as_str(), "DELETE");
    assert_eq!(seen[1].header("netra-run"), Some(&*run.id.to_string()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_shown_to_the_endpoint_and_to_nobody_else() -> Test {
    const VALUE: &str = "canary-of-the-endpoint";
    let endpoint = FakeEndpoint::start(|_| {
        Said::Steps(vec![
            json!({"type": "think", "message": format!("I know {VALUE}")}),
            json!({"type": "result", "result": {"text": format!("it is {VALUE}")}}),
        ])
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secrets.toml");
    let text = format!(
        "[research]\nvalue = \"{VALUE}\"\nhosts = [\"{}\"]\n[other]\nvalue = \"{VALUE}\"\nhosts = []\n",
        endpoint.place()
    );
    std::fs::write(&file, text)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    let agents = tempfile::tempdir()?;
    agent(
        agents.path(),
        "own",
        endpoint.url(),
        "secret = \"research\"\n",
    )?;
    let header = "secret = \"research\"\nheader = \"X-Key\"\n";
    agent(agents.path(), "named", endpoint.url(), header)?;
    agent(
        agents.path(),
        "astray",
        endpoint.url(),
        "secret = \"other\"\n",
    )?;
    agent(
        agents.path(),
        "without",
        endpoint.url(),
        "secret = \"gone\"\n",
    )?;
    let options = Options::new().agents(agents.path());
    let server = TestServer::start_with(options.set("secrets.server_file", file.display())).await?;
    let user = server.user().await?;
    let run = user.run("own", "go").await?;
    let told = serde_json::to_string(&run)?
        + &serde_json::to_string(
            &user
                .events(run.id)
                .await?
                .iter()
                .map(|one| &one.event.event)
                .collect::<Vec<_>>(),
        )?;
    ensure!(
        !told.contains(VALUE) && told.contains("[secret research]"),
        "{told}"
    );
    user.run("named", "go").await?;
    let seen = endpoint.seen();
    assert_eq!(
        seen[0].header("authorization"),
        Some(&*format!("Bearer {VALUE}"))
    );
    assert_eq!(seen[1].header("x-key"), Some(VALUE));
    for (name, words) in [("astray", "is not for"), ("without", "there is no secret")] {
        let error = user.run(name, "go").await?.error.context("it is refused")?;
        ensure!(error.message.contains(words), "{error:?}");
    }
    assert_eq!(endpoint.seen().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_gets_nothing_that_opens_netra_and_no_other_users_data() -> Test {
    let agents = tempfile::tempdir()?;
    let server_of = tempfile::tempdir()?;
    let wanted = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let wish = std::sync::Arc::clone(&wanted);
    // It was asked for Alice and keeps what it knows; asked for Bob, it wants her file.
    let endpoint = FakeEndpoint::start(move |turn| match turn_of(turn) {
        1 => calls(json!([
            {"type": "tool", "id": "x", "name": "read_file", "arguments": {"file": wish.get()}},
        ])),
        _ => result(turn["results"][0].clone()),
    })
    .await?;
    agent(
        agents.path(),
        "own",
        endpoint.url(),
        "tools = [\"read_file\"]\n",
    )?;
    let options = Options::new().agents(agents.path());
    let server = TestServer::start_on(server_of, options).await?;
    let (alice, bob) = (server.user().await?, server.user().await?);
    let content = Upload::Bytes(b"canary-of-alice".to_vec().into());
    let file = alice.client.file_upload("a.txt", content).await?;
    wanted.set(file.id.to_string()).ok();
    let own = alice
        .run("own", "go")
        .await?
        .result
        .context("her own file")?;
    ensure!(own.to_string().contains("canary-of-alice"), "{own}");
    let refused = bob.run("own", "go").await?.result.context("an answer")?;
    ensure!(
        !refused.to_string().contains("canary-of-alice"),
        "{refused}"
    );
    ensure!(refused["error"]["code"].is_string(), "{refused}");
    for request in endpoint.seen() {
        ensure!(request.header("authorization").is_none(), "{request:?}");
        let text = request.turn.to_string();
        ensure!(!text.contains("ntr_") && !text.contains("token"), "{text}");
    }
    Ok(())
}
