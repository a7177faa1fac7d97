//! Tool servers that others wrote, from their packages: every tool of each is called by an agent.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use netra_integration::{Options, TestServer, binary, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::run::RunStatus;
use netra_protocol::tool::{ToolServer, ToolServerState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{failure, open_to_all, processes_with, result, until_so};
use crate::Test;
use crate::expect::{until, until_end};
use crate::scripts::script;

const EVERYTHING: &str = "node_modules/@modelcontextprotocol/server-everything/dist/index.js";
const FILES: &str = "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";
const CONFORMANCE: &str = "node_modules/@modelcontextprotocol/conformance/dist/index.js";
const NODE: &str = "node_modules/node/bin/node";

/// The packages, where `cargo xtask test mcp` installs them.
fn packages() -> Result<PathBuf> {
    let binary = binary()?;
    let target = binary
        .ancestors()
        .nth(2)
        .context("the folder of all builds")?;
    let folder = target.join("tool-servers");
    if !folder.join(".netra-installed").is_file() {
        bail!(
            "the tool servers are not in {}: `cargo xtask test mcp` installs them",
            folder.display()
        );
    }
    Ok(folder)
}

/// A server with this configuration of one tool server named `real`, and an agent `all`.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("agents"))?;
        Ok(Self { dir })
    }

    fn agent(&self, name: &str, tools: &[&str], code: &str) -> Result<()> {
        let named: Vec<String> = tools.iter().map(|tool| format!("real__{tool}")).collect();
        let manifest = format!("tools = {named:?}\n");
        script(&self.dir.path().join("agents"), name, &manifest, code)
    }

    async fn start(&self, lines: &str) -> Result<TestServer> {
        let file = self.dir.path().join("netra.toml");
        let text = format!("[mcp.servers.real]\npermission = \"basic\"\n{lines}");
        std::fs::write(&file, text)?;
        let options = Options::new()
            .file(&file)
            .agents(&self.dir.path().join("agents"));
        TestServer::start_with(options).await
    }

    /// Lines for a server that Node runs.
    fn node(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let packages = packages()?;
        let script = packages.join(script).display().to_string();
        let arguments: Vec<&str> = std::iter::once(script.as_str())
            .chain(arguments.iter().copied())
            .collect();
        Ok(format!(
            "command = {:?}\nargs = {arguments:?}\nread = [{packages:?}]\nmemory_mib = 1024\n",
            packages.join(NODE)
        ))
    }

    /// Lines for a server of Python's, without the lists that its library adds and leaves empty.
    fn python(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let packages = packages()?;
        let program = packages.join("venv/bin").join(program);
        // A virtual environment leads to the Python that it was made with.
        let python = std::fs::canonicalize(packages.join("venv/bin/python"))?;
        let home = python.ancestors().nth(2).context("the home of Python")?;
        Ok(format!(
            "command = {program:?}\nargs = {arguments:?}\nread = [{packages:?}, {home:?}]\n\
             tools.list_resources.offered = false\ntools.read_resource.offered = false\n\
             tools.list_prompts.offered = false\ntools.get_prompt.offered = false\n"
        ))
    }
}

/// The tool server once it has answered.
async fn ready(server: &TestServer) -> Result<ToolServer> {
    let admin = server.user_as(Role::Admin, None).await?;
    let asked = async {
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        loop {
            turns.tick().await;
            let mut servers = admin.client.tool_servers().await?.items;
            match servers.pop() {
                Some(server) if server.state != ToolServerState::Starting => {
                    ensure!(server.problem.is_none(), "{server:?}");
                    return Ok(server);
                }
                _ => {}
            }
        }
    };
    soon("the tool server answers", asked).await
}

/// Runs the agent `all`, whose result is an object with a field for each tool that it called, and
/// holds the fields against the tools of the server.
async fn calls_all(server: &TestServer) -> Result<Value> {
    let offered = ready(server).await?;
    let user = server.user().await?;
    let called = result(&user, "all").await?;
    let fields = called.as_object().context("an object")?;
    let fields: BTreeSet<String> = fields
        .keys()
        .filter(|key| *key != "_call")
        .cloned()
        .collect();
    let tools = offered
        .tools
        .iter()
        .map(|tool| tool.replacen("real__", "", 1));
    assert_eq!(tools.collect::<BTreeSet<_>>(), fields);
    Ok(called)
}

/// The names in `done['name']` of an agent's code.
fn named_in(code: &str) -> Vec<&str> {
    let parts = code.split("done['").skip(1);
    parts.filter_map(|part| part.split('\'').next()).collect()
}

