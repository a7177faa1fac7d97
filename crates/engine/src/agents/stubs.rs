//! What a script finds set, as a Python stub: for editors and type checkers.

use std::fmt::Write as _;

use netra_tools::Registry;
use serde_json::{Map, Value};

use super::definition::Definition;

/// Python's own words, which cannot be names.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];
/// What every script has.
const COMMON: &str = r#"from typing import Any, Callable, Generic, Literal, NotRequired, ParamSpec, TypedDict, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

class _File(TypedDict):
    id: str
    name: str
    media_type: str
    bytes: int

class _Call(Generic[_R]): ...

files: list[_File]
"""The run's files; sub-agents see the same."""

def think(message: str, progress: float | None = None) -> None:
    """Tells the user what is being done; `progress` from 0 to 1."""

def ask_model(prompt: str, system: str | None = None) -> str:
    """Asks the agent's model once."""

def call(function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _Call[_R]:
    """A call for `gather`, not made yet: `call(log_profile, file="a.csv")`."""

def gather(*calls: _Call[_R], return_errors: bool = False) -> list[_R]:
    """Makes all calls at once and gives their results in the same order."""
"#;
/// What a script has that keeps something.
const STATE: &str = r#"
state: dict[str, Any]
"""What this agent keeps from run to run in the thread. It is stored when the agent has its result."""
"#;

/// The stub of a script agent: its input, its tools, the agents that it may call.
pub fn stub(agent: &Definition, tools: &Registry) -> String {
    let mut text = format!(
        "# What the script of the agent {} finds set. Made by `netra agents stubs`; do not edit.\n{COMMON}",
        agent.name
    );
    let mut nested = Nested::default();
    let input = nested.of("Input", &agent.input.schema);
    let mut functions = String::new();
    for name in &agent.tools {
        let Some(tool) = tools.get(name) else {
            continue;
        };
        let spec = tool.spec();
        let arguments = nested.arguments(name, &spec.input_schema);
        let description = quoted(&spec.description);
        // Writing to a string cannot fail.
        write!(
            functions,
            "\ndef {name}({arguments}) -> Any:\n    {description}\n"
        )
        .ok();
    }
    if !agent.sub_agents.is_empty() {
        let names = agent.sub_agents.iter().map(|name| format!("{name:?}"));
        let names = names.collect::<Vec<_>>().join(", ");
        write!(
            functions,
            "\ndef agent(name: Literal[{names}], input: str | dict[str, Any]) -> Any:\n    \
             \"\"\"Lets a sub-agent work, and gives its result.\"\"\"\n"
        )
        .ok();
    }
    if agent.keeps_state {
        text.push_str(STATE);
    }
    text.push_str(&nested.classes);
    write!(
        text,
        "\ninput: {input}\n\"\"\"What the agent is asked.\"\"\"\n"
    )
    .ok();
    text.push_str(&functions);
    text
}

/// A text as a docstring.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace("\"\"\"", "'''");
    match text.ends_with('"') {
        true => format!("\"\"\"{text} \"\"\""),
        false => format!("\"\"\"{text}\"\"\""),
    }
}

fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins_well && text.chars().all(good) && !KEYWORDS.contains(&text)
}

/// The types of objects, which need names.
#[derive(Default)]
struct Nested {
    classes: String,
}

