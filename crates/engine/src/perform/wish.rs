//! What a script asks for: which function, with arguments as Python passes them.

use netra_protocol::error::Failure;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::code_calls::{self, Call};
use crate::execution::{Fault, Frame};

/// What one call of a function of the server's wants.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    One(Call),
    /// Several at once.
    All {
        calls: Vec<Call>,
        /// Whether one that fails is an answer beside the others.
        returns_errors: bool,
    },
}

/// A call that was not made yet, as the worker words it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deferred {
    function: String,
    args: Vec<Value>,
    kwargs: Map<String, Value>,
}

impl Wish {
    /// Fails with words for the script's author where the arguments are not those of the function.
    pub(super) fn of(
        name: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
    ) -> Result<Self, String> {
        if name == "gather" {
            return gather(args, kwargs);
        }
        call_of(name, args, kwargs).map(Self::One)
    }

    /// Does it, and gives what the function returns.
    pub(super) async fn grant(self, frame: &Frame<'_>) -> Result<Value, Fault> {
        let (calls, returns_errors) = match self {
            Self::One(call) => return code_calls::answer(frame, call).await,
            Self::All {
                calls,
                returns_errors,
            } => (calls, returns_errors),
        };
        let answers = code_calls::together(frame, calls).await?.into_iter();
        let told = |failure: Failure| json!({ "error": { "code": failure.code, "message": failure.message } });
        let values: Result<Value, Failure> = match returns_errors {
            true => Ok(answers.map(|answer| answer.unwrap_or_else(told)).collect()),
            false => answers.collect(),
        };
        values.map_err(Fault::Agent)
    }
}

fn gather(args: Vec<Value>, mut kwargs: Map<String, Value>) -> Result<Wish, String> {
    let returns_errors = match kwargs.remove("return_errors") {
        None => false,
        Some(Value::Bool(given)) => given,
        Some(_) => return Err(wrong("gather", "return_errors", "True or False")),
    };
    if let Some(unknown) = kwargs.keys().next() {
        return Err(format!("gather() has no argument named {unknown:?}"));
    }
    let call = |given: Value| {
        let deferred = Deferred::deserialize(given).map_err(|_| {
            "gather() takes calls that were not made yet: gather(call(f, …), call(g, …))".to_owned()
        })?;
        if deferred.function == "gather" {
            return Err("gather() cannot gather itself".to_owned());
        }
        call_of(&deferred.function, deferred.args, deferred.kwargs)
    };
    Ok(Wish::All {
        calls: args.into_iter().map(call).collect::<Result<_, _>>()?,
        returns_errors,
    })
}

/// What the script wants, where its arguments are those of the function.
fn call_of(name: &str, args: Vec<Value>, kwargs: Map<String, Value>) -> Result<Call, String> {
    match name {
        "think" => {
            let [message, progress] = bind(name, ["message", "progress"], args, kwargs)?;
            let message = text(name, "message", message)?;
            let progress = match progress {
                Value::Null => None,
                value => {
                    let number = value.as_f64();
                    Some(number.ok_or_else(|| wrong(name, "progress", "a number"))?)
                }
            };
            Ok(Call::Think { message, progress })
        }
        "agent" => {
            let [agent, input] = bind(name, ["name", "input"], args, kwargs)?;
            let name = text(name, "name", agent)?;
            Ok(Call::Agent { name, input })
        }
        "ask_model" => {
            let [prompt, system] = bind(name, ["prompt", "system"], args, kwargs)?;
            let prompt = text(name, "prompt", prompt)?;
            let system = match system {
                Value::Null => None,
                value => Some(text(name, "system", value)?),
            };
            Ok(Call::AskModel { prompt, system })
        }
        tool if !args.is_empty() => Err(format!("{tool}() takes keyword arguments only")),
        tool => Ok(Call::Tool {
            name: tool.to_owned(),
            arguments: kwargs,
        }),
    }
}

/// Puts positional and keyword arguments in the order of the names; absent ones are null.
fn bind<const N: usize>(
    function: &str,
    names: [&str; N],
    args: Vec<Value>,
    mut kwargs: Map<String, Value>,
) -> Result<[Value; N], String> {
    if args.len() > N {
        let words = format!(
            "{function}() takes at most {N} arguments, {} were given",
            args.len()
        );
        return Err(words);
    }
    let mut positional = args.into_iter();
    let mut bound = std::array::from_fn(|_| Value::Null);
    for (place, name) in bound.iter_mut().zip(names) {
        match (positional.next(), kwargs.remove(name)) {
            (Some(_), Some(_)) => {
                return Err(format!("{function}() got {name:?} twice"));
            }
            (Some(value), None) | (None, Some(value)) => *place = value,
            (None, None) => {}
        }
    }
    match kwargs.keys().next() {
        Some(unknown) => Err(format!("{function}() has no argument named {unknown:?}")),
        None => Ok(bound),
    }
}

fn wrong(function: &str, argument: &str, wanted: &str) -> String {
    format!("{function}() needs {wanted} as {argument:?}")
}

fn text(function: &str, argument: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(wrong(function, argument, "a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(args: Value, kwargs: Value) -> Result<[Value; 2], String> {
        let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else {
            panic!()
        };
        bind("f", ["a", "b"], args, kwargs)
    }

    #[test]
    fn arguments_are_bound_as_python_binds_them() {
        assert_eq!(bound(json!([1]), json!({"b": 2})), Ok([json!(1), json!(2)]));
        assert_eq!(
            bound(json!([]), json!({"b": 2})),
            Ok([Value::Null, json!(2)])
        );
        assert!(
            bound(json!([1, 2, 3]), json!({}))
                .unwrap_err()
                .contains("at most 2")
        );
        assert!(
            bound(json!([1]), json!({"a": 1}))
                .unwrap_err()
                .contains("twice")
        );
        assert!(
            bound(json!([]), json!({"c": 1}))
                .unwrap_err()
                .contains("no argument")
        );
    }

    #[test]
    fn what_is_gathered_is_a_call_that_was_not_made_yet() {
        let of = |args: Value, kwargs: Value| {
            let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else {
                panic!()
            };
            Wish::of("gather", args, kwargs)
        };
        let one = json!({"function": "read", "args": [], "kwargs": {"file": "a"}});
        let gathered = of(json!([one, one]), json!({"return_errors": true}));
        let Ok(Wish::All {
            calls,
            returns_errors: true,
        }) = gathered
        else {
            panic!("{gathered:?}")
        };
        assert_eq!(calls.len(), 2);
        assert_eq!(
            calls[0],
            call_of(
                "read",
                vec![],
                Map::from_iter([("file".into(), json!("a"))])
            )
            .unwrap()
        );
        let positional = json!({"function": "read", "args": [1], "kwargs": {}});
        let nested = json!({"function": "gather", "args": [], "kwargs": {}});
        for (args, kwargs, words) in [
            (json!([7]), json!({}), "not made yet"),
            (json!([positional]), json!({}), "keyword arguments only"),
            (json!([nested]), json!({}), "itself"),
            (json!([]), json!({"return_errors": 1}), "True or False"),
            (json!([]), json!({"loud": true}), "loud"),
        ] {
            let refused = of(args, kwargs).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
