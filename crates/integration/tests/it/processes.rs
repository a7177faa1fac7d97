//! The server as a process: ready, stopped, in the way of another one.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};
use netra_integration::{FakeModel, ProcessOptions, Reply, TestProcess, output, soon};
use netra_protocol::run::RunStatus;
use rustix::process::Signal;
use serde_json::json;

use crate::Test;
use crate::expect::{until, with_model};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_drains_and_the_folder_is_free_again() -> Test {
    let data = tempfile::tempdir()?;
    let mut server = TestProcess::start(data.path()).await?;
    ensure!(
        server.log()?.contains("/setup#token="),
        "the first admin's link is on stderr"
    );
    let file = data.path().join("server.json");
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    assert_eq!(stored["address"], server.url());
    assert_eq!(stored["pid"], server.pid().context("it runs")?);
    for private in ["server.json", "keys"] {
        let mode = std::fs::metadata(data.path().join(private))?
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
    let user = server.user("ada").await?;
    let run = user.run("echo", "hello").await?;
    let mut socket = user.socket().await?;

    server.signal(Signal::TERM)?;
    let error = soon("the goodbye", socket.next_event())
        .await
        .expect_err("it drains");
    ensure!(
        matches!(error, netra_client::Error::Closed { code: 1001, .. }),
        "{error:?}"
    );
    assert_eq!(server.ended().await?.code(), Some(0));
    ensure!(!file.exists(), "nobody finds a server that is gone");

    let again = TestProcess::start(data.path()).await?;
    let ada = again.user("bob").await?;
    ensure!(ada.client.run(run.id).await.is_err(), "another user's run");
    let token = output(
        &["token", "ada", "--data", &data.path().to_string_lossy()],
        "",
    )
    .await?;
    let ada = ada
        .client
        .with_token(String::from_utf8(token.stdout)?.trim_end());
    assert_eq!(
        ada.run(run.id).await?.result,
        run.result,
        "it is all still there"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cut_off_goes_on_with_the_next_server() -> Test {
    // The first answer of each server's life is cut off; what is asked again is answered.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let model = FakeModel::start(move |_| {
        match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 {
            0 => Reply::Hang("half an ans".into()),
            _ => Reply::Text(vec!["a whole ".into(), "answer".into()]),
        }
    })
    .await?;
    let options = ProcessOptions {
        environment: [
            with_model(&model).environment(),
            vec![("NETRA__SERVER__DRAIN_MS".into(), "200".into())],
        ]
        .concat(),
        ..ProcessOptions::default()
    };
    for signal in [Signal::TERM, Signal::KILL] {
        let data = tempfile::tempdir()?;
        let mut server = TestProcess::start_with(data.path(), options.clone()).await?;
        let user = server.user("ada").await?;
        let mut socket = user.socket().await?;
        let run = user.start("assistant", "hello").await?;
        until(&mut socket, "message_delta").await?;
        server.signal(signal)?;
        let status = server.ended().await?;
        assert_eq!(status.code(), (signal == Signal::TERM).then_some(0));

        let server = TestProcess::start_with(data.path(), options.clone()).await?;
        let token = user.client.token().context("it has one")?;
        let client = netra_client::Client::new(server.url(), Some(token))?;
        let run = client.run_end(run.id).await?;
        assert_eq!(run.status, RunStatus::Completed, "{signal:?}");
        assert_eq!(run.result, Some(json!({"text": "a whole answer"})));
        let attempt = if signal == Signal::KILL { 2 } else { 1 };
        assert_eq!(run.attempt, attempt, "only a crash counts");
        let again = netra_integration::TestUser { client, ..user };
        let events = again.events(run.id).await?;
        let names = crate::expect::names(&events);
        let count = |name: &str| names.iter().filter(|other| **other == name).count();
        assert_eq!(
            count("agent_started"),
            count("agent_completed"),
            "{names:?}"
        );
        assert_eq!(names.last(), Some(&"run_completed"));
        assert_eq!(count("run_resumed"), 1);
        // What was said of the first answer is cut off, and the second one is whole.
        assert_eq!(count("message_completed"), 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_folder_names_the_first() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let server = TestProcess::start(data.path()).await?;
    let second = output(&["serve", "--listen", "127.0.0.1:0", "--data", &folder], "").await?;
    assert_eq!(second.status.code(), Some(9));
    let told = String::from_utf8(second.stderr)?;
    ensure!(
        told.contains(server.url()) && told.contains("in use"),
        "{told}"
    );
    assert_eq!(second.stdout, b"", "it was never ready");
    server.user("still-works").await?.client.me().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_and_a_foreign_address_are_named() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for listen in [address.as_str(), "192.0.2.1:0"] {
        let ended = output(&["serve", "--listen", listen, "--data", &folder], "").await?;
        assert_eq!(ended.status.code(), Some(8), "{listen}");
        let told = String::from_utf8(ended.stderr)?;
        ensure!(told.contains(listen.trim_end_matches(":0")), "{told}");
    }
    let dev = output(
        &["serve", "--listen", "0.0.0.0:0", "--dev", "--data", &folder],
        "",
    )
    .await?;
    assert_eq!(
        dev.status.code(),
        Some(2),
        "a server for everybody has no --dev"
    );
    Ok(())
}
