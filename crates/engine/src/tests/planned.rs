//! Agents that do whatever a plan says, drawn from a seed: calls of all kinds, at once, let go of, failing, and
//! what the run is told ignored. However they go on, and wherever the server is killed, the logs of ended runs are
//! balanced.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;

use async_trait::async_trait;
use futures::future::join;
use netra_context::UserExecutionContext;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::approval::Decision;
use netra_protocol::event::EventKind;
use netra_protocol::id::{RunId, ToolCallId};
use netra_protocol::run::Run;
use netra_protocol::{ErrorCode, Event, Failure};
use netra_store::JournalKind;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::camera::{Camera, to_the_end};
use super::house::{Build, House, ask, names};
use crate::{Agent, AgentCall, AgentSpec, Stopped, Work};

/// Something that an agent does.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Act {
    Tool(String),
    /// The work of a sub-agent of this name.
    Agent(String, Vec<Act>),
    Think,
    /// By `together`.
    Together(Vec<Act>),
    /// Both futures at once.
    Join(Box<Act>, Box<Act>),
    /// Begins it, polls it this often, and lets go of it.
    Drop(Box<Act>, usize),
    Fail,
}

/// Draws numbers, the same for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn plan(&mut self, depth: usize) -> Vec<Act> {
        (0..=self.below(4)).map(|_| self.act(depth)).collect()
    }

    fn act(&mut self, depth: usize) -> Act {
        let deeper = depth.saturating_sub(1);
        match self.below(if depth == 0 { 6 } else { 16 }) {
            0 => Act::Think,
            1 => Act::Fail,
            2..=5 => {
                let tools = [
                    "count", "once", "fail", "boom", "consent", "time_now", "no_such",
                ];
                Act::Tool(self.one(&tools).to_owned())
            }
            6..=8 => {
                let name = self
                    .one(&["planned", "helper", "worker", "nobody"])
                    .to_owned();
                Act::Agent(name, self.plan(deeper))
            }
            9 | 10 => Act::Together((0..=self.below(4)).map(|_| self.act(deeper)).collect()),
            11 | 12 => Act::Join(Box::new(self.act(deeper)), Box::new(self.act(deeper))),
            _ => Act::Drop(Box::new(self.act(deeper)), self.below(12)),
        }
    }
}

fn call(act: &Act) -> AgentCall {
    match act {
        Act::Tool(name) => AgentCall::Tool {
            name: name.clone(),
            arguments: Map::new(),
        },
        Act::Agent(name, plan) => AgentCall::Agent {
            name: name.clone(),
            input: json!(serde_json::to_string(plan).unwrap()),
        },
        _ => AgentCall::Think {
            message: "hm".into(),
            progress: None,
        },
    }
}

type Doing<'a> = Pin<Box<dyn Future<Output = Result<(), Stopped>> + Send + 'a>>;

fn perform<'a>(work: Work<'a>, act: &'a Act) -> Doing<'a> {
    Box::pin(async move {
        match act {
            Act::Fail => {
                let words = "as planned";
                return Err(Failure::new(ErrorCode::AgentFailed, words).into());
            }
            Act::Together(acts) => {
                work.together(acts.iter().map(call).collect()).await?;
            }
            Act::Join(one, other) => {
                let (one, other) = join(perform(work, one), perform(work, other)).await;
                one.and(other)?;
            }
            Act::Drop(act, polls) => {
                let (mut doing, mut left) = (pin!(perform(work, act)), *polls);
                poll_fn(|context| {
                    if left == 0 {
                        return Poll::Ready(());
                    }
                    left -= 1;
                    // What is not woken would not be polled again.
                    context.waker().wake_by_ref();
                    doing.as_mut().poll(context).map(drop)
                })
                .await;
            }
            act => drop(work.call(call(act)).await?),
        }
        Ok(())
    })
}

/// Does what its input says. What fails, even what ends the run, it takes no notice of, but for a failure of its own.
struct Planned {
    name: &'static str,
    version: &'static str,
}

#[async_trait]
impl Agent for Planned {
    fn name(&self) -> &str {
        self.name
    }

