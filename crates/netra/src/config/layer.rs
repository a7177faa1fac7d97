//! The layers, and how they are laid upon each other.

use std::path::{Path, PathBuf};

use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::catalogue::{CATALOGUE, Key, Kind};
use super::nearest::nearest;
use super::raw::Raw;
use super::report::{self, Setting};
use super::{Error, raw, usual};

const PREFIX: &str = "NETRA__";

/// The process's own environment, for [`Layers::environment`].
pub fn environment() -> Vec<(String, String)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this crate is the one that reads it"
    )]
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What is laid over the defaults.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<(String, String, Value)>,
}

impl Layers {
    /// The defaults alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// A TOML file, which must be there.
    #[must_use]
    pub fn file(mut self, path: Option<&Path>) -> Self {
        self.file = path.map(Path::to_owned);
        self
    }

    /// Variables of an environment; those without the prefix are not ours.
    #[must_use]
    pub fn environment(mut self, variables: Vec<(String, String)>) -> Self {
        self.environment = variables;
        self
    }

    /// The variables of the environment, all of them.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.environment
    }

    /// One key from the command line; `flag` without its dashes.
    #[must_use]
    pub fn flag(mut self, key: &str, flag: &str, value: impl Into<Value>) -> Self {
        self.flags
            .push((key.to_owned(), format!("--{flag}"), value.into()));
        self
    }

    pub(super) fn merge(&self) -> Result<Raw, Error> {
        let figment = self.figment()?;
        check_keys(&figment)?;
        check_limits(&figment)?;
        Ok(figment.extract()?)
    }

    /// Every key with its value and where that comes from, in the catalogue's order.
    pub fn settings(&self) -> Result<Vec<Setting>, Error> {
        let figment = self.figment()?;
        check_keys(&figment)?;
        check_limits(&figment)?;
        // Values that do not fit their keys are an error here as when serving.
        figment.extract::<Raw>()?;
        report::settings(&figment)
    }

    fn figment(&self) -> Result<Figment, Error> {
        let mut figment = Figment::from(Defaults(Serialized::defaults(raw::Raw::default())));
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|source| Error::File {
                path: path.display().to_string(),
                source,
            })?;
            // Parsed once on its own: an error then names the file's line.
            toml::from_str::<toml::Table>(&text)
                .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
            figment = figment.merge(Toml::file_exact(path));
        }
        for (name, text) in &self.environment {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let path = key.to_ascii_lowercase().replace("__", ".");
                let value = read(&path, text).map_err(|problem| {
                    Error::Invalid(format!("environment variable {name}: {problem}"))
                })?;
                figment = figment.merge(One::new(
                    format!("environment variable {name}"),
                    &path,
                    value,
                ));
            }
        }
        // A provider that is named anywhere says that these are not wanted.
        let providers = figment.find_value("models.providers");
        if providers.is_ok_and(|providers| providers.as_dict().is_some_and(Dict::is_empty)) {
            for found in usual::providers(&self.environment) {
                let origin = format!("environment variable {}", found.variable);
                let value = Value::from(found.value);
                figment = figment.merge(One::new(origin, &found.key, value));
            }
        }
        for (path, flag, value) in &self.flags {
            figment = figment.merge(One::new(format!("flag {flag}"), path, value.clone()));
        }
        Ok(figment)
    }
}

/// The value of a variable's text, by the kind of its key.
fn read(path: &str, text: &str) -> Result<Value, String> {
    match Key::find(path).map(|key| key.kind) {
        Some(Kind::Text) if text.is_empty() => Ok(Value::from(figment::value::Empty::None)),
        Some(Kind::Text) | None => Ok(Value::from(text)),
        Some(Kind::Texts) if !text.trim_start().starts_with('[') => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Ok(Value::from(items.map(Value::from).collect::<Vec<_>>()))
        }
        Some(Kind::Value) if text.is_empty() => Ok(Value::from(figment::value::Empty::None)),
        Some(Kind::Texts | Kind::Value) => text
            .parse::<Value>()
            .map_err(|_| format!("`{text}` cannot be read")),
    }
}

/// One key of one layer, so that each value can say where it comes from.
struct One {
    origin: String,
    dict: Dict,
}

impl One {
    fn new(origin: String, path: &str, value: Value) -> Self {
        Self {
            origin,
            dict: nest(path, value),
        }
    }
}

/// `a.b` with a value becomes `{a: {b: value}}`.
fn nest(path: &str, value: Value) -> Dict {
    match path.split_once('.') {
        None => Dict::from([(path.to_owned(), value)]),
        Some((head, rest)) => Dict::from([(head.to_owned(), Value::from(nest(rest, value)))]),
    }
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// The built-in values, under a name for people.
struct Defaults(Serialized<Raw>);

impl Provider for Defaults {
    fn metadata(&self) -> Metadata {
        Metadata::named("default")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.0.data()
    }
}

fn check_keys(figment: &Figment) -> Result<(), Error> {
    for (path, value) in report::leaves(figment)? {
        if is_known(&path, &value) {
            continue;
        }
        let origin = report::source_of(figment, &value).to_string();
        let nearest = nearest(&path, CATALOGUE.iter().map(|key| key.path));
        return Err(Error::UnknownKey {
            key: path,
            origin,
            nearest: nearest.map(str::to_owned),
        });
    }
    Ok(())
}

/// Reads each limit by itself: read together, an error does not say which key it belongs to.
fn check_limits(figment: &Figment) -> Result<(), Error> {
    for key in CATALOGUE
        .iter()
        .filter(|key| key.path.starts_with("limits."))
    {
        if key.path == "limits.budget_usd" {
            figment.extract_inner::<Option<f64>>(key.path)?;
        } else {
            figment.extract_inner::<Option<u64>>(key.path)?;
        }
    }
    Ok(())
}

/// An empty table is known where a key begins with it.
fn is_known(path: &str, value: &Value) -> bool {
    Key::find(path).is_some()
        || value.as_dict().is_some_and(|dict| {
            dict.is_empty()
                && (path.is_empty()
                    || CATALOGUE.iter().any(|key| {
                        let depth = path.split('.').count();
                        let head: Vec<_> = key.path.split('.').take(depth).collect();
                        head.len() == depth
                            && head
                                .iter()
                                .zip(path.split('.'))
                                .all(|(k, p)| *k == "*" || *k == p)
                    }))
        })
}
