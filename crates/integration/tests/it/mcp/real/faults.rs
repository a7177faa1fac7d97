//! Tool servers that are cancelled, killed, frozen and left alone.

use anyhow::{Context as _, Result, ensure};
use netra_integration::{CALLER, TestUser, calls};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::tool::ToolServerState;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::Test;
use crate::expect::{names, until, until_end};
use crate::mcp::real::installed::Installed;
use crate::mcp::real::process::{is_alive, signal, until_so};
use crate::mcp::real::world::{World, call, call_all, failure, said, text};

const ECHO: &str = "everything__echo";
const LONG: &str = "everything__trigger_long_running_operation";
/// What the command line of an instance has.
const INSTANCE: &str = "server-everything";

async fn world(settings: &[(&str, Value)]) -> Result<(World, TestUser)> {
    let mut server = Installed::find()?.everything()?;
    for (key, value) in settings {
        server = server.with(key, value);
    }
    let world = World::start(&[server], &[ECHO, LONG]).await?;
    world.ready("everything").await?;
    let user = world.user("ada").await?;
    Ok((world, user))
}

/// The only instance that runs.
async fn instance(world: &World) -> Result<u32> {
    let found = world.instances(INSTANCE, 1).await?;
    found.first().copied().context("one was waited for")
}

/// Starts a call of ten minutes, and waits until the server is at it.
async fn begin_long(user: &TestUser) -> Result<(netra_client::Socket, Run)> {
    let mut socket = user.socket().await?;
    let wanted = calls([(LONG, json!({"duration": 600, "steps": 6000}))]);
    let run = user.start(CALLER, wanted).await?;
    until(&mut socket, "tool_progress").await?;
    Ok((socket, run))
}

async fn echoes(user: &TestUser) -> Result<()> {
    let told = call(user, ECHO, json!({"message": "here"})).await?;
    assert_eq!(text(&told), "Echo: here");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_ends_its_call_and_not_its_instance() -> Test {
    let (world, user) = world(&[]).await?;
    let (mut socket, run) = begin_long(&user).await?;
    let before = instance(&world).await?;
    user.client.run_cancel(run.id).await?;
    let events = until_end(&mut socket, run.id).await?;
    assert_eq!(names(&events).last(), Some(&"run_cancelled"));
    let ended = events.iter().find_map(|one| match &one.event.event.kind {
        EventKind::ToolCompleted { success, error, .. } => Some((*success, error.clone())),
        _ => None,
    });
    let (success, error) = ended.context("the call has ended too")?;
    ensure!(!success && error.is_some(), "{error:?}");
    assert_eq!(user.client.run(run.id).await?.status, RunStatus::Cancelled);
    echoes(&user).await?;
    assert_eq!(instance(&world).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_fails_its_call_and_the_next_one_works() -> Test {
    let (world, user) = world(&[]).await?;
    let (_socket, run) = begin_long(&user).await?;
    let before = instance(&world).await?;
    signal(before, Signal::KILL)?;
    let told = said(user.client.run_end(run.id).await?)?;
    let told = told[0]["failed"].as_str().unwrap_or_default();
    ensure!(
        told.starts_with("tool_failed: ")
            && told.contains("ended during the call")
            && told.contains("signal 9"),
        "{told}"
    );
    echoes(&user).await?;
    ensure!(instance(&world).await? != before && !is_alive(before));
    let shown = world.shown("everything").await?;
    assert_eq!((shown.instances, shown.crashes), (1, 1));
    assert_eq!(shown.state, ToolServerState::Ready);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_instance_times_calls_out_and_is_replaced() -> Test {
    let (world, user) = world(&[("call_ms", json!(1000))]).await?;
    echoes(&user).await?;
    let before = instance(&world).await?;
    signal(before, Signal::STOP)?;
    // After the third call in a row it is given up; the fourth has a new one.
    let wanted = (ECHO, json!({"message": "here"}));
    let told = call_all(
        &user,
        &[wanted.clone(), wanted.clone(), wanted.clone(), wanted],
    )
    .await?;
    for told in &told[..3] {
        let told = told["failed"].as_str().unwrap_or_default();
        let code = ErrorCode::ToolTimeout;
        ensure!(
            told.starts_with(&format!("{code}: ")) && told.contains("1000 ms"),
            "{told}"
        );
    }
    assert_eq!(text(&told[3]), "Echo: here");
    until_so("the end of the frozen one", || Ok(!is_alive(before))).await?;
    ensure!(instance(&world).await? != before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_nobody_calls_ends_and_comes_back() -> Test {
    let (world, user) = world(&[("idle_ms", json!(200))]).await?;
    for _ in 0..2 {
        echoes(&user).await?;
        world.instances(INSTANCE, 0).await?;
    }
    let shown = world.shown("everything").await?;
    assert_eq!((shown.instances, shown.crashes), (0, 0));
    assert_eq!(shown.state, ToolServerState::Ready);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_of_one_run_ends_with_it() -> Test {
    let (world, user) = world(&[("scope", json!("run"))]).await?;
    echoes(&user).await?;
    world.instances(INSTANCE, 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_leaves_no_instance_behind() -> Test {
    for how in [Signal::TERM, Signal::KILL] {
        let (mut world, user) = world(&[]).await?;
        echoes(&user).await?;
        let below = world.processes("")?;
        let instance = instance(&world).await?;
        world.server.signal(how)?;
        world.server.ended().await?;
        until_so("the end of all below it", || {
            Ok(!below.iter().any(|one| is_alive(*one)))
        })
        .await?;
        ensure!(!is_alive(instance), "{how:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_do_not_fit_never_reach_the_server() -> Test {
    let (world, user) = world(&[]).await?;
    let told = failure(&user, ECHO, json!({"message": 7})).await?;
    ensure!(
        told.starts_with(&ErrorCode::ToolDenied.to_string()),
        "{told}"
    );
    world.instances(INSTANCE, 0).await?;
    Ok(())
}