    fn spec(&self) -> AgentSpec {
        let tools = ["count", "once", "fail", "boom", "consent", "time_now"];
        let sub_agents = ["planned", "helper", "worker"];
        AgentSpec {
            description: self.version.to_owned(),
            tools: tools.map(str::to_owned).to_vec(),
            sub_agents: sub_agents.map(str::to_owned).to_vec(),
            ..AgentSpec::default()
        }
    }

    async fn run(&self, work: Work<'_>) -> Result<Value, Stopped> {
        let plan: Vec<Act> = serde_json::from_str(work.input()["text"].as_str().unwrap()).unwrap();
        for act in &plan {
            let done = perform(work, act).await;
            if matches!(act, Act::Fail) {
                done?;
            }
        }
        Ok(json!({ "text": "done" }))
    }
}

fn model() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Answer::new().tool_call("w", "count", json!({})),
        _ => Answer::new().text("ok"),
    })
}

/// The calls of these events by what became of them, in the order of their ids.
fn calls_of(log: &[Event], of: impl Fn(&EventKind) -> Option<ToolCallId>) -> Vec<String> {
    let ids = log.iter().filter_map(|event| of(&event.kind));
    let mut ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    ids.sort();
    ids
}

fn begun(kind: &EventKind) -> Option<ToolCallId> {
    match kind {
        EventKind::ToolExecuting { tool_call_id, .. } => Some(*tool_call_id),
        _ => None,
    }
}

fn ended(kind: &EventKind) -> Option<ToolCallId> {
    match kind {
        EventKind::ToolCompleted { tool_call_id, .. }
        | EventKind::ToolDenied { tool_call_id, .. } => Some(*tool_call_id),
        _ => None,
    }
}

