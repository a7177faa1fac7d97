//! Tool servers: a scripted one for every way in which one can misbehave. Those that others wrote
//! are in `real`, which the part `mcp` of the gate runs.

pub(crate) mod http;
mod left;
mod memory;
mod real;
mod weakened;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{Options, TestServer, TestUser, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::{Plan, Role};
use netra_protocol::error::Failure;
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use netra_protocol::tool::{ToolServer, ToolServerState};
use rustix::process::Pid;
use serde_json::Value;

use crate::Test;
use crate::admin::disable;
use crate::expect::until;
use netra_integration::script;

const SCRIPT: &str = include_str!("mcp/server.py");
const NEWER: &str = include_str!("mcp/newer.py");

/// A folder of agents, a scripted server's program and folder, and the configuration.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("agents"))?;
        std::fs::create_dir(dir.path().join("notes"))?;
        // A server that is root starts programs as users of their own.
        open_to_all(dir.path(), 0o755)?;
        open_to_all(&dir.path().join("notes"), 0o777)?;
        std::fs::write(dir.path().join("server.py"), SCRIPT)?;
        Ok(Self { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An agent that calls one tool of the scripted server.
    fn agent(&self, name: &str, tool: &str, code: &str) -> Result<()> {
        let tools = format!("tools = [\"fake__{tool}\"]\n");
        script(&self.path("agents"), name, &tools, code)
    }

    /// A server whose configuration has these lines in the scripted server's table.
    pub(crate) async fn start(&self, lines: &str) -> Result<TestServer> {
        let file = self.configured(lines)?;
        let options = Options::new().file(&file).agents(&self.path("agents"));
        TestServer::start_with(options).await
    }

    /// The file of that configuration.
    pub(crate) fn configured(&self, lines: &str) -> Result<PathBuf> {
        let (program, notes) = (self.path("server.py"), self.path("notes"));
        let text = format!(
            "[mcp.servers.fake]\ncommand = \"/usr/bin/python3\"\nargs = [{program:?}, {notes:?}]\n\
             read = [{program:?}]\nwrite = [{notes:?}]\npermission = \"basic\"\n{lines}",
        );
        let file = self.path("netra.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// A folder for what programs write.
    fn temp(&self) -> Result<PathBuf> {
        let temp = self.path("temp");
        std::fs::create_dir(&temp)?;
        open_to_all(&temp, 0o755)?;
        Ok(temp)
    }

    /// How many programs of the scripted server there are.
    fn processes(&self) -> usize {
        let notes = self.path("notes").display().to_string();
        processes_with("/python3", &notes).len()
    }

    /// Waits for a line in what the scripted server has noted.
    async fn noted(&self, line: &str) -> Result<()> {
        let notes = self.path("notes/notes");
        until_so(line, || {
            let read = std::fs::read_to_string(&notes).unwrap_or_default();
            read.lines().any(|noted| noted == line)
        })
        .await
    }
}

/// The processes of this program that have this word among their arguments.
fn processes_with(program: &str, word: &str) -> Vec<Pid> {
    let found = |entry: std::fs::DirEntry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut parts = arguments.split(|byte| *byte == 0);
        let fits = parts.next()?.ends_with(program.as_bytes())
            && parts.any(|part| part == word.as_bytes());
        let name = entry.file_name();
        let number = name.to_str()?.parse().ok().filter(|_| fits)?;
        Pid::from_raw(number)
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    processes.filter_map(Result::ok).filter_map(found).collect()
}

/// Sets the mode of a file or folder.
fn open_to_all(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(
        path,
        std::fs::Permissions::from_mode(mode),
    )?)
}

/// Waits until something outside of the server is so.
async fn until_so(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let look = async {
        let mut turns = tokio::time::interval(Duration::from_millis(10));
        while !is_so() {
            turns.tick().await;
        }
    };
    soon(what, look).await;
    Ok(())
}

async fn result(user: &TestUser, agent: &str) -> Result<Value> {
    let run = soon(agent, user.run(agent, "go")).await?;
    run.result
        .with_context(|| format!("{agent}: {:?}", run.error))
}

async fn failure(user: &TestUser, agent: &str) -> Result<Failure> {
    let run = soon(agent, user.run(agent, "go")).await?;
    ensure!(run.status == RunStatus::Failed, "{agent}: {:?}", run.result);
    run.error.context("a failed run says why")
}

/// The only tool server of the configuration, as an admin sees it.
async fn shown(server: &TestServer) -> Result<ToolServer> {
    let admin = server.user_as(Role::Admin, None).await?;
    let mut servers = admin.client.tool_servers().await?.items;
    servers.pop().context("there is a tool server")
}

const WHO: &str = "fake__who()['text']\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_has_an_instance_of_ones_own() -> Test {
    let place = Place::new()?;
    place.agent("who", "who", WHO)?;
    place.agent("echo", "echo", "fake__echo(text='hello')\n")?;
    let server = place.start("").await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let (first, again) = (result(&ada, "who").await?, result(&ada, "who").await?);
    let of_bob = result(&bob, "who").await?;
    let told = |value: &Value| -> Result<(String, String)> {
        let text = value.as_str().context("a text")?;
        let (pid, calls) = text.split_once(' ').context("two words")?;
        Ok((pid.to_owned(), calls.to_owned()))
    };
    let (ada_1, ada_2, bob_1) = (told(&first)?, told(&again)?, told(&of_bob)?);
    assert_eq!(ada_1.0, ada_2.0, "one user, one instance");
    assert_eq!(
        (ada_1.1.as_str(), ada_2.1.as_str(), bob_1.1.as_str()),
        ("1", "2", "1")
    );
    ensure!(ada_1.0 != bob_1.0, "two users had one instance");
    let echoed = result(&ada, "echo").await?;
    assert_eq!(echoed["text"], "hello");
    assert_eq!(echoed["structured"]["length"], 5);
    let shown = shown(&server).await?;
    assert_eq!(
        (shown.state, shown.instances, shown.crashes),
        (ToolServerState::Ready, 2, 0)
    );
    assert_eq!(shown.title.as_deref(), Some("scripted 1"));
    ensure!(
        shown.tools.contains(&"fake__long_line".to_owned()),
        "{shown:?}"
    );
    let left_out = shown.left_out.join("; ");
    ensure!(
        left_out.contains("fake__bad") && left_out.contains("same name"),
        "{left_out}"
    );
    assert_eq!(place.processes(), 2);
    // Nothing of it is left when the server has stopped.
    let (_, left) = server.stop().await;
    assert_eq!(left, 0);
    until_so("the programs are gone", || place.processes() == 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_of_a_run_ends_with_it() -> Test {
    let place = Place::new()?;
    let twice = "[fake__who()['text'], fake__who()['text']]\n";
    place.agent("twice", "who", twice)?;
    let server = place.start("scope = \"run\"\n").await?;
    let user = server.user().await?;
    let (first, second) = (result(&user, "twice").await?, result(&user, "twice").await?);
    let pid = |value: &Value, at: usize| -> Option<String> {
        let text = value[at].as_str()?;
        Some(text.split_once(' ')?.0.to_owned())
    };
    assert_eq!(pid(&first, 0), pid(&first, 1));
    ensure!(
        pid(&first, 0) != pid(&second, 0),
        "two runs had one instance"
    );
    until_so("the programs are gone", || place.processes() == 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_falls_over_fails_its_call_and_is_started_again() -> Test {
    let place = Place::new()?;
    place.agent("who", "who", WHO)?;
    for (agent, tool) in [("fall", "fall"), ("flood", "flood"), ("long", "long_line")] {
        place.agent(agent, tool, &format!("fake__{tool}()\n"))?;
    }
    let server = place.start("").await?;
    let user = server.user().await?;
    let before = result(&user, "who").await?;
    let fell = failure(&user, "fall").await?;
    ensure!(fell.message.contains("ended during the call"), "{fell:?}");
    ensure!(fell.message.contains("exit code 9"), "{fell:?}");
    let after = result(&user, "who").await?;
    ensure!(before != after, "a new instance");
    let flooded = failure(&user, "flood").await?;
    ensure!(
        flooded.message.contains("more than is taken"),
        "{flooded:?}"
    );
    ensure!(
        result(&user, "who").await?.is_string(),
        "it was started again"
    );
    assert_eq!(shown(&server).await?.crashes, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_end_ends_its_instance() -> Test {
    let place = Place::new()?;
    // Two tools of the server have names that become one; the first is called.
    place.agent("long", "long_line", "fake__long_line()\n")?;
    let server = place.start("").await?;
    let user = server.user().await?;
    let long = failure(&user, "long").await?;
    ensure!(long.message.contains("a message of more than"), "{long:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_answered_ends_in_time_and_the_server_is_told() -> Test {
    let place = Place::new()?;
    place.agent("who", "who", WHO)?;
    place.agent("hang", "hang", "fake__hang()\n")?;
    let server = place.start("call_ms = 300\n").await?;
    let user = server.user().await?;
    let before = result(&user, "who").await?;
    for _ in 0..3 {
        let late = failure(&user, "hang").await?;
        ensure!(
            late.message.contains("did not answer within 300 ms"),
            "{late:?}"
        );
    }
    place.noted("notifications/cancelled").await?;
    let after = result(&user, "who").await?;
    let pid = |value: &Value| {
        value
            .as_str()
            .and_then(|t| t.split_once(' '))
            .map(|(p, _)| p.to_owned())
    };
    ensure!(
        pid(&before) != pid(&after),
        "it was thrown away after three times"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_cancels_its_call() -> Test {
    let place = Place::new()?;
    place.agent("hang", "hang", "fake__hang()\n")?;
    let server = place.start("").await?;
    let user = server.user().await?;
    let run = user.start("hang", "go").await?;
    place.noted("began hang").await?;
    user.client.run_cancel(run.id).await?;
    place.noted("notifications/cancelled").await?;
    let ended = user.client.run_end(run.id).await?;
    assert_eq!(ended.status, RunStatus::Cancelled);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_pictures_and_errors_reach_the_user() -> Test {
    let place = Place::new()?;
    place.agent("progress", "progress", "fake__progress()['text']\n")?;
    place.agent("picture", "picture", "fake__picture()\n")?;
    place.agent("wrong", "wrong", "fake__wrong()\n")?;
    let server = place.start("").await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("progress", "go").await?;
    let told = until(&mut socket, "tool_progress").await?;
    let EventKind::ToolProgress {
        progress, message, ..
    } = &told.event.event.kind
    else {
        anyhow::bail!("{told:?}");
    };
    // Only the newest is passed on, so the first may have been overtaken.
    let steps = [(Some(0.25), Some("step 1")), (Some(0.5), Some("step 2"))];
    ensure!(steps.contains(&(*progress, message.as_deref())), "{told:?}");
    std::fs::write(place.path("notes/heard"), "")?;
    assert_eq!(
        user.client.run_end(run.id).await?.status,
        RunStatus::Completed
    );
    let picture = result(&user, "picture").await?;
    assert_eq!(picture["files"][0]["media_type"], "image/png");
    let files = user.client.files(None, None).await?.items;
    assert_eq!(files.len(), 1);
    let wrong = failure(&user, "wrong").await?;
    ensure!(
        wrong.message.contains("says: there is no such thing"),
        "{wrong:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_start_keeps_nobody_else_from_starting() -> Test {
    let place = Place::new()?;
    place.agent("who", "who", WHO)?;
    std::fs::write(place.path("notes/broken"), "")?;
    let server = place.start("").await?;
    let user = server.user().await?;
    let refused = failure(&user, "who").await?;
    ensure!(
        refused.message.contains("the tool server fake is away"),
        "{refused:?}"
    );
    ensure!(refused.message.contains("exit code 3"), "{refused:?}");
    assert_eq!(shown(&server).await?.state, ToolServerState::Away);
    // It is asked again, and is there once it can be.
    std::fs::remove_file(place.path("notes/broken"))?;
    let ready = async {
        let mut turns = tokio::time::interval(Duration::from_millis(50));
        loop {
            turns.tick().await;
            if shown(&server).await?.state == ToolServerState::Ready {
                return Test::Ok(());
            }
        }
    };
    soon("the tool server is there", ready).await?;
    ensure!(result(&user, "who").await?.is_string(), "it answers");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_comes_later_is_there_for_later_runs() -> Test {
    let place = Place::new()?;
    place.agent("grow", "grow", "fake__grow()['text']\n")?;
    let server = place.start("").await?;
    let user = server.user().await?;
    assert_eq!(result(&user, "grow").await?, "grown");
    until_listed(&user, "fake__late").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_only_one_users_instance_has_is_there_for_that_user_alone() -> Test {
    let place = Place::new()?;
    place.agent("sprout", "sprout", "fake__sprout()['text']\n")?;
    let server = place.start("").await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    assert_eq!(result(&ada, "sprout").await?, "sprouted");
    until_listed(&ada, "fake__leaf").await?;
    let of_bob = bob.client.tools().await?.items;
    ensure!(
        of_bob.iter().all(|tool| tool.name != "fake__leaf"),
        "a user has what another one's instance has"
    );
    Ok(())
}

/// Waits until there is a tool of this name.
async fn until_listed(user: &TestUser, name: &str) -> Test {
    let listed = async {
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        loop {
            turns.tick().await;
            let tools = user.client.tools().await?.items;
            if tools.iter().any(|tool| tool.name == name) {
                return Test::Ok(());
            }
        }
    };
    soon("the new tool", listed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_newer_era_is_listened_to() -> Test {
    let place = Place::new()?;
    let (program, notes) = (place.path("newer.py"), place.path("notes"));
    std::fs::write(&program, NEWER)?;
    let tools = "tools = [\"newer__grow\"]\n";
    script(
        &place.path("agents"),
        "grow",
        tools,
        "newer__grow()['text']\n",
    )?;
    let lines = format!(
        "[mcp.servers.newer]\ncommand = \"/usr/bin/python3\"\nargs = [{program:?}, {notes:?}]\n\
         read = [{program:?}]\nwrite = [{notes:?}]\npermission = \"basic\"\n\
         protocol = \"2026-07-28\"\n"
    );
    let server = place.start(&lines).await?;
    let user = server.user().await?;
    // It may be called before it is listened to; then nobody hears of the first change.
    let heard = async {
        while result(&user, "grow").await? == "0" {}
        Test::Ok(())
    };
    soon("it is listened to", heard).await?;
    until_listed(&user, "newer__late").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_no_more_instances_than_allowed_and_strangers_no_permission() -> Test {
    let place = Place::new()?;
    place.agent("who", "who", WHO)?;
    script(
        &place.path("agents"),
        "other",
        "tools = [\"other__who\"]\n",
        "other__who()['text']\n",
    )?;
    let (program, notes) = (place.path("server.py"), place.path("notes"));
    let lines = format!(
        "[mcp.servers.other]\ncommand = \"/usr/bin/python3\"\nargs = [{program:?}, {notes:?}]\n\
         read = [{program:?}]\nwrite = [{notes:?}]\n[mcp]\ninstances_per_user = 1\n"
    );
    let server = place.start(&lines).await?;
    let free = server.user().await?;
    let run = free.run("other", "go").await?;
    let refused = run.error.context("the plan free may not")?;
    assert_eq!(refused.code, ErrorCode::AgentFailed, "{refused:?}");
    let by_layer = refused.message.starts_with("tool_denied: ");
    ensure!(by_layer, "{refused:?}");
    ensure!(
        refused.message.contains("needs the plan pro"),
        "{refused:?}"
    );
    let user = server.user_on(Role::User, Plan::Pro, None).await?;
    let first = result(&user, "who").await?;
    // The idle one goes, so that there is room for the other.
    ensure!(result(&user, "other").await?.is_string(), "there is room");
    let again = result(&user, "who").await?;
    ensure!(first != again, "the first instance had to go");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_users_instances_end() -> Test {
    let place = Place::new()?;
    place.agent("who", "who", WHO)?;
    let server = place.start("").await?;
    let (user, admin) = (
        server.user().await?,
        server.user_as(Role::Admin, None).await?,
    );
    ensure!(result(&user, "who").await?.is_string(), "it answers");
    assert_eq!(place.processes(), 1);
    disable(&admin, user.id).await?;
    until_so("the program is gone", || place.processes() == 0).await
}
