//! The scripts of agents: whether they can be read, and the types of what they find set.

use std::path::Path;

use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_engine::agents::{Body, stub};
use netra_worker::{Error, ScriptPool};

use super::{Found, Whole};
use crate::cli::output;
use crate::exit::{Exit, Problem};

/// Editors and type checkers look for the types of what is simply there in a file of this name.
const STUB: &str = "__builtins__.pyi";

/// Lets a worker read each script, as it does before it runs one: a syntax error is the agent's problem.
pub(super) async fn read(found: &mut Found) -> Result<(), Problem> {
    let workers = &found.whole.config.workers;
    let pool = ScriptPool::new(netra_worker::Config {
        program: workers.program.clone(),
        workers: 1,
        warm: 1,
    });
    let runtime = Runtime::new();
    let ctx = UserExecutionContext::for_background(&runtime, BackgroundKind::Console);
    for agent in found.whole.agents.all() {
        let Body::Script { file, code } = &agent.body else {
            continue;
        };
        let name = format!("agents/{}/{file}", agent.name);
        let wrong = match pool.check(&ctx, name, code.clone()).await {
            Ok(()) => continue,
            Err(Error::Script(wrong)) => wrong,
            Err(error) => return Err(Problem::message(Exit::Failure, error.to_string())),
        };
        let path = match agent.origin.as_str() {
            "built-in" => format!("agents/{}/{file}", agent.name),
            folder => Path::new(folder).join(file).display().to_string(),
        };
        let line = wrong
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        let listed = found
            .agents
            .iter_mut()
            .find(|listed| listed.name == agent.name);
        if let Some(listed) = listed.filter(|listed| listed.ready) {
            listed.ready = false;
            listed.problem = Some(format!("{path}{line}: {}: {}", wrong.kind, wrong.message));
        }
    }
    Ok(())
}

/// Writes a stub beside each script of the folder of agents.
pub(super) fn write_stubs(whole: &Whole) -> Result<Exit, Problem> {
    let mut written = 0;
    for agent in whole.agents.all() {
        let folder = Path::new(&agent.origin);
        if !matches!(agent.body, Body::Script { .. }) || !folder.is_dir() {
            continue;
        }
        let path = folder.join(STUB);
        let text = stub(&agent, &whole.registry);
        std::fs::write(&path, text).map_err(|error| {
            let words = format!("{} cannot be written: {error}", path.display());
            Problem::message(Exit::Failure, words)
        })?;
        output::line(path.display().to_string())?;
        written += 1;
    }
    if written == 0 {
        let words = "there is no script agent in a folder of agents: name one with --agents";
        return Err(Problem::message(Exit::Failure, words.to_owned()));
    }
    Ok(Exit::Success)
}
