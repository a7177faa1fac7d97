//! Logs looked at, and what a restored one has to be: `netra events replay`, `verify`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Socket};
use netra_integration::{TestProcess, TestUser, output};
use netra_protocol::ErrorCode;
use netra_protocol::file::File;
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::run::{Run, RunStatus};
use serde_json::Value;

use crate::Test;

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What the command prints; fails where it does.
pub(crate) async fn said(arguments: &[&str]) -> Result<String> {
    let output = output(arguments, "").await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "netra {arguments:?}: {told}{printed}"
    );
    Ok(printed)
}

fn after(seq: u64, epoch: &str) -> Subscribe {
    Subscribe {
        after: After::Seq(seq),
        epoch: Some(epoch.to_owned()),
        threads: None,
        deltas: true,
    }
}

/// What was there before a busy server was copied.
pub(crate) struct Before {
    ada: TestUser,
    file: File,
    run: Run,
    pub(crate) epoch: String,
}

impl Before {
    /// A user of this server, with a file and a run.
    pub(crate) async fn on(server: &TestProcess) -> Result<Self> {
        let ada = server.user("ada").await?;
        let file = netra_client::Upload::Bytes("a,b\n1,2\n".into());
        let file = ada.client.file_upload("kept.csv", file).await?;
        let run = ada.run("echo", "before the backup").await?;
        let epoch = Socket::connect(&ada.client).await?.ready().epoch.clone();
        Ok(Self {
            ada,
            file,
            run,
            epoch,
        })
    }

    /// Copies while the user works.
    pub(crate) async fn copied<T>(&self, copy: impl Future<Output = Result<T>>) -> Result<T> {
        let enough = tokio::sync::watch::channel(false).0;
        let copy = async {
            let copied = copy.await;
            enough.send_replace(true);
            copied
        };
        let (copied, ended) = tokio::join!(copy, busy(&self.ada, &enough));
        ended?;
        copied
    }

    /// All of it is in this folder, whose keys are the old ones; but its log is another one.
    pub(crate) async fn is_in(&self, restored: &str) -> Test {
        let well = said(&["events", "verify", "--data", restored]).await?;
        ensure!(well.contains("all is well"), "{well}");
        let server = TestProcess::start(Path::new(restored)).await?;
        let token = self.ada.client.token().context("it has one")?;
        // The keys came along, so the token is still good.
        let client = Client::new(server.url(), Some(token))?;
        assert_eq!(client.run(self.run.id).await?.result, self.run.result);
        assert_eq!(client.file_content(self.file.id).await?, "a,b\n1,2\n");
        let mut socket = Socket::connect(&client).await?;
        assert_ne!(socket.ready().epoch, self.epoch);
        let refused = socket.subscribe(after(1, &self.epoch)).await;
        let code = refused.err().context("an old cursor")?.code();
        assert_eq!(code, Some(ErrorCode::CursorExpired));
        let now = socket.ready().epoch.clone();
        socket.subscribe(after(0, &now)).await?;
        Ok(())
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