/// Each call that was made or refused has one record in its user's audit, and what was not called has none.
async fn assert_audited(house: &House, ctx: &UserExecutionContext, logs: &[Event], at: &str) {
    let (mut audited, mut cursor) = (Vec::new(), None);
    loop {
        let page = house
            .store
            .audit(ctx, 100, cursor.as_deref())
            .await
            .unwrap();
        let calls = page.items.into_iter();
        let calls = calls.filter(|entry| entry.action == "tool.call");
        audited.extend(calls.map(|entry| entry.object));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    audited.sort();
    assert_eq!(audited, calls_of(logs, ended), "{at}");
}

fn lost(kind: &EventKind) -> Option<ToolCallId> {
    match kind {
        EventKind::ToolCompleted {
            tool_call_id,
            error: Some(error),
            ..
        } if error.code == ErrorCode::OutcomeUnknown => Some(*tool_call_id),
        _ => None,
    }
}

/// The journal of a run that goes on has one entry for each call that has begun, and one for each that has ended. Of one
/// whose end nobody knows it may have none.
async fn assert_journalled(house: &House, ctx: &UserExecutionContext, id: RunId, at: &str) {
    let run = house.store.run(ctx, id).for_read().await.unwrap();
    if run.status.is_terminal() {
        return;
    }
    let journal = house.store.journal(ctx, &run).await.unwrap();
    let log = house.log(ctx, id).await;
    let unknown = calls_of(&log, lost);
    let known = |mut ids: Vec<String>| {
        ids.retain(|id| !unknown.contains(id));
        ids.sort();
        ids
    };
    for (kind, told) in [
        (JournalKind::ToolBegun, calls_of(&log, begun)),
        (JournalKind::ToolEnded, calls_of(&log, ended)),
    ] {
        let ids = journal
            .of_kind(kind)
            .map(|entry| &entry.value["tool_call_id"]);
        let journalled = ids.map(|id| id.as_str().unwrap().to_owned()).collect();
        assert_eq!(known(journalled), known(told), "{kind:?} {at}");
    }
}

/// What counts as a call is what has begun. One that is let go of on its way to the log has perhaps.
fn assert_counted(run: &Run, log: &[Event], plan: &str, at: &str) {
    let begun = calls_of(log, begun).len() as u64;
    let counted = run.usage.tool_calls;
    assert!(
        begun == counted || (plan.contains("Drop") && begun < counted),
        "{at}: {begun} began, {counted} counted"
    );
}

/// With this version of the helper.
fn build(version: &'static str) -> Build {
    let native = |name, version| Arc::new(Planned { name, version }) as Arc<dyn Agent>;
    Build {
        native: vec![native("planned", "1"), native("helper", version)],
        ..Build::new(model())
    }
}

/// Each agent and each call that has begun has ended once, and the run's end is last.
fn assert_balanced(log: &[Event], at: &str) {
    let mut begun = HashMap::<String, i32>::new();
    for event in log {
        let (what, by) = match &event.kind {
            EventKind::AgentStarted { agent, .. } => (format!("{agent} {:?}", event.step), 1),
            EventKind::AgentCompleted { agent, .. } => (format!("{agent} {:?}", event.step), -1),
            EventKind::ToolExecuting { tool_call_id, .. } => (tool_call_id.to_string(), 1),
            EventKind::ToolCompleted { tool_call_id, .. } => (tool_call_id.to_string(), -1),
            _ => continue,
        };
        let open = begun.entry(what).or_default();
        *open += by;
        assert!((0..=1).contains(open), "{at}: {:?}", names(log));
    }
    assert!(
        begun.values().all(|open| *open == 0),
        "{at}: {:?}",
        names(log)
    );
    assert!(log.last().unwrap().kind.is_terminal(), "{at}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_agents_do_with_their_calls_the_log_of_an_ended_run_is_balanced() {
    let house = House::build(build("1"));
    let ctx = house.user().await;
    let (mut let_go, mut asked, mut all) = (0, 0, Vec::new());
    for seed in 1..=150 {
        let plan = Draw(seed).plan(3);
        let at = format!("seed {seed}: {plan:?}");
        let text = serde_json::to_string(&plan).unwrap();
        let request = ask("planned", text.clone());
        let run = house.start(&ctx, request).await.unwrap().run;
        let (run, log, questions) = to_the_end(&house, &ctx, run.id, Decision::Approve).await;
        assert_balanced(&log, &at);
        assert_counted(&run, &log, &text, &at);
        asked += questions;
        let_go += calls_of(&log, lost).len();
        all.extend(log);
        house.quiet().await;
    }
    assert!(let_go > 5 && asked > 5, "{let_go} let go of, {asked} asked");
    assert_audited(&house, &ctx, &all, "all runs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_run_is_cut_off_and_whichever_version_is_gone_then_its_log_is_balanced() {
    let mut gone = 0;
    for seed in 1..=6 {
        let plan = Draw(seed * 7).plan(3);
        let text = serde_json::to_string(&plan).unwrap();
        let first = build("1");
        let camera = Arc::new(Camera {
            dir: first.dir.path().to_owned(),
            on: AtomicBool::new(false),
            shots: Mutex::default(),
        });
        let house = House::build(Build {
            witness: Some(camera.clone()),
            ..first
        });
        let ctx = house.user().await;
        house.recover().await;
        camera.on.store(true, SeqCst);
        let request = ask("planned", text.clone());
        let run = house.start(&ctx, request).await.unwrap().run;
        let (run, ..) = to_the_end(&house, &ctx, run.id, Decision::Approve).await;
        house.quiet().await;
        camera.on.store(false, SeqCst);
        let shots = std::mem::take(&mut *camera.shots.lock());
        for (index, shot) in shots.into_iter().enumerate() {
            let at = format!("seed {seed}, state {index}: {plan:?}");
            let house = House::build(Build {
                dir: shot,
                ..build("2")
            });
            let ctx = house.user_again(&ctx).await;
            assert_journalled(&house, &ctx, run.id, &at).await;
            if house.recover().await == 0 {
                continue;
            }
            let (run, log, _) = to_the_end(&house, &ctx, run.id, Decision::Deny).await;
            assert_balanced(&log, &at);
            assert_counted(&run, &log, &text, &at);
            assert_audited(&house, &ctx, &log, &at).await;
            gone += usize::from(log.iter().any(|event| {
                matches!(&event.kind, EventKind::AgentCompleted { agent, success: false, .. } if agent == "helper")
            }));
            house.quiet().await;
        }
    }
    assert!(gone > 0, "no state had a helper at work");
}
