//! Bad input: a clear error each, nothing lost, nobody else affected.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_client::{Error, Incoming, Socket, Upload};
use netra_integration::{
    Options, ProcessOptions, TestProcess, TestServer, TestUser, soon, start, start_with_files,
};
use netra_protocol::ErrorCode;
use netra_protocol::frame::ServerFrame;
use netra_protocol::run::{Run, RunStatus, StartRun};
use serde_json::Value;

use crate::Test;
use crate::expect::refused;
use netra_integration::script;

/// What the optimizer makes of a file.
async fn optimize(user: &TestUser, name: &str, content: &[u8]) -> Result<Run> {
    let file = user
        .client
        .file_upload(name, Upload::Bytes(content.to_vec().into()))
        .await?;
    let start = start_with_files("optimizer", "What can be saved?", vec![file.id]);
    let run = user.client.run_start(None, &start, None).await?;
    Ok(user.client.run_end(run.id).await?)
}

fn report(run: &Run) -> Result<String> {
    let result = run
        .result
        .as_ref()
        .with_context(|| format!("no result: {:?}", run.error))?;
    Ok(crate::expect::text(result, "/report_markdown")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_rows_are_counted_and_shown_and_the_rest_is_analysed() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let csv = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
               2023-11-16 18:17:03.9799600,100,10\n\
               not a time,5,5\n\
               2023-11-16 18:18:03.9799600,many,10\n\
               2023-11-16 18:19:03.9799600,300,30\n";
    let run = optimize(&user, "broken.csv", csv.as_bytes()).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let data = &run.result.as_ref().context("a result")?["data"];
    assert_eq!(data["input_tokens"], 400, "{data}");
    assert_eq!(data["output_tokens"], 40, "{data}");
    let bad = serde_json::to_string(&data["bad_rows"])?;
    ensure!(bad.contains('2'), "two rows are bad: {bad}");
    report(&run)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_log_gets_a_report_that_says_so_and_no_numbers() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let binary: Vec<u8> = (0..20_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for (name, content) in [
        ("empty.csv", &b""[..]),
        ("binary.csv", &binary),
        ("foreign.csv", b"colour,shape\nred,round\nblue,square\n"),
        (
            "broken.parquet",
            b"PAR1 and nothing that it should have PAR1",
        ),
        ("cut-off.json", b"[{\"model\": \"a\", "),
    ] {
        let run = optimize(&user, name, content).await?;
        // Reporting always runs: an unusable file is an answer, not a crash.
        assert_eq!(run.status, RunStatus::Completed, "{name}: {:?}", run.error);
        let result = run.result.as_ref().context("a result")?;
        ensure!(
            result["missing"]
                .as_array()
                .is_some_and(|list| !list.is_empty()),
            "{name}: {result}"
        );
        for number in ["input_tokens", "output_tokens", "first_ts"] {
            let value = &result["data"][number];
            ensure!(
                matches!(value, Value::Null) || value["total"].is_null() && !value.is_number(),
                "{name} has no {number}: {value}"
            );
        }
        ensure!(report(&run)?.len() > 100, "{name} has a report");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_never_ends_or_eats_all_memory_harms_nobody_else() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "forever",
        "",
        "n = 0\nwhile True:\n    n = n + 1\n",
    )?;
    script(
        agents.path(),
        "hungry",
        "",
        "all = []\nwhile True:\n    all.append('x' * 1000000)\n",
    )?;
    let options = Options::new()
        .agents(agents.path())
        .set("limits.memory_mib", 256);
    let server = TestServer::start_with(options).await?;
    let (user, other) = (server.user().await?, server.user().await?);
    let forever = StartRun {
        timeout_ms: Some(2_000),
        ..start("forever", "x")
    };
    let forever = user.client.run_start(None, &forever, None).await?;
    let hungry = user.start("hungry", "x").await?;

    assert_eq!(
        other.run("echo", "meanwhile").await?.status,
        RunStatus::Completed
    );
    let hungry = user.client.run_end(hungry.id).await?;
    assert_eq!(
        hungry.error.map(|error| error.code),
        Some(ErrorCode::MemoryLimitExceeded)
    );
    let forever = user.client.run_end(forever.id).await?;
    assert_eq!(forever.status, RunStatus::TimedOut, "{:?}", forever.error);
    assert_eq!(
        user.run("echo", "after").await?.status,
        RunStatus::Completed
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_2_gb_is_refused_before_it_is_read() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("huge.csv");
    // A hole of 2 GB takes no place on disk.
    std::fs::File::create(&path)?.set_len(2_000_000_000)?;
    let answer = user
        .client
        .file_upload("huge.csv", Upload::Path(&path))
        .await;
    match answer {
        // The server may answer and close before the client has sent it all.
        Err(Error::Unreachable(_)) => {}
        other => {
            refused(other, 413, ErrorCode::TooLarge)?;
        }
    }
    let left: u64 = std::fs::read_dir(server.data().join("files"))?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum::<Result<u64>>()?;
    ensure!(left < 1_000_000, "{left} bytes stayed");
    assert_eq!(
        user.run("echo", "after").await?.status,
        RunStatus::Completed
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_a_socket_is_answered_and_harms_no_other_socket() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let mut good = user.socket().await?;
    let mut bad = Socket::connect(&user.client).await?;
    for garbage in [
        "",
        "nonsense",
        "[]",
        "{}",
        "null",
        r#"{"type":"ping"}"#,
        r#"{"type":"fly","id":1}"#,
        r#"{"type":"run.cancel","id":2,"run_id":"run_x"}"#,
        r#"{"type":"subscribe","id":3,"after":-1}"#,
        r#"{"type":"subscribe","id":4,"wrong":true}"#,
        "{\"type\":\"ping\",\"id\":\"\u{0}\u{ffff}\"",
    ] {
        bad.send_text(garbage).await?;
        let answer = soon("an answer", bad.next_incoming()).await?;
        let Incoming::Frame(ServerFrame::Error { error, .. }) = answer else {
            anyhow::bail!("{garbage:?} was answered by {answer:?}");
        };
        ensure!(
            !error.message.is_empty() && error.code.status() == 400,
            "{garbage:?}: {error:?}"
        );
    }
    bad.ping().await?;
    // A binary frame is not of this protocol: an answer or the end, but for this socket only.
    bad.send_binary(vec![0, 159, 146, 150]).await?;
    soon("an answer", bad.next_incoming()).await.ok();
    let run = user.run("echo", "hello").await?;
    crate::expect::until_end(&mut good, run.id).await?;
    Ok(())
}

/// A data folder that is nearly full: a small memory disk, or a limit on the size of files where
/// mounting is not allowed. The disk goes with the guard.
struct SmallDisk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl SmallDisk {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=12m", "netra-test"])
            .arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        Ok(Self { folder, mounted })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // A server that is still ending holds it; lazily it goes when that has ended.
            Command::new("umount")
                .arg("-l")
                .arg(self.folder.path())
                .output()
                .ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_survived() -> Test {
    let disk = SmallDisk::new()?;
    let data = disk.folder.path().join("data");
    let options = ProcessOptions {
        file_kib: (!disk.mounted).then_some(8 * 1024),
        ..ProcessOptions::default()
    };
    let mut server = TestProcess::start_with(&data, options).await?;
    let user = server.user("ada").await?;
    let before = user.run("echo", "before").await?;
    let large = Upload::Bytes(vec![b'x'; 16 * 1024 * 1024].into());
    refused(
        user.client.file_upload("large", large).await,
        503,
        ErrorCode::StoreUnavailable,
    )?;
    assert_eq!(user.client.files(None, None).await?.items.len(), 0);

    // The place is free again, and the server goes on.
    let small = user
        .client
        .file_upload("small", Upload::Bytes("x".into()))
        .await?;
    assert_eq!(user.client.file_content(small.id).await?, "x");
    assert_eq!(
        user.run("echo", "after").await?.status,
        RunStatus::Completed
    );
    assert_eq!(user.client.run(before.id).await?.result, before.result);
    server.signal(rustix::process::Signal::TERM)?;
    assert_eq!(server.ended().await?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_come_slowly_or_nested_deeply_are_refused() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(r#"{{"agent":"echo","input":{deep}}}"#);
    let request = user.client.request(netra_client::Method::POST, "/api/runs");
    let request = request
        .header("content-type", "application/json")
        .body(body);
    let answer = soon(
        "an answer",
        user.client.send(request.timeout(Duration::from_secs(20))),
    )
    .await;
    ensure!(answer.is_err_and(|error| error.status() == Some(400)));
    assert_eq!(
        user.run("echo", "after").await?.status,
        RunStatus::Completed
    );
    Ok(())
}
