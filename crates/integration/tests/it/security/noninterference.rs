//! The same work of one user, alone and beside a hostile one: what the first is told, keeps and finds
//! afterwards is the same to the letter, but for times and ids.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use netra_client::{Method, Socket, Upload};
use netra_integration::{
    FakeModel, Reply, TestServer, TestTool, TestUser, start, start_with_files,
};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::id::RunId;
use netra_protocol::run::StartRun;
use netra_protocol::thread::{CreateThread, ForkThread};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::two_users::ids;
use super::world::{log_of, unlimited};
use crate::Test;
use crate::expect::until;
use netra_integration::script;

const SEEDS: [u64; 2] = [5, 77];
const STEPS: usize = 10;

/// Names of what the clock and the machine say; it may differ.
const OF_THE_CLOCK: [&str; 13] = [
    "ts",
    "at",
    "created_at",
    "updated_at",
    "started_at",
    "ended_at",
    "last_used_at",
    "expires_at",
    "deadline",
    "duration_ms",
    "peak_memory_bytes",
    "epoch",
    // Of a record of the audit: it covers the times and the ids of the record.
    "hash",
];

/// Puts numbers in the place of ids, in the order in which they are first told.
#[derive(Default)]
struct Trace {
    known: HashMap<String, usize>,
    lines: Vec<String>,
}

impl Trace {
    fn add(&mut self, what: &str, text: &str) -> Test {
        let mut told: Vec<_> = ids(text)
            .into_iter()
            .filter_map(|id| Some((text.find(&id)?, id)))
            .collect();
        told.sort();
        let mut text = text.to_owned();
        for (_, id) in told {
            let next = self.known.len();
            let number = *self.known.entry(id.clone()).or_insert(next);
            text = text.replace(&id, &format!("{}{number}", &id[..4]));
        }
        let mut value: Value = serde_json::from_str(&text)?;
        forget_the_clock(&mut value);
        self.lines.push(format!("{what}: {value}"));
        Ok(())
    }
}

fn forget_the_clock(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_THE_CLOCK.contains(&name.as_str()));
            fields.values_mut().for_each(forget_the_clock);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_the_clock),
        _ => {}
    }
}

/// A model that repeats what it was asked, and begins to hang when asked to.
async fn parrot() -> Result<FakeModel> {
    FakeModel::start(|body| {
        let asked = body["messages"].as_array().and_then(|all| all.last());
        let asked = asked.and_then(|last| last["content"].as_str());
        let text = asked.unwrap_or_default().to_owned();
        match text.contains("hang") {
            true => Reply::Hang("on".into()),
            false => Reply::Text(vec!["you said ".into(), text]),
        }
    })
    .await
}

/// Agents for both: of daily work, and of the hostile kind.
fn agents() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let write = |name: &str, manifest: &str, code: &str| script(dir.path(), name, manifest, code);
    let keep = "think('working')\nfile = save_file(name='kept.txt', content=input['text'])\n\
                {'text': input['text'], 'file': file['name']}\n";
    write("keeper", "tools = [\"save_file\"]\n", keep)?;
    write("breaker", "", "think('about to fail')\n{}[input['text']]\n")?;
    let ask = "answer = consent(question=input['text'])\n{'answer': answer}\n";
    write("asker", "tools = [\"consent\"]\n", ask)?;
    write(
        "panicker",
        "tools = [\"panics\"]\n",
        "panics(word=input['text'])\n",
    )?;
    write(
        "hungry",
        "",
        "all = []\nwhile True:\n    all.append('x' * 1000000)\n",
    )?;
    write("forever", "", "while True:\n    pass\n")?;
    write(
        "deep",
        "sub_agents = [\"deep\"]\n",
        "agent('deep', input)\n",
    )?;
    let huge = "for n in range(20):\n    think('x' * 5000)\n{'text': 'x' * 500000}\n";
    write("huge", "", huge)?;
    Ok(dir)
}

struct House {
    server: TestServer,
    _model: FakeModel,
    _agents: tempfile::TempDir,
}

impl House {
    async fn new() -> Result<Self> {
        let (model, agents) = (parrot().await?, agents()?);
        let options = unlimited()
            .agents(agents.path())
            .set("models.providers.fake.base_url", model.url())
            .set("models.default", "fake/small")
            .tool(TestTool::consent())
            .tool(TestTool::panicking());
        Ok(Self {
            server: TestServer::start_with(options).await?,
            _model: model,
            _agents: agents,
        })
    }
}

/// One user's day: each step is drawn from the seed, and ends before the next.
struct Day<'a> {
    user: &'a TestUser,
    random: StdRng,
    trace: Trace,
    runs: Vec<RunId>,
}

