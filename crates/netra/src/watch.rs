//! Agents whose files change while the server runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use netra_context::runtime::TaskKind;
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_engine::ExecutionEngineFactory;
use netra_engine::agents::Change;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Each file of a folder of agents: when it was changed, and its size.
type Looks = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Looks at the folder of agents for as long as the server runs, and has it read when it has changed and
/// then stayed the same for one look: an editor may write several files.
pub(crate) fn start(runtime: &Runtime, engine: &ExecutionEngineFactory) {
    let Some(dir) = engine.agents().dir().map(Path::to_owned) else {
        return;
    };
    let (tasks, engine) = (runtime.clone(), engine.clone());
    // Before anything can change.
    let mut in_force = look(&dir);
    runtime.spawn(TaskKind::Sweep, async move {
        let mut turns = tokio::time::interval(EVERY);
        let mut pending = None;
        loop {
            tokio::select! {
                () = tasks.shutdown().cancelled() => break,
                _ = turns.tick() => {}
            }
            let folder = dir.clone();
            let Ok(now) = tasks.spawn_blocking(move || look(&folder)).await else {
                continue;
            };
            if now == in_force {
                pending = None;
            } else if pending.as_ref() == Some(&now) {
                reload(&tasks, &engine).await;
                (in_force, pending) = (now, None);
            } else {
                pending = Some(now);
            }
        }
    });
}

fn look(dir: &Path) -> Looks {
    let mut looks = Looks::new();
    let files = |path: &Path| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
    };
    for file in files(dir).flat_map(|agent| files(&agent.path())) {
        // Of the file that a link leads to: a mounted folder may be made of links.
        if let Ok(metadata) = fs::metadata(file.path()) {
            looks.insert(file.path(), (metadata.modified().ok(), metadata.len()));
        }
    }
    looks
}

/// Has the agents read again, and logs what has changed.
pub(crate) async fn reload(runtime: &Runtime, engine: &ExecutionEngineFactory) {
    let ctx = UserExecutionContext::for_background(runtime, BackgroundKind::Recovery);
    let changes = match engine.reload_agents(&ctx).await {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!(%error, "the agents stay as they are: new versions cannot be kept");
            return;
        }
    };
    for change in changes {
        match change {
            Change::Taken(agent) => {
                tracing::info!(agent.name = agent, "runs begin with the agent's new files")
            }
            Change::Gone(agent) => tracing::info!(agent.name = agent, "the agent is gone"),
            Change::Broken(problem) => tracing::warn!(
                agent.name = problem.agent,
                problem = problem.problem,
                "the agent's new files are wrong"
            ),
        }
    }
}
