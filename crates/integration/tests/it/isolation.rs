//! Who holds what, as an admin sees it, and that nothing is held when all is over.

mod growth;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use anyhow::{Context as _, Result, ensure};
use netra_client::Client;
use netra_integration::{
    FakeModel, Options, PATIENCE, ProcessOptions, Reply, TestProcess, TestServer, TestTool,
    TestUser, output, start,
};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::id::UserId;
use netra_protocol::isolation::{Isolation, MustBeZero, UserHoldings};
use netra_protocol::run::{OnLimit, Run, RunStatus, StartRun};
use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::expect::{hanging_model, names, refused, with_model};
use netra_integration::script;

fn of(seen: &Isolation, user: UserId) -> Option<&UserHoldings> {
    seen.users.iter().find(|holds| holds.user_id == user)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_sees_what_each_user_holds_and_that_nothing_is_lost() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options.set("limits.concurrent_runs", 1)).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let running = ada.start("assistant", "one").await?;
    model.until_open(1).await?;
    let queued = ada.start("echo", "two").await?;
    let reject = StartRun {
        on_limit: OnLimit::Reject,
        ..start("echo", "three")
    };
    for _ in 0..2 {
        let over = ada.client.run_start(None, &reject, None).await;
        refused(over, 429, ErrorCode::SlotsExhausted)?;
    }
    let _socket = ada.socket().await?;
    let mut stream = bob.client.events().after("0");
    bob.start("echo", "four").await?;
    stream.next().await?.context("an event")?;

    let seen = admin.client.isolation().await?;
    let holds = of(&seen, ada.id).context("she has a run")?;
    assert_eq!(holds.name.as_deref(), Some(ada.name.as_str()));
    let slots = holds.slots;
    assert_eq!(
        (slots.running, slots.queued, slots.waiting, slots.allowed),
        (1, 1, 0, 1)
    );
    assert_eq!((holds.sockets, holds.streams), (1, 0));
    let hits: Vec<_> = holds.limits_hit.iter().collect();
    assert_eq!(hits, [(&"concurrent_runs".to_owned(), &2)]);
    let memory = holds.memory.context("she has a run")?;
    assert_eq!(memory.limit_bytes, 1024 << 20);
    assert_eq!(memory.heap_bytes, None, "this program does not count");
    let holds = of(&seen, bob.id).context("he listens")?;
    assert_eq!((holds.sockets, holds.streams), (0, 1));
    ensure!(holds.limits_hit.is_empty());
    assert_eq!(seen.must_be_zero, MustBeZero::default());
    assert_eq!(seen.node.connections, 2);
    ensure!(seen.node.tasks > 0 && seen.node.slots.allowed > 0);

    for run in [running.id, queued.id] {
        ada.client.run_cancel(run).await.ok();
        ada.client.run_end(run).await?;
    }
    let seen = until_at_rest(&admin.client).await?;
    assert_eq!(seen.must_be_zero, MustBeZero::default());
    let hits = &of(&seen, ada.id)
        .context("what she reached stays")?
        .limits_hit;
    assert_eq!(hits["concurrent_runs"], 2);
    Ok(())
}

mod security {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_but_an_admin_sees_who_holds_what() -> Test {
        let server = TestServer::start().await?;
        let user = server.user().await?;
        refused(user.client.isolation().await, 403, ErrorCode::Forbidden)?;
        let nobody = server.anonymous()?.isolation().await;
        refused(nobody, 401, ErrorCode::Unauthenticated)?;
        Ok(())
    }
}

/// Waits until the server has as many tasks as before. Connections that are kept open have some too, so it may be a few
/// more; and what reads the database has one for as long.
async fn until_as_few_tasks(admin: &Client, before: u64) -> Result<Isolation> {
    let fewer = async {
        loop {
            let seen = admin.isolation().await?;
            if seen.node.tasks <= before + 2 {
                return anyhow::Ok(seen);
            }
        }
    };
    let fewer = tokio::time::timeout(PATIENCE, fewer).await;
    fewer.with_context(|| format!("tasks are left of more than {before}"))?
}

