//! Every state that a run's store was ever in, and what another server makes of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use netra_context::UserExecutionContext;
use netra_model::scripted::ScriptedModel;
use netra_protocol::Event;
use netra_protocol::approval::{ApprovalState, Decision, ResolveApproval};
use netra_protocol::event::EventKind;
use netra_protocol::id::{ApprovalId, RunId};
use netra_protocol::message::MessageRole;
use netra_protocol::run::{Run, RunStatus, StartRun};
use netra_protocol::usage::ToolUsage;
use netra_store::{Entry, Fanout};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::house::{Build, House, names};

/// Copies the folder after each commit, while it is told to. The store's writer waits for it, so
/// each copy is what a server finds that was killed at that moment.
pub(super) struct Camera {
    pub(super) dir: PathBuf,
    pub(super) on: AtomicBool,
    pub(super) shots: Mutex<Vec<Arc<TempDir>>>,
}

impl Fanout for Camera {
    fn committed(&self, _: &[Arc<Entry>]) {
        if self.on.load(SeqCst) {
            let shot = tempfile::tempdir().unwrap();
            copy(&self.dir, shot.path());
            self.shots.lock().push(Arc::new(shot));
        }
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A run, every state in which a crash could have left it, and how it ended without one.
pub(super) async fn photographed(
    model: fn() -> ScriptedModel,
    request: StartRun,
) -> (UserExecutionContext, Run, Vec<Arc<TempDir>>) {
    let plan = Build::new(model());
    let camera = Arc::new(Camera {
        dir: plan.dir.path().to_owned(),
        on: AtomicBool::new(false),
        shots: Mutex::default(),
    });
    let house = House::build(Build {
        witness: Some(camera.clone()),
        ..plan
    });
    let ctx = house.user().await;
    house.recover().await;
    camera.on.store(true, SeqCst);
    let run = house.start(&ctx, request).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    house.quiet().await;
    camera.on.store(false, SeqCst);
    let shots = std::mem::take(&mut *camera.shots.lock());
    (ctx, run, shots)
}

/// Answers what the run asks, if it asks, and gives it when it has ended.
pub(super) async fn to_the_end(
    house: &House,
    ctx: &UserExecutionContext,
    id: RunId,
    decision: Decision,
) -> (Run, Vec<Event>, usize) {
    let mut asked = 0;
    let over = |log: &[Event]| {
        let last = log.last();
        last.is_some_and(|event| {
            event.kind.is_terminal() || matches!(event.kind, EventKind::RunWaiting { .. })
        })
    };
    loop {
        house.until(ctx, id, over).await;
        let approvals = house.store.approvals(ctx, 100, None).await.unwrap().items;
        let open = approvals.iter();
        let open = open.filter(|one| one.state == ApprovalState::Pending);
        let open: Vec<ApprovalId> = open.map(|one| one.id).collect();
        if open.is_empty() {
            let (run, log) = house.ended(ctx, id).await;
            return (run, log, asked);
        }
        // What was asked at one moment is answered before the run goes on.
        for one in open {
            asked += 1;
            let answer = ResolveApproval {
                decision,
                note: None,
                arguments: None,
            };
            let approval = house.store.approval(ctx, one).for_write().await.unwrap();
            house.engine.answer(ctx, &approval, answer).await.unwrap();
        }
    }
}

/// What a server did with a state that it found.
pub(super) struct Taken {
    pub(super) run: Run,
    pub(super) log: Vec<Event>,
    pub(super) asked: usize,
    pub(super) once: usize,
    pub(super) found: Vec<Event>,
    pub(super) files: usize,
    /// Whole messages of the assistant in the thread.
    pub(super) messages: usize,
    /// What the user's calls of tools used.
    pub(super) used: Vec<ToolUsage>,
    /// Audit records of calls of tools.
    pub(super) audited: usize,
}

pub(super) async fn taken_up(
    model: fn() -> ScriptedModel,
    shot: &Arc<TempDir>,
    ctx: &UserExecutionContext,
    id: RunId,
    decision: Decision,
) -> Option<Taken> {
    // A copy of its own, so that the same state can be taken up twice.
    let dir = Arc::new(tempfile::tempdir().unwrap());
    copy(shot.path(), dir.path());
    let house = House::build(Build {
        dir,
        ..Build::new(model())
    });
    let ctx = house.user_again(ctx).await;
    let found = house.log(&ctx, id).await;
    if house.recover().await == 0 {
        return None;
    }
    let (run, log, asked) = to_the_end(&house, &ctx, id, decision).await;
    let thread = house.store.thread(&ctx, run.thread_id).for_read().await;
    let messages = house
        .store
        .messages(&ctx, &thread.unwrap(), 100, None)
        .await
        .unwrap();
    let whole = messages
        .items
        .iter()
        .filter(|message| message.role == MessageRole::Assistant && message.complete);
    let messages = whole.count();
    house.quiet().await;
    let once = house.counts.once.load(SeqCst);
    let files = house
        .store
        .files(&ctx, 100, None)
        .await
        .unwrap()
        .items
        .len();
    let used = house.store.tool_usage(&ctx).await.unwrap();
    let audit = house.store.audit(&ctx, 100, None).await.unwrap().items;
    let of_calls = audit.iter().filter(|record| record.action == "tool.call");
    let audited = of_calls.count();
    Some(Taken {
        run,
        log,
        asked,
        once,
        found,
        files,
        messages,
        used,
        audited,
    })
}

/// Holds what another server makes of each state that a run was in against how the run ended without a crash: what
/// there was is still there, nothing is asked of a model twice, and the result is the same. Gives how it ended.
pub(super) async fn every_state_taken_up(
    model: fn() -> ScriptedModel,
    request: StartRun,
    mut check: impl FnMut(&Taken, &str),
) -> Run {
    let (ctx, whole, shots) = photographed(model, request).await;
    for (index, shot) in shots.iter().enumerate() {
        let taken = taken_up(model, shot, &ctx, whole.id, Decision::Approve).await;
        let Some(taken) = taken else {
            assert_eq!(index, shots.len() - 1, "only the last state has no run");
            continue;
        };
        let at = format!("state {index}:\n{}", names(&taken.log).join("\n"));
        assert_eq!(taken.run.result, whole.result, "{at}");
        assert_eq!(taken.log[..taken.found.len()], taken.found[..], "{at}");
        assert_eq!(taken.run.usage.model_calls, whole.usage.model_calls, "{at}");
        check(&taken, &at);
    }
    whole
}
