//! `netra events tail`: follows, over restarts too, and ends with its reader.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netra_client::Client;
use netra_integration::{TestProcess, TestUser, output, run_netra, soon};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};

use crate::Test;
use crate::logs::said;

/// The command, and what it prints.
struct Tail {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    notes: Lines<BufReader<ChildStderr>>,
}

impl Tail {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = run_netra(&[&["events", "tail"], arguments].concat())?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (out, notes) = (child.stdout.take(), child.stderr.take());
        Ok(Self {
            child,
            out: BufReader::new(out.context("asked for")?).lines(),
            notes: BufReader::new(notes.context("asked for")?).lines(),
        })
    }

    /// What it prints, up to a line with this text.
    async fn until(&mut self, text: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        while !lines
            .last()
            .is_some_and(|line: &String| line.contains(text))
        {
            let line = soon("a line of the log", self.out.next_line()).await?;
            lines.push(line.with_context(|| format!("{text} after {lines:?}"))?);
        }
        Ok(lines)
    }

    async fn note(&mut self, text: &str) -> Result<()> {
        loop {
            let line = soon("a note", self.notes.next_line()).await?;
            if line
                .with_context(|| format!("no word of {text}"))?
                .contains(text)
            {
                return Ok(());
            }
        }
    }

    async fn end(&mut self, signal: Signal) -> Result<Option<i32>> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).context("it runs")?;
        kill_process(pid, signal)?;
        Ok(soon("its end", self.child.wait()).await?.code())
    }
}

fn seqs(lines: &[String]) -> Result<Vec<u64>> {
    let seq = |line: &String| {
        let event: Value = serde_json::from_str(line)?;
        event["seq"].as_u64().context("a number")
    };
    lines.iter().map(seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_when_its_server_is_killed_and_comes_back_elsewhere() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let mut server = TestProcess::start(data.path()).await?;
    let ada = server.user("ada").await?;
    let mut tail = Tail::start(&["--data", &folder, "--user", "ada", "--after", "0", "--json"])?;
    ada.run("echo", "one").await?;
    let mut seen = tail.until("run_completed").await?;
    server.signal(Signal::KILL)?;
    server.ended().await?;
    tail.note("the server is away").await?;

    // Its token is worth nothing to the next server, which signs with another key.
    std::fs::remove_file(data.path().join("keys"))?;
    let server = TestProcess::start(data.path()).await?;
    let token = said(&["token", "ada", "--data", &folder]).await?;
    let client = Client::new(server.url(), Some(token.trim_end().to_owned()))?;
    let ada = TestUser { client, ..ada };
    tail.note("there again").await?;
    ada.run("echo", "two").await?;
    seen.extend(tail.until("run_completed").await?);
    let seen = seqs(&seen)?;
    ensure!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
    let replay = [
        "events", "replay", "--data", &folder, "--user", "ada", "--json",
    ];
    let replay = said(&replay).await?;
    let all = seqs(&replay.lines().map(str::to_owned).collect::<Vec<_>>())?;
    assert_eq!(seen, all, "each event once, in order");
    assert_eq!(tail.end(Signal::INT).await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_shows_one_run_or_thread_to_people() -> Test {
    let data = tempfile::tempdir()?;
    let server = TestProcess::start(data.path()).await?;
    let ada = server.user("ada").await?;
    let first = ada.run("echo", "one").await?;
    let second = ada.run("echo", "two").await?;
    let token = ada.client.token().context("it has one")?;
    let of_server = ["--server", server.url(), "--token", &token, "--after", "0"];

    let run = second.id.to_string();
    let mut tail = Tail::start(&[&of_server[..], &["--run", &run]].concat())?;
    let lines = tail.until("run_completed").await?;
    let short = &run[run.len() - 6..];
    ensure!(lines.iter().all(|line| line.contains(short)), "{lines:?}");
    ensure!(lines[0].contains("run_started"), "{lines:?}");

    let thread = first.thread_id.to_string();
    let mut tail = Tail::start(&[&of_server[..], &["--thread", &thread, "--json"]].concat())?;
    let lines = tail.until("run_completed").await?;
    for line in &lines {
        let event: Value = serde_json::from_str(line)?;
        assert_eq!(event["thread_id"], thread.as_str());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_ends_when_nobody_reads_it_and_when_the_log_is_another_one() -> Test {
    let data = tempfile::tempdir()?;
    let server = TestProcess::start(data.path()).await?;
    let ada = server.user("ada").await?;
    ada.run("echo", "one").await?;
    let token = ada.client.token().context("it has one")?;
    let of_server = ["--server", server.url(), "--token", &token];

    let mut tail = Tail::start(&[&of_server[..], &["--after", "0"]].concat())?;
    tail.until("run_completed").await?;
    let Tail { mut child, out, .. } = tail;
    // Nothing more is written: it hears of it all the same.
    drop(out);
    assert_eq!(soon("its end", child.wait()).await?.code(), Some(0));

    let beyond = [&["events", "tail"], &of_server[..], &["--after", "1000000"]].concat();
    let refused = output(&beyond, "").await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(7), "{told}");
    ensure!(told.contains("cursor_expired"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_waits_for_a_server_and_does_not_stand_in_its_way() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let nowhere = output(&["events", "tail", "--data", &format!("{folder}/x")], "").await?;
    assert_eq!(nowhere.status.code(), Some(2), "a folder that is not there");

    let of_ada = ["--data", &*folder, "--user", "ada"];
    said(&["user", "add", "ada", "--data", &folder]).await?;
    let mut tail = Tail::start(&of_ada)?;
    tail.note("waiting for one").await?;
    let _server = TestProcess::start(data.path()).await?;
    said(&[&["run", "echo", "one"], &of_ada[..]].concat()).await?;
    // What came before it found the server is shown too: it was asked to follow from then on.
    let lines = tail.until("run_completed").await?;
    ensure!(lines[0].contains("run_started"), "{lines:?}");
    assert_eq!(tail.end(Signal::TERM).await?, Some(0));

    let gone = ["--server", "http://127.0.0.1:1", "--token", "x"];
    let gone = output(&[&["events", "tail"], &gone[..]].concat(), "").await?;
    assert_eq!(gone.status.code(), Some(6), "one that was named is there");
    Ok(())
}