/// Waits until no run is on the server.
async fn until_at_rest(admin: &Client) -> Result<Isolation> {
    let rest = async {
        loop {
            let seen = admin.isolation().await?;
            let slots = seen.node.slots;
            if slots.running + slots.queued + slots.waiting + seen.node.workers == 0 {
                return anyhow::Ok(seen);
            }
        }
    };
    tokio::time::timeout(PATIENCE, rest).await?
}

/// The processes that a process has started.
pub(crate) fn children(parent: u32) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // One that has gone meanwhile is nobody's child.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if after_name.split(' ').nth(1) == Some(&parent.to_string()) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// Waits for a worker of a server.
async fn first_worker(server: &TestProcess) -> Result<u32> {
    let pid = server.pid().context("it runs")?;
    let worker = async {
        loop {
            if let Some(worker) = children(pid)?.first() {
                return anyhow::Ok(*worker);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, worker).await?
}

/// Every file of a folder, without the database's own beside it.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if !path.to_string_lossy().ends_with("-wal") {
            found.insert(path);
        }
    }
    Ok(found)
}

async fn admin_of(server: &TestProcess, data: &Path) -> Result<Client> {
    let data = data.to_string_lossy();
    let add = ["user", "add", "root", "--data", &data, "--role", "admin"];
    for arguments in [&add[..], &["token", "root", "--data", &data]] {
        let ended = output(arguments, "").await?;
        ensure!(ended.status.success(), "{arguments:?}");
        if arguments[0] == "token" {
            let token = String::from_utf8(ended.stdout)?;
            return Ok(Client::new(
                server.url(),
                Some(token.trim_end().to_owned()),
            )?);
        }
    }
    unreachable!("the token comes last")
}

/// By what a run of a real server ends, and how.
const CAUSES: [(&str, RunStatus, Option<ErrorCode>); 7] = [
    ("completes", RunStatus::Completed, None),
    ("raises", RunStatus::Failed, Some(ErrorCode::AgentFailed)),
    (
        "eats",
        RunStatus::Failed,
        Some(ErrorCode::MemoryLimitExceeded),
    ),
    (
        "cancelled",
        RunStatus::Cancelled,
        Some(ErrorCode::Cancelled),
    ),
    (
        "timed_out",
        RunStatus::TimedOut,
        Some(ErrorCode::DeadlineExceeded),
    ),
    // Not the script's doing.
    ("killed", RunStatus::Failed, Some(ErrorCode::Internal)),
    (
        "assistant",
        RunStatus::Cancelled,
        Some(ErrorCode::Cancelled),
    ),
];

fn agents(folder: &Path) -> Result<()> {
    let forever = "n = 0\nwhile True:\n    n = n + 1\n";
    let eats = "all = []\nwhile True:\n    all.append('x' * 1000000)\n";
    let raises = "raise ValueError('on purpose')\n";
    for (name, code) in [
        ("completes", "{'text': input['text']}\n"),
        ("raises", raises),
        ("eats", eats),
        ("cancelled", forever),
        ("timed_out", forever),
        ("killed", forever),
    ] {
        script(folder, name, "", code)?;
    }
    Ok(())
}