impl Day<'_> {
    async fn run(&mut self, agent: &str, input: &str) -> Result<RunId> {
        let id = self.user.run(agent, input).await?.id;
        self.runs.push(id);
        Ok(id)
    }

    /// A run that waits for a person, and one behind it on the same thread; then the answer.
    async fn asked(&mut self, decision: &str) -> Test {
        let client = &self.user.client;
        let mut socket = self.user.socket().await?;
        let first = self.user.start("asker", "may I?").await?;
        until(&mut socket, "approval_requested").await?;
        until(&mut socket, "run_waiting").await?;
        let behind = start("echo", "behind it");
        let behind = client
            .run_start(Some(first.thread_id), &behind, None)
            .await?;
        self.trace.add("queued", &serde_json::to_string(&behind)?)?;
        let list = client.request(Method::GET, "/api/approvals?limit=1");
        let list: Value = client.send(list).await?.json().await?;
        let approval = crate::expect::text(&list, "/items/0/id")?;
        let path = format!("/api/approvals/{approval}");
        let answer = client.request(Method::POST, &path);
        client
            .send(answer.json(&json!({"decision": decision})))
            .await?;
        client.run_end(first.id).await?;
        client.run_end(behind.id).await?;
        self.runs.extend([first.id, behind.id]);
        Ok(())
    }

    async fn cancelled(&mut self) -> Test {
        let mut socket = self.user.socket().await?;
        let run = self.user.start("assistant", "hang on").await?;
        until(&mut socket, "message_delta").await?;
        self.user.client.run_cancel(run.id).await?;
        self.user.client.run_end(run.id).await?;
        self.runs.push(run.id);
        Ok(())
    }

    async fn step(&mut self) -> Test {
        let client = self.user.client.clone();
        match self.random.random_range(0..9) {
            0 => self.run("keeper", "to be kept").await.map(drop),
            1 => self.run("breaker", "no such key").await.map(drop),
            2 => self.run("assistant", "say it again").await.map(drop),
            3 => self.asked("approve").await,
            4 => self.asked("deny").await,
            5 => self.cancelled().await,
            6 => {
                let content = Upload::Bytes("a,b\n1,2\n".into());
                let file = client.file_upload("own.csv", content).await?;
                let with = start_with_files("echo", "with a file", vec![file.id]);
                let run = client.run_start(None, &with, None).await?;
                client.run_end(run.id).await?;
                self.runs.push(run.id);
                Ok(())
            }
            7 => {
                let run = self.run("echo", "to be forked").await?;
                let thread = client.run(run).await?.thread_id;
                let fork = ForkThread {
                    after_message_id: None,
                };
                let fork = client.thread_fork(thread, &fork).await?;
                client.thread_delete(fork.id).await?;
                let again = client.run_retry(run).await?;
                client.run_end(again.id).await?;
                self.runs.push(again.id);
                Ok(())
            }
            _ => {
                let wrong = self.user.start("nobody", "x").await;
                let wrong = wrong.err().context("there is no such agent")?;
                self.trace
                    .lines
                    .push(format!("refused: {:?}", wrong.code()));
                let title = CreateThread {
                    title: Some("empty".into()),
                    metadata: None,
                };
                client.thread_create(&title).await?;
                Ok(())
            }
        }
    }

    /// The whole log, the runs, every list, and what the audit has of the user.
    async fn look_back(&mut self) -> Test {
        let events = log_of(&self.user.client).await?;
        ensure!(events.len() > 20, "only {} events", events.len());
        for received in events {
            if received.event.event.kind.is_delta() {
                continue;
            }
            let mut event: Value = serde_json::from_str(&received.text)?;
            // The number of pieces is not promised, and pieces have numbers.
            for name in ["seq", "prev"] {
                event.as_object_mut().and_then(|fields| fields.remove(name));
            }
            self.trace.add("event", &event.to_string())?;
        }
        for run in self.runs.clone() {
            let run = self.user.client.run(run).await?;
            let mut run = serde_json::to_value(&run)?;
            run.as_object_mut()
                .and_then(|fields| fields.remove("as_of"));
            self.trace.add("run", &run.to_string())?;
        }
        for path in ["threads", "runs", "files", "approvals", "audit"] {
            let path = format!("/api/{path}?limit=100");
            let request = self.user.client.request(Method::GET, &path);
            let text = self.user.client.send(request).await?.text().await?;
            let recorded = path.contains("audit") && text.contains("\"tool.call\"");
            ensure!(recorded || !path.contains("audit"), "no records: {text}");
            self.trace.add(&path, &text)?;
        }
        let usage = serde_json::to_string(&self.user.client.usage().await?)?;
        self.trace.add("usage", &usage)
    }
}

/// The trace of a day on a server of its own.
async fn day(seed: u64, hostile: bool) -> Result<Vec<String>> {
    let house = House::new().await?;
    let (user, other) = (house.server.user().await?, house.server.user().await?);
    let crowd = house.server.user().await?;
    let mut day = Day {
        user: &user,
        random: StdRng::seed_from_u64(seed),
        trace: Trace::default(),
        runs: Vec::new(),
    };
    let over = AtomicBool::new(false);
    let work = async {
        for _ in 0..STEPS {
            day.step().await?;
        }
        over.store(true, Ordering::SeqCst);
        day.look_back().await
    };
    if hostile {
        let harm = harm((&other, &crowd), &user, &over);
        let (work, harm, overflow) = tokio::join!(work, harm, overflow(&house, &over));
        work?;
        harm?;
        overflow?;
    } else {
        work.await?;
    }
    Ok(day.trace.lines)
}

