//! From files to definitions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use netra_endpoint::Endpoint;
use netra_model::Models;
use netra_protocol::agent::AgentKind;
use netra_store::secret::is_secret_name;
use netra_tools::Registry;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use toml::Spanned;

use super::calls::Calls;
use super::conduct::{self, Conduct};
use super::definition::{Body, Definition, Native, NeedsKey, Shape};
use super::manifest::{Flaw, Kind, Manifest, Text};
use crate::native::Agent;

const MANIFEST: &str = "agent.toml";
/// The largest file of an agent, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// An agent that is compiled in.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedAgent {
    /// The name of its folder.
    pub name: &'static str,
    /// Its files: name within the folder, and text.
    pub files: &'static [(&'static str, &'static str)],
}

enum Place {
    BuiltIn(&'static [(&'static str, &'static str)]),
    Folder(PathBuf),
    /// A version that the server had, by its files.
    Version(BTreeMap<String, String>),
    /// Code of the program that embeds the server, without files.
    Native(Arc<dyn Agent>),
}

/// An agent whose files have been found but not understood.
pub(super) struct Draft {
    name: String,
    place: Place,
}

pub(super) fn embedded(agents: &[EmbeddedAgent]) -> BTreeMap<String, Draft> {
    let draft = |agent: &EmbeddedAgent| {
        let name = agent.name.to_owned();
        (
            name.clone(),
            Draft {
                name,
                place: Place::BuiltIn(agent.files),
            },
        )
    };
    agents.iter().map(draft).collect()
}

/// A version that the server had.
pub(super) fn version(name: &str, files: BTreeMap<String, String>) -> Draft {
    Draft {
        name: name.to_owned(),
        place: Place::Version(files),
    }
}

/// An agent of the program that embeds the server.
pub(super) fn native(agent: &Arc<dyn Agent>) -> Draft {
    Draft {
        name: agent.name().to_owned(),
        place: Place::Native(Arc::clone(agent)),
    }
}

/// Every folder in `dir` that holds an `agent.toml`.
pub(super) fn folder(dir: &Path) -> Vec<Draft> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "the folder of agents cannot be read");
            return Vec::new();
        }
    };
    let draft = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        path.join(MANIFEST).is_file().then_some(Draft {
            name,
            place: Place::Folder(path),
        })
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| draft(entry.path()))
        .collect()
}

impl Draft {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its kind; native where its manifest cannot be read, as a broken agent is listed.
    pub(super) fn kind(&self) -> AgentKind {
        let text = Reading::of(self).read(MANIFEST).ok();
        let manifest = text.and_then(|text| text.parse().ok());
        manifest.map_or(AgentKind::Native, |manifest| {
            (*manifest.kind.get_ref()).into()
        })
    }

    /// Understands the files; what is wrong becomes the definition's problem.
    pub(super) fn finish(self, known: &Known<'_>) -> Definition {
        if let Place::Native(agent) = &self.place {
            return self.compiled_in(agent, known);
        }
        let mut reading = Reading::of(&self);
        match reading.definition(known) {
            Ok(definition) => definition,
            Err(flaw) => self.broken(flaw.to_string()),
        }
    }

    /// What an agent without files says of itself.
    fn compiled_in(&self, agent: &Arc<dyn Agent>, known: &Known<'_>) -> Definition {
        let spec = agent.spec();
        let shape = |schema: &Option<Value>| schema.clone().map(Shape::new).transpose();
        let shapes = check_name(&self.name)
            .map_err(|words| format!("its name: {words}"))
            .and_then(|()| Ok((shape(&spec.input_schema)?, shape(&spec.output_schema)?)));
        let (input, output) = match shapes {
            Ok(shapes) => shapes,
            Err(words) => return self.broken(format!("{}: {words}", self.name)),
        };
        let missing = |names: &[String], is_there: &dyn Fn(&str) -> bool, what: &str| {
            let missing = names.iter().find(|name| !is_there(name))?;
            Some(format!("there is no {what} named {missing:?}"))
        };
        let problem =
            missing(&spec.tools, &|name| known.tools.contains(name), "tool").or_else(|| {
                let there = |name: &str| known.agents.contains_key(name);
                missing(&spec.sub_agents, &there, "agent")
            });
        let mut hash = Sha256::new();
        hash.update(format!("{}\n{spec:?}", self.name));
        Definition {
            name: self.name.clone(),
            description: spec.description,
            kind: AgentKind::Native,
            body: Body::Native(Native(Arc::clone(agent))),
            tools: spec.tools,
            sub_agents: spec.sub_agents,
            model: spec.model,
            calls: Calls::default(),
            keeps_state: false,
            listed: spec.listed,
            hash: hex(&hash.finalize()),
            files: BTreeMap::new(),
            problem,
            needs_key: None,
            origin: self.origin(),
            conduct: Conduct::default(),
            input: input.unwrap_or_else(Shape::of_text),
            output,
        }
    }

