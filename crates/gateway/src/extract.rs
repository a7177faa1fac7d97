//! What handlers are given: the context of the request, ids of the path, parameters, headers.
//!
//! [`context`] is the one place that makes a [`UserExecutionContext`] for a request.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use netra_context::{Principal, Trace, UserExecutionContext};
use netra_protocol::id::RequestId;
use netra_protocol::page::{DEFAULT_LIMIT, MAX_LIMIT};
use netra_store::Idempotency;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::address::Peer;
use crate::auth::verifier::Verified;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::json;
use crate::serve::places::Place;
use crate::state::Gateway;

/// The context of one HTTP request or WebSocket frame, from credentials that were verified.
pub(crate) fn context(
    gateway: &Gateway,
    principal: Principal,
    request_id: RequestId,
    operation: &'static str,
) -> UserExecutionContext {
    UserExecutionContext::for_request(&gateway.runtime, principal, request_id, operation)
}

/// The id that the outermost layer gave to the request.
pub(crate) fn request_id(parts: &Parts) -> Result<RequestId, Error> {
    let given = parts.extensions.get::<RequestId>().copied();
    given.ok_or_else(|| Error::internal("a request without an id"))
}

/// Who was let in. A route outside the authenticated part of the router that asks for them refuses everybody.
pub(crate) fn verified(parts: &Parts) -> Result<Arc<Verified>, Error> {
    let verified = parts.extensions.get::<Arc<Verified>>().cloned();
    verified.ok_or_else(|| Error::unauthenticated("The credentials are missing."))
}

/// The signed-in user of the request, and its parameters behind the `?`; none are known unless the
/// handler names their type.
pub(crate) struct Caller<Q = Nothing> {
    pub(crate) ctx: UserExecutionContext,
    pub(crate) verified: Arc<Verified>,
    /// Of the connection, where there is one.
    pub(crate) place: Option<Arc<Place>>,
    pub(crate) query: Q,
}

impl<Q: DeserializeOwned> FromRequestParts<Gateway> for Caller<Q> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Error> {
        let verified = verified(parts)?;
        let query = parse_query(parts.uri.query().unwrap_or_default())?;
        let request_id = request_id(parts)?;
        let ctx = context(gateway, verified.principal.clone(), request_id, "request");
        Ok(Self {
            ctx: ctx.at(parts.extensions.get::<Trace>().copied()),
            verified,
            place: parts.extensions.get().cloned(),
            query,
        })
    }
}

/// The one id or name of the path. One that is not well formed names nothing, so it is not found.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr + Send> FromRequestParts<Gateway> for Id<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Error> {
        let params = RawPathParams::from_request_parts(parts, gateway).await;
        let params = params.map_err(|_| Error::not_found())?;
        let text = params.iter().next().map(|(_, value)| value);
        text.and_then(|text| text.parse().ok())
            .map(Self)
            .ok_or_else(Error::not_found)
    }
}

/// Somebody who need not be signed in: where the request came from, and its headers. No parameters
/// are known behind the `?`.
pub(crate) struct Visitor {
    pub(crate) peer: Option<Peer>,
    pub(crate) headers: HeaderMap,
    pub(crate) uri: Uri,
}

impl FromRequestParts<Gateway> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Gateway) -> Result<Self, Error> {
        parse_query::<Nothing>(parts.uri.query().unwrap_or_default())?;
        Ok(Self {
            peer: parts.extensions.get().copied(),
            headers: parts.headers.clone(),
            uri: parts.uri.clone(),
        })
    }
}

/// Reads the parameters behind the `?`. Unknown ones are refused.
pub(crate) fn parse_query<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(pairs)
        .map_err(|error| json::refusal(&error.path().to_string(), &error.inner().to_string()))
}

/// No parameters at all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// The parameters of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Items of a page, 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    pub(crate) cursor: Option<Cursor>,
}

impl Paging {
    pub(crate) fn limit(&self) -> Result<u32, Error> {
        checked_limit(self.limit)
    }
}