async fn run_to_its_end(
    server: &TestProcess,
    model: &FakeModel,
    user: &TestUser,
    cause: &str,
) -> Result<Run> {
    let request = StartRun {
        timeout_ms: (cause == "timed_out").then_some(700),
        ..start(cause, "x")
    };
    let run = user.client.run_start(None, &request, None).await?;
    match cause {
        "cancelled" | "killed" => {
            let worker = first_worker(server).await?;
            if cause == "cancelled" {
                user.client.run_cancel(run.id).await?;
            } else {
                let worker = Pid::from_raw(i32::try_from(worker)?).context("a process")?;
                kill_process(worker, Signal::KILL)?;
            }
        }
        "assistant" => {
            model.until_open(1).await?;
            user.client.run_cancel(run.id).await?;
        }
        _ => {}
    }
    Ok(user.client.run_end(run.id).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ends_a_run_its_server_holds_nothing_of_it() -> Test {
    let (data, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    agents(folder.path())?;
    let model = FakeModel::start(|_| Reply::Hang("thinking".into())).await?;
    let options = with_model(&model)
        .agents(folder.path())
        .set("workers.warm", 0)
        .set("limits.memory_mib", 256);
    let mut environment = options.environment();
    let agents = folder.path().display().to_string();
    environment.push(("NETRA__AGENTS__DIR".into(), agents));
    let options = ProcessOptions {
        environment,
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(data.path(), options).await?;
    let admin = admin_of(&server, data.path()).await?;
    let user = server.user("ada").await?;
    let before = (files(data.path())?, admin.isolation().await?.node.tasks);
    for (cause, status, code) in CAUSES {
        let run = run_to_its_end(&server, &model, &user, cause).await?;
        assert_eq!(run.status, status, "{cause}: {:?}", run.error);
        assert_eq!(run.error.map(|error| error.code), code, "{cause}");
        let seen = until_at_rest(&admin).await?;
        assert_eq!(seen.must_be_zero, MustBeZero::default(), "{cause}");
        let holds = of(&seen, user.id).and_then(|holds| holds.memory);
        let held = holds.map_or(0, |memory| memory.worker_bytes);
        assert_eq!(held, 0, "{cause}: bytes of workers");
        let pid = server.pid().context("it runs")?;
        let gone = async {
            while !children(pid)?.is_empty() {
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        };
        let gone = tokio::time::timeout(PATIENCE, gone).await;
        gone.with_context(|| format!("{cause}: a worker is left"))??;
        assert_eq!(files(data.path())?, before.0, "{cause}");
    }
    let seen = until_as_few_tasks(&admin, before.1).await?;
    let hits = &of(&seen, user.id).context("she reached limits")?.limits_hit;
    assert_eq!(hits["run_timeout_ms"], 1);
    assert_eq!(hits["memory_mib"], 1);
    Ok(())
}

/// Not in the table above, as the program has no tool that panics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_tool_panics_leaves_nothing() -> Test {
    let failed = panicking("panics", TestTool::panicking(), || ()).await?;
    assert_eq!(failed, Some(ErrorCode::AgentFailed));
    Ok(())
}

/// What a tool does is caught with the tool; what the engine itself does takes the engine with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_panics_ends_its_run_and_leaves_nothing() -> Test {
    let broken = Arc::new(AtomicBool::new(false));
    let tool = TestTool::breaking_engines(&broken);
    let failed = panicking("breaks", tool, || broken.store(true, SeqCst)).await?;
    assert_eq!(failed, Some(ErrorCode::Internal));
    Ok(())
}

/// Lets an agent call a tool that panics, and says with what its run failed. Nothing is left of it.
async fn panicking(name: &str, tool: TestTool, begin: impl FnOnce()) -> Result<Option<ErrorCode>> {
    let folder = tempfile::tempdir()?;
    let tools = format!("tools = [\"{name}\"]\n");
    let calls = format!("{name}(word='boo')\n");
    script(folder.path(), "panicker", &tools, &calls)?;
    let options = Options::new()
        .agents(folder.path())
        .set("workers.warm", 0)
        .tool(tool);
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let user = server.user().await?;
    let before = (files(server.data())?, admin.client.isolation().await?);
    begin();
    let run = user.run("panicker", "x").await?;
    assert_eq!(run.status, RunStatus::Failed);
    let last = user.events(run.id).await?;
    assert_eq!(
        names(&last)[names(&last).len() - 2..],
        ["agent_completed", "run_failed"]
    );
    let seen = until_at_rest(&admin.client).await?;
    assert_eq!(seen.must_be_zero, MustBeZero::default());
    let held = of(&seen, user.id).and_then(|holds| holds.memory);
    assert_eq!(held.map_or(0, |memory| memory.worker_bytes), 0);
    assert_eq!(files(server.data())?, before.0);
    until_as_few_tasks(&admin.client, before.1.node.tasks).await?;
    // The server goes on.
    assert_eq!(user.run("echo", "x").await?.status, RunStatus::Completed);
    let (_, left) = server.stop().await;
    assert_eq!(left, 0);
    Ok(run.error.map(|error| error.code))
}

/// A drain ends the engine and not the run: the next server has it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_run_leaves_nothing_but_its_place_in_the_database() -> Test {
    let (data, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    agents(folder.path())?;
    let options = Options::new()
        .set("workers.warm", 0)
        .set("server.drain_ms", 100)
        .set("agents.dir", folder.path().display());
    let options = ProcessOptions {
        environment: options.environment(),
        ..ProcessOptions::default()
    };
    let mut server = TestProcess::start_with(data.path(), options.clone()).await?;
    let user = server.user("ada").await?;
    let before = files(data.path())?;
    let run = user.start("cancelled", "x").await?;
    let worker = first_worker(&server).await?;
    server.signal(Signal::TERM)?;
    ensure!(server.ended().await?.success());
    let gone = async {
        while Path::new(&format!("/proc/{worker}/cmdline")).exists() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await;
    gone.context("the worker is left")?;
    let of_a_server = |path: &PathBuf| path.ends_with("server.json");
    let left: BTreeSet<_> = files(data.path())?.into_iter().collect();
    let more: Vec<_> = left.difference(&before).collect();
    ensure!(more.is_empty(), "{more:?}");
    ensure!(before.difference(&left).all(of_a_server), "{left:?}");

    let server = TestProcess::start_with(data.path(), options).await?;
    let admin = admin_of(&server, data.path()).await?;
    let client = Client::new(server.url(), user.client.token())?;
    first_worker(&server).await?;
    assert_eq!(client.run(run.id).await?.status, RunStatus::Running);
    client.run_cancel(run.id).await?;
    let run = client.run_end(run.id).await?;
    assert_eq!((run.status, run.attempt), (RunStatus::Cancelled, 1));
    let seen = until_at_rest(&admin).await?;
    assert_eq!(seen.must_be_zero, MustBeZero::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_it_to_people_and_to_programs() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let isolation = ["isolation", "--data", &folder];
    let typo = data.path().join("typo");
    let ended = output(&["isolation", "--data", &typo.to_string_lossy()], "").await?;
    assert_eq!(ended.status.code(), Some(2));
    ensure!(String::from_utf8(ended.stderr)?.contains("no data folder"));
    ensure!(!typo.exists(), "looking at a folder makes none");
    let ended = output(&["user", "list", "--data", &folder], "").await?;
    ensure!(ended.status.success());
    let ended = output(&isolation, "").await?;
    ensure!(
        String::from_utf8(ended.stderr)?.contains("--role admin"),
        "no admin"
    );
    let server = TestProcess::start(data.path()).await?;
    let admin = admin_of(&server, data.path()).await?;
    let user = server.user("ada").await?;
    let _socket = user.socket().await?;
    user.run("echo", "x").await?;

    let ended = output(&isolation, "").await?;
    let shown = String::from_utf8(ended.stdout)?;
    assert_eq!(ended.status.code(), Some(0), "{shown}");
    let line = shown.lines().find(|line| line.starts_with("ada "));
    let line: Vec<&str> = line.context("she listens")?.split_whitespace().collect();
    assert_eq!(&line[..4], ["ada", "0/5", "0", "0"]);
    ensure!(
        shown.contains("must be zero: engines_lost 0, seats_without_run 0"),
        "{shown}"
    );
    let token = admin.token().context("it has one")?;
    let named = [
        "isolation",
        "--server",
        server.url(),
        "--token",
        &token,
        "--json",
    ];
    let ended = output(&named, "").await?;
    let seen: Isolation = serde_json::from_slice(&ended.stdout)?;
    let memory = of(&seen, user.id).and_then(|holds| holds.memory);
    let memory = memory.context("she listens")?;
    ensure!(memory.heap_bytes > Some(0) && memory.peak_bytes >= memory.heap_bytes);
    ensure!(seen.node.heap_bytes >= seen.node.system_bytes && seen.node.system_bytes > Some(0));

    drop(server);
    let ended = output(&isolation, "").await?;
    assert_eq!(ended.status.code(), Some(1));
    ensure!(String::from_utf8(ended.stderr)?.contains("no server runs on"));
    Ok(())
}
