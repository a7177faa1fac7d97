//! A data folder kept elsewhere, and logs looked at: `netra backup`, `restore` and `events replay`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Socket};
use netra_integration::{TestProcess, TestUser, output};
use netra_protocol::ErrorCode;
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::run::RunStatus;
use rustix::process::Signal;
use serde_json::Value;

use crate::Test;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What the command prints; fails where it does.
pub(crate) async fn said(arguments: &[&str]) -> Result<String> {
    let output = output(arguments, "").await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "netra {arguments:?}: {told}");
    Ok(String::from_utf8(output.stdout)?)
}

fn after(seq: u64, epoch: &str) -> Subscribe {
    Subscribe {
        after: After::Seq(seq),
        epoch: Some(epoch.to_owned()),
        threads: None,
        deltas: true,
    }
}

/// Starts runs until it is told that it is enough; gives how many ended.
pub(crate) async fn busy(
    user: &TestUser,
    enough: &tokio::sync::watch::Sender<bool>,
) -> Result<usize> {
    let mut ended = 0;
    while !*enough.borrow() || ended == 0 {
        let run = user.run("echo", "while it is copied").await?;
        ensure!(run.status == RunStatus::Completed, "{run:?}");
        ended += 1;
    }
    Ok(ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_server_is_whole_and_old_cursors_are_refused_after_it() -> Test {
    let folders = tempfile::tempdir()?;
    let [data, backup, restored] =
        ["data", "backup", "restored"].map(|name| text(&folders.path().join(name)));
    let mut server = TestProcess::start(Path::new(&data)).await?;
    let ada = server.user("ada").await?;
    let file = netra_client::Upload::Bytes("a,b\n1,2\n".into());
    let file = ada.client.file_upload("kept.csv", file).await?;
    let before = ada.run("echo", "before the backup").await?;
    let epoch = Socket::connect(&ada.client).await?.ready().epoch.clone();

    let enough = tokio::sync::watch::channel(false).0;
    let copy = async {
        let copied = said(&["backup", &backup, "--data", &data, "--with-keys", "--json"]).await;
        enough.send_replace(true);
        copied
    };
    let (copied, ended) = tokio::join!(copy, busy(&ada, &enough));
    let manifest: Value = serde_json::from_str(&copied?)?;
    assert_eq!(manifest["epoch"], epoch.as_str());
    assert_eq!(manifest["files"], 1);
    ended?;
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
    let well = said(&["events", "verify", "--data", &restored]).await?;
    ensure!(well.contains("all is well"), "{well}");

    let server = TestProcess::start(Path::new(&restored)).await?;
    let token = ada.client.token().context("it has one")?;
    // The keys came along, so the token is still good.
    let client = Client::new(server.url(), Some(token))?;
    assert_eq!(client.run(before.id).await?.result, before.result);
    assert_eq!(client.file_content(file.id).await?, "a,b\n1,2\n");
    let mut socket = Socket::connect(&client).await?;
    assert_ne!(socket.ready().epoch, epoch);
    let refused = socket.subscribe(after(1, &epoch)).await;
    let code = refused.err().context("an old cursor")?.code();
    assert_eq!(code, Some(ErrorCode::CursorExpired));
    let now = socket.ready().epoch.clone();
    socket.subscribe(after(0, &now)).await?;
    Ok(())
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
async fn a_log_is_printed_and_found_well() -> Test {
    let data = tempfile::tempdir()?;
    let folder = text(data.path());
    let server = TestProcess::start(data.path()).await?;
    let ada = server.user("ada").await?;
    let first = ada.run("echo", "one").await?;
    let second = ada.run("echo", "two").await?;
    let events = ada.events(second.id).await?;
    let of_ada = ["--data", &folder, "--user", "ada"];

    let run = second.id.to_string();
    let replay = [
        &["events", "replay", "--json", "--deltas", "--run", &run],
        &of_ada[..],
    ];
    let printed = said(&replay.concat()).await?;
    let printed: Vec<Value> = printed
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let seqs: Vec<&Value> = printed.iter().map(|event| &event["seq"]).collect();
    let wanted: Vec<Value> = events.iter().map(|one| one.event.seq.into()).collect();
    assert_eq!(seqs, wanted.iter().collect::<Vec<_>>());
    let lines = said(&[&["events", "replay"], &of_ada[..]].concat()).await?;
    ensure!(
        lines.contains("run_completed") && lines.contains("one"),
        "{lines}"
    );

    let verify = [&["events", "verify", "--json"], &of_ada[..]].concat();
    let report: Value = serde_json::from_str(&said(&verify).await?)?;
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["runs"], 2);
    // A thread that is gone is no gap without a reason.
    ada.client.thread_delete(first.thread_id).await?;
    let report: Value = serde_json::from_str(&said(&verify).await?)?;
    assert_eq!(
        (&report["findings"], &report["runs"]),
        (&serde_json::json!([]), &1.into())
    );
    let nobody = output(
        &["events", "verify", "--data", &folder, "--user", "bob"],
        "",
    )
    .await?;
    assert_eq!(nobody.status.code(), Some(1));
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
