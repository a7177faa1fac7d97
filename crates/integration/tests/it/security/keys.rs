//! API keys: each operation and frame with a key that lacks one scope, with one that has just what
//! is needed, and with one that is no longer good.

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Error, Method, Socket};
use netra_integration::{TestUser, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::{CreateKey, Role};
use netra_protocol::thread::CreateThread;
use serde_json::Value;

use super::contract::{Place, document, frames, operations};
use super::table::{self, Access, Row};
use super::world::{Answer, PASSWORD, World, attempt, missing, upgrading};
use crate::Test;
use crate::expect::refused;

const SCOPES: [&str; 7] = [
    "read", "run", "files", "account", "approve", "admin", "metrics",
];

/// A key of this user with every scope but one.
async fn without(world: &World, user: &TestUser, scope: &str) -> Result<Client> {
    let others: Vec<&str> = SCOPES.into_iter().filter(|other| *other != scope).collect();
    Ok(world.key(user, &others).await?.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_the_scope_is_refused_before_anything_is_looked_up() -> Test {
    let world = World::start().await?;
    let user = world.user(Role::Admin).await?;
    let objects = world.furnish(&user, "of the owner").await?;
    let all = operations(&document(&user.client).await?)?;
    for scope in SCOPES {
        let key = without(&world, &user, scope).await?;
        for (row, operation) in table::operations(&all)? {
            if !row.scopes.split(' ').any(|needed| needed == scope) {
                continue;
            }
            let own = match operation
                .ids
                .iter()
                .find(|named| named.place == Place::Path)
            {
                Some(named) => objects.fit_for(row.name, &named.kind)?,
                None => "",
            };
            let of_own = attempt(&key, (row, operation), own, None).await?;
            let what = format!("{} without {scope}", row.name);
            assert_eq!(of_own.in_short(), "403 forbidden", "{what}");
            let absent = attempt(&key, (row, operation), &missing(own), None).await?;
            assert_eq!(of_own, absent, "{what}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_with_just_the_scopes_of_an_operation_may_do_it() -> Test {
    let world = World::start().await?;
    let all = operations(&document(&world.server.anonymous()?).await?)?;
    for (row, operation) in table::operations(&all)? {
        if row.access == Access::Anyone || row.scopes.is_empty() {
            continue;
        }
        // Of an admin of its own: what is done is done.
        let user = world.user(Role::Admin).await?;
        let own = match operation
            .ids
            .iter()
            .find(|named| named.place == Place::Path)
        {
            Some(named) => {
                let objects = world.furnish(&user, "of the owner").await?;
                objects.fit_for(row.name, &named.kind)?.to_owned()
            }
            None => {
                if operation.path.ends_with("/{name}") {
                    world.name_things(&user).await?;
                }
                String::new()
            }
        };
        let scopes: Vec<&str> = row.scopes.split(' ').collect();
        let key = world.key(&user, &scopes).await?.1;
        let answer = attempt(&key, (row, operation), &own, None).await?;
        ensure!(
            answer.status < 400,
            "{} with {scopes:?}: {answer:?}",
            row.name
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_without_the_scope_is_refused_by_every_frame() -> Test {
    let world = World::start().await?;
    let user = world.user(Role::Admin).await?;
    let all = frames(&document(&user.client).await?)?;
    let rows = table::frames(&all)?;
    let blind = Socket::connect(&without(&world, &user, "read").await?).await;
    refused(blind, 403, ErrorCode::Forbidden)?;
    for scope in ["run", "approve"] {
        let key = without(&world, &user, scope).await?;
        let mut socket = Socket::connect(&key).await?;
        for (row, frame) in &rows {
            if row.scopes != scope {
                continue;
            }
            let mut body: Value = serde_json::from_str(row.body)?;
            for named in &frame.ids {
                let Place::Body(pointer) = &named.place else {
                    anyhow::bail!("a frame has nothing but a body");
                };
                let prefix = match named.kind.as_str() {
                    "RunId" => "run_x",
                    "ApprovalId" => "apr_x",
                    _ => continue,
                };
                super::contract::put(&mut body, pointer, &missing(prefix));
            }
            body["type"] = row.name.into();
            let answer = socket.request(serde_json::from_value(body)?).await;
            refused(answer, 0, ErrorCode::Forbidden).context(row.name)?;
        }
        socket.ping().await?;
    }
    Ok(())
}

/// Every operation that asks who is there refuses these credentials, in the same words.
async fn refused_everywhere(world: &World, key: &Client, own: &str) -> Test {
    let all = operations(&document(&world.server.anonymous()?).await?)?;
    let with = |row: Row| row.access != Access::Anyone;
    for (row, operation) in table::operations(&all)?
        .into_iter()
        .filter(|(row, _)| with(*row))
    {
        let answer: Answer = attempt(key, (row, operation), own, None).await?;
        assert_eq!(answer.in_short(), "401 unauthenticated", "{}", row.name);
    }
    refused(Socket::connect(key).await, 401, ErrorCode::Unauthenticated)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_revoked_or_has_ended_is_nobodys() -> Test {
    let world = World::start().await?;
    let user = world.user(Role::Admin).await?;
    let (id, revoked) = world.key(&user, &SCOPES).await?;
    revoked.me().await?;
    let mut socket = Socket::connect(&revoked).await?;
    user.client.key_delete(id.parse()?).await?;
    refused_everywhere(&world, &revoked, &missing("run_x")).await?;
    let closed = soon("the socket's end", socket.next_event()).await;
    ensure!(
        matches!(closed, Err(Error::Closed { code: 4001, .. })),
        "{closed:?}"
    );

    let now = user.client.thread_create(&CreateThread::default()).await?;
    let brief = CreateKey {
        name: "brief".into(),
        scopes: vec!["read".into()],
        expires_at: Some(now.created_at.plus_millis(1_000)),
    };
    let brief = user
        .client
        .key_create(&brief)
        .await?
        .secret
        .context("told once")?;
    let brief = user.client.with_token(brief);
    soon("the key's end", async { while brief.me().await.is_ok() {} }).await;
    refused_everywhere(&world, &brief, &missing("run_x")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_user_is_nobody_with_whatever_credentials_are_left() -> Test {
    let world = World::start().await?;
    let user = world.user(Role::User).await?;
    let nobody = world.server.anonymous()?;
    let objects = world.furnish(&user, "of the disabled").await?;
    let key = world.key(&user, &SCOPES[..5]).await?.1;
    let tokens = nobody.login(&user.name, PASSWORD).await?;
    let signed_in = nobody.with_token(&tokens.access_token);
    let ticket = signed_in.ws_ticket().await?.ticket;
    let mut sockets = Vec::new();
    for client in [&user.client, &key, &signed_in] {
        sockets.push(Socket::connect(client).await?);
    }
    world.disable(&user).await?;
    for mut socket in sockets {
        let closed = soon("the socket's end", socket.next_event()).await;
        let code = matches!(closed, Err(Error::Closed { code: 4001, .. }));
        ensure!(code, "{closed:?}");
    }
    let own = objects.of_kind("RunId")?[0].clone();
    for client in [&user.client, &key, &signed_in] {
        refused_everywhere(&world, client, &own).await?;
    }
    let again = nobody.login(&user.name, PASSWORD).await;
    refused(again, 401, ErrorCode::Unauthenticated)?;
    let again = nobody.refresh(&tokens.refresh_token).await;
    refused(again, 401, ErrorCode::Unauthenticated)?;
    let path = format!("/ws?ticket={ticket}");
    let request = upgrading(nobody.request(Method::GET, &path));
    refused(nobody.send(request).await, 401, ErrorCode::Unauthenticated)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_has_more_than_its_maker() -> Test {
    let world = World::start().await?;
    let user = world.user(Role::User).await?;
    let admin = world.user(Role::Admin).await?;
    let narrow = world.key(&user, &["account", "read"]).await?.1;
    let of_admin = world.key(&admin, &["account"]).await?.1;
    let wider = [
        (&user.client, &["admin"][..]),
        (&user.client, &["read", "metrics"]),
        (&narrow, &["run"]),
        (&narrow, &["read", "admin"]),
        (&of_admin, &["account", "admin"]),
    ];
    for (maker, scopes) in wider {
        let new = CreateKey {
            name: "wider".into(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires_at: None,
        };
        refused(maker.key_create(&new).await, 403, ErrorCode::Forbidden)?;
    }
    Ok(())
}
