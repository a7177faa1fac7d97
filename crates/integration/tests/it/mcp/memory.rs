//! The memory of tool servers' programs: whose it is, and what ends where there is too much of it.

use anyhow::{Context as _, Result, ensure};
use netra_integration::{Options, ProcessOptions, TestProcess, script, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::isolation::Isolation;
use netra_protocol::run::RunStatus;

use super::{Place, failure, result};
use crate::Test;

const MIB: u64 = 1024 * 1024;

fn place(mib: u64) -> Result<Place> {
    let place = Place::new()?;
    place.agent(
        "hoard",
        "hoard",
        &format!("fake__hoard(mib={mib})['text']\n"),
    )?;
    script(
        &place.path("agents"),
        "goes_on",
        "",
        "while True:\n    pass\n",
    )?;
    Ok(place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_takes_too_much_ends_itself_and_not_the_runs_beside_it() -> Test {
    let place = place(900)?;
    let limits = "memory_mib = 1024\n[limits]\nmemory_mib = 256\n";
    let server = place.start(limits).await?;
    let user = server.user().await?;
    let beside = user.start("goes_on", "x").await?;
    let ended = failure(&user, "hoard").await?;
    ensure!(
        ended
            .message
            .contains("the tool server fake was ended: its user holds more memory"),
        "{ended:?}"
    );
    assert_eq!(user.client.run(beside.id).await?.status, RunStatus::Running);
    // Its memory is back, and it is there again when it is called.
    user.client.run_cancel(beside.id).await?;
    let run = user.client.run_end(beside.id).await?;
    assert_eq!(
        run.error.map(|error| error.code),
        Some(ErrorCode::Cancelled)
    );
    let ended = failure(&user, "hoard").await?;
    ensure!(ended.message.contains("was ended"), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_holds_is_shown_as_that_and_not_as_memory_of_the_server() -> Test {
    let place = place(48)?;
    let file = place.configured("")?;
    let options = Options::new()
        .set("agents.dir", place.path("agents").display())
        .set("limits.requests_per_minute", 1_000_000);
    let process = ProcessOptions {
        environment: options.environment(),
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(&place.path("data"), process).await?;
    let admin = server.user_as("root", Role::Admin).await?.client;
    let user = server.user("ada").await?;
    result(&user, "hoard").await?;
    // Counted within a second.
    let counted = async {
        loop {
            let seen: Isolation = admin.isolation().await?;
            let own = seen.users.iter().find(|holds| holds.user_id == user.id);
            let memory = own.and_then(|holds| holds.memory);
            if let Some(memory) = memory.filter(|memory| memory.program_bytes >= 48 * MIB) {
                return anyhow::Ok((seen.node, memory));
            }
        }
    };
    let (node, memory) = soon("its program is counted", counted).await?;
    let heap = memory.heap_bytes.context("the server counts")?;
    ensure!(heap < 16 * MIB, "{memory:?}");
    assert_eq!(memory.worker_bytes, 0, "the run has ended");
    ensure!(memory.peak_bytes >= Some(48 * MIB), "{memory:?}");
    ensure!(node.program_bytes >= memory.program_bytes, "{node:?}");
    ensure!(node.heap_bytes < Some(40 * MIB), "{node:?}");
    Ok(())
}
