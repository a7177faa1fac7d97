//! TLS, HTTP/2 and the Unix socket, with a client that nobody here wrote.

use anyhow::{Context as _, ensure};
use netra_integration::{Options, ProcessOptions, TestProcess, TestServer, soon};
use rustix::process::Signal;
use tokio::process::Command;

use crate::Test;
use crate::expect::until_logged;

/// Of 127.0.0.1, signed by itself, for tests alone.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/certificate.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/key.pem");

/// What curl says of the answer: HTTP version and status, then the body.
async fn curl(arguments: &[&str]) -> anyhow::Result<String> {
    let ran = Command::new("curl")
        .args(["-sS", "-w", " %{http_version} %{http_code}"])
        .args(arguments)
        .output();
    let output = soon("curl's end", ran).await;
    let output = output.context("curl is needed: apt-get install curl")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_speaks_tls_and_both_versions_of_http() -> Test {
    let options = Options::new()
        .set("server.tls_certificate", CERTIFICATE)
        .set("server.tls_key", KEY);
    let server = TestServer::start_with(options).await?;
    ensure!(server.url().starts_with("https://127.0.0.1:"));
    let live = format!("{}/health/live", server.url());
    for (version, expected) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let said = curl(&[version, "--cacert", CERTIFICATE, &live]).await?;
        assert_eq!(said, format!("{{\"status\":\"live\"}} {expected}"));
    }
    // A whole turn over HTTP/2, with a body and a stream.
    let user = server.user().await?;
    let token = user.client.token().context("it has a token")?;
    let bearer = format!("Authorization: Bearer {token}");
    let json = "Content-Type: application/json";
    let runs = format!("{}/api/runs", server.url());
    let of_user = ["--http2", "--cacert", CERTIFICATE, "-H", &bearer];
    let start = r#"{"agent": "echo", "input": "over TLS"}"#;
    let started = [&of_user[..], &["-H", json, "-d", start, &runs]].concat();
    let started = curl(&started).await?;
    let (run, _) = started.rsplit_once(" 2 202").context("started")?;
    let run: serde_json::Value = serde_json::from_str(run)?;
    let id = run["id"].as_str().context("an id")?;
    let events = format!("{runs}/{id}/events");
    let events = curl(&[&of_user[..], &["-N", &events]].concat()).await?;
    ensure!(events.contains("event: run_completed"), "{events}");
    ensure!(events.ends_with(" 2 200"), "{events}");
    // Who speaks plainly gets no answer in plain words.
    let plain = live.replace("https", "http");
    ensure!(curl(&[&plain]).await.is_err());
    let (_, left) = server.stop().await;
    assert_eq!(left, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_fails_in_one_thing_changes_nothing_and_the_log_says_so() -> Test {
    let data = tempfile::tempdir()?;
    let file = data.path().join("netra.toml");
    let write = |key: &str, rest: &str| {
        let server = format!("[server]\ntls_certificate = {CERTIFICATE:?}\ntls_key = {key:?}\n");
        std::fs::write(&file, server + rest)
    };
    write(KEY, "[log]\nlevel = \"info\"\n")?;
    let options = ProcessOptions {
        arguments: vec!["--config".into(), file.display().to_string()],
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(data.path(), options).await?;
    let login = format!("{}/api/auth/login", server.url());
    let body = r#"{"name": "ada", "password": "not the right password"}"#;
    let asked = [
        "--cacert",
        CERTIFICATE,
        "-H",
        "Content-Type: application/json",
    ];
    let asked = [&asked[..], &["-d", body, &login]].concat();
    let guess = async || Ok::<_, anyhow::Error>(curl(&asked).await?.ends_with(" 401"));
    let wanted = "[log]\nlevel = \"debug\"\n[limits]\nlogins_per_minute = 1\n";

    // The certificate is the last that is read.
    write("/none", wanted)?;
    server.signal(Signal::HUP)?;
    until_logged(&server, "everything stays as it was: TLS").await?;
    for _ in 0..3 {
        ensure!(guess().await?, "the old limit of sign-ins holds");
    }
    ensure!(!server.log()?.contains("request answered"), "the old level");

    write(KEY, wanted)?;
    server.signal(Signal::HUP)?;
    until_logged(&server, "all of it is in force").await?;
    ensure!(!guess().await?, "the new limit of sign-ins holds");
    until_logged(&server, "request answered").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_serves_its_own_user_and_goes_with_the_server() -> Test {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("netra.sock");
    let options = Options::new().set("server.socket", path.display());
    let server = TestServer::start_with(options.clone()).await?;
    assert_eq!(
        std::fs::metadata(&path)?.permissions().mode() & 0o777,
        0o600
    );
    let socket = path.display().to_string();
    let live = ["--unix-socket", &socket, "http://localhost/health/live"];
    assert_eq!(curl(&live).await?, "{\"status\":\"live\"} 1.1 200");
    ensure!(
        TestServer::start_with(options.clone()).await.is_err(),
        "another server does not take it"
    );
    assert_eq!(curl(&live).await?, "{\"status\":\"live\"} 1.1 200");
    server.stop().await;
    ensure!(!path.exists(), "it goes with its server");
    // One that a killed server left is replaced; anything else is not touched.
    drop(std::os::unix::net::UnixListener::bind(&path)?);
    TestServer::start_with(options.clone()).await?.stop().await;
    std::fs::write(&path, "mine")?;
    ensure!(TestServer::start_with(options).await.is_err());
    assert_eq!(std::fs::read_to_string(&path)?, "mine");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_cannot_be_used_stops_the_start_with_its_reason() -> Test {
    for (certificate, key) in [(CERTIFICATE, CERTIFICATE), (KEY, KEY), ("/none", KEY)] {
        let options = Options::new()
            .set("server.tls_certificate", certificate)
            .set("server.tls_key", key);
        let refused = TestServer::start_with(options).await.err();
        let refused = refused.context("it did not start")?.to_string();
        ensure!(refused.contains("TLS"), "{refused}");
    }
    let half = Options::new().set("server.tls_key", KEY);
    let refused = TestServer::start_with(half).await.err();
    let refused = refused.context("it did not start")?.to_string();
    ensure!(refused.contains("belong together"), "{refused}");
    Ok(())
}
