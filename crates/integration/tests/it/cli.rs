//! The command line, as people and scripts use it.

use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use netra_client::Method;
use netra_integration::{
    FakeModel, Reply, TestProcess, TestServer, TestUser, output, run_netra, soon,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::Test;
use crate::expect::with_model;
use netra_integration::script;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn good(arguments: &[&str], input: &str) -> Result<String> {
    let ended: Output = output(arguments, input).await?;
    ensure!(
        ended.status.success(),
        "{arguments:?}: {}",
        text(&ended.stderr)
    );
    Ok(text(&ended.stdout).trim_end().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_and_tokens_are_made_with_and_without_a_server() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let add = [
        "user",
        "add",
        "ada",
        "--data",
        &folder,
        "--role",
        "admin",
        "--password-stdin",
    ];
    let id = good(&add, "correct horse battery\n").await?;
    ensure!(id.starts_with("usr_") && id.lines().count() == 1, "{id}");
    assert_eq!(
        output(&add, "correct horse battery\n").await?.status.code(),
        Some(1),
        "taken"
    );
    let short = ["user", "add", "bob", "--data", &folder, "--password-stdin"];
    assert_eq!(output(&short, "short\n").await?.status.code(), Some(2));

    let server = TestProcess::start(data.path()).await?;
    ensure!(
        !server.log()?.contains("/setup#token="),
        "there is an admin"
    );
    let client = netra_client::Client::new(server.url(), None)?;
    let signed_in = client.login("ada", "correct horse battery").await?;
    assert_eq!(signed_in.user.id.to_string(), id);
    let token = good(&["token", "ada", "--data", &folder, "--ttl", "5m"], "").await?;
    assert_eq!(client.with_token(token).me().await?.id.to_string(), id);

    let second = good(&["user", "add", "bob", "--data", &folder], "").await?;
    let listed: Value =
        serde_json::from_str(&good(&["user", "list", "--data", &folder, "--json"], "").await?)?;
    let ids: Vec<_> = listed
        .as_array()
        .context("a list")?
        .iter()
        .map(|user| user["id"].clone())
        .collect();
    assert_eq!(ids, [id, second]);
    assert_eq!(
        output(&["token", "nobody", "--data", &folder], "")
            .await?
            .status
            .code(),
        Some(1)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_starts_a_server_of_its_own_or_finds_the_one_that_is_there() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let run = ["run", "echo", "--data", &folder, "good morning"];
    assert_eq!(good(&run, "").await?, "good morning");
    ensure!(
        !data.path().join("server.json").exists(),
        "the private server is gone"
    );

    let server = TestProcess::start(data.path()).await?;
    assert_eq!(good(&run, "").await?, "good morning");
    assert_eq!(
        good(&["run", "echo", "--data", &folder, "-"], "from a pipe\n").await?,
        "from a pipe"
    );
    let token = good(&["token", "local", "--data", &folder], "").await?;
    let client = netra_client::Client::new(server.url(), Some(token.clone()))?;
    assert_eq!(
        client.runs(None, None).await?.items.len(),
        3,
        "all as the same user"
    );
    let named = [
        "run",
        "echo",
        "--server",
        server.url(),
        "--token",
        &token,
        "by address",
    ];
    assert_eq!(good(&named, "").await?, "by address");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_the_wire() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let printed = good(&["run", "echo", "--data", &folder, "--json", "hello"], "").await?;
    let events: Vec<netra_protocol::WireEvent> = printed
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(events[0].event.kind.name(), "run_started");
    ensure!(
        events
            .last()
            .is_some_and(|last| last.event.kind.name() == "run_completed")
    );
    let numbers: Vec<_> = events.iter().map(|event| event.seq).collect();
    ensure!(numbers.is_sorted_by(|a, b| a < b));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_say_what_happened() -> Test {
    let data = tempfile::tempdir()?;
    let agents = tempfile::tempdir()?;
    script(agents.path(), "fails", "", "1 / 0\n")?;
    script(agents.path(), "forever", "", "while True:\n    pass\n")?;
    let folder = data.path().to_string_lossy().into_owned();
    let of = agents.path().to_string_lossy().into_owned();
    // Bound, so that no other test gets the port, and not listened at.
    let closed = tokio::net::TcpSocket::new_v4()?;
    closed.bind((std::net::Ipv4Addr::LOCALHOST, 0).into())?;
    let nobody = format!("http://{}", closed.local_addr()?);
    for (code, arguments) in [
        (2, vec!["run"]),
        (2, vec!["no-such-command"]),
        (
            2,
            vec!["run", "echo", "--config", "/no/such/file.toml", "x"],
        ),
        (
            3,
            vec!["run", "fails", "--data", &folder, "--agents", &of, "x"],
        ),
        (
            5,
            vec![
                "run",
                "forever",
                "--data",
                &folder,
                "--agents",
                &of,
                "--timeout",
                "1s",
                "x",
            ],
        ),
        (
            6,
            vec!["run", "echo", "--server", &nobody, "--token", "t", "x"],
        ),
        (7, vec!["run", "no-such-agent", "--data", &folder, "x"]),
        (7, vec!["run", "assistant", "--data", &folder, "x"]),
    ] {
        let ended = output(&arguments, "").await?;
        assert_eq!(
            ended.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&ended.stderr)
        );
        ensure!(
            !ended.stderr.is_empty() && ended.stdout.is_empty(),
            "{arguments:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_cancels_the_run() -> Test {
    let model = FakeModel::start(|_| Reply::Hang("let me think".into())).await?;
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let mut command = run_netra(&["run", "assistant", "--data", &folder, "--json", "hello"])?;
    command.envs(with_model(&model).environment());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("asked for")?).lines();
    let mut seen = Vec::new();
    while let Some(line) = soon("an event", lines.next_line()).await? {
        seen.push(serde_json::from_str::<Value>(&line)?["type"].clone());
        if seen.last().is_some_and(|last| last == "message_delta") {
            let pid = child
                .id()
                .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            kill_process(pid.context("it runs")?, Signal::INT)?;
        }
    }
    assert_eq!(soon("the end", child.wait()).await?.code(), Some(4));
    ensure!(
        seen.last().is_some_and(|last| last == "run_cancelled"),
        "{seen:?}"
    );
    model.until_open(0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_listed_shown_and_checked() -> Test {
    let agents = tempfile::tempdir()?;
    script(agents.path(), "typo", "tools = [\"no_such_tool\"]\n", "1\n")?;
    let of = agents.path().to_string_lossy().into_owned();
    let listed: Value =
        serde_json::from_str(&good(&["agents", "list", "--agents", &of, "--json"], "").await?)?;
    let names: Vec<_> = listed
        .as_array()
        .context("a list")?
        .iter()
        .map(|a| a["name"].clone())
        .collect();
    for name in ["assistant", "echo", "optimizer", "typo"] {
        ensure!(
            names.contains(&name.into()),
            "{name} is missing in {names:?}"
        );
    }
    ensure!(
        good(&["agents", "show", "echo"], "")
            .await?
            .contains("native")
    );
    assert_eq!(
        output(&["agents", "show", "nobody"], "")
            .await?
            .status
            .code(),
        Some(1)
    );
    let checked = output(&["agents", "check", "--agents", &of], "").await?;
    assert_eq!(checked.status.code(), Some(1));
    let told = text(&checked.stdout);
    ensure!(
        told.contains("typo/agent.toml:4") && told.contains("no_such_tool"),
        "{told}"
    );
    good(&["agents", "check"], "")
        .await
        .context("the built-in agents are right")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_printed_checked_and_explained_and_a_broken_one_keeps_the_server_from_starting()
-> Test {
    let policies = tempfile::tempdir()?;
    let of = policies.path().to_string_lossy().into_owned();
    let empty = output(&["policy", "check", "--policy", &of], "").await?;
    assert_eq!(empty.status.code(), Some(2));
    let printed = good(&["policy", "print"], "").await?;
    std::fs::write(policies.path().join("tools.cedar"), &printed)?;
    good(&["policy", "check", "--policy", &of], "").await?;

    let own = "@id(\"quiet\") @reason(\"nothing is saved here\")\n\
               forbid (principal, action == Netra::Action::\"call\", resource == Netra::Tool::\"save_file\");\n";
    std::fs::write(policies.path().join("own.cedar"), own)?;
    let explain = ["policy", "explain", "save_file", "--policy", &of, "--json"];
    let refused = output(&explain, "").await?;
    assert_eq!(refused.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&refused.stdout)?;
    assert_eq!(told["reason"], "nothing is saved here");
    assert_eq!(told["call"], serde_json::json!(["quiet"]));
    let allowed = good(&["policy", "explain", "save_file"], "").await?;
    ensure!(allowed.starts_with("allowed"), "{allowed}");

    let rated = printed.replace("@id(\"artifacts\")", "@id(\"artifacts\") @rate(\"5/hour\")");
    let rated = rated.replace(
        "resource.permission == \"artifacts\"",
        "resource.permission == \"artifacts\" && principal in Netra::Group::\"ops\"",
    );
    std::fs::write(policies.path().join("tools.cedar"), rated)?;
    std::fs::write(policies.path().join("own.cedar"), "")?;
    let grouped = [&explain[..], &["--group", "ops"]].concat();
    let told: Value = serde_json::from_str(&good(&grouped, "").await?)?;
    assert_eq!(told["rates"], serde_json::json!(["5/hour"]));
    assert_eq!(output(&explain, "").await?.status.code(), Some(1));

    // What fits the schema and says nothing.
    let silent = own.replace("save_file", "save_fil");
    std::fs::write(policies.path().join("own.cedar"), silent)?;
    let found = output(&["policy", "check", "--policy", &of], "").await?;
    assert_eq!(found.status.code(), Some(2));
    let told = String::from_utf8_lossy(&found.stderr);
    ensure!(told.contains("own.cedar:2: there is no tool"), "{told}");

    // A tool that a server brings, which is not started for this.
    let servers = policies.path().join("servers.toml");
    let of_git = "[mcp.servers.git]\ncommand = \"/usr/bin/false\"\npermission = \"basic\"\n\
                  [mcp.servers.git.tools.push]\nrisk = \"high\"\n";
    std::fs::write(&servers, of_git)?;
    let servers = servers.to_string_lossy();
    let asks = ["policy", "explain", "git__push", "--config", &servers];
    let asked = good(&asks, "").await?;
    ensure!(asked.starts_with("after_approval"), "{asked}");

    std::fs::write(
        policies.path().join("own.cedar"),
        format!("{own}\npermit (principal);\n"),
    )?;
    let data = tempfile::tempdir()?;
    let config = policies.path().join("netra.toml");
    std::fs::write(&config, format!("[policy]\ndir = {of:?}\n"))?;
    let (data, config) = (data.path().to_string_lossy(), config.to_string_lossy());
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        &data,
        "--config",
        &config,
    ];
    for arguments in [&["policy", "check", "--policy", &of][..], &serve[..]] {
        let broken = output(arguments, "").await?;
        assert_eq!(broken.status.code(), Some(2));
        let told = text(&broken.stderr);
        ensure!(told.contains("own.cedar:4: "), "{told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_records_are_read_exported_and_checked_beside_the_server() -> Test {
    let server = TestServer::start().await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let made = ada.client.request(Method::POST, "/api/keys");
    let made = made.json(&serde_json::json!({"name": "ci", "scopes": ["read"]}));
    ada.client.send(made).await?;
    let list = async |user: &TestUser| -> Result<Value> {
        let asked = user.client.request(Method::GET, "/api/audit");
        Ok(user.client.send(asked).await?.json().await?)
    };
    let (of_ada, of_bob) = (list(&ada).await?, list(&bob).await?);
    assert_eq!(of_ada["items"][0]["seq"], 1);
    assert_eq!(of_ada["items"][0]["actor"], ada.id.to_string());
    assert_eq!(of_bob["items"], serde_json::json!([]));

    let data = server.data().to_string_lossy().into_owned();
    let checked = good(&["audit", "verify", "--data", &data], "").await?;
    ensure!(checked.contains("all is well"), "{checked}");
    let exported = good(&["audit", "export", "--data", &data], "").await?;
    let line: Value = serde_json::from_str(exported.lines().next().context("a line")?)?;
    assert_eq!(line["hash"], of_ada["items"][0]["hash"]);
    let nobody = output(
        &["audit", "verify", "--data", &data, "--user", "nobody"],
        "",
    )
    .await?;
    assert_eq!(nobody.status.code(), Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_shown_with_its_sources_and_without_secrets() -> Test {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netra.toml");
    std::fs::write(
        &file,
        "[limits]\nsteps = 7\n\n[metrics]\ntoken = \"very-secret\"\n",
    )?;
    let file = file.to_string_lossy().into_owned();
    let printed = good(&["config", "print", "--config", &file, "--json"], "").await?;
    ensure!(!printed.contains("very-secret"));
    let settings: Value = serde_json::from_str(&printed)?;
    let find = |key: &str| -> Result<Value> {
        let all = settings.as_array().context("a list")?;
        all.iter()
            .find(|setting| setting["key"] == key)
            .cloned()
            .context("the key is there")
    };
    assert_eq!(find("limits.steps")?["value"], 7);
    assert_eq!(find("limits.steps")?["source"], format!("file {file}"));
    assert_eq!(find("limits.depth")?["source"], "default");

    let mut command = run_netra(&["config", "print"])?;
    command.env("NETRA__LIMITS__CONCURENT_RUNS", "9");
    let ended = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await?;
    assert_eq!(ended.status.code(), Some(2));
    ensure!(text(&ended.stderr).contains("did you mean `limits.concurrent_runs`?"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_explains_itself() -> Test {
    for arguments in [
        vec!["--help"],
        vec!["serve", "--help"],
        vec!["run", "--help"],
        vec!["user", "add", "--help"],
        vec!["token", "--help"],
        vec!["agents", "check", "--help"],
        vec!["config", "print", "--help"],
    ] {
        ensure!(
            good(&arguments, "").await?.contains("Examples:"),
            "{arguments:?}"
        );
    }
    ensure!(good(&["--help"], "").await?.contains("Exit codes:"));
    ensure!(good(&["--version"], "").await?.starts_with("netra "));
    let openapi: Value = serde_json::from_str(&good(&["openapi"], "").await?)?;
    ensure!(openapi["paths"]["/api/runs"]["post"].is_object());
    ensure!(good(&["completion", "bash"], "").await?.contains("netra"));
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    ensure!(
        good(&["migrate", "--data", &folder], "")
            .await?
            .contains("schema version")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_a_killed_server_left_behind_sends_no_token_to_its_address() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let left_behind = serde_json::json!({
        "address": format!("http://{}", stranger.local_addr()?),
        "pid": 1,
    });
    std::fs::write(data.path().join("server.json"), left_behind.to_string())?;
    let ask = ["run", "echo", "--data", &folder, "hello"];
    let answer = tokio::select! {
        answer = good(&ask, "") => answer?,
        _ = stranger.accept() => anyhow::bail!("the command went to the stale address"),
    };
    assert_eq!(answer, "hello");
    ensure!(
        !data.path().join("server.json").exists(),
        "the stale file is gone"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tries_the_sandbox_and_fails_where_less_is_there_than_required() -> Test {
    let place = tempfile::tempdir()?;
    let data = place.path().join("data");
    let folder = data.to_string_lossy().into_owned();
    let asked = ["doctor", "--data", &folder, "--json"];
    let found: Value = serde_json::from_str(&good(&asked, "").await?)?;
    ensure!(!data.exists(), "it makes nothing");
    let attempts = found["sandbox"]["attempts"].as_array();
    let attempts = attempts.context("what was tried")?;
    ensure!(!attempts.is_empty() && attempts.iter().all(|attempt| attempt["held"] == true));
    ensure!(
        found["sandbox"]["tier"] != "none",
        "this test needs a kernel with Landlock: {found}"
    );

    let more = place.path().join("netra.toml");
    std::fs::write(&more, "[sandbox]\nrequire = \"full\"\n")?;
    let more = more.to_string_lossy().into_owned();
    let required = ["doctor", "--data", &folder, "--config", &more];
    let ended = output(&required, "").await?;
    assert_eq!(ended.status.code(), Some(1), "no cgroup is named");
    ensure!(
        text(&ended.stdout).contains("BAD  tier"),
        "{}",
        text(&ended.stdout)
    );

    let server = TestProcess::start(&data).await?;
    let beside = good(&["doctor", "--data", &folder], "").await?;
    ensure!(beside.contains("in use by a server at http://"), "{beside}");
    drop(server);
    Ok(())
}