    fn origin(&self) -> String {
        match &self.place {
            Place::BuiltIn(_) => "built-in".to_owned(),
            Place::Folder(path) => path.display().to_string(),
            Place::Version(_) => "an earlier version".to_owned(),
            Place::Native(_) => "compiled in".to_owned(),
        }
    }

    fn broken(&self, problem: String) -> Definition {
        Definition {
            name: self.name.clone(),
            description: String::new(),
            kind: AgentKind::Native,
            body: Body::Broken,
            tools: Vec::new(),
            sub_agents: Vec::new(),
            model: None,
            calls: Calls::default(),
            keeps_state: false,
            listed: true,
            hash: String::new(),
            files: BTreeMap::new(),
            problem: Some(problem),
            needs_key: None,
            origin: self.origin(),
            conduct: Conduct::default(),
            input: Shape::of_text(),
            output: None,
        }
    }
}

/// Whether an agent can have this name.
///
/// # Errors
/// In words, where it cannot.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins_well && name.len() <= 64 && name.chars().all(good) {
        return Ok(());
    }
    Err("it must be a lower-case letter, then at most 63 letters, digits, `_` or `-`")
}

/// What agents may name.
pub(super) struct Known<'a> {
    pub(super) tools: &'a Registry,
    pub(super) models: &'a Models,
    pub(super) agents: &'a BTreeMap<String, AgentKind>,
    pub(super) native: &'a BTreeMap<String, Arc<dyn Agent>>,
}

struct Reading<'a> {
    draft: &'a Draft,
    hash: Sha256,
    files: BTreeMap<String, String>,
}

impl<'a> Reading<'a> {
    fn of(draft: &'a Draft) -> Self {
        Self {
            draft,
            hash: Sha256::new(),
            files: BTreeMap::new(),
        }
    }

    fn definition(&mut self, known: &Known<'_>) -> Result<Definition, Flaw> {
        let text = self
            .read(MANIFEST)
            .map_err(|message| self.flaw_in(MANIFEST, message))?;
        let manifest = text.parse()?;
        self.check_name(&text, &manifest)?;
        let body = self.body(&text, &manifest, known)?;
        let input = match &manifest.input_schema {
            Some(schema) => self.shape(&text, schema)?,
            None => Shape::of_text(),
        };
        let output = match &manifest.output_schema {
            Some(schema) => Some(self.shape(&text, schema)?),
            None => None,
        };
        let conduct = Conduct::of(&text, &manifest)?;
        let (needs_key, problem) = match check_references(&text, &manifest, known) {
            Ok(needs_key) => (needs_key, None),
            Err(flaw) => (None, Some(flaw.to_string())),
        };
        let names = |list: &[Spanned<String>]| list.iter().map(|n| n.get_ref().clone()).collect();
        Ok(Definition {
            name: self.draft.name.clone(),
            description: manifest.description.trim().to_owned(),
            kind: (*manifest.kind.get_ref()).into(),
            body,
            tools: names(&manifest.tools),
            sub_agents: names(&manifest.sub_agents),
            model: manifest.model.as_ref().map(|model| model.get_ref().clone()),
            calls: Calls::read(&text, &manifest)?,
            keeps_state: manifest
                .state
                .as_ref()
                .is_some_and(|state| *state.get_ref()),
            listed: manifest.listed,
            hash: hex(&self.hash.clone().finalize()),
            files: std::mem::take(&mut self.files),
            problem,
            needs_key,
            origin: self.draft.origin(),
            conduct,
            input,
            output,
        })
    }

