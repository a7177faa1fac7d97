//! What a run has left in an instance's process tree when the server ends before the run does.

use anyhow::{Context as _, Result};
use netra_integration::{ProcessOptions, TestProcess, script};
use rustix::process::Signal;

use super::real::process::{descendants, is_alive};
use super::weakened::ESCAPE;
use super::{Place, until_so};
use crate::Test;
use crate::expect::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_of_a_run_does_not_outlive_a_server_that_drains_or_is_killed() -> Test {
    for scope in ["run", "user"] {
        for how in [Signal::TERM, Signal::KILL] {
            let left = leaves_nothing(scope, how).await;
            left.with_context(|| format!("scope {scope}, {how:?}"))?;
        }
    }
    Ok(())
}

async fn leaves_nothing(scope: &str, how: Signal) -> Test {
    let place = Place::new()?;
    std::fs::write(place.path("server.py"), ESCAPE)?;
    // The first call leaves a daemon behind that ignores all signals but one; the second one does not end.
    let tools = "tools = [\"fake__stay\", \"fake__wait\"]\n";
    let code = "fake__stay()\nfake__wait()\n";
    script(&place.path("agents"), "stays", tools, code)?;
    let temp = place.temp()?;
    let data = tempfile::tempdir()?;
    let lines = format!("scope = {scope:?}\n[sandbox]\ntemp = {temp:?}\n");
    let mut server = TestProcess::start_with(data.path(), options(&place, &lines)?).await?;
    let user = server.user("ada").await?;
    let mut socket = user.socket().await?;
    user.start("stays", "go").await?;
    for _ in 0..2 {
        until(&mut socket, "tool_executing").await?;
    }
    until_so("the program and its daemon", || place.processes() == 2).await?;
    let below = descendants(server.pid().context("it runs")?, "")?;
    server.signal(how)?;
    let ended = server.ended().await?.code();
    assert_eq!(ended, (how == Signal::TERM).then_some(0));
    let is_over = || !below.iter().any(|process| is_alive(*process));
    until_so("the end of all below the server", is_over).await?;
    assert_eq!(place.processes(), 0, "a program was left");
    // A killed server leaves its own folder, for the next one to remove.
    let mut left = 0;
    for folder in std::fs::read_dir(&temp)? {
        left += std::fs::read_dir(folder?.path())?.count();
    }
    assert_eq!(left, 0, "a folder of a program was left");
    Ok(())
}

fn options(place: &Place, lines: &str) -> Result<ProcessOptions> {
    let arguments = [
        ("--config", place.configured(lines)?),
        ("--agents", place.path("agents")),
    ];
    let arguments = arguments
        .iter()
        .flat_map(|(name, path)| [(*name).to_owned(), path.display().to_string()]);
    Ok(ProcessOptions {
        arguments: arguments.collect(),
        environment: vec![("NETRA__SERVER__DRAIN_MS".into(), "200".into())],
        ..ProcessOptions::default()
    })
}
