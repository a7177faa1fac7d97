//! The examples of agents in Python and TypeScript, as `docs/examples` has them. `cargo xtask test
//! agents` installs what they need and runs these tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use netra_client::Upload;
use netra_integration::{Options, TestServer, output, soon, start_with_files, text_of};
use netra_protocol::run::RunStatus;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Test;
use crate::expect::names;
use netra_integration::script;

/// Names the folder of what was installed.
const VARIABLE: &str = "NETRA_AGENTS";

/// The repository's own examples.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples")
}

/// What was installed there; a test does not install.
fn installed(file: &str) -> Result<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a part of the gate says where it has put them"
    )]
    let folder = std::env::var_os(VARIABLE).map(PathBuf::from);
    let folder = folder.with_context(|| {
        format!(
            "{VARIABLE} is not set: `cargo xtask test agents` installs what is needed and sets it"
        )
    })?;
    Ok(folder.join(file))
}

/// A program of an example, at the address that it says. Killed when dropped.
struct Program {
    _child: Child,
    url: String,
}

impl Program {
    async fn start(program: &Path, script: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .arg(script)
            .arg("0")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| program.display().to_string())?;
        let stdout = child.stdout.take().context("it was asked for")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = soon("the example", lines.next_line()).await?;
        let line = line.context("the example ended")?;
        let url = line.strip_prefix("ready ").context("it says where it is")?;
        Ok(Self {
            url: url.to_owned(),
            _child: child,
        })
    }
}

/// The example's own `agent.toml`, with the address of now.
fn agent_at(name: &str, url: &str) -> Result<tempfile::TempDir> {
    let agents = tempfile::tempdir()?;
    let text = std::fs::read_to_string(examples().join(name).join("agent.toml"))?;
    let line = text.lines().find(|line| line.starts_with("url = "));
    let text = text.replace(
        line.context("it names its url")?,
        &format!("url = \"{url}\""),
    );
    std::fs::create_dir(agents.path().join(name))?;
    std::fs::write(agents.path().join(name).join("agent.toml"), text)?;
    Ok(agents)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_made_with_pydantic_ai_calls_a_tool_of_netra() -> Test {
    let script = examples().join("python-agent/agent.py");
    let program = Program::start(&installed("python/bin/python")?, &script).await?;
    let agents = agent_at("python-agent", &program.url)?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("python-agent", "what time is it?").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(run.usage.tool_calls, 1);
    // Its model of the tests says what the tools gave it.
    let events = user.events(run.id).await?;
    let count = |name: &str| names(&events).iter().filter(|one| **one == name).count();
    assert_eq!(
        (count("tool_completed"), count("message_completed")),
        (1, 1)
    );
    let messages = user.client.messages(run.thread_id, None, None).await?.items;
    let said = text_of(&messages[1]);
    assert!(
        said.contains("time_now") && said.contains("_call"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_typescript_reads_the_logs_of_its_user() -> Test {
    let script = installed("typescript/dist/agent.js")?;
    let program = Program::start(Path::new("node"), &script).await?;
    let agents = agent_at("typescript-agent", &program.url)?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let log = examples().join("../../samples/synthetic-llm-log.csv");
    let rows = std::fs::read_to_string(&log)?.lines().count() - 1;
    let good = user
        .client
        .file_upload("log.csv", Upload::Path(&log))
        .await?;
    let noise = Upload::Bytes(b"".to_vec().into());
    let bad = user.client.file_upload("empty.csv", noise).await?;
    let start = start_with_files("typescript-agent", "how large?", vec![good.id, bad.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let logs = &run.result.context("it has a result")?["logs"];
    assert_eq!(logs[0]["requests"], rows, "{logs}");
    assert!(logs[1]["problem"].is_string(), "{logs}");
    let messages = user.client.messages(run.thread_id, None, None).await?.items;
    let said = text_of(&messages[1]);
    assert!(
        said.contains(&format!("log.csv: {rows} requests")),
        "{said}"
    );
    let without = user.run("typescript-agent", "how large?").await?;
    let error = without.error.context("it has nothing to read")?;
    assert_eq!(error.message, "attach a log to the question");
    Ok(())
}

/// What ty says of the script in this folder, and whether it is content.
async fn types_of(folder: &Path) -> Result<(bool, String)> {
    let mut check = Command::new(installed("types/bin/ty")?);
    let check = check.args(["check", "--project"]).arg(folder).output();
    let checked = soon("ty", check).await?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    Ok((checked.status.success(), said))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checker_of_types_understands_scripts_by_their_stubs() -> Test {
    let agents = tempfile::tempdir()?;
    let dir = agents.path().display().to_string();
    let names = [
        "log-report",
        "briefing",
        "briefing-numbers",
        "briefing-words",
    ];
    for name in names {
        let folder = agents.path().join(name);
        std::fs::create_dir(&folder)?;
        for file in ["agent.toml", "agent.py"] {
            std::fs::copy(examples().join(name).join(file), folder.join(file))?;
        }
    }
    output(&["agents", "new", "fresh", "--agents", &dir], "").await?;
    let manifest = "tools = [\"log_profile\"]\n";
    let wrong = "log_profile(fil='a')\ngather(call(log_profile, file=3))\nthink(7)\n";
    script(agents.path(), "wrong", manifest, wrong)?;
    let written = output(&["agents", "stubs", "--agents", &dir], "").await?;
    assert!(written.status.success(), "{written:?}");
    for name in names.into_iter().chain(["fresh"]) {
        let (good, said) = types_of(&agents.path().join(name)).await?;
        assert!(good, "{name}: {said}");
    }
    let (good, said) = types_of(&agents.path().join("wrong")).await?;
    assert!(!good, "{said}");
    for line in 1..=3 {
        assert!(said.contains(&format!("agent.py:{line}:")), "{said}");
    }
    Ok(())
}
