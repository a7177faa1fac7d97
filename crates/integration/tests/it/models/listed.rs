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

#[tokio::test]
async fn prices_of_the_operators_own_come_before_those_built_in() -> Test {
    let folder = tempfile::tempdir()?;
    let (file, prices) = (
        folder.path().join("netra.toml"),
        folder.path().join("p.toml"),
    );
    let own = "name = \"our contract\"\ndate = \"2026-11-01\"\n\
        [[model]]\nid = \"gemini-2.5-flash\"\nprovider = \"google\"\ninput = 0.2\noutput = 2\n\
        [[model]]\nid = \"small\"\nprovider = \"mine\"\ninput = 0.1\noutput = 0.1\n";
    std::fs::write(&prices, own)?;
    let with = format!(
        "[models]\nprice_file = {prices:?}\n[models.providers.google]\nkind = \"gemini\"\n\
         models = [\"gemini-2.5-flash\", \"gemini-2.5-pro\"]\n[models.providers.near]\n\
         base_url = \"http://127.0.0.1:1/v1\"\nmodels = [\"small\"]\nprices = \"mine\"\n"
    );
    std::fs::write(&file, with)?;
    let shown = file.display().to_string();
    let arguments = ["models", "list", "--config", &shown];
    let json = output(&[&arguments[..], &["--json"]].concat(), "").await?;
    let listed: Vec<Model> = serde_json::from_slice(&json.stdout)?;
    let priced = listed.iter().map(|model| {
        let price = model.price.as_ref();
        let source = price.and_then(|price| price.source.as_deref());
        let own = source.is_some_and(|source| source.starts_with("our contract (2026-11-01, file"));
        (model.name.as_str(), price.map(|price| price.input), own)
    });
    let expected = [
        ("google/gemini-2.5-flash", Some(0.2), true),
        ("google/gemini-2.5-pro", Some(1.25), false),
        ("near/small", Some(0.1), true),
    ];
    ensure!(
        priced.clone().eq(expected),
        "{:?}",
        priced.collect::<Vec<_>>()
    );
    let said = String::from_utf8(output(&arguments, "").await?.stdout)?;
    for source in ["prices: our contract (2026-11-01", "prices: genai-prices "] {
        ensure!(said.contains(source), "{said}");
    }
    std::fs::write(&prices, "name = \"x\"\n")?;
    let refused = output(&arguments, "").await?;
    let words = String::from_utf8(refused.stderr)?;
    ensure!(
        words.contains("price_file") && words.contains("p.toml"),
        "{words}"
    );
    Ok(())
}
