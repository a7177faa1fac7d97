//! `netra mcp`: which tool servers there are, and whether one answers.

use std::sync::Arc;

use clap::Subcommand;
use netra_context::Runtime;
use netra_mcp::Trial;
use netra_protocol::tool::{ToolServer, ToolServerState};
use serde_json::{Map, Value, json};

use super::connection::Source;
use super::{Folder, isolation, output};
use crate::exit::{Exit, Problem};
use crate::node;
use crate::temp::Temp;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tool servers of a running server: where each stands, its tools and instances.
    #[command(
        after_help = "Ends with 1 when one of them is away.\n\nExamples:\n  netra mcp list --data ./netra-data\n  \
        netra mcp list --server https://netra.example --token \"$TOKEN\" --json"
    )]
    List {
        #[command(flatten)]
        source: Source,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Start one tool server as it is configured, list its tools, and call one; no server need run.
    #[command(
        after_help = "The call is made without a user and without the policy. Ends with 1 when the tool server does \
        not answer or the call fails.\n\nExamples:\n  netra mcp test time --config netra.toml\n  \
        netra mcp test time --config netra.toml --call get_current_time --arguments '{\"timezone\": \"UTC\"}'"
    )]
    Test(Test),
}

#[derive(Debug, clap::Args)]
struct Test {
    /// As it is named in the configuration.
    name: String,
    /// A tool to call, by the name that the tool server gives it.
    #[arg(long, value_name = "TOOL")]
    call: Option<String>,
    /// The arguments of the call, as a JSON object.
    #[arg(long, value_name = "JSON", requires = "call")]
    arguments: Option<String>,
    #[command(flatten)]
    folder: Folder,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn mcp(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::List { source, json } => list(&source, json).await,
        Command::Test(test) => test.run().await,
    }
}

async fn list(source: &Source, as_json: bool) -> Result<Exit, Problem> {
    let servers = isolation::client(source).await?.tool_servers().await?.items;
    if as_json {
        output::json(&servers)?;
    } else {
        let head = [
            "NAME",
            "STATE",
            "TRANSPORT",
            "SCOPE",
            "TOOLS",
            "INSTANCES",
            "CRASHES",
            "SERVER",
        ];
        let head = head.map(str::to_owned).to_vec();
        let rows = std::iter::once(head).chain(servers.iter().map(row));
        output::line(output::table(&rows.collect::<Vec<_>>()))?;
        for server in &servers {
            tell_problems(server)?;
        }
    }
    let away = |server: &ToolServer| server.state == ToolServerState::Away;
    Ok(if servers.iter().any(away) {
        Exit::Failure
    } else {
        Exit::Success
    })
}

fn row(server: &ToolServer) -> Vec<String> {
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    vec![
        server.name.clone(),
        word(json!(server.state)),
        word(json!(server.transport)),
        word(json!(server.scope)),
        server.tools.len().to_string(),
        server.instances.to_string(),
        server.crashes.to_string(),
        server.title.clone().unwrap_or_default(),
    ]
}

fn tell_problems(server: &ToolServer) -> Result<(), Problem> {
    let name = &server.name;
    if let Some(problem) = &server.problem {
        output::line(format!("{name} is away: {problem}"))?;
    }
    for left_out in &server.left_out {
        output::line(format!("{name} left out: {left_out}"))?;
    }
    Ok(())
}

impl Test {
    async fn run(self) -> Result<Exit, Problem> {
        let usage = |words: String| Problem::message(Exit::Usage, words);
        let config = self.folder.load()?;
        let runtime = Runtime::new();
        let temp = Temp::for_servers(&config, &runtime)?;
        let sandbox = node::sandbox(&config, &runtime, temp.as_ref());
        let programs: Arc<dyn netra_mcp::Programs> = Arc::new(sandbox);
        let secrets = Arc::new(node::server_secrets(&config)?);
        let servers = node::tool_servers(&config, &runtime, &programs, &secrets);
        if !config.mcp.servers.contains_key(&self.name) {
            let words = format!("the configuration has no tool server `{}`", self.name);
            return Err(usage(words));
        }
        let arguments: Option<Map<String, Value>> = match &self.arguments {
            None => None,
            Some(text) => Some(
                serde_json::from_str(text)
                    .map_err(|error| usage(format!("--arguments is no JSON object: {error}")))?,
            ),
        };
        let calls = self
            .call
            .iter()
            .map(|tool| (tool.clone(), arguments.clone()));
        let tried = servers.try_out(&self.name, calls.collect()).await;
        let trial = tried.map_err(|why| {
            let words = format!("the tool server {} does not answer: {why}", self.name);
            Problem::message(Exit::Failure, words)
        })?;
        self.tell(&trial)?;
        let failed = |answer: &Result<Value, String>| match answer {
            Ok(answer) => answer.get("isError") == Some(&Value::Bool(true)),
            Err(_) => true,
        };
        Ok(if trial.answers.iter().any(failed) {
            Exit::Failure
        } else {
            Exit::Success
        })
    }

    fn tell(&self, trial: &Trial) -> Result<(), Problem> {
        if self.json {
            let tools = trial.specs.iter().map(|spec| {
                json!({
                    "name": spec.name, "description": spec.description,
                    "input_schema": spec.input_schema, "permission": spec.permission,
                    "risk": spec.risk, "needs_approval": spec.needs_approval,
                    "idempotent": spec.idempotent,
                })
            });
            let answers = trial.answers.iter().map(|answer| match answer {
                Ok(answer) => json!({ "answer": answer }),
                Err(problem) => json!({ "problem": problem }),
            });
            output::json(&json!({
                "server": trial.server,
                "tools": tools.collect::<Vec<_>>(),
                "calls": answers.collect::<Vec<_>>(),
            }))?;
            return Ok(());
        }
        let server = &trial.server;
        let title = server.title.as_deref().unwrap_or("a server without a name");
        let protocol = server.protocol.as_deref().unwrap_or("unknown");
        output::line(format!("{}: {title}, protocol {protocol}", server.name))?;
        for spec in &trial.specs {
            let first = spec.description.lines().next().unwrap_or_default();
            output::line(format!("  {}  {first}", spec.name))?;
        }
        tell_problems(server)?;
        for answer in &trial.answers {
            match answer {
                Ok(answer) => output::json(answer)?,
                Err(problem) => output::line(format!("the call failed: {problem}"))?,
            }
        }
        Ok(())
    }
}
