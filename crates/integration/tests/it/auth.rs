//! Accounts, sessions, tickets.

use anyhow::{Context as _, ensure};
use netra_client::Socket;
use netra_integration::{Options, TestServer, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::{Register, Role, Setup};

use crate::Test;
use crate::expect::refused;

const PASSWORD: &str = "correct horse battery";

fn register(name: &str) -> Register {
    Register {
        name: name.into(),
        password: PASSWORD.into(),
        invite: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_set_up_link_makes_the_first_admin_once() -> Test {
    let server = TestServer::start().await?;
    let link = server
        .setup_link()
        .context("a server without users prints a link")?;
    let (address, token) = link
        .split_once("/setup#token=")
        .context("the link has a token")?;
    assert_eq!(address, server.url());
    let client = server.anonymous()?;
    let setup = |token: &str, name: &str| Setup {
        token: token.into(),
        name: name.into(),
        password: PASSWORD.into(),
    };
    refused(
        client.setup(&setup("wrong", "eve")).await,
        401,
        ErrorCode::Unauthenticated,
    )?;
    let admin = client.setup(&setup(token, "root")).await?;
    assert_eq!(admin.user.role, Role::Admin);
    let again = client.setup(&setup(token, "eve")).await;
    ensure!(
        again
            .as_ref()
            .is_err_and(|error| matches!(error.status(), Some(401 | 409))),
        "{again:?}"
    );
    assert_eq!(
        client.with_token(admin.access_token).me().await?.name,
        "root"
    );

    let (data, _) = server.stop().await;
    let server = TestServer::start_on(data, Options::new()).await?;
    assert_eq!(server.setup_link(), None, "there is an admin now");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_is_closed_unless_it_was_opened() -> Test {
    let closed = TestServer::start().await?;
    refused(
        closed.anonymous()?.register(&register("ada")).await,
        403,
        ErrorCode::Forbidden,
    )?;

    let open = TestServer::start_with(Options::new().set("auth.registration", "open")).await?;
    let client = open.anonymous()?;
    let tokens = client.register(&register("ada")).await?;
    assert_eq!(tokens.user.role, Role::User);
    refused(
        client.register(&register("ADA")).await,
        409,
        ErrorCode::Conflict,
    )?;
    let short = Register {
        password: "short".into(),
        ..register("bob")
    };
    refused(
        client.register(&short).await,
        400,
        ErrorCode::InvalidRequest,
    )?;

    assert_eq!(client.login("ada", PASSWORD).await?.user.id, tokens.user.id);
    refused(
        client.login("ada", "wrong password!").await,
        401,
        ErrorCode::Unauthenticated,
    )?;
    refused(
        client.login("nobody", PASSWORD).await,
        401,
        ErrorCode::Unauthenticated,
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_is_good_once_and_reuse_ends_the_session() -> Test {
    let server = TestServer::start().await?;
    let user = server.user_as(Role::User, Some(PASSWORD)).await?;
    let client = server.anonymous()?;
    let first = client.login(&user.name, PASSWORD).await?;
    let second = client.refresh(&first.refresh_token).await?;
    assert_ne!(first.refresh_token, second.refresh_token);
    assert_eq!(
        client.with_token(&second.access_token).me().await?.id,
        user.id
    );

    // Whoever comes with the old one has stolen it, or was stolen from: both are signed out.
    refused(
        client.refresh(&first.refresh_token).await,
        401,
        ErrorCode::Unauthenticated,
    )?;
    refused(
        client.refresh(&second.refresh_token).await,
        401,
        ErrorCode::Unauthenticated,
    )?;
    let after = client.with_token(&second.access_token).me().await;
    refused(after, 401, ErrorCode::Unauthenticated)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_ends_the_session_and_its_sockets() -> Test {
    let server = TestServer::start().await?;
    let user = server.user_as(Role::User, Some(PASSWORD)).await?;
    let client = server.anonymous()?;
    let tokens = client.login(&user.name, PASSWORD).await?;
    let client = client.with_token(&tokens.access_token);
    let sessions = client.sessions().await?;
    assert_eq!(
        sessions
            .items
            .iter()
            .filter(|session| session.current)
            .count(),
        1
    );
    let mut socket = Socket::connect(&client).await?;
    client.logout().await?;
    let error = soon("the socket's end", socket.next_event())
        .await
        .expect_err("it was closed");
    ensure!(
        matches!(error, netra_client::Error::Closed { code: 4001, .. }),
        "{error:?}"
    );
    refused(client.me().await, 401, ErrorCode::Unauthenticated)?;
    Ok(())
}
