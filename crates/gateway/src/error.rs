//! The only place that turns errors into status codes and error bodies, for streams too.
//!
//! A handler returns an [`Error`]; its response carries it as an extension, and the outermost
//! layer, which knows the request's id, writes the body with [`Error::answer`].

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use netra_protocol::ErrorCode;
use netra_protocol::error::{ErrorBody, ErrorDetail};
use netra_protocol::id::RequestId;
use serde_json::{Value, json};

use crate::charge;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why a request is not answered with what it asked for, in the words of the contract.
#[derive(Debug, Clone)]
pub(crate) struct Error {
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Option<Box<Value>>,
    status: Option<StatusCode>,
    retry_after_s: Option<u64>,
    headers: Option<Box<HeaderMap>>,
    source: Option<Source>,
}

/// What a caller learns of a defect.
const BLAND: &str = "The server failed; the request's id finds the cause in its log.";

impl Error {
    /// An error with a message for the caller.
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let retry_after_s = match code.status() {
            429 | 503 => Some(1),
            _ => None,
        };
        Self {
            code,
            message: message.into(),
            details: None,
            status: None,
            retry_after_s,
            headers: None,
            source: None,
        }
    }

    /// What is said of a missing object and of another user's.
    pub(crate) fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "There is no such object.")
    }

    /// No credentials, or wrong ones.
    pub(crate) fn unauthenticated(message: &'static str) -> Self {
        Self::new(ErrorCode::Unauthenticated, message)
    }

    /// The role or the credentials lack the operation.
    pub(crate) fn forbidden() -> Self {
        Self::new(ErrorCode::Forbidden, "This account may not do that.")
    }

    /// The request is not understood.
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// A defect of ours: the caller learns nothing, the log everything.
    pub(crate) fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorCode::Internal, BLAND).caused_by(source)
    }

    /// No route has this path.
    pub(crate) fn no_route() -> Self {
        Self::new(ErrorCode::NotFound, "There is nothing at this path.")
    }

    /// The path exists, the method does not. The status says more than any code of the contract.
    pub(crate) fn no_method() -> Self {
        let mut error = Self::invalid("This path does not take that method.");
        error.status = Some(StatusCode::METHOD_NOT_ALLOWED);
        error
    }

    /// The body of the request brought nothing, or next to nothing, for too long.
    pub(crate) fn stalled_body() -> Self {
        let mut error = Self::invalid("The body brought nothing, or too little, for too long.");
        error.status = Some(StatusCode::REQUEST_TIMEOUT);
        error
    }

    /// Adds what belongs to the code.
    #[must_use]
    pub(crate) fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Names the field or parameter that is wrong and the rule that it breaks: a keyword of its schema in the document,
    /// with its value, or a word of our own where no schema can say it.
    #[must_use]
    pub(crate) fn breaks(self, field: &str, rule: &str) -> Self {
        self.with_details(json!({ "field": field, "rule": rule }))
    }

    /// Says when to come back.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Headers that go out with it.
    #[must_use]
    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = Some(Box::new(headers));
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub(crate) fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The stable code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
            .or_else(|| StatusCode::from_u16(self.code.status()).ok())
            .filter(|status| status.as_u16() >= 400)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The error as bodies and frames carry it.
    pub(crate) fn detail(&self, request_id: RequestId, docs_base: &str) -> ErrorDetail {
        ErrorDetail {
            code: self.code,
            message: self.message.to_string(),
            request_id,
            details: self.details.as_deref().cloned(),
            docs: format!("{docs_base}#{}", self.code),
        }
    }

    /// The whole answer.
    pub(crate) fn answer(&self, request_id: RequestId, docs_base: &str) -> Response {
        let body = ErrorBody {
            error: self.detail(request_id, docs_base),
        };
        let mut response = (self.status(), axum::Json(body)).into_response();
        if let Some(headers) = &self.headers {
            response.headers_mut().extend(headers.as_ref().clone());
        }
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Writes it to the log, once, where it is answered. Of a refusal only what the server itself
    /// has to say: a text that was made for this caller may repeat what they sent.
    pub(crate) fn log(&self, request_id: RequestId) {
        let code = self.code.as_str();
        match self.status().as_u16() {
            500 => tracing::error!(request.id = %request_id, error.code = code, "{}", self.chain()),
            // There may be thousands a second, and each of them is counted.
            503 if self.code == ErrorCode::Overloaded => {
                tracing::debug!(request.id = %request_id, error.code = code, "{}", self.chain())
            }
            501.. => {
                tracing::warn!(request.id = %request_id, error.code = code, "{}", self.chain())
            }
            _ => tracing::debug!(request.id = %request_id, error.code = code, "{}", self.fixed()),
        }
    }

    fn fixed(&self) -> &'static str {
        match self.message {
            Cow::Borrowed(message) => message,
            Cow::Owned(_) => "refused",
        }
    }

    fn chain(&self) -> String {
        let mut chain = self.message.to_string();
        let mut cause = self
            .source
            .as_ref()
            .map(|source| source.as_ref() as &dyn std::error::Error);
        while let Some(error) = cause {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            cause = error.source();
        }
        chain
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}

