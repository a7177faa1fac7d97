//! `netra agents new`: a folder of a new agent that works as it is, with what may be changed beside it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use netra_engine::agents::check_name;

use crate::cli::output;
use crate::exit::{Exit, Problem};

/// How the new agent is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A script in Python.
    Script,
    /// A language model with instructions and tools.
    Model,
    /// A program of one's own behind an HTTP endpoint.
    Http,
}

impl Kind {
    /// The files: name and text.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Script => &[
                ("agent.toml", include_str!("new/script/agent.toml")),
                ("agent.py", include_str!("new/script/agent.py")),
            ],
            Self::Model => &[
                ("agent.toml", include_str!("new/model/agent.toml")),
                ("instructions.md", include_str!("new/model/instructions.md")),
            ],
            Self::Http => &[
                ("agent.toml", include_str!("new/http/agent.toml")),
                ("endpoint.py", include_str!("new/http/endpoint.py")),
            ],
        }
    }

    /// What to do next, `{dir}` being the folder of agents and `{name}` the agent.
    fn next(self) -> &'static str {
        match self {
            Self::Script => "netra run {name} --agents {dir} \"What time is it?\"",
            Self::Model => {
                "configure a model (docs/configuration.md), then\n  \
                 netra run {name} --agents {dir} \"What time is it?\""
            }
            Self::Http => {
                "python3 {dir}/{name}/endpoint.py 8001   # in another shell\n  \
                 netra run {name} --agents {dir} \"What time is it?\""
            }
        }
    }
}

/// Writes the folder. Nothing that is there is written over.
pub(super) fn new(name: &str, kind: Kind, dir: &Path) -> Result<Exit, Problem> {
    check_name(name).map_err(|words| Problem::message(Exit::Usage, words))?;
    let folder = dir.join(name);
    write(&folder, kind).map_err(|error| {
        Problem::message(
            Exit::Failure,
            format!("{} cannot be made: {error}", folder.display()),
        )
    })?;
    let dir = dir.display().to_string();
    let next = kind.next().replace("{dir}", &dir).replace("{name}", name);
    output::line(folder.display().to_string())?;
    output::note(format!(
        "next:\n  netra agents check --agents {dir}\n  {next}"
    ));
    Ok(Exit::Success)
}

fn write(folder: &PathBuf, kind: Kind) -> std::io::Result<()> {
    if let Some(dir) = folder.parent() {
        fs::create_dir_all(dir)?;
    }
    // Fails where the folder is there.
    fs::create_dir(folder)?;
    for (name, text) in kind.files() {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
