//! What only the database in the data folder has. All other tests run on PostgreSQL too (`cargo xtask test postgres`,
//! which skips this module by its name); why these do not:
//!
//! - `a_backup_…`: `netra backup` and `restore` are of the folder. `pg_dump` copies the other database; the same is
//!   asked of a copy that it made in `on_postgres::a_dump_of_a_busy_server_…`.
//! - `a_command_beside_a_server_…`: the write-ahead log that could be taken away is a file of SQLite's.

use std::path::Path;

use anyhow::ensure;
use netra_integration::{TestProcess, output};
use rustix::process::Signal;
use serde_json::Value;

use crate::Test;
use crate::logs::{Before, said, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_server_is_whole_and_old_cursors_are_refused_after_it() -> Test {
    let folders = tempfile::tempdir()?;
    let [data, backup, restored] =
        ["data", "backup", "restored"].map(|name| text(&folders.path().join(name)));
    let mut server = TestProcess::start(Path::new(&data)).await?;
    let before = Before::on(&server).await?;
    let copy = ["backup", &backup, "--data", &data, "--with-keys", "--json"];
    let copied = before.copied(said(&copy)).await?;
    let manifest: Value = serde_json::from_str(&copied)?;
    assert_eq!(manifest["epoch"], before.epoch.as_str());
    assert_eq!(manifest["files"], 1);
    let held = output(&["restore", &backup, "--data", &data, "--force"], "").await?;
    assert_eq!(held.status.code(), Some(9), "a server holds the folder");
    server.signal(Signal::TERM)?;
    server.ended().await?;

    said(&["restore", &backup, "--data", &restored]).await?;
    let again = output(&["restore", &backup, "--data", &restored], "").await?;
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(
        !again.status.success() && told.contains("--force"),
        "{told}"
    );
    before.is_in(&restored).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_changed_is_not_restored() -> Test {
    let folders = tempfile::tempdir()?;
    let [data, backup, restored] =
        ["data", "backup", "restored"].map(|name| text(&folders.path().join(name)));
    let server = TestProcess::start(Path::new(&data)).await?;
    let ada = server.user("ada").await?;
    let content = netra_client::Upload::Bytes("as it was".into());
    let file = ada.client.file_upload("a.txt", content).await?;
    said(&["backup", &backup, "--data", &data]).await?;
    let full = output(&["backup", &backup, "--data", &data], "").await?;
    ensure!(!full.status.success(), "the folder is not empty");

    let stored = Path::new(&backup).join("files").join(file.id.to_string());
    std::fs::write(&stored, "another!!")?;
    let refused = output(&["restore", &backup, "--data", &restored], "").await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && told.contains("broken"),
        "{told}"
    );
    ensure!(
        !Path::new(&restored).join("netra.db").exists(),
        "nothing half"
    );
    std::fs::write(&stored, "as it was")?;
    let database = Path::new(&backup).join("netra.db");
    let mut bytes = std::fs::read(&database)?;
    bytes.extend([0; 16]);
    std::fs::write(&database, bytes)?;
    let refused = output(&["restore", &backup, "--data", &restored], "").await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && told.contains("manifest"),
        "{told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_beside_a_server_does_not_take_its_write_ahead_log_away() -> Test {
    use std::os::unix::fs::MetadataExt as _;
    let data = tempfile::tempdir()?;
    let folder = text(data.path());
    let server = TestProcess::start(data.path()).await?;
    let ada = server.user("ada").await?;
    ada.run("echo", "one").await?;
    let log = data.path().join("netra.db-wal");
    let before = std::fs::metadata(&log)?.ino();
    // It opens the database, and closes it as if it were the last.
    said(&["token", "ada", "--data", &folder]).await?;
    assert_eq!(
        std::fs::metadata(&log)?.ino(),
        before,
        "the server's log is another file"
    );
    ada.run("echo", "two").await?;
    let report = said(&["events", "verify", "--data", &folder, "--json"]).await?;
    let report: Value = serde_json::from_str(&report)?;
    assert_eq!(
        report["runs"], 2,
        "what the server wrote after is there for others"
    );
    Ok(())
}