impl IntoResponse for Error {
    /// An empty answer that carries the error; the outermost layer writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The message for a code that a lower crate answered with, where its own words are not for callers.
fn told(code: ErrorCode, own: String) -> Cow<'static, str> {
    match code {
        ErrorCode::Internal => BLAND.into(),
        ErrorCode::NotFound => "There is no such object.".into(),
        ErrorCode::Forbidden => "This account may not do that.".into(),
        ErrorCode::StoreUnavailable => "The store cannot be used at present.".into(),
        _ => sentence(own).into(),
    }
}

/// The text as a sentence: a capital at its beginning, unless a field's name stands there, and a
/// full stop at its end.
fn sentence(text: String) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return text;
    };
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_name = word.contains(['_', '.', '`', '[', '"']);
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    if is_name {
        return format!("{text}{end}");
    }
    format!("{}{}{end}", first.to_uppercase(), chars.as_str())
}

impl From<netra_store::Error> for Error {
    fn from(error: netra_store::Error) -> Self {
        if let netra_store::Error::Memory(over) = error {
            return charge::refusal(over);
        }
        let code = error.code();
        let told = Self::new(code, told(code, error.to_string()));
        let told = match &error {
            netra_store::Error::TooLarge { limit_bytes } => {
                told.with_details(json!({ "limit_bytes": limit_bytes }))
            }
            netra_store::Error::InvalidCursor => told.breaks("cursor", "cursor"),
            _ => told,
        };
        told.caused_by(error)
    }
}

impl From<netra_events::Error> for Error {
    fn from(error: netra_events::Error) -> Self {
        match error {
            netra_events::Error::Store(error) => error.into(),
            netra_events::Error::CursorExpired {
                epoch,
                oldest_seq,
                latest_seq,
            } => Self::new(
                ErrorCode::CursorExpired,
                "The log does not hold what follows this cursor; read the state anew.",
            )
            .with_details(json!({
                "epoch": epoch, "oldest_seq": oldest_seq, "latest_seq": latest_seq,
            })),
        }
    }
}

impl From<netra_engine::Error> for Error {
    fn from(error: netra_engine::Error) -> Self {
        match error {
            netra_engine::Error::Store(error) => error.into(),
            error => {
                let code = error.code();
                let told = Self::new(code, told(code, error.to_string()));
                let told = match error.details() {
                    Some(details) => told.with_details(details.clone()),
                    None => told,
                };
                told.caused_by(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RequestId {
        RequestId::from_parts(1, 2)
    }

    #[test]
    fn every_code_of_requests_has_its_status() {
        for code in ErrorCode::ALL.iter().filter(|code| code.status() != 0) {
            assert_eq!(
                Error::new(*code, "x").status().as_u16(),
                code.status(),
                "{code}"
            );
        }
        assert_eq!(Error::new(ErrorCode::AgentFailed, "x").status(), 500);
    }

    #[test]
    fn a_defect_tells_nothing_of_itself() {
        let error = Error::from(netra_store::Error::Bug("column secret_column".into()));
        let detail = error.detail(id(), "/api/docs");
        assert_eq!(detail.code, ErrorCode::Internal);
        assert_eq!(detail.message, BLAND);
        assert_eq!(detail.docs, "/api/docs#internal");
        assert!(detail.details.is_none());
    }

    #[test]
    fn missing_and_foreign_look_alike() {
        let missing = Error::from(netra_store::Error::NotFound).detail(id(), "d");
        assert_eq!(missing, Error::not_found().detail(id(), "d"));
    }

    #[test]
    fn an_answer_that_may_be_repeated_says_when() {
        let response = Error::new(ErrorCode::Draining, "x")
            .retry_after(0)
            .answer(id(), "d");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = Error::not_found().answer(id(), "d");
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn words_of_lower_crates_become_sentences() {
        let error = Error::from(netra_store::Error::ThreadBusy);
        assert_eq!(error.to_string(), "The thread has an active run.");
    }

    #[test]
    fn names_of_fields_get_no_capital() {
        for (told, sentence_of) in [
            ("timeout_ms must be from 1", "timeout_ms must be from 1."),
            ("input.text is too long.", "input.text is too long."),
            ("`files` names it twice", "`files` names it twice."),
            ("the run has ended", "The run has ended."),
            ("", ""),
        ] {
            assert_eq!(sentence(told.to_owned()), sentence_of);
        }
    }
}
