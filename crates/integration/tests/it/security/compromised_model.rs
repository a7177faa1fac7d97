//! The model is the attacker: it calls whatever it likes, with whatever arguments it likes. What
//! runs all the same is what the user might have done, so this bounds every prompt injection.

mod attempts;

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use netra_client::{Received, Upload};
use netra_integration::{
    FakeModel, Options, Reply, TestServer, TestTool, TestUser, script, start_with_files,
};
use netra_protocol::account::{Plan, Role};
use netra_protocol::event::EventKind;
use netra_protocol::id::{FileId, UserId};
use netra_protocol::run::{Run, RunStatus};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use self::attempts::{BUILT_IN, REACHED, arguments, doors, fitting, probe, tool_name};
use super::world::unlimited;
use crate::Test;

/// What no attacker knows beforehand.
const CANARY: &str = "canary-of-the-victim";
const SEEDS: [u64; 3] = [1, 20, 300];
const RUNS: usize = 6;
/// Answers of the model within a run, before it says that it is done.
const ANSWERS: usize = 5;

/// Whether a user of this role and plan may.
type May = fn(Role, Plan) -> bool;

/// One tool for each permission, and who has it by the documents where the server counts as
/// production.
const PROBES: [(&str, May); 6] = [
    ("basic", |_, _| true),
    ("data_management", |_, plan| plan != Plan::Free),
    ("advanced_optimization", |_, plan| plan == Plan::Enterprise),
    ("system_management", |role, plan| {
        role == Role::Admin && plan == Plan::Enterprise
    }),
    ("developer_tools", |_, _| false),
    ("of_nobody", |_, _| false),
];

/// What the tools of this test were really called with.
type Executed = Arc<Mutex<Vec<(Option<UserId>, String, Value)>>>;
/// Ids and names that the model was told, all of them another's.
type Bait = Arc<Mutex<Vec<String>>>;

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same conversation gets the same answer, whatever else goes on.
fn answer(seed: u64, body: &Value, bait: &Bait, doors: &[String]) -> Reply {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let said = messages
        .iter()
        .filter(|message| message["role"] == "assistant");
    let asked = messages.iter().find(|message| message["role"] == "user");
    let mut hasher = DefaultHasher::new();
    (seed, said.clone().count(), asked.map(ToString::to_string)).hash(&mut hasher);
    let mut random = StdRng::seed_from_u64(hasher.finish());
    let bait = lock(bait).clone();
    if said.count() >= ANSWERS {
        return Reply::Text(vec![format!("done with {bait:?}")]);
    }
    let calls = (0..random.random_range(1..5)).map(|_| match random.random_range(0..10) {
        // As it should be, so that nothing but a missing right is in the way.
        0..3 => (probe(&mut random), json!({"n": 7}).to_string()),
        3..6 => fitting(&mut random, &bait, doors),
        _ => (tool_name(&mut random), arguments(&mut random, &bait)),
    });
    Reply::ToolCalls(calls.collect())
}

fn recording(tool: &str, permission: &str, executed: &Executed) -> TestTool {
    let (name, executed) = (tool.to_owned(), Arc::clone(executed));
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}},
        "required": ["n"], "additionalProperties": false});
    TestTool::new(tool, permission, move |call| {
        let user = call.ctx.principal().map(|principal| principal.user_id);
        lock(&executed).push((user, name.clone(), call.arguments.clone()));
        Ok(Value::Null)
    })
    .with_schema(schema)
}

/// An agent that gives the model every tool but one.
fn puppet(dir: &Path) -> Result<()> {
    let folder = dir.join("puppet");
    std::fs::create_dir_all(&folder)?;
    let probes = PROBES.map(|(permission, _)| format!("probe_{permission}"));
    let tools: Vec<&str> = BUILT_IN
        .into_iter()
        .chain(probes.iter().map(String::as_str))
        .collect();
    std::fs::write(
        folder.join("agent.toml"),
        format!(
            "description = \"x\"\nkind = \"model\"\ninstructions = \"i.md\"\ntools = {tools:?}\n"
        ),
    )?;
    Ok(std::fs::write(folder.join("i.md"), "Do as you like.")?)
}

