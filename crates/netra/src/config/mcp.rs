//! The section `mcp`: tool servers as they are written, and what is made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netra_mcp::{Address, Command, Era, Grant, GrantChange, Place, ServerConfig, check_name};
use netra_protocol::tool::{Risk, SecretUse, ToolServerScope};
use netra_store::secret::is_secret_name;
use serde::{Deserialize, Serialize};

use super::Error;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mcp {
    instances: usize,
    instances_per_user: usize,
    servers: BTreeMap<String, Server>,
}

impl Default for Mcp {
    fn default() -> Self {
        let config = netra_mcp::Config::default();
        Self {
            instances: config.instances,
            instances_per_user: config.instances_per_user,
            servers: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Server {
    command: Option<String>,
    args: Vec<String>,
    env: BTreeMap<String, Given>,
    env_from: Vec<String>,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    network: Option<bool>,
    memory_mib: Option<u64>,
    url: Option<String>,
    headers: BTreeMap<String, Given>,
    oauth: Option<Oauth>,
    protocol: Option<String>,
    scope: Option<ToolServerScope>,
    trust_hints: bool,
    start_ms: Option<u64>,
    call_ms: Option<u64>,
    idle_ms: Option<u64>,
    #[serde(flatten)]
    grant: Granted,
    tools: BTreeMap<String, Granted>,
}

/// What a header or a variable has: a text, or a secret by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Given {
    Text(String),
    Secret(SecretUse),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Oauth {
    client_id: String,
    client_secret: Given,
    scope: Option<String>,
    token_url: Option<String>,
}

impl Oauth {
    fn resolve(self) -> netra_mcp::Oauth {
        netra_mcp::Oauth {
            client_id: self.client_id,
            client_secret: match self.client_secret {
                Given::Text(text) => netra_mcp::Given::Text(text),
                Given::Secret(used) => netra_mcp::Given::Secret(used),
            },
            scope: self.scope,
            token_url: self.token_url,
        }
    }
}

/// The texts, and the secrets.
type Sorted = (BTreeMap<String, String>, BTreeMap<String, SecretUse>);

fn sorted(given: &BTreeMap<String, Given>) -> Sorted {
    let mut sorted = Sorted::default();
    for (name, given) in given {
        match given {
            Given::Text(text) => drop(sorted.0.insert(name.clone(), text.clone())),
            Given::Secret(used) => drop(sorted.1.insert(name.clone(), used.clone())),
        }
    }
    sorted
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Granted {
    permission: Option<String>,
    risk: Option<Risk>,
    needs_approval: Option<bool>,
    idempotent: Option<bool>,
    offered: Option<bool>,
}

/// What the process's environment has: variables that are handed on, and where programs are.
type Variables<'a> = &'a [(String, String)];

impl Mcp {
    pub(super) fn resolve(self, variables: Variables<'_>) -> Result<netra_mcp::Config, Error> {
        if self.instances == 0 || self.instances_per_user == 0 {
            let words = "mcp.instances and mcp.instances_per_user must be at least 1";
            return Err(Error::Invalid(words.into()));
        }
        let mut servers = BTreeMap::new();
        for (name, server) in self.servers {
            let resolved = check_name(&name).and_then(|()| server.resolve(variables));
            let resolved = resolved
                .map_err(|problem| Error::Invalid(format!("mcp.servers.{name}: {problem}")))?;
            servers.insert(name, resolved);
        }
        Ok(netra_mcp::Config {
            servers,
            instances: self.instances,
            instances_per_user: self.instances_per_user,
        })
    }
}

impl Server {
    fn resolve(self, variables: Variables<'_>) -> Result<ServerConfig, String> {
        if self.grant.offered.is_some() {
            return Err("`offered` is for single tools".to_owned());
        }
        let place = self.place(variables)?;
        let mut config = ServerConfig::new(place);
        let times = [
            (self.start_ms, &mut config.start, "start_ms"),
            (self.call_ms, &mut config.call, "call_ms"),
            (self.idle_ms, &mut config.idle, "idle_ms"),
        ];
        for (given, time, key) in times {
            match given {
                Some(0) => return Err(format!("{key} must be at least 1")),
                Some(ms) => *time = Duration::from_millis(ms),
                None => {}
            }
        }
        config.era = era(self.protocol.as_deref())?;
        config.scope = self.scope.unwrap_or_default();
        if config.scope == ToolServerScope::Shared && !config.place.secrets("").is_empty() {
            let words = "a server with a secret is a user's own: `scope` is `user` or `run`";
            return Err(words.to_owned());
        }
        config.trusts_hints = self.trust_hints;
        let usual = Grant::default();
        config.grant = Grant {
            permission: self.grant.permission.unwrap_or(usual.permission),
            risk: self.grant.risk.unwrap_or(usual.risk),
            needs_approval: self.grant.needs_approval.unwrap_or(usual.needs_approval),
            idempotent: self.grant.idempotent.unwrap_or(usual.idempotent),
        };
        for (name, granted) in self.tools {
            let fitted = netra_mcp::fitted(&name);
            if fitted != name {
                return Err(format!("tools.{name}: agents know this tool as `{fitted}`"));
            }
            let change = GrantChange {
                permission: granted.permission,
                risk: granted.risk,
                needs_approval: granted.needs_approval,
                idempotent: granted.idempotent,
                offered: granted.offered,
            };
            config.tools.insert(name, change);
        }
        Ok(config)
    }

    fn place(&self, variables: Variables<'_>) -> Result<Place, String> {
        match (&self.command, &self.url) {
            (Some(command), None) => {
                if !self.headers.is_empty() || self.oauth.is_some() {
                    return Err("`headers` and `oauth` are for servers with a `url`".to_owned());
                }
                Ok(Place::Stdio(self.command(command, variables)?))
            }
            (None, Some(url)) => {
                let of_commands = !self.args.is_empty()
                    || !self.env.is_empty()
                    || !self.env_from.is_empty()
                    || !self.read.is_empty()
                    || !self.write.is_empty()
                    || self.network.is_some()
                    || self.memory_mib.is_some();
                if of_commands {
                    let words = "`args`, `env`, `env_from`, `read`, `write`, `network` and \
                                 `memory_mib` are for servers with a `command`";
                    return Err(words.to_owned());
                }
                let (headers, secrets) = sorted(&self.headers);
                let address = Address::new(url, &headers, secrets)?;
                let address = match self.oauth.clone() {
                    Some(oauth) => address.with_oauth(oauth.resolve())?,
                    None => address,
                };
                Ok(Place::Http(address))
            }
            _ => Err("give `command` or `url`, one of them".to_owned()),
        }
    }

    fn command(&self, command: &str, variables: Variables<'_>) -> Result<Command, String> {
        let value = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        let (mut environment, secrets) = sorted(&self.env);
        if let Some(used) = secrets.values().find(|used| !is_secret_name(&used.secret)) {
            return Err(format!("env: {:?} is no name of a secret", used.secret));
        }
        for name in &self.env_from {
            let value =
                value(name).ok_or_else(|| format!("env_from: the variable {name} is not set"))?;
            environment.insert(name.clone(), value);
        }
        if self.memory_mib == Some(0) {
            return Err("memory_mib must be at least 1".to_owned());
        }
        let search = value("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let program = program(command, &search)
            .ok_or_else(|| format!("command: there is no program `{command}` in {search}"))?;
        for path in self.read.iter().chain(&self.write) {
            if !path.is_absolute() {
                return Err(format!("`{}` is no absolute path", path.display()));
            }
        }
        Ok(Command {
            program,
            arguments: self.args.clone(),
            environment,
            secrets,
            read: self.read.clone(),
            write: self.write.clone(),
            network: self.network.unwrap_or(false),
            memory_mib: self.memory_mib.unwrap_or(512),
        })
    }
}

/// The program at this path, or the first of this name where programs are.
fn program(command: &str, search: &str) -> Option<PathBuf> {
    if command.contains('/') {
        return std::path::absolute(command).ok();
    }
    let mut folders = search.split(':').filter(|folder| !folder.is_empty());
    folders.find_map(|folder| {
        let path = Path::new(folder).join(command);
        path.is_file().then_some(path)
    })
}

fn era(given: Option<&str>) -> Result<Era, String> {
    match given {
        None | Some("newest") => Ok(Era::Newest),
        Some("2025-11-25") => Ok(Era::Sessions),
        Some("2026-07-28") => Ok(Era::Stateless),
        Some(other) => Err(format!(
            "protocol: `{other}` is none of newest, 2025-11-25 and 2026-07-28"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Layers};

    fn load(text: &str) -> Result<netra_mcp::Config, String> {
        let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        let variables = vec![
            ("PATH".to_owned(), "/nowhere:/bin".to_owned()),
            ("GIVEN".to_owned(), "s3cret".to_owned()),
        ];
        let layers = Layers::new().file(Some(file.path())).environment(variables);
        let loaded = Config::load(layers);
        loaded
            .map(|config| config.mcp)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_is_read_with_its_program_its_keys_and_its_tools() {
        let config = load(
            "[mcp.servers.files]\ncommand = \"sh\"\nargs = [\"-c\", \"true\"]\n\
             env_from = [\"GIVEN\"]\nenv = { A = \"1\" }\npermission = \"basic\"\n\
             scope = \"run\"\nidle_ms = 5\n[mcp.servers.files.tools.write_file]\nrisk = \"high\"\n",
        )
        .unwrap();
        let files = &config.servers["files"];
        let shown = format!("{files:?}");
        assert!(
            shown.contains("GIVEN") && !shown.contains("s3cret"),
            "{shown}"
        );
        let netra_mcp::Place::Stdio(command) = &files.place else {
            panic!("{shown}");
        };
        assert_eq!(command.program.to_str(), Some("/bin/sh"));
        assert_eq!(command.environment["GIVEN"], "s3cret");
        assert_eq!(files.grant.permission, "basic");
        assert_eq!(
            files.tools["write_file"].risk,
            Some(netra_protocol::tool::Risk::High)
        );
        assert_eq!(files.idle.as_millis(), 5);
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        for (text, words) in [
            ("[mcp.servers.a]\n", "give `command` or `url`"),
            (
                "[mcp.servers.a]\ncommand = \"sh\"\nurl = \"http://x/\"\n",
                "one of them",
            ),
            (
                "[mcp.servers.a]\ncommand = \"no-such-program\"\n",
                "no program",
            ),
            (
                "[mcp.servers.a]\ncommand = \"sh\"\nmemory_mib = 0\n",
                "memory_mib must be at least 1",
            ),
            (
                "[mcp.servers.a]\ncommand = \"sh\"\nenv_from = [\"B\"]\n",
                "B is not set",
            ),
            (
                "[mcp.servers.a]\ncommand = \"sh\"\nread = [\"x\"]\n",
                "no absolute path",
            ),
            (
                "[mcp.servers.a]\nurl = \"http://x/\"\nargs = [\"x\"]\n",
                "for servers with a `command`",
            ),
            (
                "[mcp.servers.A]\nurl = \"http://x/\"\n",
                "cannot be a tool server's name",
            ),
            (
                "[mcp.servers.a]\nurl = \"http://x/\"\nprotocol = \"1\"\n",
                "2026-07-28",
            ),
            (
                "[mcp.servers.a]\nurl = \"http://x/\"\ncall_ms = 0\n",
                "at least 1",
            ),
            (
                "[mcp.servers.a]\nurl = \"http://x/\"\n[mcp.servers.a.tools.Get-It]\nrisk = \"low\"\n",
                "get_it",
            ),
            (
                "[mcp.servers.a]\nurl = \"http://x/\"\nscope = \"shared\"\n\
                 headers = { A = { secret = \"wiki\" } }\n",
                "a user's own",
            ),
            (
                "[mcp.servers.a]\ncommand = \"sh\"\nenv = { A = { secret = \"a b\" } }\n",
                "no name of a secret",
            ),
            (
                "[mcp.servers.my_a]\nurl = \"http://x/\"\n",
                "the users' own",
            ),
            ("[mcp.servers.a]\ncomand = \"sh\"\n", "did you mean"),
            ("[mcp]\ninstances = 0\n", "at least 1"),
        ] {
            let refused = load(text).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }
}