const ALL_OF_EVERYTHING: &str = "done = {}
done['echo'] = real__echo(message='hi')
done['get_annotated_message'] = real__get_annotated_message(messageType='error', includeImage=True)
done['get_env'] = real__get_env()
done['get_resource_links'] = real__get_resource_links(count=2)
done['get_resource_reference'] = real__get_resource_reference(resourceType='Text', resourceId=1)
done['get_structured_content'] = real__get_structured_content(location='New York')
done['get_sum'] = real__get_sum(a=1, b=2)
done['get_tiny_image'] = real__get_tiny_image()
done['gzip_file_as_resource'] = real__gzip_file_as_resource(name='a.gz', data='data:text/plain,hello', outputType='resource')
done['toggle_simulated_logging'] = real__toggle_simulated_logging()
done['toggle_subscriber_updates'] = real__toggle_subscriber_updates()
done['trigger_long_running_operation'] = real__trigger_long_running_operation(duration=0.1, steps=2)
try:
    done['simulate_research_query'] = real__simulate_research_query(topic='tea')
except RuntimeError as error:
    done['simulate_research_query'] = {'refused': str(error)}
done['list_resources'] = real__list_resources()
done['read_resource'] = real__read_resource(uri=done['list_resources']['resources'][0]['uri'])
done['list_prompts'] = real__list_prompts()
done['get_prompt'] = real__get_prompt(name='simple-prompt')
done
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tools_of_server_everything() -> Test {
    let place = Place::new()?;
    place.agent(
        "all",
        &unique(named_in(ALL_OF_EVERYTHING)),
        ALL_OF_EVERYTHING,
    )?;
    let server = place.start(&place.node(EVERYTHING, &["stdio"])?).await?;
    let done = calls_all(&server).await?;
    assert_eq!(done["echo"]["text"], "Echo: hi");
    ensure!(
        done["get_sum"]["text"]
            .as_str()
            .is_some_and(|text| text.contains('3')),
        "{done}"
    );
    assert_eq!(
        done["get_tiny_image"]["files"][0]["media_type"],
        "image/png"
    );
    ensure!(
        done["get_structured_content"]["structured"]["temperature"].is_number(),
        "{done}"
    );
    assert_eq!(
        done["get_resource_links"]["links"].as_array().map(Vec::len),
        Some(2)
    );
    ensure!(
        done["read_resource"]["resources"][0]["text"].is_string(),
        "{done}"
    );
    ensure!(
        done["get_prompt"]["messages"][0]["text"].is_string(),
        "{done}"
    );
    // Nothing of the server's own environment.
    let environment = done["get_env"]["text"].as_str().unwrap_or_default();
    ensure!(!environment.contains("CARGO"), "{environment}");
    // It answers by a task only, which is not followed.
    ensure!(
        done["simulate_research_query"]["refused"].is_string(),
        "{done}"
    );
    Ok(())
}