/// A user who may hold less memory than a few workers have, and has them: runs are ended for that again and again.
async fn overflow(house: &House, over: &AtomicBool) -> Test {
    let user = house.server.user().await?;
    let admin = house.server.user_as(Role::Admin, None).await?.client;
    let request = admin.request(Method::PATCH, &format!("/api/admin/users/{}", user.id));
    let limits = json!({ "limits": { "memory_mib": 2 } });
    admin.send(request.json(&limits)).await?;
    let one = async || {
        let brief = StartRun {
            timeout_ms: Some(2_000),
            ..start("forever", "harm")
        };
        let Ok(run) = user.client.run_start(None, &brief, None).await else {
            return Ok(None);
        };
        let run = user.client.run_end(run.id).await?;
        anyhow::Ok(run.error.map(|error| (error.code, error.details)))
    };
    let mut ended = 0;
    while !over.load(Ordering::SeqCst) {
        for error in futures::future::try_join_all((0..5).map(|_| one())).await? {
            let of_the_user = |details: &Value| details["limit_bytes"] == 2 << 20;
            if let Some((ErrorCode::MemoryLimitExceeded, Some(details))) = &error {
                ended += usize::from(of_the_user(details));
            }
        }
    }
    ensure!(ended > 0, "it never met its limit");
    Ok(())
}

/// Does all the harm that a user can do, in every way at once, until it is over. The crowd is one more user, whose queue
/// is always full: whoever's it is gets nothing else done.
async fn harm((user, crowd): (&TestUser, &TestUser), victim: &TestUser, over: &AtomicBool) -> Test {
    let on = || !over.load(Ordering::SeqCst);
    let floods = async {
        let large = "x".repeat(90_000);
        let mut refused = 0;
        // Four of its slots are held, so runs come faster than they can be carried out.
        for _ in 0..4 {
            crowd.start("assistant", "hang on").await?;
        }
        while on() {
            // More than the five that are executed and the hundred that may wait.
            let starts = (0..200).map(|_| crowd.start("echo", large.as_str()));
            let answers = futures::future::join_all(starts).await;
            refused += answers.iter().filter(|answer| answer.is_err()).count();
        }
        Ok::<_, anyhow::Error>(refused)
    };
    let breaks = async {
        let mut ended = Vec::new();
        while on() {
            for agent in ["panicker", "deep", "huge", "hungry", "forever"] {
                let brief = StartRun {
                    timeout_ms: Some(1_000),
                    ..start(agent, "harm")
                };
                if let Ok(run) = user.client.run_start(None, &brief, None).await {
                    ended.push(user.client.run_end(run.id).await?.status);
                }
            }
        }
        Ok(ended.len())
    };
    let cancels = async {
        let mut cancelled = 0;
        while on() {
            if let Ok(run) = user.start("assistant", "hang on").await {
                cancelled += usize::from(user.client.run_cancel(run.id).await.is_ok());
            }
        }
        Ok(cancelled)
    };
    let sockets = async {
        let mut opened = 0;
        while on() {
            for _ in 0..25 {
                if let Ok(mut socket) = Socket::connect(&user.client).await {
                    socket.send_text("{\"garbage").await.ok();
                    opened += 1;
                }
            }
        }
        Ok(opened)
    };
    let pries = async {
        let mut tried = 0;
        while on() {
            for run in victim.client.runs(None, None).await?.items {
                let by_id = [
                    (Method::POST, format!("runs/{}/cancel", run.id)),
                    (Method::POST, format!("runs/{}/retry", run.id)),
                    (Method::DELETE, format!("threads/{}", run.thread_id)),
                ];
                for (method, path) in by_id {
                    let request = user.client.request(method, &format!("/api/{path}"));
                    assert_eq!(request.send().await?.status(), 404, "{path}");
                    tried += 1;
                }
            }
        }
        Ok(tried)
    };
    let done = tokio::try_join!(floods, breaks, cancels, sockets, pries)?;
    let every = [done.0, done.1, done.2, done.3, done.4];
    ensure!(
        every.iter().all(|count| *count > 0),
        "not every harm was done: {every:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_user_changes_nothing_for_another_but_time() -> Test {
    for seed in SEEDS {
        let alone = Box::pin(day(seed, false)).await?;
        let beside = Box::pin(day(seed, true)).await?;
        for (alone, beside) in alone.iter().zip(&beside) {
            ensure!(
                alone == beside,
                "seed {seed}\nalone:  {alone}\nbeside: {beside}"
            );
        }
        assert_eq!(alone.len(), beside.len(), "seed {seed}");
    }
    Ok(())
}
