//! What `cargo xtask test models` has installed, and the mock as a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netra_integration::soon;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Names the folder of what is installed.
const VARIABLE: &str = "NETRA_MODEL_PACKAGES";
/// What the mock answers.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/fixtures.json");

/// The providers of the mock, each in a format of its own.
pub(crate) const FORMATS: [&str; 3] = ["openai", "anthropic", "gemini"];

/// Fails where it is not there: a test does not install.
pub(crate) fn folder() -> Result<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a part of the gate says where it has put them"
    )]
    let folder = std::env::var_os(VARIABLE).map(PathBuf::from);
    let folder = folder.with_context(|| {
        format!(
            "{VARIABLE} is not set: `cargo xtask test models` installs the packages and sets it"
        )
    })?;
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    Ok(folder)
}

/// A running mock of all formats.
pub(crate) struct Mock {
    pub(crate) url: String,
    _process: Child,
    /// What it says further, of which there is little; a closed pipe would end it.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Mock {
    /// Starts one on a port of its own.
    pub(crate) async fn start() -> Result<Self> {
        let program = folder()?.join("node/node_modules/@copilotkit/aimock/dist/cli.js");
        ensure!(program.is_file(), "{} is missing", program.display());
        let mut process = Command::new("node")
            .arg(program)
            .args(["--port", "0", "--strict", "--fixtures", FIXTURES])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node cannot be started")?;
        let said = process.stdout.take().context("no output")?;
        let mut lines = BufReader::new(said).lines();
        let url = soon("the mock to listen", async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, url)) = line.split_once("listening on ") {
                    return Ok(url.trim().to_owned());
                }
            }
            anyhow::bail!("the mock has ended")
        })
        .await?;
        Ok(Self {
            url,
            _process: process,
            _said: lines,
        })
    }

    /// Writes a configuration with a provider for each format.
    pub(crate) fn configuration(&self, folder: &Path) -> Result<PathBuf> {
        let mut text = String::new();
        for kind in FORMATS {
            let path = if kind == "gemini" { "/v1beta" } else { "/v1" };
            let base_url = format!("{}{path}", self.url);
            text += &format!(
                "[models.providers.{kind}]\nkind = {kind:?}\nbase_url = {base_url:?}\napi_key = \"k\"\n"
            );
        }
        let file = folder.join("netra.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }
}
