//! The tool servers that `cargo xtask test mcp` has installed, and how each is configured.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Names the folder of the installed servers.
const VARIABLE: &str = "NETRA_MCP_SERVERS";

/// Where the servers are.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    folder: PathBuf,
}

/// One server as a table of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    settings: Vec<(String, Value)>,
}

/// A folder of a test that a sandbox's own user can write too.
pub(crate) fn open_folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
    Ok(folder)
}

impl Installed {
    /// Fails where they are not there: a test does not install.
    pub(crate) fn find() -> Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a part of the gate says where it has put them"
        )]
        let folder = std::env::var_os(VARIABLE).map(PathBuf::from);
        let folder = folder.with_context(|| {
            format!(
                "{VARIABLE} is not set: `cargo xtask test mcp` installs the servers and sets it"
            )
        })?;
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
        Ok(Self { folder })
    }

    /// Node as it came with the packages.
    pub(crate) fn node(&self) -> Result<PathBuf> {
        let modules = self.folder.join("node/node_modules");
        let programs = ["x64", "arm64"];
        let mut programs = programs.map(|name| modules.join(format!("node-linux-{name}/bin/node")));
        programs.sort_by_key(|program| !program.is_file());
        let [program, _] = programs;
        ensure!(program.is_file(), "{} is missing", program.display());
        Ok(program)
    }

    /// The file that Node runs as this package's program.
    pub(crate) fn script(&self, package: &str) -> PathBuf {
        let packages = self.folder.join("node/node_modules/@modelcontextprotocol");
        packages.join(package).join("dist/index.js")
    }

    fn of_node(&self, name: &str, package: &str, args: &[&str]) -> Result<Server> {
        let script = self.script(package).display().to_string();
        let args: Vec<&str> = [&[script.as_str()], args].concat();
        Ok(Server::new(name)
            .with("command", self.node()?.display().to_string())
            .with("args", args)
            .with("read", [self.folder.join("node")]))
    }

    /// Every kind of tool, resource and prompt.
    pub(crate) fn everything(&self) -> Result<Server> {
        self.of_node("everything", "server-everything", &["stdio"])
    }

    /// The files of a folder.
    pub(crate) fn files(&self, folder: &Path) -> Result<Server> {
        let root = folder.display().to_string();
        let server = self.of_node("files", "server-filesystem", &[&root])?;
        Ok(server.with("write", [folder]))
    }

    fn of_python(&self, name: &str, module: &str, args: &[&str]) -> Result<Server> {
        let venv = self.folder.join("python");
        // A virtual environment takes the standard library from where it was made.
        let told = std::fs::read_to_string(venv.join("pyvenv.cfg"))?;
        let home = told.lines().find_map(|line| line.strip_prefix("home = "));
        let home = Path::new(home.context("pyvenv.cfg names no home")?);
        let base = home.parent().context("Python is in a folder")?;
        let args: Vec<&str> = [&["-m", module], args].concat();
        Ok(Server::new(name)
            .with("command", venv.join("bin/python").display().to_string())
            .with("args", args)
            .with("read", [venv.as_path(), base]))
    }

    /// One git repository.
    pub(crate) fn git(&self, repository: &Path) -> Result<Server> {
        let path = repository.display().to_string();
        let server = self.of_python("git", "mcp_server_git", &["--repository", &path])?;
        // Git trusts no repository of another user, and a sandbox may have a user of its own.
        Ok(server.with("write", [repository]).with(
            "env",
            json!({
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
                "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
            }),
        ))
    }

    /// The clock, in a time zone.
    pub(crate) fn time(&self) -> Result<Server> {
        self.of_python(
            "time",
            "mcp_server_time",
            &["--local-timezone", "Europe/Zurich"],
        )
    }
}

impl Server {
    /// A server with tools that everybody may call.
    pub(crate) fn new(name: &str) -> Self {
        let server = Self {
            name: name.to_owned(),
            settings: Vec::new(),
        };
        server.with("permission", "basic")
    }

    /// One key more.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl serde::Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value));
        self
    }

    /// As the configuration file has it.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = format!("[mcp.servers.{}]\n", self.name);
        for (key, value) in &self.settings {
            // Writing to a text cannot fail.
            writeln!(text, "{key} = {}", toml_of(value)).ok();
        }
        text
    }
}

/// JSON as TOML on one line: the same but for objects.
fn toml_of(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{key:?} = {}", toml_of(value));
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_of).collect();
            format!("[{}]", items.join(", "))
        }
        plain => plain.to_string(),
    }
}
