//! Several server processes over one database: any of them serves any user, and one that is killed or paused costs
//! nobody a run, a slot or an event.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use netra_client::{Client, Upload};
use netra_integration::{
    FakeModel, ProcessOptions, Reply, TestProcess, TestUser, change_rows, database_of, raw_sql,
    script, start,
};
use netra_protocol::account::Role;
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use netra_protocol::thread::CreateThread;
use rustix::process::Signal;
use serde_json::json;

use crate::Test;
use crate::expect::{approve, approve_as, names, until, until_end, with_model};

/// Short, so that a node that is gone is soon known to be, and long beside what a busy machine lets a heartbeat wait.
const LEASE_MS: u64 = 4_000;

/// Folders of nodes; the database is that of the first.
pub(super) struct Folders {
    first: tempfile::TempDir,
    others: Vec<tempfile::TempDir>,
    pub(super) options: ProcessOptions,
}

impl Folders {
    pub(super) fn new(model: &FakeModel) -> Result<Self> {
        let first = tempfile::tempdir()?;
        let lease = ("NETRA__DATABASE__LEASE_MS".into(), LEASE_MS.to_string());
        let environment = [
            with_model(model).environment(),
            database_of(first.path())?,
            vec![lease, ("NETRA__SERVER__DRAIN_MS".into(), "200".into())],
        ];
        let options = ProcessOptions {
            environment: environment.concat(),
            ..ProcessOptions::default()
        };
        Ok(Self {
            first,
            others: Vec::new(),
            options,
        })
    }

    pub(super) async fn start_first(&self) -> Result<TestProcess> {
        TestProcess::start_with(self.first.path(), self.options.clone()).await
    }

    /// One more node, with the keys and the files of the first.
    pub(super) async fn start_another(&mut self) -> Result<TestProcess> {
        let folder = tempfile::tempdir()?;
        for file in std::fs::read_dir(self.first.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().contains("keys") {
                std::fs::copy(file.path(), folder.path().join(file.file_name()))?;
            }
        }
        symlink(self.first.path().join("files"), folder.path().join("files"))?;
        let server = TestProcess::start_with(folder.path(), self.options.clone()).await?;
        self.others.push(folder);
        Ok(server)
    }

    /// Two nodes, and ada with this role, as whom each of them is asked.
    pub(super) async fn two(&mut self, role: Role) -> Result<([TestProcess; 2], [TestUser; 2])> {
        let nodes = [self.start_first().await?, self.start_another().await?];
        let here = nodes[0].user_as("ada", role).await?;
        let there = over(&nodes[1], &here)?;
        Ok((nodes, [here, there]))
    }

    fn data(&self) -> &Path {
        self.first.path()
    }

    /// A number that the database has, of everybody.
    fn number(&self, sql: &str) -> Result<u64> {
        let sql = format!("SET netra.everybody = 'on'; {sql}");
        Ok(raw_sql(self.data(), &sql)?.trim().parse()?)
    }
}

/// A model that answers whole once it has been asked so often; what it replies before that.
async fn answers_after(
    times: usize,
    before: impl Fn() -> Reply + Send + Sync + 'static,
) -> Result<FakeModel> {
    let asked = AtomicUsize::new(0);
    FakeModel::start(move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) < times {
            before()
        } else {
            Reply::Text(vec!["a whole ".into(), "answer".into()])
        }
    })
    .await
}

