//! `netra-conformance`: the client that the conformance suite of the Model Context Protocol tries. It is a whole
//! server with the suite's server as its tool server, and an agent that calls the tools which a scenario is about.
//! `cargo xtask test mcp` starts it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use netra_integration::{CALLER, Options, TestServer, TestUser, calls, soon, write_caller};
use netra_protocol::account::{Plan, Role};
use netra_protocol::run::RunStatus;
use netra_protocol::tool::ToolServerState;
use serde_json::{Value, json};

/// What the suite's server is called here.
const SERVER: &str = "suite";
/// Arguments.
#[derive(Debug, Parser)]
struct Args {
    /// Which version of the protocol is spoken, or `newest`.
    protocol: String,
    /// Where the suite's server is; the suite appends it.
    url: String,
}

/// What a scenario wants called: the name that the tool has here, and its arguments.
type Call = (String, Value);

#[tokio::main]
async fn main() -> ExitCode {
    let done = Box::pin(play(Args::parse())).await;
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    tell(&format!("{error:#}"));
    ExitCode::FAILURE
}

#[expect(clippy::print_stderr, reason = "the suite keeps it with its results")]
fn tell(text: &str) {
    eprintln!("{text}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the suite says what it wants in the environment"
)]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn play(args: Args) -> Result<()> {
    let scenario = told("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let context = told("MCP_CONFORMANCE_CONTEXT").unwrap_or_else(|| "null".to_owned());
    let context: Value = serde_json::from_str(&context).context("MCP_CONFORMANCE_CONTEXT")?;
    let mut wanted = wanted(&scenario, &context);
    let folder = tempfile::tempdir()?;
    let configuration = folder.path().join("netra.toml");
    let mut text = format!(
        "[mcp.servers.{SERVER}]\nurl = {:?}\nprotocol = {:?}\npermission = \"basic\"\n",
        args.url, args.protocol
    );
    if let (Some(id), Some(secret)) = (
        &context["client_id"].as_str(),
        context["client_secret"].as_str(),
    ) {
        text.push_str(&format!(
            "oauth = {{ client_id = {id:?}, client_secret = {secret:?} }}\n"
        ));
    }
    std::fs::write(&configuration, text)?;
    let tools: Vec<&str> = wanted.iter().map(|(tool, _)| tool.as_str()).collect();
    write_caller(folder.path(), &tools)?;
    let options = Options::new().file(&configuration).agents(folder.path());
    let server = Box::pin(TestServer::start_with(options)).await?;
    let user = server.user_on(Role::Admin, Plan::Enterprise, None).await?;
    ready(&user).await?;
    if scenario == "json-schema-2020-12-preservation" {
        wanted = vec![echo_of_schema(&user).await?];
    }
    if !wanted.is_empty() {
        make(&user, &wanted).await?;
    }
    server.stop().await;
    Ok(())
}

/// What is called in this scenario. Most look at how the client connects and lists tools, and want no call.
fn wanted(scenario: &str, context: &Value) -> Vec<Call> {
    let call = |tool: &str, arguments: Value| (format!("{SERVER}__{tool}"), arguments);
    match scenario {
        "tools_call" => vec![call("add_numbers", json!({"a": 5, "b": 3}))],
        // Twice: the first may be answered over the stream that a client has open anyway.
        "sse-retry" => vec![call("test_reconnection", json!({})); 2],
        "elicitation-sep1034-client-defaults" => {
            vec![call("test_client_elicitation_defaults", json!({}))]
        }
        "sep-2322-client-request-state" => {
            ["echo_state", "unrelated", "no_state", "no_result_type"]
                .map(|tool| call(&format!("test_mrtr_{tool}"), json!({})))
                .into()
        }
        "http-standard-headers" => vec![
            call("test_headers", json!({})),
            call("my_hyphenated_tool", json!({})),
            call("list_resources", json!({})),
            call(
                "read_resource",
                json!({"uri": "file:///path/to/file%20name.txt"}),
            ),
            call("list_prompts", json!({})),
            call("get_prompt", json!({"name": "test_prompt"})),
        ],
        "http-custom-headers" => {
            let calls = context["toolCalls"].as_array().cloned().unwrap_or_default();
            let named = calls.into_iter().filter_map(|mut wanted| {
                let mut arguments = wanted["arguments"].take();
                // What is null is left out: the tool's schema knows no null, so it would be refused.
                arguments
                    .as_object_mut()?
                    .retain(|_, value| !value.is_null());
                Some(call(wanted["name"].as_str()?, arguments))
            });
            named.collect()
        }
        "http-invalid-tool-headers" => vec![call("valid_tool", json!({"region": "us-west1"}))],
        "json-schema-ref-no-deref" => vec![call("lookup_user", json!({"id": "ada"}))],
        "json-schema-2020-12-preservation" => vec![call("json_schema_echo", json!({}))],
        _ => Vec::new(),
    }
}

/// The call that gives a tool's schema back to the server, as a user of ours sees it.
async fn echo_of_schema(user: &TestUser) -> Result<Call> {
    let echo = format!("{SERVER}__json_schema_echo");
    let tools = user.client.tools().await?.items;
    let focal = tools
        .into_iter()
        .find(|tool| tool.name.starts_with(SERVER) && tool.name != echo)
        .context("the server has a tool besides the echo")?;
    Ok((echo, json!({"schema": focal.input_schema})))
}

/// Waits until the suite's server has told its tools; fails when it is away.
async fn ready(user: &TestUser) -> Result<()> {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    soon("the suite's server", async {
        loop {
            looks.tick().await;
            let servers = user.client.tool_servers().await?.items;
            let server = servers.first().context("one is configured")?;
            match server.state {
                ToolServerState::Starting => {}
                ToolServerState::Ready => return Ok(()),
                ToolServerState::Away | ToolServerState::PerUser => bail!("{server:?}"),
            }
        }
    })
    .await
}

async fn make(user: &TestUser, wanted: &[Call]) -> Result<()> {
    let wanted = wanted
        .iter()
        .map(|(tool, arguments)| (tool.as_str(), arguments.clone()));
    let run = user.run(CALLER, calls(wanted)).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    tell(&run.result.unwrap_or_default().to_string());
    Ok(())
}
