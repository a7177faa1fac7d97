//! What a policy is asked, and how that becomes a request and entities of Cedar.

use std::collections::HashSet;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};
use netra_context::Principal;
use netra_protocol::id::ThreadId;
use netra_protocol::tool::Risk;
use serde_json::Value;

use super::source::{Schema, Unusable};
use crate::tool::ToolSpec;

/// How deep arguments are read; what lies deeper has no path that a policy could name.
const MAX_DEPTH: usize = 16;
/// The most arguments that a policy can see. A call with more is refused by policies that read arguments.
const MAX_PATHS: usize = 1_024;

/// May this user's agent call this tool?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Whose run it is.
    pub principal: &'a Principal,
    /// The tool, as it describes itself.
    pub tool: &'a ToolSpec,
    /// The agent that asks.
    pub agent: &'a str,
    /// The thread of the run, where there is one.
    pub thread: Option<ThreadId>,
}

/// Names of Cedar, parsed once.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) call: EntityUid,
    pub(super) call_unasked: EntityUid,
    pub(super) connect: EntityUid,
    user: EntityTypeName,
    group: EntityTypeName,
    tool: EntityTypeName,
    text: EntityUid,
    number: EntityUid,
}

impl Names {
    pub(super) fn new() -> Result<Self, Unusable> {
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(Unusable::shipped);
        let one = |name: &str| name.parse::<EntityUid>().map_err(Unusable::shipped);
        Ok(Self {
            call: one("Netra::Action::\"call\"")?,
            call_unasked: one("Netra::Action::\"call_unasked\"")?,
            connect: one("Netra::Action::\"connect\"")?,
            user: kind("Netra::User")?,
            group: kind("Netra::Group")?,
            tool: kind("Netra::Tool")?,
            text: one("Netra::Text::\"arguments\"")?,
            number: one("Netra::Number::\"arguments\"")?,
        })
    }
}

fn word(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// The text and number arguments of a call by their paths.
#[derive(Debug, Default)]
struct Paths {
    text: Vec<(String, RestrictedExpression)>,
    number: Vec<(String, RestrictedExpression)>,
}

impl Paths {
    fn of(arguments: &Value) -> Result<Self, String> {
        let mut paths = Self::default();
        paths.collect(String::new(), arguments, 0)?;
        Ok(paths)
    }

    fn collect(&mut self, path: String, value: &Value, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH || self.text.len() + self.number.len() > MAX_PATHS {
            return Err("the arguments have more parts than policies can look at".into());
        }
        let below = |key: &str| match path.is_empty() {
            true => key.to_owned(),
            false => format!("{path}.{key}"),
        };
        match value {
            Value::Object(fields) => fields
                .iter()
                .try_for_each(|(key, value)| self.collect(below(key), value, depth + 1)),
            Value::Array(items) => items.iter().enumerate().try_for_each(|(index, value)| {
                self.collect(below(&index.to_string()), value, depth + 1)
            }),
            Value::String(text) => {
                self.text.push((path, word(text)));
                Ok(())
            }
            Value::Bool(yes) => {
                self.text.push((path, word(&yes.to_string())));
                Ok(())
            }
            Value::Number(number) => {
                let number = number.as_i64().map(RestrictedExpression::new_long);
                self.number.extend(number.map(|number| (path, number)));
                Ok(())
            }
            Value::Null => Ok(()),
        }
    }

    /// Two arguments with one path (`{"a.b": 1, "a": {"b": 2}}`) could hide one another.
    fn check(&self) -> Result<(), String> {
        for list in [&self.text, &self.number] {
            let mut seen = HashSet::new();
            if let Some((path, _)) = list.iter().find(|(path, _)| !seen.insert(path.as_str())) {
                return Err(format!("two arguments have the path {path:?}"));
            }
        }
        Ok(())
    }
}

/// A question as Cedar takes it.
pub(super) struct Asked {
    user: EntityUid,
    tool: EntityUid,
    context: Context,
    pub(super) entities: Entities,
}

impl Asked {
    pub(super) fn new(
        names: &Names,
        schema: &Schema,
        question: &Question<'_>,
        environment: &str,
        arguments: Option<&Value>,
    ) -> Result<Self, String> {
        let paths = arguments.map_or_else(|| Ok(Paths::default()), Paths::of)?;
        paths.check()?;
        let user = user(names, question.principal)?;
        let tool = tool(names, question.tool)?;
        let (user_uid, tool_uid) = (user.uid(), tool.uid());
        let tagged = |uid: &EntityUid, tags| {
            Entity::new_with_tags(uid.clone(), [], [], tags).map_err(|error| error.to_string())
        };
        let text = tagged(&names.text, paths.text)?;
        let number = tagged(&names.number, paths.number)?;
        let entities = Entities::from_entities([user, tool, text, number], Some(schema.cedar()))
            .map_err(|error| error.to_string())?;
        let thread = question
            .thread
            .map_or_else(String::new, |id| id.to_string());
        let context = Context::from_pairs([
            ("agent".to_owned(), word(question.agent)),
            ("thread".to_owned(), word(&thread)),
            ("environment".to_owned(), word(environment)),
            (
                "text".to_owned(),
                RestrictedExpression::new_entity_uid(names.text.clone()),
            ),
            (
                "number".to_owned(),
                RestrictedExpression::new_entity_uid(names.number.clone()),
            ),
        ])
        .map_err(|error| error.to_string())?;
        Ok(Self {
            user: user_uid,
            tool: tool_uid,
            context,
            entities,
        })
    }

    pub(super) fn request(&self, action: &EntityUid, schema: &Schema) -> Result<Request, String> {
        Request::new(
            self.user.clone(),
            action.clone(),
            self.tool.clone(),
            self.context.clone(),
            Some(schema.cedar()),
        )
        .map_err(|error| error.to_string())
    }
}

fn user(names: &Names, principal: &Principal) -> Result<Entity, String> {
    let id = EntityId::new(principal.user_id.to_string());
    let group = |name| EntityUid::from_type_name_and_id(names.group.clone(), EntityId::new(name));
    Entity::new(
        EntityUid::from_type_name_and_id(names.user.clone(), id),
        [
            ("role".to_owned(), word(principal.role.as_str())),
            ("plan".to_owned(), word(principal.plan.as_str())),
        ]
        .into(),
        principal.groups.iter().map(group).collect(),
    )
    .map_err(|error| error.to_string())
}

fn tool(names: &Names, spec: &ToolSpec) -> Result<Entity, String> {
    let risk = match spec.risk {
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
    };
    Entity::new(
        EntityUid::from_type_name_and_id(names.tool.clone(), EntityId::new(&spec.name)),
        [
            ("name".to_owned(), word(&spec.name)),
            ("permission".to_owned(), word(&spec.permission)),
            ("risk".to_owned(), word(risk)),
            (
                "needs_approval".to_owned(),
                RestrictedExpression::new_bool(spec.needs_approval),
            ),
        ]
        .into(),
        HashSet::new(),
    )
    .map_err(|error| error.to_string())
}
