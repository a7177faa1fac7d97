//! Every operation of the document, tried by schemathesis with requests that fit it and that do not, alone and one
//! after the other: no answer that the document does not have, no 5xx, nobody else's objects.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{Options, TestServer, TestUser};
use netra_protocol::account::{Plan, Role};
use netra_protocol::limits::{LimitOverrides, Limits};
use serde_json::json;
use tokio::process::Command;

use crate::Test;

/// The program, which `cargo xtask test contract` installs.
const PROGRAM: &str = "NETRA_SCHEMATHESIS";
const SEED: &str = "NETRA_CONTRACT_SEED";
/// How long each of the two goes on; else as often as below.
const SECONDS: &str = "NETRA_CONTRACT_SECONDS";
/// Requests of each kind for each operation, where no time is said.
const EXAMPLES: &str = "4";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contract");
/// More than schemathesis asks for.
const MANY: u32 = 10_000_000;

#[expect(
    clippy::disallowed_methods,
    reason = "a part of the gate says where it has put the program, and how long there is"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn server() -> Result<TestServer> {
    let options = Options::new()
        .set("auth.registration", "open")
        .set("limits.requests_per_minute", MANY)
        .set("limits.requests_per_minute_and_address", MANY)
        .set("limits.logins_per_minute", MANY);
    TestServer::start_with(options).await
}

/// Runs schemathesis as the first of these, who must not see what is the other's.
async fn try_as(server: &TestServer, users: [&TestUser; 2], more: &[&str]) -> Test {
    let program = variable(PROGRAM).map(PathBuf::from);
    let program = program.with_context(|| {
        format!(
            "{PROGRAM} is not set: `cargo xtask test contract` installs schemathesis and sets it"
        )
    })?;
    let folder = tempfile::tempdir()?;
    let config = configuration(folder.path(), users)?;
    let mut schemathesis = Command::new(program);
    schemathesis
        .arg("--config-file")
        .arg(config)
        .args(["run", "--no-color", "--seed"])
        .arg(variable(SEED).unwrap_or_else(|| "7".into()));
    match variable(SECONDS) {
        Some(seconds) => schemathesis.args(["--max-time", &seconds]),
        None => schemathesis.args(["--max-examples", EXAMPLES]),
    };
    schemathesis
        .args(more)
        .arg(format!("{}/api/openapi.json", server.url()))
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", FOLDER)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env(
            "NETRA_CONTRACT_USERS",
            users.map(|user| user.id.to_string()).join(","),
        )
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = schemathesis.status().await?;
    ensure!(
        ended.success(),
        "see above: the server and its document differ"
    );
    Ok(())
}

/// The settings of the repository, and who asks.
fn configuration(folder: &Path, users: [&TestUser; 2]) -> Result<PathBuf> {
    let auth = users.map(|user| {
        let token = user.client.token().unwrap_or_default();
        json!({"name": user.name, "fixedHeaders": [
            {"name": "Authorization", "value": format!("Bearer {token}")}]})
    });
    let file = folder.join("auth.json");
    std::fs::write(&file, json!({ "auth": auth }).to_string())?;
    let settings = std::fs::read_to_string(Path::new(FOLDER).join("schemathesis.toml"))?;
    let names = users.map(|user| &user.name);
    let who = format!(
        "\n[auth.wfc]\npath = {file:?}\nuser = {:?}\npeers = {names:?}\n",
        names[0]
    );
    let config = folder.join("schemathesis.toml");
    std::fs::write(&config, settings + &who)?;
    Ok(config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_gets_what_the_document_says() -> Test {
    let server = server().await?;
    let (anna, bert) = (server.user().await?, server.user().await?);
    // Whoever has left is refused ever after: see below.
    try_as(
        &server,
        [&anna, &bert],
        &["--exclude-operation-id", "me_delete"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_gets_what_the_document_says() -> Test {
    let server = server().await?;
    let anna = server.user_on(Role::Admin, Plan::Enterprise, None).await?;
    let bert = server.user_on(Role::Admin, Plan::Enterprise, None).await?;
    // An admin may set the limits of the plans; those of one user go before them.
    let limits = Limits {
        requests_per_minute: MANY,
        ..Limits::default()
    };
    for user in [&anna, &bert] {
        let change = json!({ "limits": LimitOverrides::from(&limits) });
        let path = format!("/api/admin/users/{}", user.id);
        let request = anna
            .client
            .request(netra_client::Method::PATCH, &path)
            .json(&change);
        anna.client.send(request).await?;
    }
    try_as(
        &server,
        [&anna, &bert],
        &["--exclude-operation-id", "me_delete"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_gets_what_the_document_says() -> Test {
    let server = server().await?;
    let (anna, bert) = (server.user().await?, server.user().await?);
    try_as(
        &server,
        [&anna, &bert],
        &["--include-operation-id", "me_delete"],
    )
    .await
}
