//! The client that the conformance suite of the protocol drives: it is given the name of a scenario
//! and the address of a server, and tries that server out as `netra mcp test` does.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use netra_context::Runtime;
use netra_mcp::{Address, Command, Config, Place, Programs, ServerConfig, Servers, Started};
use serde_json::{Map, Value, json};

/// The suite's servers speak HTTP.
struct NoPrograms;

#[async_trait]
impl Programs for NoPrograms {
    async fn start(&self, _: &Command) -> Result<Started, String> {
        Err("no programs are started here".to_owned())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match try_out(std::env::args().skip(1).collect()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(&why);
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a program for people who look at the suite"
)]
fn tell(words: &str) {
    eprintln!("{words}");
}

async fn try_out(arguments: Vec<String>) -> Result<(), String> {
    let [scenario, url] = <[String; 2]>::try_from(arguments)
        .map_err(|given| format!("a scenario and an address are needed, not {given:?}"))?;
    let config = ServerConfig::new(Place::Http(Address::new(&url, &BTreeMap::new())?));
    let config = Config {
        servers: BTreeMap::from([("suite".to_owned(), config)]),
        ..Config::default()
    };
    let programs: Arc<dyn Programs> = Arc::new(NoPrograms);
    let servers = Servers::new(&Runtime::new(), config, &programs);
    let trial = Box::pin(servers.try_out("suite", calls(&scenario))).await?;
    tell(&format!("{:?}", trial.server));
    for answer in trial.answers {
        tell(&answer?.to_string());
    }
    Ok(())
}

/// What the scenario wants to be called.
fn calls(scenario: &str) -> Vec<(String, Option<Map<String, Value>>)> {
    let (tool, arguments) = match scenario {
        "tools_call" => ("add_numbers", json!({ "a": 5, "b": 3 })),
        "sse-retry" => ("test_reconnection", json!({})),
        "elicitation-sep1034-client-defaults" => ("test_client_elicitation_defaults", json!({})),
        _ => return Vec::new(),
    };
    vec![(tool.to_owned(), arguments.as_object().cloned())]
}