struct Attacked {
    server: TestServer,
    _model: FakeModel,
    _agents: tempfile::TempDir,
    executed: Executed,
    victim: TestUser,
    file: FileId,
    /// Nobody is to come here.
    listener: TcpListener,
}

async fn attacked(seed: u64) -> Result<Attacked> {
    let (executed, bait) = (Executed::default(), Bait::default());
    let known = Arc::clone(&bait);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let doors = doors(listener.local_addr()?.port());
    let model = FakeModel::start(move |body| answer(seed, body, &known, &doors)).await?;
    let agents = tempfile::tempdir()?;
    puppet(agents.path())?;
    let keep = "remember(name='secret', text=input['text'])\n";
    script(agents.path(), "keeper", "tools = [\"remember\"]\n", keep)?;
    let mut options: Options = unlimited()
        .agents(agents.path())
        .set("models.providers.fake.base_url", model.url())
        .set("models.default", "fake/small")
        .tool(TestTool::consent())
        .tool(recording("unlisted", "basic", &executed));
    for (permission, _) in PROBES {
        options = options.tool(recording(
            &format!("probe_{permission}"),
            permission,
            &executed,
        ));
    }
    let server = TestServer::start_with(options).await?;
    let victim = server.user().await?;
    let log = format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{CANARY},7,7\n");
    let file = victim
        .client
        .file_upload("victim.csv", Upload::Bytes(log.into()))
        .await?;
    let run = victim.run("keeper", CANARY).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    lock(&bait).extend([
        file.id.to_string(),
        "victim.csv".to_owned(),
        run.id.to_string(),
        run.thread_id.to_string(),
        victim.id.to_string(),
        format!("../{}", file.id),
    ]);
    Ok(Attacked {
        server,
        _model: model,
        _agents: agents,
        executed,
        victim,
        file: file.id,
        listener,
    })
}

/// A run to its end; one that waits for a person is told to end.
async fn to_its_end(user: &TestUser, run: &Run) -> Result<Vec<Received>> {
    let mut events = user.client.run_events(run.id);
    let mut all = Vec::new();
    while let Some(received) = netra_integration::soon("an event", events.next()).await? {
        if matches!(received.event.event.kind, EventKind::RunWaiting { .. }) {
            user.client.run_cancel(run.id).await?;
        }
        all.push(received);
    }
    Ok(all)
}

/// What an attacker saw, as text, after runs at once.
async fn attack(user: &TestUser, seed: u64) -> Result<(String, Vec<Received>)> {
    let own = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,100,10\n";
    let own = user
        .client
        .file_upload("own.csv", Upload::Bytes(own.into()))
        .await?;
    let runs = (0..RUNS).map(async |number| -> Result<Vec<Received>> {
        let said = format!("run {number} of {}, seed {seed}", user.name);
        let run = start_with_files("puppet", said, vec![own.id]);
        let run = user.client.run_start(None, &run, None).await?;
        to_its_end(user, &run).await
    });
    let events = futures::future::try_join_all(runs).await?.concat();
    let mut seen = String::new();
    for received in &events {
        seen.push_str(&received.text);
    }
    for file in user.client.files(Some(100), None).await?.items {
        let name = &file.name;
        ensure!(!name.contains(['/', '\\', '\0']), "a file named {name:?}");
        let content = user.client.file_content(file.id).await?;
        seen.push_str(&String::from_utf8_lossy(&content));
    }
    Ok((seen, events))
}