impl Nested {
    /// The parameters of a function that takes what fits the schema, by name.
    fn arguments(&mut self, function: &str, schema: &Value) -> String {
        let Some(Value::Object(properties)) = schema.get("properties") else {
            return match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => String::new(),
                _ => "**arguments: Any".to_owned(),
            };
        };
        if properties.is_empty() {
            return String::new();
        }
        if !properties.keys().all(|name| is_name(name)) {
            return "**arguments: Any".to_owned();
        }
        let (needed, further): (Vec<_>, Vec<_>) = properties
            .iter()
            .partition(|(name, _)| is_required(schema, name));
        let parameters = needed.iter().chain(&further).map(|(name, of)| {
            let kind = self.of(&format!("{function}_{name}"), of);
            match is_required(schema, name) {
                true => format!("{name}: {kind}"),
                false => format!("{name}: {kind} = ..."),
            }
        });
        let parameters: Vec<_> = parameters.collect();
        format!("*, {}", parameters.join(", "))
    }

    /// The type of what fits a schema; `Any` where Python has no words for it.
    fn of(&mut self, name: &str, schema: &Value) -> String {
        if let Some(Value::Array(values)) = schema.get("enum") {
            return literals(values).unwrap_or_else(|| "Any".to_owned());
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = schema.get(word) {
                let kinds = (1..).zip(choices);
                let kinds = kinds.map(|(n, choice)| self.of(&format!("{name}_{n}"), choice));
                return union(kinds.collect());
            }
        }
        match schema.get("type") {
            Some(Value::String(kind)) => self.of_type(name, kind, schema),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                union(kinds.map(|kind| self.of_type(name, kind, schema)).collect())
            }
            _ => "Any".to_owned(),
        }
    }

    fn of_type(&mut self, name: &str, kind: &str, schema: &Value) -> String {
        match kind {
            "string" => "str".to_owned(),
            "integer" => "int".to_owned(),
            "number" => "float".to_owned(),
            "boolean" => "bool".to_owned(),
            "null" => "None".to_owned(),
            "array" => match schema.get("items") {
                Some(items) => format!("list[{}]", self.of(&format!("{name}_item"), items)),
                None => "list[Any]".to_owned(),
            },
            "object" => match schema.get("properties") {
                Some(Value::Object(fields)) if is_closed(schema, fields) => {
                    self.class(name, schema, fields)
                }
                _ => "dict[str, Any]".to_owned(),
            },
            _ => "Any".to_owned(),
        }
    }

    fn class(&mut self, name: &str, schema: &Value, fields: &Map<String, Value>) -> String {
        let class = format!("_{name}");
        let mut text = format!("\nclass {class}(TypedDict):\n");
        for (field, of) in fields {
            let kind = self.of(&format!("{name}_{field}"), of);
            let kind = match is_required(schema, field) {
                true => kind,
                false => format!("NotRequired[{kind}]"),
            };
            writeln!(text, "    {field}: {kind}").ok();
        }
        self.classes.push_str(&text);
        class
    }
}

/// Whether a class says all that the schema does: its fields are names, and there are no others.
fn is_closed(schema: &Value, fields: &Map<String, Value>) -> bool {
    let no_others = matches!(schema.get("additionalProperties"), Some(Value::Bool(false)));
    no_others && !fields.is_empty() && fields.keys().all(|name| is_name(name))
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|one| one == name))
}

fn literals(values: &[Value]) -> Option<String> {
    let literal = |value: &Value| match value {
        Value::String(text) => Some(format!("{text:?}")).filter(|_| text.is_ascii()),
        Value::Number(number) if number.is_i64() => Some(number.to_string()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Null => Some("None".to_owned()),
        _ => None,
    };
    let literals: Option<Vec<_>> = values.iter().map(literal).collect();
    Some(format!("Literal[{}]", literals?.join(", ")))
}

fn union(mut kinds: Vec<String>) -> String {
    kinds.dedup();
    match kinds.is_empty() || kinds.iter().any(|kind| kind == "Any") {
        true => "Any".to_owned(),
        false => kinds.join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_become_types() {
        let mut nested = Nested::default();
        let mut check = |schema: Value, expected: &str| {
            assert_eq!(nested.of("x", &schema), expected, "{schema}");
        };
        check(json!({"type": "string"}), "str");
        check(json!({"type": ["integer", "null"]}), "int | None");
        check(json!({"enum": ["a", 1, true]}), "Literal[\"a\", 1, True]");
        check(
            json!({"type": "array", "items": {"type": "number"}}),
            "list[float]",
        );
        check(
            json!({"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
            "str | bool",
        );
        check(json!({"type": "object"}), "dict[str, Any]");
        check(json!({"$ref": "#/x"}), "Any");
        let closed = json!({"type": "object", "additionalProperties": false,
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]});
        check(closed, "_x");
        assert_eq!(
            nested.classes,
            "\nclass _x(TypedDict):\n    a: str\n    b: NotRequired[int]\n"
        );
    }

    #[test]
    fn arguments_are_named_and_those_that_must_be_given_come_first() {
        let mut nested = Nested::default();
        let schema = json!({"type": "object", "properties": {
            "limit": {"type": "integer"}, "file": {"type": "string"}}, "required": ["file"]});
        let arguments = nested.arguments("read", &schema);
        assert_eq!(arguments, "*, file: str, limit: int = ...");
        let odd = json!({"properties": {"from": {"type": "string"}}});
        assert_eq!(nested.arguments("read", &odd), "**arguments: Any");
        assert_eq!(
            quoted("say \"\"\"x\"\"\" \\ \""),
            "\"\"\"say '''x''' \\\\ \" \"\"\""
        );
    }
}
