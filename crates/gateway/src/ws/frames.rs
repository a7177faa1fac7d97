//! What a client sends, read without trust: every text gives a frame or an error, never a panic.

use netra_protocol::frame::{
    ApprovalRespond, AuthRefresh, ClientFrame, Delivered, Empty, RunCancel, RunStart, Subscribe,
};
use netra_protocol::id::{ApprovalId, ThreadId};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::json;

/// The longest id of a frame, in bytes.
const MAX_ID_BYTES: usize = 128;

/// A frame with the id to answer it by.
#[derive(Debug)]
pub(crate) struct Read {
    /// Null where the frame has none that can be repeated.
    pub(crate) id: Value,
    pub(crate) frame: Result<ClientFrame, Error>,
}

/// The fields of a frame, and the first of them that is there twice.
struct Fields {
    fields: Map<String, Value>,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let (mut fields, mut twice) = (Map::new(), None);
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.contains_key(&name) {
                twice.get_or_insert(name);
            } else {
                fields.insert(name, value);
            }
        }
        Ok(Fields { fields, twice })
    }
}

/// Reads one text frame.
pub(crate) fn read(text: &str) -> Read {
    let Fields { mut fields, twice } = match json::parse(text.as_bytes()) {
        Ok(fields) => fields,
        Err(error) => {
            return Read {
                id: Value::Null,
                frame: Err(error),
            };
        }
    };
    let given = fields.remove("id");
    let id = given.clone().filter(is_id).unwrap_or(Value::Null);
    if let Some(twice) = twice {
        let id = if twice == "id" { Value::Null } else { id };
        let reason = format!("duplicate field `{twice}`");
        return Read {
            id,
            frame: Err(json::refusal("", &reason)),
        };
    }
    let kind = match fields.remove("type") {
        Some(Value::String(kind)) => kind,
        _ => {
            let error = Error::invalid("A frame has a `type`.").breaks("type", "required");
            return Read {
                id,
                frame: Err(error),
            };
        }
    };
    if id.is_null() && !(kind == "delivered" && given.is_none()) {
        let message = "A frame has an `id`: a number, or a text of at most 128 bytes.";
        return Read {
            id,
            frame: Err(Error::invalid(message).breaks("id", "required")),
        };
    }
    Read {
        id,
        frame: of_kind(&kind, fields),
    }
}

