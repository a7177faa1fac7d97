//! What admins and operators see of the models.

use anyhow::{Context as _, ensure};
use netra_integration::{Options, TestServer, output};
use netra_protocol::account::Role;
use netra_protocol::model::Model;
use serde_json::Value;

use crate::Test;

const CONFIGURATION: &str = r#"
[models]
default = "near/small"
[models.providers.near]
base_url = "http://127.0.0.1:1/v1"
models = ["small", "large"]
[models.providers.claude]
kind = "anthropic"
api_key = "hush-hush"
[models.providers.google]
kind = "gemini"
models = ["gemini-2.5-flash"]
"#;

#[tokio::test]
async fn models_are_listed_with_what_is_known_of_them_and_no_key() -> Test {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netra.toml");
    std::fs::write(&file, CONFIGURATION)?;
    let server = TestServer::start_with(Options::new().file(&file)).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let listed = admin.client.models().await?.items;
    let names: Vec<_> = listed.iter().map(|model| model.name.as_str()).collect();
    let expected = [
        "claude/*",
        "google/gemini-2.5-flash",
        "near/large",
        "near/small",
    ];
    ensure!(names == expected, "{names:?}");
    let [claude, flash, large, small] = listed.as_slice() else {
        anyhow::bail!("{listed:?}")
    };
    ensure!(
        claude.kind == "anthropic" && claude.problem.is_none(),
        "{claude:?}"
    );
    let problem = flash.problem.as_ref().context("no key")?;
    ensure!(problem.contains("needs an api_key"), "{problem}");
    let price = flash.price.as_ref().context("no price")?;
    ensure!((price.input, price.output) == (0.3, 2.5), "{price:?}");
    ensure!(
        small.default && !large.default && small.price.is_none(),
        "{small:?}"
    );
    let arguments = [
        "models",
        "list",
        "--config",
        &file.display().to_string(),
        "--json",
    ];
    let said = output(&arguments, "").await?.stdout;
    let by_command: Vec<Model> = serde_json::from_slice(&said)?;
    ensure!(by_command == listed, "{by_command:?}");
    let shown = String::from_utf8(said)?;
    ensure!(!shown.contains("hush-hush"), "{shown}");
    let none = output(&["models", "list", "--json"], "").await?.stdout;
    ensure!(serde_json::from_slice::<Value>(&none)? == serde_json::json!([]));
    Ok(())
}
