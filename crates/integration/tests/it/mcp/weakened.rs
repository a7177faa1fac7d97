//! What keeps tool servers apart and in, tried together with what it would be without: each check that holds here is
//! shown to fail where the isolation is left out.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{TestServer, TestUser, soon};
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::{Place, WHO, processes_with, result, until_so};
use crate::Test;

pub(super) const ESCAPE: &str = include_str!("escape.py");

/// Two users have two instances, and each keeps its own count.
async fn keeps_users_apart(server: &TestServer) -> Test {
    let (ada, bob) = (server.user().await?, server.user().await?);
    let (of_ada, of_bob) = (result(&ada, "who").await?, result(&bob, "who").await?);
    let told = |value: &Value| {
        value
            .as_str()
            .unwrap_or_default()
            .split_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let (ada, bob) = (
        told(&of_ada).context("two words")?,
        told(&of_bob).context("two words")?,
    );
    ensure!(ada.0 != bob.0, "two users had one instance");
    ensure!(bob.1 == "1", "one user's calls were counted for another");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_of_instances_holds_and_finds_one_that_is_shared() -> Test {
    for (scope, holds) in [("user", true), ("run", true), ("shared", false)] {
        let place = Place::new()?;
        place.agent("who", "who", WHO)?;
        let server = place.start(&format!("scope = {scope:?}\n")).await?;
        let checked = keeps_users_apart(&server).await;
        ensure!(checked.is_ok() == holds, "{scope}: {checked:?}");
    }
    Ok(())
}

/// What is out of reach, and the attempts at it, each with what its call may be told: whatever holds it first.
struct Goal {
    _listener: TcpListener,
    secret: PathBuf,
    attempts: Vec<(&'static str, Value, &'static [&'static str])>,
}

const NO_ACCESS: &[&str] = &["PermissionError(13, 'Permission denied')"];
const NO_SOCKETS: &[&str] = &["PermissionError(1, 'Operation not permitted')"];
const NO_PROCESSES: &[&str] = &[
    "BlockingIOError(11, 'Resource temporarily unavailable')",
    "it started more processes than it may",
    // Which is what most of them have before there are too many.
    "it took more memory than it may have",
];
const NO_MEMORY: &[&str] = &["MemoryError()", "it took more memory than it may have"];
const NO_ROOM: &[&str] = &[
    "OSError(27, 'File too large')",
    "OSError(28, 'No space left on device')",
    "it wrote more than it may",
];

impl Goal {
    fn new(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let secret = folder.join("secret");
        std::fs::write(&secret, "of another user")?;
        super::open_to_all(&secret, 0o600)?;
        let attempts = vec![
            ("read", json!({ "path": secret }), NO_ACCESS),
            ("overwrite", json!({ "path": secret }), NO_ACCESS),
            ("connect", json!({ "port": port }), NO_SOCKETS),
            ("children", json!({ "count": 100 }), NO_PROCESSES),
            ("allocate", json!({ "mib": 400 }), NO_MEMORY),
            ("write", json!({ "mib": 300 }), NO_ROOM),
        ];
        Ok(Self {
            _listener: listener,
            secret,
            attempts,
        })
    }
}

/// The failure that the log tells of the one call of an attempt; none where it has gone well.
async fn attempt(user: &TestUser, name: &str) -> Result<Option<String>> {
    let run = soon(name, user.run(name, "go")).await?;
    let events = user.events(run.id).await?;
    let mut ends = events
        .into_iter()
        .filter_map(|received| match received.event.event.kind {
            EventKind::ToolCompleted { success, error, .. } => Some((success, error)),
            _ => None,
        });
    let (success, error) = ends.next().context("its call has no end")?;
    ensure!(ends.next().is_none(), "{name} was called more than once");
    ensure!(success == (run.status == RunStatus::Completed), "{run:?}");
    ensure!(success == error.is_none(), "{error:?}");
    Ok(error.map(|error| error.message))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_server_that_tries_to_get_out_is_held_and_leaves_nothing() -> Test {
    for scope in ["run", "user"] {
        is_held_and_leaves_nothing(scope).await?;
    }
    Ok(())
}

async fn is_held_and_leaves_nothing(scope: &str) -> Test {
    let place = Place::new()?;
    let goal = Goal::new(place.dir.path())?;
    std::fs::write(place.path("server.py"), ESCAPE)?;
    let forks = ("fork_without_end", json!({}), NO_PROCESSES);
    for (name, arguments, _) in goal.attempts.iter().chain([&forks]) {
        // JSON's texts and numbers are Python's too.
        let pairs = arguments.as_object().into_iter().flatten();
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        place.agent(name, name, &format!("fake__{name}({})\n", pairs.join(", ")))?;
    }
    place.agent("stay", "stay", "fake__stay()\n")?;
    let temp = place.temp()?;
    let lines = format!("scope = {scope:?}\nmemory_mib = 128\n[sandbox]\ntemp = {temp:?}\n");
    let server = place.start(&lines).await?;
    // An instance of a user goes on when the run has ended, alone. Each attempt is another user's, because an instance
    // that was ended again and again is not started at once.
    let stays = usize::from(scope == "user");
    for (name, _, words) in goal.attempts.iter().chain([&forks]) {
        let before = place.processes();
        let told = attempt(&server.user().await?, name).await?;
        let told = told.with_context(|| format!("{name} got out"))?;
        let held = words.iter().any(|words| told.contains(words));
        ensure!(held, "{name}: {told}");
        until_so("nothing is left", || place.processes() <= before + stays).await?;
    }
    assert_eq!(std::fs::read_to_string(&goal.secret)?, "of another user");
    // To leave something behind is no failure by itself; it ends with the run all the same.
    let before = place.processes();
    let user = server.user().await?;
    let told = attempt(&user, "stay").await?;
    ensure!(told.is_none(), "it can fork: {told:?}");
    until_so("the daemon is gone", || place.processes() == before + stays).await?;
    let (_, left) = server.stop().await;
    assert_eq!(left, 0);
    until_so("the programs are gone", || place.processes() == 0).await?;
    let left = std::fs::read_dir(&temp)?.count();
    assert_eq!(left, 0, "a file was left");
    Ok(())
}

/// The same program as a child of this test, with nothing that holds it.
struct Loose {
    child: tokio::process::Child,
    notes: String,
}

impl Loose {
    async fn attempt(&mut self, name: &str, arguments: &Value) -> Result<bool> {
        let params = json!({ "name": name, "arguments": arguments });
        let request =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let input = self.child.stdin.as_mut().context("it was asked for")?;
        input.write_all(format!("{request}\n").as_bytes()).await?;
        let output = self.child.stdout.as_mut().context("it was asked for")?;
        let mut line = String::new();
        soon(name, BufReader::new(output).read_line(&mut line)).await?;
        let answer: Value = serde_json::from_str(&line)?;
        Ok(answer["result"]["content"][0]["text"] == "out")
    }

    fn processes(&self) -> Vec<rustix::process::Pid> {
        processes_with("/python3", &self.notes)
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        for process in self.processes() {
            rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_sandbox_each_attempt_to_get_out_succeeds() -> Test {
    let place = Place::new()?;
    let goal = Goal::new(place.dir.path())?;
    std::fs::write(place.path("server.py"), ESCAPE)?;
    let notes = place.path("notes").display().to_string();
    let child = tokio::process::Command::new("/usr/bin/python3")
        .args([&place.path("server.py"), &place.path("notes")])
        .current_dir(place.path("notes"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut loose = Loose { child, notes };
    for (name, arguments, _) in &goal.attempts {
        ensure!(loose.attempt(name, arguments).await?, "{name} has failed");
    }
    assert_eq!(std::fs::read_to_string(&goal.secret)?, "of a stranger");
    ensure!(loose.processes().len() > 100, "its children are there");
    ensure!(loose.attempt("stay", &json!({})).await?, "it can fork");
    let own = loose.child.id().context("it runs")?;
    loose.child.kill().await?;
    let left = loose.processes();
    ensure!(
        left.iter()
            .all(|one| one.as_raw_nonzero().get() as u32 != own),
        "it has ended"
    );
    ensure!(!left.is_empty(), "what it left behind is there");
    Ok(())
}