    fn check_name(&self, text: &Text, manifest: &Manifest) -> Result<(), Flaw> {
        let folder = &self.draft.name;
        if let Some(name) = &manifest.name
            && name.get_ref() != folder
        {
            let message = format!("the name must be that of the folder, {folder:?}");
            return Err(text.flaw(name.span(), message));
        }
        check_name(folder)
            .map_err(|words| self.flaw_in(MANIFEST, format!("the folder's name: {words}")))
    }

    fn body(&mut self, text: &Text, manifest: &Manifest, known: &Known<'_>) -> Result<Body, Flaw> {
        let kind = *manifest.kind.get_ref();
        let lacks = |field: &str| {
            let message = format!("this kind of agent needs the field `{field}`");
            text.flaw(manifest.kind.span(), message)
        };
        check_fields(text, manifest)?;
        match kind {
            Kind::Model => {
                let file = manifest
                    .instructions
                    .as_ref()
                    .ok_or_else(|| lacks("instructions"))?;
                let instructions = self.referenced(text, file)?.text;
                let temperature = manifest.temperature;
                let max_output_tokens = manifest.max_output_tokens;
                Ok(Body::Model {
                    instructions,
                    temperature,
                    max_output_tokens,
                })
            }
            Kind::Script => {
                let file = manifest.script.as_ref().ok_or_else(|| lacks("script"))?;
                let code = self.referenced(text, file)?.text;
                Ok(Body::Script {
                    file: file.get_ref().clone(),
                    code,
                })
            }
            Kind::Http => {
                let url = manifest.url.as_ref().ok_or_else(|| lacks("url"))?;
                endpoint(text, manifest, url).map(Body::Http)
            }
            Kind::Native => match known.native.get(&self.draft.name) {
                Some(agent) => Ok(Body::Native(Native(Arc::clone(agent)))),
                None => Err(text.flaw(
                    manifest.kind.span(),
                    "the server has no native agent of this name",
                )),
            },
        }
    }

    fn shape(&mut self, text: &Text, schema: &Spanned<Value>) -> Result<Shape, Flaw> {
        let value = match schema.get_ref() {
            Value::String(name) => {
                let file = self.referenced(text, &Spanned::new(schema.span(), name.clone()))?;
                serde_json::from_str(&file.text).map_err(|error| Flaw {
                    file: file.file.clone(),
                    line: Some(error.line()),
                    message: error.to_string(),
                })?
            }
            table => table.clone(),
        };
        Shape::new(value).map_err(|error| {
            text.flaw(
                schema.span(),
                format!("this is not a valid JSON Schema: {error}"),
            )
        })
    }

    fn referenced(&mut self, text: &Text, name: &Spanned<String>) -> Result<Text, Flaw> {
        self.read(name.get_ref())
            .map_err(|message| text.flaw(name.span(), message))
    }

