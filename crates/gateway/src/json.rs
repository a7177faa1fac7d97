//! JSON bodies: read within a bound, refused with the name of the field that is wrong.
//!
//! The body is an argument like others but read by the handler, not before it: what depends on an
//! object is validated after the object was looked up.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};
use netra_context::memory;
use netra_protocol::ErrorCode;
use serde::de::{DeserializeOwned, IgnoredAny};

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
    let read = serde_path_to_error::deserialize(&mut deserializer);
    let value = read.map_err(|error| {
        let inner = error.inner();
        if inner.is_data() {
            refusal(&error.path().to_string(), &inner.to_string())
        } else if serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
            // JSON it is, but no value of this field, as null is where one of some words belongs.
            refusal(&error.path().to_string(), "")
        } else {
            let place = format!("line {}, column {}", inner.line(), inner.column());
            Error::invalid(format!("The body is not valid JSON ({place})."))
        }
    })?;
    deserializer
        .end()
        .map_err(|_| Error::invalid("The body goes on after its JSON value."))?;
    Ok(value)
}

/// Reads `T` from a JSON value.
pub(crate) fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value)
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
        return Error::new(ErrorCode::UnknownField, message).at_field(&name);
    }
    if reason.starts_with("missing field") {
        let name = quoted(reason).unwrap_or_default();
        let whole = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        return Error::invalid(format!("The field `{whole}` is missing.")).at_field(&whole);
    }
    if reason.starts_with("duplicate field") {
        let name = quoted(reason).unwrap_or(path);
        let name = name.chars().take(100).collect::<String>();
        return Error::invalid(format!("The field `{name}` is there twice.")).at_field(&name);
    }
    let reason = reason.split(" at line ").next().unwrap_or_default();
    let expected = match reason.rsplit_once("expected ") {
        Some((_, expected)) => format!(": expected {expected}"),
        None if reason.starts_with("not a valid") => format!(": {reason}"),
        None => String::new(),
    };
    let name = if path.is_empty() {
        "The body".into()
    } else {
        format!("The field `{path}`")
    };
    Error::invalid(format!("{name} is not as it should be{expected}.")).at_field(path)
}

#[cfg(test)]
mod tests {
    use netra_protocol::run::StartRun;
    use netra_protocol::thread::CreateThread;

    use super::*;

    fn refused<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> (ErrorCode, String) {
        let error = parse::<T>(text.as_bytes()).unwrap_err();
        let detail = error.detail(netra_protocol::id::RequestId::from_parts(1, 1), "d");
        let field = detail.details.map(|details| details["field"].to_string());
        (detail.code, field.unwrap_or_default())
    }

    #[test]
    fn the_wrong_field_is_named() {
        for (text, code, field) in [
            (
                r#"{"agent":"echo","input":"x","model":"y"}"#,
                ErrorCode::UnknownField,
                "\"model\"",
            ),
            (
                r#"{"agent":"echo"}"#,
                ErrorCode::InvalidRequest,
                "\"input\"",
            ),
            (
                r#"{"agent":7,"input":"x"}"#,
                ErrorCode::InvalidRequest,
                "\"agent\"",
            ),
            (
                r#"{"agent":"e","input":1,"files":["run_1"]}"#,
                ErrorCode::InvalidRequest,
                "\"files[0]\"",
            ),
            (
                r#"{"agent":"e","input":1,"on_limit":"x"}"#,
                ErrorCode::InvalidRequest,
                "\"on_limit\"",
            ),
            (
                r#"{"agent":"e","agent":"f","input":1}"#,
                ErrorCode::InvalidRequest,
                "\"agent\"",
            ),
            (
                r#"{"agent":"e","input":1,"on_limit":null}"#,
                ErrorCode::InvalidRequest,
                "\"on_limit\"",
            ),
            ("[]", ErrorCode::InvalidRequest, "\"\""),
            ("{", ErrorCode::InvalidRequest, ""),
            ("{} {}", ErrorCode::InvalidRequest, ""),
        ] {
            let found = if text.starts_with("{}") {
                refused::<CreateThread>(text)
            } else {
                refused::<StartRun>(text)
            };
            assert_eq!(found, (code, field.to_owned()), "{text}");
        }
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
