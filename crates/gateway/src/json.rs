//! JSON bodies: read within a bound, refused with the name of the field that is wrong.
//!
//! The body is an argument like others but read by the handler, not before it: what depends on an
//! object is validated after the object was looked up.

mod named;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};
use netra_context::memory;
use netra_protocol::ErrorCode;
use serde::de::{DeserializeOwned, IgnoredAny};

use self::named::Named;
use crate::charge;
use crate::error::Error;
use crate::serve::pace::is_stalled;
use crate::state::Gateway;

/// The largest JSON body, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// A JSON body that nobody has read yet.
pub(crate) struct Payload {
    headers: HeaderMap,
    body: Body,
}

impl FromRequest<Gateway> for Payload {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Gateway) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        Ok(Self {
            headers: parts.headers,
            body,
        })
    }
}

impl Payload {
    /// The body as `T`.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let is_json = is_json(&self.headers);
        let bytes = self.bytes().await?;
        if !is_json {
            return Err(unsupported(
                "The body is JSON, with Content-Type: application/json.",
            ));
        }
        parse(&bytes)
    }

    /// The body as `T`, or `T`'s default where the request has none.
    pub(crate) async fn read_or_default<T: DeserializeOwned + Default>(self) -> Result<T, Error> {
        let is_json = is_json(&self.headers);
        let bytes = self.bytes().await?;
        match (bytes.is_empty(), is_json) {
            (true, _) => Ok(T::default()),
            (false, true) => parse(&bytes),
            (false, false) => Err(unsupported(
                "The body is JSON, with Content-Type: application/json.",
            )),
        }
    }

    async fn bytes(self) -> Result<bytes::Bytes, Error> {
        let declared = declared_length(&self.headers);
        if declared.is_some_and(|length| length > MAX_BYTES as u64) {
            return Err(too_large(MAX_BYTES as u64));
        }
        // Its pieces, and the whole that is made of them.
        let most = declared.and_then(|length| usize::try_from(length).ok());
        let _room = memory::reserve(2 * most.unwrap_or(MAX_BYTES)).map_err(charge::refusal)?;
        let read = Limited::new(self.body, MAX_BYTES).collect().await;
        Ok(read
            .map_err(|error| broken_body(error, MAX_BYTES as u64))?
            .to_bytes())
    }
}

/// The length that the client says the body has.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// A body that went past its bound, or ended early.
fn broken_body(error: Box<dyn std::error::Error + Send + Sync>, limit_bytes: u64) -> Error {
    if error.is::<http_body_util::LengthLimitError>() {
        return too_large(limit_bytes);
    }
    unread(&*error).caused_by(error)
}

/// The error for a body that could not be read to its end.
pub(crate) fn unread(cause: &(dyn std::error::Error + 'static)) -> Error {
    if is_stalled(cause) {
        Error::stalled_body()
    } else {
        Error::invalid("The body could not be read to its end.")
    }
}

/// The body is larger than allowed.
pub(crate) fn too_large(limit_bytes: u64) -> Error {
    Error::new(ErrorCode::TooLarge, "The body is larger than allowed.")
        .with_details(serde_json::json!({ "limit_bytes": limit_bytes }))
}

/// The content type is not one that the operation takes.
pub(crate) fn unsupported(message: &'static str) -> Error {
    Error::new(ErrorCode::UnsupportedMediaType, message)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads `T` from JSON text.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let _room = memory::reserve_for_json(bytes).map_err(charge::refusal)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(Named(&mut deserializer));
    let value = read.map_err(|error| {
        let inner = error.inner();
        if inner.is_data() {
            refusal(&error.path().to_string(), &inner.to_string())
        } else if serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
            // JSON it is, but no value of this field, as null is where one of some words belongs.
            refusal(&error.path().to_string(), "")
        } else {
            let place = format!("line {}, column {}", inner.line(), inner.column());
            Error::invalid(format!("The body is not valid JSON ({place}).")).breaks("", "json")
        }
    })?;
    deserializer
        .end()
        .map_err(|_| Error::invalid("The body goes on after its JSON value.").breaks("", "json"))?;
    Ok(value)
}