    /// Reads a file of the agent's own folder; it then counts for the hash.
    fn read(&mut self, name: &str) -> Result<Text, String> {
        let plain = !name.is_empty() && !name.contains(['/', '\\', '\0']) && !name.starts_with('.');
        if !plain {
            return Err(format!(
                "{name:?} is not the name of a file in the agent's folder"
            ));
        }
        let text = match &self.draft.place {
            Place::BuiltIn(files) => files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| format!("there is no file {name:?}"))?,
            Place::Folder(dir) => read_file(&dir.join(name))?,
            Place::Version(files) => files
                .get(name)
                .cloned()
                .ok_or_else(|| format!("there is no file {name:?}"))?,
            Place::Native(_) => return Err(format!("there is no file {name:?}")),
        };
        self.files.insert(name.to_owned(), text.clone());
        for part in [name.as_bytes(), text.as_bytes()] {
            self.hash.update((part.len() as u64).to_be_bytes());
            self.hash.update(part);
        }
        Ok(Text {
            file: self.path_of(name),
            text,
        })
    }

    fn path_of(&self, name: &str) -> String {
        match &self.draft.place {
            Place::BuiltIn(_) | Place::Version(_) | Place::Native(_) => {
                format!("agents/{}/{name}", self.draft.name)
            }
            Place::Folder(dir) => dir.join(name).display().to_string(),
        }
    }

    fn flaw_in(&self, name: &str, message: String) -> Flaw {
        Flaw {
            file: self.path_of(name),
            line: None,
            message,
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let found = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !found.is_file() || found.len() > MAX_FILE_BYTES {
        return Err(format!(
            "{} is not a file of at most {MAX_FILE_BYTES} bytes",
            path.display()
        ));
    }
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether each field is one of this kind of agent.
fn check_fields(text: &Text, manifest: &Manifest) -> Result<(), Flaw> {
    let kind = *manifest.kind.get_ref();
    let span = |field: &Option<Spanned<String>>| field.as_ref().map(Spanned::span);
    let timeout = manifest.timeout_ms.as_ref().map(Spanned::span);
    let state = manifest.state.as_ref().map(Spanned::span);
    let own = [
        (state, Kind::Script, "only a script agent has a state"),
        (
            span(&manifest.instructions),
            Kind::Model,
            "only a model agent has instructions",
        ),
        (
            span(&manifest.script),
            Kind::Script,
            "only a script agent has a script",
        ),
        (
            span(&manifest.url),
            Kind::Http,
            "only an http agent has a url",
        ),
        (
            span(&manifest.secret),
            Kind::Http,
            "only an http agent has a secret",
        ),
        (
            span(&manifest.header),
            Kind::Http,
            "only an http agent has a header",
        ),
        (timeout, Kind::Http, "only an http agent has a timeout_ms"),
    ];
    for (span, of, words) in own {
        if let Some(span) = span.filter(|_| of != kind) {
            return Err(text.flaw(span, words));
        }
    }
    Ok(())
}

/// Where an agent of one's own code answers.
fn endpoint(text: &Text, manifest: &Manifest, url: &Spanned<String>) -> Result<Endpoint, Flaw> {
    let mut endpoint = Endpoint::new(url.get_ref())
        .map_err(|words| text.flaw(url.span(), format!("url: {words}")))?;
    if let Some(timeout) = &manifest.timeout_ms {
        if *timeout.get_ref() == 0 {
            return Err(text.flaw(timeout.span(), "timeout_ms must be at least 1"));
        }
        endpoint = endpoint.within(Duration::from_millis(*timeout.get_ref()));
    }
    match (&manifest.secret, &manifest.header) {
        (None, Some(header)) => {
            return Err(text.flaw(header.span(), "a header needs a `secret` to stand in it"));
        }
        (Some(secret), header) => {
            if !is_secret_name(secret.get_ref()) {
                return Err(text.flaw(secret.span(), "this is no name of a secret"));
            }
            endpoint.secret = Some(secret.get_ref().clone());
            if let Some(header) = header {
                endpoint = endpoint
                    .with_header(header.get_ref())
                    .map_err(|words| text.flaw(header.span(), format!("header: {words}")))?;
            }
        }
        (None, None) => {}
    }
    Ok(endpoint)
}

/// Whether all that the agent names is there, a key apart that a user may have.
fn check_references(
    text: &Text,
    manifest: &Manifest,
    known: &Known<'_>,
) -> Result<Option<NeedsKey>, Flaw> {
    for tool in &manifest.tools {
        if !known.tools.contains(tool.get_ref()) {
            let message = format!("there is no tool named {:?}", tool.get_ref());
            return Err(text.flaw(tool.span(), message));
        }
    }
    for agent in &manifest.sub_agents {
        if !known.agents.contains_key(agent.get_ref()) {
            let message = format!("there is no agent named {:?}", agent.get_ref());
            return Err(text.flaw(agent.span(), message));
        }
    }
    conduct::check_handoffs(text, manifest, known.agents)?;
    let kind = *manifest.kind.get_ref();
    if kind == Kind::Model || manifest.model.is_some() {
        let span = manifest
            .model
            .as_ref()
            .map_or(manifest.kind.span(), Spanned::span);
        let name = manifest
            .model
            .as_ref()
            .map(|model| model.get_ref().as_str());
        let flaw = |error: netra_model::Error| text.flaw(span.clone(), error.to_string());
        let model = known.models.resolve(name).map_err(flaw)?;
        if let Err(error) = known.models.is_ready(&model) {
            let provider = known.models.lacks_key_only(&model);
            let provider = provider.ok_or_else(|| flaw(error.clone()))?;
            let secret = format!("{error}, or the user's own as the secret model_{provider}");
            return Ok(Some(NeedsKey {
                provider: provider.to_owned(),
                problem: text.flaw(span.clone(), secret).to_string(),
            }));
        }
    }
    Ok(None)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}