/// The same user, asking another node.
pub(super) fn over(server: &TestProcess, user: &TestUser) -> Result<TestUser> {
    let token = user.client.token().context("it has one")?;
    Ok(TestUser {
        client: Client::new(server.url(), Some(token))?,
        ..user.clone()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_seen_live_and_cancelled_over_another_node() -> Test {
    let model = FakeModel::start(|_| Reply::Hang("half an ans".into())).await?;
    let mut folders = Folders::new(&model)?;
    let ([_one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let mut here = ada.socket().await?;
    let mut there = ada_there.socket().await?;
    let run = ada.start("assistant", "hello").await?;
    let delta = until(&mut there, "message_delta").await?;
    assert_eq!(delta.event.event.run_id, run.id);
    assert_eq!(
        ada_there.client.run(run.id).await?.status,
        RunStatus::Running
    );

    ada_there.client.run_cancel(run.id).await?;
    let seen_here = until_end(&mut here, run.id).await?;
    let last = seen_here.last().context("it has a last event")?;
    assert_eq!(last.event.event.kind.name(), "run_cancelled");
    until(&mut there, "run_cancelled").await?;
    assert_eq!(
        ada_there.client.run_end(run.id).await?.status,
        RunStatus::Cancelled
    );
    assert_eq!(
        names(&ada.events(run.id).await?),
        names(&ada_there.events(run.id).await?)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_had_goes_on_with_another_once_and_within_the_slots() -> Test {
    const SLOTS: usize = 5;
    // What the first node asks is never answered; what is asked again is.
    let model = answers_after(SLOTS, || Reply::Hang("half an ans".into())).await?;
    let mut folders = Folders::new(&model)?;
    let ([mut one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let mut socket = ada_there.socket().await?;
    let mut runs = Vec::new();
    for _ in 0..SLOTS {
        runs.push(ada.start("assistant", "hello").await?);
        until(&mut socket, "message_delta").await?;
    }
    // No slot is left, here and there.
    for user in [&ada, &ada_there] {
        let run = user.start("assistant", "hello").await?;
        assert_eq!(run.status, RunStatus::Queued);
        runs.push(run);
    }
    one.signal(Signal::KILL)?;
    one.ended().await?;
    for run in &runs {
        let run = ada_there.client.run_end(run.id).await?;
        assert_eq!(run.status, RunStatus::Completed);
        assert_eq!(run.result, Some(json!({"text": "a whole answer"})));
        let events = ada_there.events(run.id).await?;
        let names = names(&events);
        let count = |name: &str| names.iter().filter(|other| **other == name).count();
        let was_cut_off = usize::from(run.attempt > 1);
        assert_eq!(count("run_resumed"), was_cut_off, "{names:?}");
        assert_eq!((count("run_started"), count("run_completed")), (1, 1));
    }
    let resumed = "SELECT count(*) FROM events WHERE type = 'run_resumed'";
    assert_eq!(folders.number(resumed)?, SLOTS as u64);
    // In the order of the user's log.
    let begun =
        "CASE WHEN type = 'run_started' THEN 1 WHEN type = 'run_completed' THEN -1 ELSE 0 END";
    let most =
        format!("SELECT max(n) FROM (SELECT sum({begun}) OVER (ORDER BY seq) AS n FROM events) s");
    assert_eq!(folders.number(&most)?, SLOTS as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_dead_node_is_not_kept_waiting_by_those_that_wait_for_it() -> Test {
    let model = answers_after(1, || Reply::Hang("half an ans".into())).await?;
    let mut folders = Folders::new(&model)?;
    let ([mut one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let mut socket = ada_there.socket().await?;
    let first = ada.start("assistant", "hello").await?;
    until(&mut socket, "message_delta").await?;
    // Its own node has room for it; only the database knows that the thread is in use.
    let (thread, echo) = (Some(first.thread_id), start("echo", "behind it"));
    let behind = ada_there.client.run_start(thread, &echo, None).await?;
    assert_eq!(behind.status, RunStatus::Queued);
    one.signal(Signal::KILL)?;
    one.ended().await?;
    for run in [&first, &behind] {
        let ended = ada_there.client.run_end(run.id).await?;
        assert_eq!(ended.status, RunStatus::Completed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_had_its_slot_and_had_not_begun_goes_before_those_of_its_thread() -> Test {
    let model = answers_after(1, || Reply::Hang("half an ans".into())).await?;
    let mut folders = Folders::new(&model)?;
    let one_slot = ("NETRA__LIMITS__CONCURRENT_RUNS".into(), "1".into());
    folders.options.environment.push(one_slot);
    let mut one = folders.start_first().await?;
    let ada = one.user("ada").await?;
    let mut socket = ada.socket().await?;
    let hangs = ada.start("assistant", "hello").await?;
    until(&mut socket, "message_delta").await?;
    let new = CreateThread {
        title: None,
        metadata: None,
    };
    let thread = Some(ada.client.thread_create(&new).await?.id);
    let mut line = Vec::new();
    for word in ["first", "second"] {
        let echo = start("echo", word);
        line.push(ada.client.run_start(thread, &echo, None).await?);
    }
    one.signal(Signal::KILL)?;
    one.ended().await?;
    // As a server leaves it that is killed between the two.
    let second = uuid(line[1].id.to_bytes());
    let given = format!("UPDATE runs SET status = 'running' WHERE id = '{second}'");
    change_rows(folders.data(), &given)?;

    let one = folders.start_first().await?;
    let ada = over(&one, &ada)?;
    for run in [&hangs, &line[1], &line[0]] {
        let ended = ada.client.run_end(run.id).await?;
        assert_eq!(ended.status, RunStatus::Completed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_paused_writes_nothing_into_what_another_has_taken() -> Test {
    let stale = || Reply::Slowly(vec!["stale ".into(); 10_000], Duration::from_millis(20));
    let model = answers_after(1, stale).await?;
    let mut folders = Folders::new(&model)?;
    let ([one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let mut socket = ada_there.socket().await?;
    let run = ada.start("assistant", "hello").await?;
    until(&mut socket, "message_delta").await?;
    one.signal(Signal::STOP)?;
    until(&mut socket, "run_resumed").await?;
    let ended = ada_there.client.run_end(run.id).await?;
    assert_eq!(ended.status, RunStatus::Completed);
    let before = ada_there.client.run(run.id).await?;
    one.signal(Signal::CONT)?;

    // It works again, and has let go of what is no longer its own.
    let echoed = ada.run("echo", "still here").await?;
    assert_eq!(echoed.status, RunStatus::Completed);
    let held = "SELECT count(*) FROM runs WHERE status NOT IN ('completed')";
    assert_eq!(folders.number(held)?, 0);
    assert_eq!(ada.client.run(run.id).await?.result, before.result);
    let events = ada.events(run.id).await?;
    let last = events.last().context("it has events")?;
    ensure!(matches!(
        last.event.event.kind,
        EventKind::RunCompleted { .. }
    ));
    let late = format!(
        "SELECT count(*) FROM events WHERE run_id = '{}' AND seq > {}",
        uuid(run.id.to_bytes()),
        last.event.seq
    );
    assert_eq!(folders.number(&late)?, 0);
    Ok(())
}

fn uuid(bytes: [u8; 16]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_one_node_is_read_on_another_and_a_node_of_no_installation_does_not_start() -> Test
{
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let mut folders = Folders::new(&model)?;
    let ([_one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let content = Upload::Bytes("a,b\n1,2\n".into());
    let file = ada.client.file_upload("own.csv", content).await?;
    let path = format!("/api/files/{}/content", file.id);
    let asked = ada_there.client.request(reqwest::Method::GET, &path);
    let read = ada_there.client.send(asked).await?.text().await?;
    assert_eq!(read, "a,b\n1,2\n");

    let alone = tempfile::tempdir()?;
    let options = folders.options.clone();
    let Err(refused) = TestProcess::start_with(alone.path(), options).await else {
        bail!("a node with keys of its own has started");
    };
    ensure!(
        format!("{refused:#}").contains("copy the files `keys`"),
        "{refused:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_hands_its_runs_over() -> Test {
    let model = answers_after(1, || Reply::Hang("half an ans".into())).await?;
    let mut folders = Folders::new(&model)?;
    let ([mut one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let mut socket = ada_there.socket().await?;
    let run = ada.start("assistant", "hello").await?;
    until(&mut socket, "message_delta").await?;
    one.signal(Signal::TERM)?;
    assert_eq!(one.ended().await?.code(), Some(0));
    let ended = ada_there.client.run_end(run.id).await?;
    assert_eq!(ended.status, RunStatus::Completed);
    assert_eq!(ended.attempt, 1, "only a crash counts");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_behind_one_that_waits_for_a_person_has_its_place_whichever_node_is_asked() -> Test {
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let own = tempfile::tempdir()?;
    let mut folders = Folders::new(&model)?;
    ask_before_remembering(own.path(), &mut folders)?;
    let ([_one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let mut socket = ada.socket().await?;
    let first = ada.start("keeper", "x").await?;
    let approval = until(&mut socket, "approval_requested").await?;
    until(&mut socket, "run_waiting").await?;
    let mut behind = Vec::new();
    for (place, user) in (1..).zip([&ada, &ada_there, &ada]) {
        let thread = Some(first.thread_id);
        let echo = start("echo", "behind it");
        let run = user.client.run_start(thread, &echo, None).await?;
        assert_eq!(run.status, RunStatus::Queued);
        assert_eq!(run.queue_position, Some(place));
        let queued = until(&mut socket, "run_queued").await?;
        let EventKind::RunQueued { queue_position, .. } = queued.event.event.kind else {
            bail!("{queued:?}");
        };
        assert_eq!(queue_position, place);
        behind.push(run);
    }
    for user in [&ada, &ada_there] {
        for (place, run) in (1..).zip(&behind) {
            let now = user.client.run(run.id).await?;
            assert_eq!(now.queue_position, Some(place));
        }
    }
    // Nobody has taken it from its node, which has been there all the time.
    let fence = "SELECT max(fence) FROM runs";
    assert_eq!(folders.number(fence)?, 1);
    approve_as(&ada_there, &approval).await?;
    for run in std::iter::once(&first).chain(&behind) {
        let ended = ada.client.run_end(run.id).await?;
        assert_eq!((ended.status, ended.attempt), (RunStatus::Completed, 1));
        assert_eq!(ended.queue_position, None);
    }
    Ok(())
}

/// An agent that may do its work once a person has said so.
fn ask_before_remembering(own: &Path, folders: &mut Folders) -> Result<()> {
    script(
        own,
        "keeper",
        "tools = [\"remember\"]\n",
        "remember(name='a', text='b')\n",
    )?;
    let rule = "permit (principal, action == Netra::Action::\"call\", resource);";
    std::fs::write(own.join("asked.cedar"), rule)?;
    for key in ["NETRA__AGENTS__DIR", "NETRA__POLICY__DIR"] {
        let dir = own.display().to_string();
        folders.options.environment.push((key.into(), dir));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_over_another_node_lets_a_run_go_on_whether_its_own_is_alive_or_dead() -> Test {
    let model = FakeModel::start(|_| Reply::Hang(String::new())).await?;
    let own = tempfile::tempdir()?;
    let mut folders = Folders::new(&model)?;
    ask_before_remembering(own.path(), &mut folders)?;
    let ([mut one, _two], [ada, ada_there]) = folders.two(Role::User).await?;
    let mut socket = ada_there.socket().await?;
    let run = ada.start("keeper", "x").await?;
    approve(&ada_there, &mut socket).await?;
    let ended = ada_there.client.run_end(run.id).await?;
    assert_eq!((ended.status, ended.attempt), (RunStatus::Completed, 1));

    let run = ada.start("keeper", "x").await?;
    let asked = until(&mut socket, "approval_requested").await?;
    until(&mut socket, "run_waiting").await?;
    one.signal(Signal::KILL)?;
    one.ended().await?;
    approve_as(&ada_there, &asked).await?;
    assert_eq!(
        ada_there.client.run_end(run.id).await?.status,
        RunStatus::Completed
    );
    Ok(())
}