/// Reads `T` from a JSON value.
pub(crate) fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(Named(value))
        .map_err(|error| refusal(&error.path().to_string(), &error.inner().to_string()))
}

/// The text between the first pair of backticks.
fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// The error for data that does not fit. Values are not repeated: they may be ids.
pub(crate) fn refusal(path: &str, reason: &str) -> Error {
    let path = if path == "." { "" } else { path };
    if reason.starts_with("unknown field") {
        let name = quoted(reason)
            .unwrap_or(path)
            .chars()
            .take(100)
            .collect::<String>();
        let message = format!("The field `{name}` is not known.");
        return Error::new(ErrorCode::UnknownField, message)
            .breaks(&name, "additionalProperties false");
    }
    if reason.starts_with("missing field") {
        let name = quoted(reason).unwrap_or_default();
        let whole = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        return Error::invalid(format!("The field `{whole}` is missing."))
            .breaks(&whole, "required");
    }
    if reason.starts_with("duplicate field") {
        let name = quoted(reason).unwrap_or(path);
        let name = name.chars().take(100).collect::<String>();
        return Error::invalid(format!("The field `{name}` is there twice.")).breaks(&name, "once");
    }
    let reason = reason.split(" at line ").next().unwrap_or_default();
    let expected = match reason.rsplit_once("expected ") {
        Some((_, expected)) => format!(": expected {expected}"),
        None if reason.starts_with("not a valid") => {
            let (words, _) = reason.split_once(" (").unwrap_or((reason, ""));
            format!(": {words}")
        }
        None => String::new(),
    };
    let name = if path.is_empty() {
        "The body".into()
    } else {
        format!("The field `{path}`")
    };
    let rule = broken_rule(reason);
    Error::invalid(format!("{name} is not as it should be{expected}.")).breaks(path, &rule)
}

