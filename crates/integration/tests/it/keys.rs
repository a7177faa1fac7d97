//! API keys from end to end: a program's whole work, and the end of a key in the middle of it.

use anyhow::ensure;
use netra_client::{Credential, Error, Socket};
use netra_integration::{TestServer, TestUser, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::{CreateKey, Key};
use netra_protocol::frame::RunStart;
use netra_protocol::run::RunStatus;

use crate::Test;
use crate::expect::refused;

/// A key with these scopes, and its user through it.
async fn with_key(user: &TestUser, scopes: &[&str]) -> anyhow::Result<(Key, TestUser)> {
    let create = CreateKey {
        name: "program".into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        expires_at: None,
    };
    let key = user.client.key_create(&create).await?;
    let secret = key.secret.clone().unwrap_or_default();
    ensure!(secret.starts_with("ntr_"), "the secret is shown");
    let by_key = TestUser {
        client: user.client.with_token(secret),
        ..user.clone()
    };
    Ok((key, by_key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_runs_an_agent_by_a_key_and_does_nothing_else() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let (_, program) = with_key(&user, &["read", "run"]).await?;
    let run = program.run("echo", "hello").await?;
    assert_eq!(run.status, RunStatus::Completed);
    refused(program.client.sessions().await, 403, ErrorCode::Forbidden)?;
    refused(
        program.client.keys(None, None).await,
        403,
        ErrorCode::Forbidden,
    )?;
    let (_, reader) = with_key(&user, &["read"]).await?;
    refused(reader.start("echo", "x").await, 403, ErrorCode::Forbidden)?;
    let mut socket = reader.socket().await?;
    let start = RunStart {
        thread_id: None,
        idempotency_key: None,
        start: netra_integration::start("echo", "x"),
    };
    let start = socket.run_start(start).await;
    ensure!(
        matches!(&start, Err(error) if error.code() == Some(ErrorCode::Forbidden)),
        "{start:?}"
    );
    let (_, blind) = with_key(&user, &["run"]).await?;
    let opened = Socket::connect(&blind.client).await;
    refused(opened.map(|_| ()), 403, ErrorCode::Forbidden)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_closes_its_sockets_and_streams_and_no_others() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let (key, program) = with_key(&user, &["read", "run"]).await?;
    let mut others = user.socket().await?;
    let mut by_header = program.socket().await?;
    let mut by_ticket = Socket::connect_with(&program.client, Credential::Ticket).await?;
    user.client.key_delete(key.id).await?;
    for socket in [&mut by_header, &mut by_ticket] {
        let error = soon("the socket's end", socket.next_event())
            .await
            .expect_err("it was closed");
        ensure!(
            matches!(error, Error::Closed { code: 4001, .. }),
            "{error:?}"
        );
    }
    refused(program.client.me().await, 401, ErrorCode::Unauthenticated)?;
    refused(
        user.client.key_delete(key.id).await,
        404,
        ErrorCode::NotFound,
    )?;
    others.ping().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_outlives_its_server() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let (_, program) = with_key(&user, &["read"]).await?;
    let secret = program.client.token().unwrap_or_default();
    let (data, _) = server.stop().await;
    let server = TestServer::start_on(data, netra_integration::Options::new()).await?;
    let me = server.anonymous()?.with_token(secret).me().await?;
    assert_eq!(me.id, user.id);
    Ok(())
}
