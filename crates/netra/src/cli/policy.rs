//! `netra policy`: who may call which tools, checked and explained before a server starts with it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use netra_context::{Principal, Rights};
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::UserId;
use netra_store::Rate;
use netra_tools::{Explained, Policy, Question, Registry, ToolSpec, Verdict};
use serde_json::{Value, json};

use super::{Folder, output};
use crate::accounts::Accounts;
use crate::config::{Config, Layers};
use crate::exit::{Exit, Problem};
use crate::node;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the built-in policies, to begin with.
    #[command(after_help = "Examples:\n  netra policy print > policies/tools.cedar")]
    Print,
    /// Check policy files; names file and line of what is wrong.
    #[command(
        after_help = "Ends with 0 when the server could start with these policies, else with 2.\n\n\
        Examples:\n  netra policy check --policy ./policies"
    )]
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// Say whether a user may call a tool, and which policies decide it.
    #[command(
        after_help = "Ends with 0 when the call may be made, perhaps after a person was asked, else with 1.\n\n\
        Examples:\n  netra policy explain save_file --user ada --data ./netra-data\n  \
        netra policy explain save_file --role developer --plan pro --arguments '{\"name\": \"a.txt\"}'"
    )]
    Explain(Box<Explain>),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Folder of policy files, *.cedar, in place of the built-in policies.
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
}

impl Place {
    fn load(&self) -> Result<Config, Problem> {
        let layers: Layers = self.folder.layers();
        Ok(Config::load(match &self.policy {
            Some(dir) => layers.flag("policy.dir", "policy", dir.display().to_string()),
            None => layers,
        })?)
    }
}

#[derive(Debug, clap::Args)]
struct Explain {
    /// The tool's name.
    tool: String,
    /// A user of the data folder, with role, plan and groups from there.
    #[arg(long, conflicts_with_all = ["role", "plan"])]
    user: Option<String>,
    /// user, developer or admin.
    #[arg(long, default_value = "user")]
    role: Role,
    /// free, pro or enterprise.
    #[arg(long, default_value = "free")]
    plan: Plan,
    /// A group that the user is in; may be given more than once.
    #[arg(long = "group", value_name = "NAME", conflicts_with = "user")]
    groups: Vec<String>,
    /// The agent that asks.
    #[arg(long, default_value = "")]
    agent: String,
    /// The arguments of the call, as JSON.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    arguments: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn policy(args: Args) -> Result<Exit, Problem> {
    match args.command {
        Command::Print => output::line(Policy::shipped_text().trim_end())?,
        Command::Check { place } => check(&place)?,
        Command::Explain(explain) => return explain.run().await,
    }
    Ok(Exit::Success)
}

fn check(place: &Place) -> Result<(), Problem> {
    let config = place.load()?;
    let registry = node::registry(&config).map_err(|error| Problem::new(Exit::Usage, error))?;
    for doubt in node::findings(&config, &registry).doubts {
        output::note(format!("perhaps a mistake: {doubt}"));
    }
    let policy = registry.policy();
    let from = config.policy.as_deref();
    let from = from.map_or_else(|| "built in".into(), |dir| dir.display().to_string());
    output::note(format!("{} policies ({from}), nothing wrong", policy.len()));
    Ok(())
}

impl Explain {
    async fn run(&self) -> Result<Exit, Problem> {
        let arguments: Value = serde_json::from_str(&self.arguments)
            .map_err(|error| Problem::message(Exit::Usage, format!("--arguments: {error}")))?;
        let config = self.place.load()?;
        let registry = node::registry(&config).map_err(|error| Problem::new(Exit::Usage, error))?;
        let tool = self.spec(&config, &registry)?;
        let principal = self.principal(&config).await?;
        let question = Question {
            principal: &principal,
            tool: &tool,
            agent: &self.agent,
            thread: None,
        };
        let explained = registry.policy().explain(&question, &arguments);
        self.tell(&explained)?;
        Ok(if explained.verdict.permits() {
            Exit::Success
        } else {
            Exit::Failure
        })
    }

    /// The tool as it describes itself, or as the configuration describes it where a tool server brings it.
    fn spec(&self, config: &Config, registry: &Registry) -> Result<ToolSpec, Problem> {
        if let Some(tool) = registry.get(&self.tool) {
            return Ok(tool.spec().clone());
        }
        let of_server = self.tool.split_once("__");
        let of_server = of_server.and_then(|(name, own)| {
            let server = config.mcp.servers.get(name)?;
            Some((server, server.declared(name, own)?))
        });
        let Some((server, spec)) = of_server else {
            let words = format!("there is no tool `{}`", self.tool);
            return Err(Problem::message(Exit::Usage, words));
        };
        output::note(match server.trusts_hints {
            true => {
                "by the configuration alone; the server may say that the tool is riskier, or less so"
            }
            false => "by the configuration alone: the server was not asked whether it has the tool",
        });
        Ok(spec)
    }

    async fn principal(&self, config: &Config) -> Result<Principal, Problem> {
        let (user_id, role, plan, groups) = match &self.user {
            None => (
                UserId::from_parts(0, 0),
                self.role,
                self.plan,
                self.groups.clone(),
            ),
            Some(name) => {
                let found = Accounts::open(config)?.find(name).await?;
                let user = found.ok_or_else(|| {
                    Problem::message(Exit::Failure, format!("there is no user `{name}`"))
                })?;
                (user.id, user.role, user.plan, user.groups)
            }
        };
        Ok(Principal {
            user_id,
            role,
            plan,
            groups: groups.into(),
            rights: Rights::of_role(role),
            limits: Arc::new(config.limits.clone()),
            session: None,
        })
    }

    fn tell(&self, explained: &Explained) -> Result<(), Problem> {
        let (decision, reason) = match &explained.verdict {
            Verdict::Allowed => ("allowed", None),
            Verdict::AfterApproval(reason) => ("after_approval", Some(reason)),
            Verdict::Refused(reason) => ("refused", Some(reason)),
        };
        let rates: Vec<String> = explained.rates.iter().map(|one| list_of(one)).collect();
        if self.json {
            output::json(&json!({
                "decision": decision,
                "reason": reason,
                "call": explained.call,
                "asking": explained.asking,
                "rates": rates,
            }))?;
            return Ok(());
        }
        output::line(match reason {
            Some(reason) => format!("{decision}: {reason}"),
            None => decision.to_owned(),
        })?;
        let by = |policies: &[String]| match policies.is_empty() {
            true => "no policy".to_owned(),
            false => policies.join(", "),
        };
        output::line(format!("  may it be called: {}", by(&explained.call)))?;
        if explained.verdict.permits() {
            output::line(format!(
                "  without asking a person: {}",
                by(&explained.asking)
            ))?;
            let often = match rates.is_empty() {
                true => "no bound".to_owned(),
                false => rates.join(", or "),
            };
            output::line(format!("  how often a user may: {often}"))?;
        }
        Ok(())
    }
}

fn list_of(rates: &[Rate]) -> String {
    let words: Vec<String> = rates.iter().map(ToString::to_string).collect();
    words.join(" and ")
}
