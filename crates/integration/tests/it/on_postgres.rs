//! The whole server with its rows in PostgreSQL, where `database.url` puts them. `cargo xtask test postgres` starts one and
//! runs these tests, no other part does.

mod nodes;
mod redis;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{
    Options, TestProcess, TestServer, TestUser, change_rows, drop_database, dump_database, raw_sql,
    restore_database,
};
use netra_protocol::ErrorCode;
use netra_protocol::id::RunId;
use rustix::process::Signal;

use crate::Test;
use crate::expect::refused;
use crate::logs::{Before, text};

/// What identifies the events of a run, without pieces of messages, which may be folded away after its end.
async fn log(user: &TestUser, run: RunId) -> Result<Vec<(u64, String, &'static str)>> {
    let events = user.events(run).await?;
    let events = events.iter().map(|received| &received.event);
    let whole = events.filter(|event| !event.event.kind.is_delta());
    let told = whole.map(|event| {
        let id = event.event.event_id.to_string();
        (event.seq, id, event.event.kind.name())
    });
    Ok(told.collect())
}

/// The same user on another start of the server.
async fn again(server: &TestServer, user: &TestUser) -> Result<TestUser> {
    let client = server.client_for(user, Duration::from_secs(3_600)).await?;
    Ok(TestUser {
        client,
        ..user.clone()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_and_its_log_outlive_the_server_and_are_seen_by_nobody_else() -> Test {
    let server = TestServer::start().await?;
    raw_sql(server.data(), "SELECT 1").context("the rows are in SQLite")?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let run = ada.run("echo", "a b c").await?;
    let before = log(&ada, run.id).await?;
    let names: Vec<_> = before.iter().map(|(.., name)| *name).collect();
    ensure!(names.first() == Some(&"run_started") && names.last() == Some(&"run_completed"));
    let (data, left) = server.stop().await;
    assert_eq!(left, 0);

    let server = TestServer::start_on(data, Options::new()).await?;
    let (ada, bob) = (again(&server, &ada).await?, again(&server, &bob).await?);
    assert_eq!(log(&ada, run.id).await?, before);
    assert_eq!(ada.client.run(run.id).await?, run);
    let next = ada.run("echo", "d").await?;
    let after = log(&ada, next.id).await?;
    ensure!(
        after[0].0 > before[before.len() - 1].0,
        "numbers begin again"
    );
    refused(bob.client.run(run.id).await, 404, ErrorCode::NotFound)?;
    let seen = bob.client.run_events(run.id).next().await;
    refused(seen, 404, ErrorCode::NotFound)?;
    ensure!(bob.client.runs(None, None).await?.items.is_empty());
    ensure!(bob.client.threads(None, None, None).await?.items.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_role_sees_a_servers_rows_only_when_it_says_whose() -> Test {
    let server = TestServer::start().await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    for user in [&ada, &bob] {
        user.run("echo", "a b c").await?;
    }
    ensure!(!server.data().join("netra.db").exists(), "SQLite has them");
    let runs = |set_up: String| {
        let sql = format!("BEGIN; {set_up}; SELECT count(*), count(DISTINCT user_id) FROM runs");
        let said = raw_sql(server.data(), &sql)?;
        Ok::<_, anyhow::Error>(said.lines().last().unwrap_or_default().to_owned())
    };
    let of = |user: &str| format!("SELECT set_config('netra.user_id', '{user}', true)");
    let ada: String = ada.id.to_bytes().map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(runs("SELECT 1".into())?, "0|0", "nobody is set");
    assert_eq!(runs(of(""))?, "0|0", "the setting is empty");
    assert_eq!(runs(of(&ada))?, "1|1");
    let nobody = of("00000000-0000-0000-0000-000000000000");
    assert_eq!(runs(nobody)?, "0|0", "somebody who is not there");
    let everybody = "SELECT set_config('netra.everybody', 'on', true)";
    assert_eq!(runs(everybody.into())?, "2|2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_stopped_has_no_connections_to_its_database_any_more() -> Test {
    let server = TestServer::start().await?;
    server.user().await?.run("echo", "a b c").await?;
    let others = "SELECT count(*) > 0 FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(raw_sql(server.data(), others)?.trim(), "t");
    let (data, left) = server.stop().await;
    assert_eq!(left, 0);
    drop_database(data.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_a_busy_server_is_whole_and_old_cursors_are_refused_after_it() -> Test {
    let folders = tempfile::tempdir()?;
    let [data, restored] = ["data", "restored"].map(|name| folders.path().join(name));
    let dump = folders.path().join("dump");
    let mut server = TestProcess::start(&data).await?;
    let before = Before::on(&server).await?;
    before.copied(dump_database(&data, &dump)).await?;
    server.signal(Signal::TERM)?;
    server.ended().await?;

    // The rest is what `docs/database.md` says.
    restore_database(&dump, &restored).await?;
    change_rows(
        &restored,
        "DELETE FROM meta WHERE key IN ('epoch', 'alive_at');
         UPDATE runs SET agent_hash = '' WHERE ended_at IS NULL",
    )?;
    std::fs::create_dir_all(restored.join("files"))?;
    std::fs::copy(data.join("keys"), restored.join("keys"))?;
    for file in std::fs::read_dir(data.join("files"))? {
        let file = file?;
        std::fs::copy(file.path(), restored.join("files").join(file.file_name()))?;
    }
    before.is_in(&text(&restored)).await
}