fn unique(names: Vec<&str>) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    names
        .into_iter()
        .filter(|name| seen.insert(*name))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tools_of_server_filesystem() -> Test {
    let place = Place::new()?;
    let folder = tempfile::tempdir()?;
    open_to_all(folder.path(), 0o777)?;
    let at = folder.path().canonicalize()?.display().to_string();
    let code = format!(
        "at = '{at}'
done = {{}}
done['write_file'] = real__write_file(path=at + '/a.txt', content='one\\ntwo\\n')
done['read_file'] = real__read_file(path=at + '/a.txt')
done['read_text_file'] = real__read_text_file(path=at + '/a.txt', head=1)
done['read_media_file'] = real__read_media_file(path=at + '/p.png')
done['read_multiple_files'] = real__read_multiple_files(paths=[at + '/a.txt'])
done['edit_file'] = real__edit_file(path=at + '/a.txt', edits=[{{'oldText': 'two', 'newText': 'three'}}])
done['create_directory'] = real__create_directory(path=at + '/sub')
done['list_directory'] = real__list_directory(path=at)
done['list_directory_with_sizes'] = real__list_directory_with_sizes(path=at)
done['directory_tree'] = real__directory_tree(path=at)
done['move_file'] = real__move_file(source=at + '/a.txt', destination=at + '/sub/b.txt')
done['search_files'] = real__search_files(path=at, pattern='**/b.txt')
done['get_file_info'] = real__get_file_info(path=at + '/sub/b.txt')
done['list_allowed_directories'] = real__list_allowed_directories()
done
"
    );
    std::fs::write(folder.path().join("p.png"), b"\x89PNG\r\n\x1a\n")?;
    place.agent("all", &unique(named_in(&code)), &code)?;
    let lines = format!("{}write = [{at:?}]\n", place.node(FILES, &[&at])?);
    let server = place.start(&lines).await?;
    let done = calls_all(&server).await?;
    assert_eq!(done["read_text_file"]["text"], "one");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("sub/b.txt"))?,
        "one\nthree\n"
    );
    ensure!(
        done["search_files"]["text"]
            .as_str()
            .is_some_and(|text| text.contains("b.txt")),
        "{done}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tools_of_mcp_server_git() -> Test {
    let place = Place::new()?;
    let repository = tempfile::tempdir()?;
    let at = repository.path().canonicalize()?.display().to_string();
    git(&at, &["init", "--quiet", "--initial-branch", "main"])?;
    git(&at, &["config", "user.name", "A Test"])?;
    git(&at, &["config", "user.email", "test@netra.example"])?;
    std::fs::write(repository.path().join("a.txt"), "one\n")?;
    git(&at, &["add", "a.txt"])?;
    git(&at, &["commit", "--quiet", "--message", "first"])?;
    std::fs::write(repository.path().join("a.txt"), "two\n")?;
    // Where the server is root, the program is another user.
    let opened = Command::new("chmod").args(["-R", "a+rwX", &at]).status()?;
    ensure!(opened.success(), "chmod");
    let code = format!(
        "at = '{at}'
done = {{}}
done['git_status'] = real__git_status(repo_path=at)
done['git_diff_unstaged'] = real__git_diff_unstaged(repo_path=at)
done['git_add'] = real__git_add(repo_path=at, files=['a.txt'])
done['git_diff_staged'] = real__git_diff_staged(repo_path=at)
done['git_reset'] = real__git_reset(repo_path=at)
real__git_add(repo_path=at, files=['a.txt'])
done['git_commit'] = real__git_commit(repo_path=at, message='second')
done['git_log'] = real__git_log(repo_path=at)
done['git_show'] = real__git_show(repo_path=at, revision='HEAD')
done['git_create_branch'] = real__git_create_branch(repo_path=at, branch_name='side')
done['git_checkout'] = real__git_checkout(repo_path=at, branch_name='side')
done['git_diff'] = real__git_diff(repo_path=at, target='HEAD~1')
done['git_branch'] = real__git_branch(repo_path=at, branch_type='local')
done
"
    );
    place.agent("all", &unique(named_in(&code)), &code)?;
    let lines = format!(
        "{}write = [{at:?}]\nenv = {{ GIT_CONFIG_COUNT = \"1\", GIT_CONFIG_KEY_0 = \"safe.directory\", \
         GIT_CONFIG_VALUE_0 = \"*\" }}\n",
        place.python("mcp-server-git", &["--repository", &at])?
    );
    let server = place.start(&lines).await?;
    let done = calls_all(&server).await?;
    let log = done["git_log"]["text"].as_str().unwrap_or_default();
    ensure!(log.contains("first") && log.contains("second"), "{done}");
    ensure!(
        done["git_diff_unstaged"]["text"]
            .as_str()
            .is_some_and(|text| text.contains("+two")),
        "{done}"
    );
    Ok(())
}