/// Which rule of the schema is broken, by what the reader of the value says.
fn broken_rule(reason: &str) -> String {
    if let Some((_, rule)) = reason.split_once(" (")
        && reason.starts_with("not a valid")
    {
        return rule.trim_end_matches(')').to_owned();
    }
    let expected = reason.rsplit_once("expected ").map(|(_, words)| words);
    let expected = expected.unwrap_or(reason).trim();
    if reason.starts_with("unknown variant") {
        let words = expected.trim_start_matches("one of ").replace('`', "");
        return format!("enum {}", words.replace(" or ", ", "));
    }
    if let Some(number) = reason.strip_prefix("invalid type: floating point `") {
        let number = number.split('`').next().unwrap_or_default().parse::<f64>();
        if number.is_ok_and(|number| number.fract() == 0.0) {
            return "plain_integer".to_owned();
        }
    }
    let is_below = reason.starts_with("invalid value: integer `-");
    let is_above = reason.starts_with("invalid value: integer `") && !is_below;
    let least = if is_below {
        "minimum 0"
    } else {
        "type integer"
    };
    match expected {
        "u32" if is_above => "maximum 4294967295",
        "u64" | "u32" | "u16" | "u8" | "usize" => least,
        "i64" | "i32" | "invalid digit found in string" => "type integer",
        "cannot parse integer from empty string" => "type integer",
        "number too large to fit in target type" => "format int64",
        "number too small to fit in target type" => "format int64",
        "f64" => "type number",
        "a boolean" | "provided string was not `true` or `false`" => "type boolean",
        "a sequence" => "type array",
        "a map" | "an object" => "type object",
        words if words.starts_with("struct ") => "type object",
        // What is left are texts, and words out of a list that came as something else.
        _ => "type string",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use netra_protocol::run::StartRun;
    use netra_protocol::thread::CreateThread;

    use super::*;

    fn refused<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> (ErrorCode, String, String) {
        let error = parse::<T>(text.as_bytes()).unwrap_err();
        let detail = error.detail(netra_protocol::id::RequestId::from_parts(1, 1), "d");
        let of = |name: &str| {
            let details = detail.details.as_ref()?;
            Some(details[name].as_str()?.to_owned())
        };
        let none = || "-".to_owned();
        (
            detail.code,
            of("field").unwrap_or_else(none),
            of("rule").unwrap_or_else(none),
        )
    }

    #[test]
    fn the_wrong_field_and_the_rule_that_it_breaks_are_named() {
        let (invalid, file) = (ErrorCode::InvalidRequest, netra_protocol::id::FileId::RULE);
        for (text, field, rule) in [
            (r#"{"agent":"echo"}"#, "input", "required"),
            (r#"{"agent":7,"input":"x"}"#, "agent", "type string"),
            (
                r#"{"agent":"e","input":1,"files":["run_1"]}"#,
                "files[0]",
                file,
            ),
            (
                r#"{"agent":"e","input":1,"files":3}"#,
                "files",
                "type array",
            ),
            (
                r#"{"agent":"e","input":1,"on_limit":"x"}"#,
                "on_limit",
                "enum queue, reject",
            ),
            (
                r#"{"agent":"e","input":1,"on_busy":"x"}"#,
                "on_busy",
                "enum queue, reject, interrupt",
            ),
            (r#"{"agent":"e","agent":"f","input":1}"#, "agent", "once"),
            (
                r#"{"agent":"e","input":1,"on_limit":null}"#,
                "on_limit",
                "type string",
            ),
            (
                r#"{"agent":"e","input":1,"timeout_ms":-1}"#,
                "timeout_ms",
                "minimum 0",
            ),
            (
                r#"{"agent":"e","input":1,"timeout_ms":"1"}"#,
                "timeout_ms",
                "type integer",
            ),
            (
                r#"{"agent":"e","input":1,"timeout_ms":1.5}"#,
                "timeout_ms",
                "type integer",
            ),
            (
                r#"{"agent":"e","input":1,"timeout_ms":2.0}"#,
                "timeout_ms",
                "plain_integer",
            ),
            (
                r#"{"agent":"e","input":1,"metadata":[]}"#,
                "metadata",
                "type object",
            ),
            ("[]", "", "type object"),
            ("{", "", "json"),
            ("{} {}", "", "json"),
        ] {
            let found = if text.starts_with("{}") {
                refused::<CreateThread>(text)
            } else {
                refused::<StartRun>(text)
            };
            assert_eq!(
                found,
                (invalid, field.to_owned(), rule.to_owned()),
                "{text}"
            );
        }
        let unknown = refused::<StartRun>(r#"{"agent":"echo","input":"x","model":"y"}"#);
        let rule = "additionalProperties false".to_owned();
        assert_eq!(unknown, (ErrorCode::UnknownField, "model".into(), rule));
    }

    #[test]
    fn values_are_not_repeated() {
        let secret = netra_protocol::id::RunId::from_parts(1, 2).to_string();
        let text = format!(r#"{{"agent":"e","input":1,"files":["{secret}"]}}"#);
        let error = parse::<StartRun>(text.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains(&secret), "{error}");
        let text = format!(r#"{{"agent":"e","input":1,"timeout_ms":"{secret}"}}"#);
        let error = parse::<StartRun>(text.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains(&secret), "{error}");
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let text = format!(r#"{{"agent":"e","input":{}"#, "[".repeat(100_000));
        assert_eq!(
            parse::<StartRun>(text.as_bytes()).unwrap_err().code(),
            ErrorCode::InvalidRequest
        );
    }

    #[test]
    fn only_json_types_are_json() {
        for (value, expected) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/plain", false),
            ("application/jsonp", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_json(&headers), expected, "{value}");
        }
    }
}
