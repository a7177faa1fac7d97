//! `agent.toml`: what may stand in it, and where in it something is wrong.

use std::ops::Range;

use netra_protocol::agent::AgentKind;
use serde::Deserialize;
use toml::Spanned;

use super::conduct::Overflow;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) name: Option<Spanned<String>>,
    pub(super) description: String,
    pub(super) kind: Spanned<Kind>,
    #[serde(default)]
    pub(super) tools: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) sub_agents: Vec<Spanned<String>>,
    /// A JSON Schema, as a table or as the name of a JSON file.
    pub(super) input_schema: Option<Spanned<serde_json::Value>>,
    /// A JSON Schema, as a table or as the name of a JSON file.
    pub(super) output_schema: Option<Spanned<serde_json::Value>>,
    /// The file with a model agent's instructions.
    pub(super) instructions: Option<Spanned<String>>,
    /// The file with a script agent's Python text.
    pub(super) script: Option<Spanned<String>>,
    /// Where an agent of one's own code answers.
    pub(super) url: Option<Spanned<String>>,
    /// The secret that Netra shows there, by its name.
    pub(super) secret: Option<Spanned<String>>,
    /// The header that it stands in.
    pub(super) header: Option<Spanned<String>>,
    /// How long a turn there may take.
    pub(super) timeout_ms: Option<Spanned<u64>>,
    pub(super) model: Option<Spanned<String>>,
    pub(super) temperature: Option<f64>,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) run_budget_usd: Option<Spanned<f64>>,
    pub(super) run_budget_tokens: Option<u64>,
    pub(super) fallback: Option<Vec<Spanned<String>>>,
    pub(super) cache: Option<Spanned<String>>,
    /// Whether a script keeps something from run to run in its thread.
    pub(super) state: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) handoffs: Vec<Spanned<String>>,
    pub(super) max_rounds: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) stop_after_tool: Vec<Spanned<String>>,
    pub(super) output_repairs: Option<Spanned<u32>>,
    pub(super) context: Option<Spanned<Overflow>>,
    pub(super) context_tokens: Option<Spanned<u32>>,
    #[serde(default = "yes")]
    pub(super) listed: bool,
}

impl Manifest {
    /// The first field that says how a model agent goes about its work, and its place.
    pub(super) fn of_models_only(&self) -> Option<(&'static str, Range<usize>)> {
        let first = |list: &[Spanned<String>]| list.first().map(Spanned::span);
        let place = |field: &Option<Spanned<u32>>| field.as_ref().map(Spanned::span);
        [
            ("handoffs", first(&self.handoffs)),
            ("max_rounds", place(&self.max_rounds)),
            ("stop_after_tool", first(&self.stop_after_tool)),
            ("output_repairs", place(&self.output_repairs)),
            ("context", self.context.as_ref().map(Spanned::span)),
            ("context_tokens", place(&self.context_tokens)),
        ]
        .into_iter()
        .find_map(|(field, span)| Some((field, span?)))
    }
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Model,
    Script,
    Native,
    Http,
}

impl From<Kind> for AgentKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Model => Self::Model,
            Kind::Script => Self::Script,
            Kind::Native => Self::Native,
            Kind::Http => Self::Http,
        }
    }
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) file: String,
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// The text of a file with its name, to say where in it something is.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) file: String,
    pub(super) text: String,
}

impl Text {
    pub(super) fn flaw(&self, span: Range<usize>, message: impl Into<String>) -> Flaw {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = Some(before.matches('\n').count() + 1);
        Flaw {
            file: self.file.clone(),
            line,
            message: message.into(),
        }
    }

    pub(super) fn parse(&self) -> Result<Manifest, Flaw> {
        toml::from_str(&self.text).map_err(|error| match error.span() {
            Some(span) => self.flaw(span, error.message()),
            None => Flaw {
                file: self.file.clone(),
                line: None,
                message: error.message().into(),
            },
        })
    }
}