fn git(folder: &str, arguments: &[&str]) -> Result<()> {
    let done = Command::new("git")
        .args(["-C", folder])
        .args(arguments)
        .status()
        .context("git is needed: `apt-get install git` on Debian")?;
    ensure!(done.success(), "git {arguments:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tools_of_mcp_server_time() -> Test {
    let place = Place::new()?;
    let code = "done = {}
done['get_current_time'] = real__get_current_time(timezone='Europe/Zurich')
done['convert_time'] = real__convert_time(source_timezone='UTC', time='12:00', target_timezone='Asia/Tokyo')
done
";
    place.agent("all", &unique(named_in(code)), code)?;
    let lines = place.python("mcp-server-time", &["--local-timezone", "UTC"])?;
    let server = place.start(&lines).await?;
    let done = calls_all(&server).await?;
    ensure!(
        done["convert_time"]["text"]
            .as_str()
            .is_some_and(|text| text.contains("21:00")),
        "{done}"
    );
    Ok(())
}

/// The process of Node with this word among its arguments.
fn process_with(word: &str) -> Option<Pid> {
    processes_with("/node", word).first().copied()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_cancel_a_crash_and_a_hang_of_server_everything() -> Test {
    let place = Place::new()?;
    let long = "real__trigger_long_running_operation(duration=20, steps=40)['text']\n";
    place.agent("long", &["trigger_long_running_operation"], long)?;
    place.agent("echo", &["echo"], "real__echo(message='hi')['text']\n")?;
    let mark = place.dir.path().display().to_string();
    let lines = place.node(EVERYTHING, &["stdio", &mark])?;
    let server = place.start(&format!("{lines}call_ms = 15000\n")).await?;
    ready(&server).await?;
    let user = server.user().await?;
    assert_eq!(result(&user, "echo").await?, "Echo: hi");
    let first = process_with(&mark).context("the instance runs")?;

    let mut socket = user.socket().await?;
    let run = user.start("long", "go").await?;
    until(&mut socket, "tool_progress").await?;
    user.client.run_cancel(run.id).await?;
    until_end(&mut socket, run.id).await?;
    assert_eq!(
        user.client.run_end(run.id).await?.status,
        RunStatus::Cancelled
    );
    assert_eq!(result(&user, "echo").await?, "Echo: hi");
    assert_eq!(
        process_with(&mark),
        Some(first),
        "a cancel leaves the instance as it is"
    );

    let run = user.start("long", "go").await?;
    until(&mut socket, "tool_progress").await?;
    kill_process(first, Signal::KILL)?;
    let ended = soon("the run ends", user.client.run_end(run.id)).await?;
    let error = ended.error.context("the call has failed")?;
    ensure!(error.message.contains("ended during the call"), "{error:?}");
    ensure!(error.message.contains("signal 9"), "{error:?}");
    assert_eq!(result(&user, "echo").await?, "Echo: hi");
    let second = process_with(&mark).context("it was started again")?;
    ensure!(second != first, "a new one");
    drop(server);

    let server = place.start(&format!("{lines}call_ms = 500\n")).await?;
    ready(&server).await?;
    let user = server.user().await?;
    until_so("the first server's instance is gone", || {
        process_with(&mark).is_none()
    })
    .await?;
    assert_eq!(result(&user, "echo").await?, "Echo: hi");
    let stopped = process_with(&mark).context("the instance runs")?;
    kill_process(stopped, Signal::STOP)?;
    for _ in 0..3 {
        let late = failure(&user, "echo").await?;
        ensure!(
            late.message.contains("did not answer within 500 ms"),
            "{late:?}"
        );
        ensure!(
            late.message.contains(&ErrorCode::ToolTimeout.to_string()),
            "{late:?}"
        );
    }
    assert_eq!(result(&user, "echo").await?, "Echo: hi");
    ensure!(
        process_with(&mark) != Some(stopped),
        "the one that hangs was thrown away"
    );
    Ok(())
}

/// Ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_everything_over_http() -> Test {
    let place = Place::new()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let packages = packages()?;
    let http = Command::new(packages.join(NODE))
        .arg(packages.join(EVERYTHING))
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let _http = Ends(http);
    until_so("it listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
    .await?;
    place.agent(
        "all",
        &unique(named_in(ALL_OF_EVERYTHING)),
        ALL_OF_EVERYTHING,
    )?;
    let slow = "real__trigger_long_running_operation(duration=2, steps=4)['text']\n";
    place.agent("slow", &["trigger_long_running_operation"], slow)?;
    let server = place
        .start(&format!("url = \"http://127.0.0.1:{port}/mcp\"\n"))
        .await?;
    let done = calls_all(&server).await?;
    assert_eq!(done["echo"]["text"], "Echo: hi");
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("slow", "go").await?;
    until(&mut socket, "tool_progress").await?;
    assert_eq!(
        user.client.run_end(run.id).await?.status,
        RunStatus::Completed
    );
    Ok(())
}

/// What the conformance suite finds wrong with the client, and why that is as it is.
const EXPECTED_FAILURES: [(&str, &str); 1] = [(
    "elicitation-sep1034-client-defaults",
    "a tool server's questions to the user are declined: nobody is there to answer in the middle of a call",
)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_of_the_protocol_passes() -> Test {
    let packages = packages()?;
    let binary = binary()?;
    let client = binary.with_file_name("examples").join("conformance-client");
    ensure!(
        client.is_file(),
        "{} is not there: `cargo build -p netra-mcp --example conformance-client`",
        client.display()
    );
    for scenario in [
        "initialize",
        "tools_call",
        "sse-retry",
        "elicitation-sep1034-client-defaults",
    ] {
        let (passed, said) = scenario_passes(&packages, &client, scenario)?;
        let expected = EXPECTED_FAILURES.iter().find(|(name, _)| *name == scenario);
        match (passed, expected) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(_)) => bail!("{scenario} passes: take it off the list"),
            (false, None) => bail!("{scenario} fails:\n{said}"),
        }
    }
    Ok(())
}

fn scenario_passes(packages: &Path, client: &Path, scenario: &str) -> Result<(bool, String)> {
    let said = Command::new(packages.join(NODE))
        .arg(packages.join(CONFORMANCE))
        .args(["client", "--scenario", scenario, "--command"])
        .arg(format!("{} {scenario}", client.display()))
        .stdin(Stdio::null())
        .output()?;
    let words = [&said.stdout[..], &said.stderr[..]].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    Ok((said.status.success(), words))
}