fn is_id(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= MAX_ID_BYTES,
        Value::Number(_) => true,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn of_kind(kind: &str, mut fields: Map<String, Value>) -> Result<ClientFrame, Error> {
    Ok(match kind {
        "run.start" => {
            // Taken off first, so that what remains is refused if it is unknown.
            let thread_id = take::<ThreadId>(&mut fields, "thread_id")?;
            let idempotency_key = take::<String>(&mut fields, "idempotency_key")?;
            let start = rest(fields)?;
            ClientFrame::RunStart(RunStart {
                thread_id,
                idempotency_key,
                start,
            })
        }
        "run.cancel" => ClientFrame::RunCancel(rest::<RunCancel>(fields)?),
        "approval.respond" => {
            let approval_id = take::<ApprovalId>(&mut fields, "approval_id")?;
            let approval_id =
                approval_id.ok_or_else(|| json::refusal("", "missing field `approval_id`"))?;
            let answer = rest(fields)?;
            ClientFrame::ApprovalRespond(ApprovalRespond {
                approval_id,
                answer,
            })
        }
        "subscribe" => ClientFrame::Subscribe(rest::<Subscribe>(fields)?),
        "delivered" => ClientFrame::Delivered(rest::<Delivered>(fields)?),
        "auth.refresh" => ClientFrame::AuthRefresh(rest::<AuthRefresh>(fields)?),
        "ping" => ClientFrame::Ping(rest::<Empty>(fields)?),
        _ => {
            return Err(Error::invalid("This `type` of frame is not known.").breaks("type", "enum"));
        }
    })
}

/// A field that may be absent or null.
fn take<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, Error> {
    let value = fields.remove(name).unwrap_or(Value::Null);
    Option::<T>::deserialize(value).map_err(|error| json::refusal(name, &error.to_string()))
}

fn rest<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Error> {
    json::from_value(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use netra_protocol::ErrorCode;
    use netra_protocol::frame::After;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn code(frame: Value) -> (Value, ErrorCode) {
        let read = read(&frame.to_string());
        (read.id, read.frame.unwrap_err().code())
    }

    #[test]
    fn every_kind_of_frame_is_read() {
        let thread = ThreadId::from_parts(1, 1);
        let run = netra_protocol::id::RunId::from_parts(1, 1);
        let approval = ApprovalId::from_parts(1, 1);
        for frame in [
            json!({"type": "run.start", "id": "1", "agent": "echo", "input": "x",
                   "thread_id": thread, "idempotency_key": "k"}),
            json!({"type": "run.cancel", "id": 2, "run_id": run}),
            json!({"type": "approval.respond", "id": 3, "approval_id": approval, "decision": "deny"}),
            json!({"type": "subscribe", "id": 4, "after": 7, "threads": [thread], "deltas": false}),
            json!({"type": "delivered", "seq": 9}),
            json!({"type": "auth.refresh", "id": 5, "token": "t"}),
            json!({"type": "ping", "id": 6}),
        ] {
            assert!(read(&frame.to_string()).frame.is_ok(), "{frame}");
        }
    }

    #[test]
    fn a_subscription_begins_now_with_deltas_unless_told() {
        let read = read(r#"{"type":"subscribe","id":1}"#);
        let ClientFrame::Subscribe(subscribe) = read.frame.unwrap() else {
            unreachable!()
        };
        assert_eq!((subscribe.after, subscribe.deltas), (After::Now, true));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_frames_id() {
        let unknown = json!({"type": "run.start", "id": "a", "agent": "e", "input": 1, "x": 2});
        assert_eq!(code(unknown), (json!("a"), ErrorCode::UnknownField));
        for (frame, id) in [
            (
                json!({"type": "subscribe", "id": 1, "after": "later"}),
                json!(1),
            ),
            (json!({"type": "subscribe", "id": 1, "after": -1}), json!(1)),
            (json!({"type": "dance", "id": 1}), json!(1)),
            (json!({"id": 1}), json!(1)),
            (json!({"type": "ping"}), Value::Null),
            (json!({"type": "ping", "id": {}}), Value::Null),
            (json!({"type": "ping", "id": "x".repeat(129)}), Value::Null),
            (
                json!({"type": "approval.respond", "id": 1, "decision": "deny"}),
                json!(1),
            ),
            (json!(["ping"]), Value::Null),
        ] {
            assert_eq!(
                code(frame.clone()),
                (id, ErrorCode::InvalidRequest),
                "{frame}"
            );
        }
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        for (text, id) in [
            (
                r#"{"type":"run.start","id":1,"agent":"nope","agent":"echo","input":"x"}"#,
                json!(1),
            ),
            (r#"{"type":"ping","type":"subscribe","id":2}"#, json!(2)),
            (r#"{"type":"ping","id":1,"id":2}"#, Value::Null),
        ] {
            let read = read(text);
            let error = read.frame.unwrap_err();
            assert_eq!(
                (read.id, error.code()),
                (id, ErrorCode::InvalidRequest),
                "{text}"
            );
            assert!(error.to_string().contains("there twice"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_without_an_id(text in "\\PC{0,200}") {
            prop_assume!(serde_json::from_str::<Map<String, Value>>(&text).is_err());
            let read = read(&text);
            prop_assert!(read.frame.is_err());
            prop_assert_eq!(read.id, Value::Null);
        }

        #[test]
        fn no_object_makes_the_reader_panic(
            kind in "(run.start|run.cancel|subscribe|delivered|ping|auth.refresh|approval.respond)",
            name in "(agent|input|after|threads|seq|token|run_id|id|type)",
            value in prop_oneof![Just(json!(null)), Just(json!(-1)), Just(json!("x")),
                                 Just(json!([])), Just(json!({"a": 1})), Just(json!(1e300))],
        ) {
            let frame = json!({"type": kind, "id": 1, name: value});
            read(&frame.to_string());
        }
    }
}