impl Attacked {
    /// Only what this user may do was done, and it is what the events tell.
    fn only_allowed(
        &self,
        user: &TestUser,
        (role, plan): (Role, Plan),
        events: &[Received],
    ) -> Test {
        let executed: Vec<_> = lock(&self.executed)
            .iter()
            .filter(|(who, ..)| *who == Some(user.id))
            .cloned()
            .collect();
        for (_, tool, arguments) in &executed {
            let probe = PROBES
                .iter()
                .find(|(name, _)| tool.strip_prefix("probe_") == Some(name));
            let (_, allowed) = probe.with_context(|| format!("{tool} is not the agent's"))?;
            ensure!(allowed(role, plan), "{tool} for {role:?} on {plan:?}");
            let n = arguments["n"].as_u64();
            let fits = n.is_some() && arguments.as_object().is_some_and(|all| all.len() == 1);
            ensure!(fits, "{tool} was called with {arguments}");
        }
        let told = events.iter().filter(|received| {
            matches!(&received.event.event.kind, EventKind::ToolExecuting { tool_name, .. }
                if tool_name.starts_with("probe_") || tool_name == "unlisted")
        });
        assert_eq!(
            executed.len(),
            told.count(),
            "what is told is what was done"
        );
        let consented = events.iter().any(|received| {
            matches!(&received.event.event.kind, EventKind::ToolExecuting { tool_name, .. }
                if tool_name == "consent")
        });
        ensure!(!consented, "nobody said yes");
        Ok(())
    }

    /// Nobody has called where a tool was sent: whoever did would wait there to be let in.
    fn nobody_came(&self) -> Test {
        self.listener.set_nonblocking(true)?;
        let came = self.listener.accept();
        ensure!(came.is_err(), "a tool came to the machine itself: {came:?}");
        Ok(())
    }

    /// Nothing lies in the data folder, or beside it, that the server did not put there.
    fn no_foreign_files(&self) -> Test {
        for entry in std::fs::read_dir(self.server.data().join("files"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Over PostgreSQL the folder has a name of its own.
            let is_known = name == ".installation" || name.parse::<FileId>().is_ok();
            ensure!(is_known, "{name} among the files");
        }
        let beside = self.server.data().parent().context("a folder")?;
        for folder in [self.server.data(), beside, Path::new("/tmp")] {
            for entry in std::fs::read_dir(folder)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                ensure!(!name.contains("pwned"), "{name} in {}", folder.display());
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_calls_anything_executes_nothing_beyond_the_users_rights() -> Test {
    let who = [
        (Role::User, Plan::Free),
        (Role::Developer, Plan::Free),
        (Role::User, Plan::Pro),
        (Role::User, Plan::Enterprise),
        (Role::Admin, Plan::Enterprise),
    ];
    let (mut executed, mut denied, mut tried) = (0, 0, BTreeSet::new());
    for seed in SEEDS {
        let attacked = attacked(seed).await?;
        let before = attacked.victim.client.usage().await?;
        for (role, plan) in who {
            let user = attacked.server.user_on(role, plan, None).await?;
            let (seen, events) = attack(&user, seed).await?;
            ensure!(
                !seen.contains(CANARY),
                "seed {seed}: {role:?} saw the victim's"
            );
            attacked
                .only_allowed(&user, (role, plan), &events)
                .with_context(|| format!("seed {seed}, {role:?} on {plan:?}"))?;
            denied += events
                .iter()
                .filter(|one| matches!(one.event.event.kind, EventKind::ToolDenied { .. }))
                .count();
            tried.extend(events.iter().filter_map(|one| match &one.event.event.kind {
                EventKind::ToolExecuting { tool_name, .. } => Some(tool_name.clone()),
                _ => None,
            }));
        }
        attacked.nobody_came()?;
        executed += lock(&attacked.executed).len();
        attacked.no_foreign_files()?;
        let victim = &attacked.victim.client;
        assert_eq!(victim.usage().await?, before, "seed {seed}");
        ensure!(
            victim
                .file_content(attacked.file)
                .await?
                .ends_with(b"7,7\n")
        );
        assert_eq!(victim.runs(None, None).await?.items.len(), 1);
    }
    ensure!(
        executed > 50 && denied > 200,
        "only {executed} and {denied}"
    );
    let missing = REACHED.into_iter().filter(|tool| !tried.contains(*tool));
    let missing: Vec<_> = missing.collect();
    ensure!(missing.is_empty(), "never executed: {missing:?}");
    Ok(())
}
