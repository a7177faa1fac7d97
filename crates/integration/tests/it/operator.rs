//! What whoever runs a server does: checks a configuration, changes it while the server runs, sets people's accounts.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_client::Client;
use netra_integration::{ProcessOptions, TestProcess, output, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::{Plan, Role, User};
use rustix::process::Signal;

use crate::Test;
use crate::expect::until_logged;

const PASSWORD: &str = "correct horse battery";

/// How the command ended, and what it said.
async fn netra(arguments: &[&str], input: &str) -> Result<(i32, String, String)> {
    let ended = output(arguments, input).await?;
    let code = ended.status.code().context("no signal ended it")?;
    let text = |bytes| String::from_utf8(bytes).map(|text| text.trim_end().to_owned());
    Ok((code, text(ended.stdout)?, text(ended.stderr)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_checked_as_a_server_would_read_it() -> Test {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netra.toml");
    let named = file.to_string_lossy().into_owned();
    let check = async |text: &str| {
        std::fs::write(&file, text)?;
        netra(&["config", "check", "--config", &named], "").await
    };
    let (code, said, _) = check("[limits]\nsteps = 7\n").await?;
    assert_eq!((code, said.as_str()), (0, "the configuration is good"));
    for (text, words) in [
        ("[limits]\nstep = 7\n", "did you mean `limits.steps`?"),
        ("[limits]\nsteps = 0\n", "limits.steps must be at least 1"),
        ("[limits]\nsteps = \"many\"\n", "limits.steps"),
        (
            "[server]\nallowed_origins = [\"*\"]\n",
            "server.allowed_origins",
        ),
        ("[auth]\nalgorithm = \"HS256\"\n", "auth.hs256_secret_file"),
        ("[policy]\ndir = \"/nowhere\"\n", "/nowhere"),
        ("[secrets]\nserver_file = \"/nowhere\"\n", "/nowhere"),
        (
            "[mcp.servers.a]\ncommand = \"/no/such/program\"\n",
            "there is no file /no/such/program",
        ),
        ("not toml", "netra.toml"),
    ] {
        let (code, said, failed) = check(text).await?;
        ensure!(code != 0 && said.is_empty(), "{text}: {code} {said}");
        ensure!(failed.contains(words), "{text}: {failed}");
    }
    let (code, _, failed) = netra(&["config", "check", "--config", "/nowhere.toml"], "").await?;
    ensure!(code != 0 && failed.contains("/nowhere.toml"), "{failed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tries_out_a_program_that_does_not_start_reads_what_it_wrote() -> Test {
    let folder = tempfile::tempdir()?;
    let (file, data) = (folder.path().join("netra.toml"), folder.path().join("data"));
    let program = "import sys; sys.stderr.write('no module named words'); sys.exit(3)";
    let text = format!(
        "[mcp.servers.words]\ncommand = \"/usr/bin/python3\"\nargs = [\"-c\", {program:?}]\n"
    );
    std::fs::write(&file, text)?;
    let (file, data) = (file.to_string_lossy(), data.to_string_lossy());
    let arguments = ["mcp", "test", "words", "--config", &file, "--data", &data];
    let (code, _, failed) = netra(&arguments, "").await?;
    assert_eq!(code, 1, "{failed}");
    ensure!(failed.contains("exit code 3"), "{failed}");
    ensure!(failed.contains("no module named words"), "{failed}");
    Ok(())
}

/// The user as the server sees them now: with a token that it has not seen before.
async fn seen(server: &TestProcess, data: &Path, name: &str) -> Result<User> {
    let folder = data.to_string_lossy();
    let (code, token, failed) = netra(&["token", name, "--data", &folder], "").await?;
    ensure!(code == 0, "{failed}");
    Ok(Client::new(server.url(), Some(token))?.me().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_takes_new_limits_and_a_broken_file_changes_nothing() -> Test {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let file = folder.path().join("netra.toml");
    // It is asked again and again until it has changed.
    let settings = |limit: &str| format!("[limits]\nrequests_per_minute = 1000000\n{limit}\n");
    std::fs::write(&file, settings("steps = 7"))?;
    let options = ProcessOptions {
        arguments: vec!["--config".into(), file.display().to_string()],
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(&data, options).await?;
    server.user("anna").await?;
    assert_eq!(seen(&server, &data, "anna").await?.limits.steps, 7);

    std::fs::write(&file, settings("steps = 0"))?;
    server.signal(Signal::HUP)?;
    until_logged(&server, "limits.steps must be at least 1").await?;
    assert_eq!(seen(&server, &data, "anna").await?.limits.steps, 7);

    std::fs::write(&file, settings("steps = 9\n[log]\nlevel = \"debug\""))?;
    server.signal(Signal::HUP)?;
    soon("the new limit", async {
        while seen(&server, &data, "anna").await?.limits.steps != 9 {}
        anyhow::Ok(())
    })
    .await?;
    // Nothing says so much at the level of before.
    soon("a line of the new level", async {
        while !server.log()?.contains("request answered") {
            seen(&server, &data, "anna").await?;
        }
        anyhow::Ok(())
    })
    .await
}

/// Whether a page of another origin is let in.
async fn lets_in(server: &TestProcess, page: &str) -> Result<bool> {
    let client = Client::new(server.url(), None)?;
    let asked = client.request(netra_client::Method::GET, "/api/openapi.json");
    match client.send(asked.header("origin", page)).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(ErrorCode::OriginRefused) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_lets_other_pages_in_and_no_longer_those_of_before() -> Test {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netra.toml");
    let settings = |origins: &str| {
        format!(
            "[server]\nallowed_origins = [{origins}]\n\
             [limits]\nrequests_per_minute_and_address = 1000000\n"
        )
    };
    let (old, new) = ("https://old.example", "https://new.example");
    std::fs::write(&file, settings(&format!("{old:?}")))?;
    let options = ProcessOptions {
        arguments: vec!["--config".into(), file.display().to_string()],
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(&folder.path().join("data"), options).await?;
    ensure!(lets_in(&server, old).await? && !lets_in(&server, new).await?);

    std::fs::write(&file, settings(&format!("{new:?}, \"*\"")))?;
    server.signal(Signal::HUP)?;
    until_logged(&server, "`*` is no origin").await?;
    ensure!(lets_in(&server, old).await? && !lets_in(&server, new).await?);

    std::fs::write(&file, settings(&format!("{new:?}")))?;
    server.signal(Signal::HUP)?;
    soon("the new list", async {
        while !lets_in(&server, new).await? {}
        anyhow::Ok(())
    })
    .await?;
    ensure!(!lets_in(&server, old).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_json_has_an_object_in_each_line_that_names_request_and_trace() -> Test {
    let folder = tempfile::tempdir()?;
    let environment = [("FORMAT", "json"), ("LEVEL", "debug")];
    let environment = environment.map(|(key, value)| (format!("NETRA__LOG__{key}"), value.into()));
    let options = ProcessOptions {
        environment: environment.into(),
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(folder.path(), options).await?;
    ensure!(lets_in(&server, server.url()).await?);
    until_logged(&server, "request answered").await?;
    let log = server.log()?;
    let line = log.lines().find(|line| line.contains("request answered"));
    let line: serde_json::Value = serde_json::from_str(line.context("a line")?)?;
    assert_eq!(line["message"], "request answered");
    assert_eq!(line["http.status"], 200);
    for (field, start) in [
        ("request.id", "req_"),
        ("trace.id", ""),
        ("timestamp", "20"),
    ] {
        let text = line[field].as_str().with_context(|| field.to_owned())?;
        ensure!(!text.is_empty() && text.starts_with(start), "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_and_a_plan_are_set_beside_a_server() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let server = TestProcess::start(data.path()).await?;
    let anna = server.user("anna").await?;
    let set = async |words: &[&str]| {
        netra(
            &[&["user", "set"], words, &["--data", &folder]].concat(),
            "",
        )
        .await
    };
    let (code, id, _) = set(&["anna", "--role", "developer"]).await?;
    assert_eq!((code, id), (0, anna.id.to_string()));
    let (code, _, _) = set(&["anna", "--plan", "pro"]).await?;
    assert_eq!(code, 0);
    let user = seen(&server, data.path(), "anna").await?;
    assert_eq!((user.role, user.plan), (Role::Developer, Plan::Pro));
    for wrong in [
        &["nobody", "--plan", "pro"][..],
        &["anna"],
        &["anna", "--role", "king"],
    ] {
        ensure!(set(wrong).await?.0 != 0, "{wrong:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_link_of_the_command_line_leads_to_the_server_and_works_once() -> Test {
    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy().into_owned();
    let add = ["user", "add", "anna", "--data", &folder, "--password-stdin"];
    assert_eq!(netra(&add, &format!("{PASSWORD}\n")).await?.0, 0);
    let server = TestProcess::start(data.path()).await?;
    let client = Client::new(server.url(), None)?;
    client.login("anna", PASSWORD).await?;

    let (code, link, _) = netra(&["user", "reset", "anna", "--data", &folder], "").await?;
    assert_eq!(code, 0);
    let token = link.strip_prefix(&format!("{}/reset#token=", server.url()));
    let token = token.with_context(|| link.clone())?;
    let body = serde_json::json!({"token": token, "password": "another horse battery"});
    let reset = || {
        let request = client.request(netra_client::Method::POST, "/api/auth/reset");
        client.send(request.json(&body))
    };
    reset().await?;
    ensure!(reset().await.is_err(), "the link was good twice");
    ensure!(
        client.login("anna", PASSWORD).await.is_err(),
        "the old password is good"
    );
    client.login("anna", "another horse battery").await?;
    ensure!(
        netra(&["user", "reset", "nobody", "--data", &folder], "")
            .await?
            .0
            != 0
    );
    Ok(())
}