/// The size of a page, within the contract's bounds.
pub(crate) fn checked_limit(asked: Option<i64>) -> Result<u32, Error> {
    let rule = match asked {
        None => return Ok(DEFAULT_LIMIT),
        Some(limit) if limit < 1 => "minimum 1",
        Some(limit) => match u32::try_from(limit) {
            Ok(limit) if limit <= MAX_LIMIT => return Ok(limit),
            _ => "maximum 100",
        },
    };
    Err(Error::invalid("`limit` is a number from 1 to 100.").breaks("limit", rule))
}

/// The `Idempotency-Key` of the request, if it has one.
pub(crate) struct IdempotencyKey(Option<String>);

impl FromRequestParts<Gateway> for IdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Gateway) -> Result<Self, Error> {
        let Some(key) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        Self::checked(key.to_str().ok().unwrap_or_default().to_owned()).map(|key| Self(Some(key)))
    }
}

impl IdempotencyKey {
    /// From a frame's field.
    pub(crate) fn from_field(key: Option<String>) -> Result<Self, Error> {
        key.map(Self::checked).transpose().map(Self)
    }

    fn checked(key: String) -> Result<String, Error> {
        let visible = key
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if key.is_empty() || key.len() > 255 || !visible {
            let message = "An idempotency key has 1 to 255 visible ASCII characters.";
            return Err(Error::invalid(message).breaks("Idempotency-Key", "pattern ^[ -~]{1,255}$"));
        }
        Ok(key)
    }

    /// What the store remembers: the key, the operation with its target, and the body's hash.
    pub(crate) fn of(
        self,
        operation: impl Into<String>,
        body: &impl serde::Serialize,
    ) -> Result<Option<Idempotency>, Error> {
        let Some(key) = self.0 else { return Ok(None) };
        let body = serde_json::to_vec(body).map_err(Error::internal)?;
        Ok(Some(Idempotency {
            key,
            operation: operation.into(),
            body_hash: Sha256::digest(&body).into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use netra_protocol::ErrorCode;

    use super::*;

    #[test]
    fn unknown_and_wrong_parameters_are_named() {
        let paging: Paging = parse_query("limit=7&cursor=a%20b").unwrap();
        assert_eq!(paging.limit().unwrap(), 7);
        assert_eq!(paging.cursor, Some("a b".into()));

        let error = parse_query::<Paging>("limt=7").unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnknownField);
        assert!(error.to_string().contains("limt"));

        for bad in ["limit=x", "limit=1.5", "limit=", "limit=1&limit=2"] {
            let error = parse_query::<Paging>(bad).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{bad}");
        }
        assert_eq!(
            parse_query::<Nothing>("a=b").unwrap_err().code(),
            ErrorCode::UnknownField
        );
        assert!(parse_query::<Nothing>("").is_ok());
    }

    #[test]
    fn a_page_has_1_to_100_items() {
        assert_eq!(checked_limit(None).unwrap(), 20);
        assert_eq!(checked_limit(Some(100)).unwrap(), 100);
        for bad in [0, 101, -1, i64::MIN, i64::MAX] {
            assert_eq!(
                checked_limit(Some(bad)).unwrap_err().code(),
                ErrorCode::InvalidRequest
            );
        }
    }

    #[test]
    fn the_same_body_gives_the_same_hash_and_another_does_not() {
        let of = |body: serde_json::Value| {
            let key = IdempotencyKey::from_field(Some("k".into())).unwrap();
            key.of("op", &body).unwrap().unwrap().body_hash
        };
        assert_eq!(
            of(serde_json::json!({"a": 1})),
            of(serde_json::json!({"a": 1}))
        );
        assert_ne!(
            of(serde_json::json!({"a": 1})),
            of(serde_json::json!({"a": 2}))
        );
        for bad in [String::new(), "x".repeat(256), "a\nb".into(), "ä".into()] {
            assert!(IdempotencyKey::from_field(Some(bad)).is_err());
        }
    }
}
