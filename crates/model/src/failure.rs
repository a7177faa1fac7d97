//! Statuses and error bodies of a provider, turned into our errors.
//!
//! Providers repeat parts of the request, and sometimes of the key, in their error texts.
//! So the text is dropped, and only what looks like an identifier is kept.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::{Error, Secret};

/// A longer wait is of no use to any run, and sums with it must not overflow.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The parts of a provider's error object that are safe to show.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    code: Option<String>,
    kind: Option<String>,
    param: Option<String>,
    status: Option<u16>,
    /// The provider's word for why, beside its code.
    reason: Option<String>,
    retry_after: Option<Duration>,
    /// It is about money, which only its text says.
    no_credit: bool,
}

impl Complaint {
    /// Reads the value of `error`; a body that has none says nothing.
    pub(crate) fn read(error: &Value, key: Option<&Secret>) -> Self {
        let text = |name: &str| identifier(error.get(name)?.as_str()?, key);
        let details = error.get("details").and_then(Value::as_array);
        let detail = |name: &str| {
            let details = details.into_iter().flatten();
            details
                .filter_map(|detail| detail.get(name)?.as_str())
                .next()
        };
        let message = error.get("message").and_then(Value::as_str).unwrap_or("");
        let status = error
            .get("code")
            .or_else(|| error.get("status"))
            .and_then(Value::as_u64);
        Self {
            code: text("code").or_else(|| text("status")),
            kind: text("type"),
            param: text("param"),
            status: status.and_then(|status| u16::try_from(status).ok()),
            reason: detail("reason").and_then(|reason| identifier(reason, key)),
            retry_after: detail("retryDelay").and_then(seconds_of),
            no_credit: message.contains("credit balance is too low"),
        }
    }

    fn says(&self, words: &[&str]) -> bool {
        [&self.code, &self.kind, &self.reason]
            .into_iter()
            .flatten()
            .any(|said| words.iter().any(|word| said.contains(word)))
    }
}

/// A wait as Google writes it: `12s`, `0.5s`.
fn seconds_of(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Accepts plain identifiers and field paths only, and nothing that the key is part of.
fn identifier(text: &str, key: Option<&Secret>) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
    let has_key = key.is_some_and(|key| {
        let key = key.expose();
        !key.is_empty() && (text.contains(key) || (text.len() >= 4 && key.contains(text)))
    });
    let fits = (1..=48).contains(&text.len()) && text.chars().all(plain);
    (fits && !has_key).then(|| text.to_owned())
}

/// The error for an answer whose status is not a success.
pub(crate) fn from_status(
    provider: &str,
    status: u16,
    headers: &HeaderMap,
    complaint: Complaint,
) -> Error {
    let provider = provider.to_owned();
    let retry_after = retry_after(headers).or(complaint.retry_after);
    match status {
        400 if complaint.says(&["API_KEY_INVALID"]) => Error::Unauthorized { provider, status },
        400 if complaint.no_credit => Error::QuotaExhausted { provider },
        401 | 403 => Error::Unauthorized { provider, status },
        402 => Error::QuotaExhausted { provider },
        404 => Error::NotConfigured(format!(
            "the model provider {provider} answered 404: check the model's name and base_url"
        )),
        429 if complaint.says(&["insufficient_quota", "billing"]) => {
            Error::QuotaExhausted { provider }
        }
        429 => Error::RateLimited {
            provider,
            retry_after,
        },
        503 | 529 => Error::Overloaded {
            provider,
            retry_after,
        },
        408 | 409 | 425 | 500..=599 => Error::Unavailable {
            provider,
            reason: format!("it answered with status {status}"),
            // Those below 500 say that it was not worked on; what failed inside, nobody knows.
            sent: status >= 500,
        },
        300..=399 => Error::NotConfigured(format!(
            "the model provider {provider} redirects: set base_url to the final address"
        )),
        _ => Error::InvalidRequest {
            provider,
            status,
            code: complaint.code.or(complaint.kind),
            param: complaint.param,
        },
    }
}

/// The error for an error object inside a stream, after a status of success.
pub(crate) fn from_stream(provider: &str, complaint: Complaint) -> Error {
    if let Some(status) = complaint
        .status
        .filter(|status| (400..600).contains(status))
    {
        return from_status(provider, status, &HeaderMap::new(), complaint);
    }
    let provider = provider.to_owned();
    if complaint.says(&["insufficient_quota", "billing"]) {
        Error::QuotaExhausted { provider }
    } else if complaint.says(&["authentication_error", "permission_error"]) {
        Error::Unauthorized {
            provider,
            status: 200,
        }
    } else if complaint.says(&["rate_limit", "RESOURCE_EXHAUSTED"]) {
        Error::RateLimited {
            provider,
            retry_after: complaint.retry_after,
        }
    } else if complaint.says(&["overloaded", "capacity"]) {
        Error::Overloaded {
            provider,
            retry_after: None,
        }
    } else if complaint.says(&["invalid_request", "context_length", "content_policy"]) {
        let (code, param) = (complaint.code.or(complaint.kind), complaint.param);
        Error::InvalidRequest {
            provider,
            status: 200,
            code,
            param,
        }
    } else {
        let reason = match complaint.code.or(complaint.kind) {
            Some(code) => format!("it reported {code} while it answered"),
            None => "it reported an error while it answered".to_owned(),
        };
        // The answer had begun.
        let sent = true;
        Error::Unavailable {
            provider,
            reason,
            sent,
        }
    }
}

/// The error for a connection that could not be made or used. The library's own text is dropped:
/// it contains the address, and an address may contain a key.
pub(crate) fn from_transport(provider: &str, error: &reqwest::Error) -> Error {
    let mut kind = None;
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        kind = inner
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
            .or(kind);
        source = inner.source();
    }
    let what = if error.is_timeout() {
        "it took no connection in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke before the answer"
    };
    let reason = match kind {
        Some(kind) if kind != std::io::ErrorKind::Other => format!("{what} ({kind})"),
        _ => what.to_owned(),
    };
    Error::Unavailable {
        provider: provider.to_owned(),
        reason,
        sent: !error.is_connect() && !error.is_timeout() && !error.is_builder(),
    }
}

/// Reads `retry-after-ms` and `Retry-After`. A date is taken relative to the answer's own `Date`,
/// so that no clock of ours is asked.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |name: &str| {
        let time = httpdate::parse_http_date(text(name)?).ok()?;
        time.duration_since(UNIX_EPOCH).ok()
    };
    let millis = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok());
    let seconds = || text(RETRY_AFTER.as_str()).and_then(|s| s.parse::<f64>().ok());
    let wait = match millis.map(|ms| ms / 1000.0).or_else(seconds) {
        Some(seconds) => Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(MAX_RETRY_AFTER),
        None => date(RETRY_AFTER.as_str())?.saturating_sub(date(DATE.as_str())?),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn waits_in_every_form() {
        let cases = [
            (vec![("retry-after", "7")], Some(7_000)),
            (vec![("retry-after", "0.5")], Some(500)),
            (
                vec![("retry-after-ms", "120"), ("retry-after", "7")],
                Some(120),
            ),
            (
                vec![
                    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                    ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"),
                ],
                Some(30_000),
            ),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None),
            (
                vec![("retry-after", "99999999999999999999")],
                Some(86_400_000),
            ),
            (vec![("retry-after", "-3")], Some(0)),
            (vec![("retry-after", "soon")], None),
            (vec![], None),
        ];
        for (pairs, expected) in cases {
            let wait = retry_after(&headers(&pairs));
            assert_eq!(wait, expected.map(Duration::from_millis), "{pairs:?}");
        }
    }

    #[test]
    fn only_identifiers_survive() {
        let key = Secret::new("topsecretkey");
        let error = json!({
            "message": "you said: my private text", "type": "my private text",
            "code": "topsecretkey", "param": "messages[0].content"
        });
        let complaint = Complaint::read(&error, Some(&key));
        let error = from_status("p", 400, &HeaderMap::new(), complaint);
        assert_eq!(
            error,
            Error::InvalidRequest {
                provider: "p".to_owned(),
                status: 400,
                code: None,
                param: Some("messages[0].content".to_owned()),
            }
        );
    }

    #[test]
    fn errors_as_anthropic_and_google_write_them() {
        let read = |status, error: Value| {
            let complaint = Complaint::read(&error, None);
            from_status("p", status, &HeaderMap::new(), complaint)
        };
        let provider = "p".to_owned();
        let exhausted = json!({ "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "words",
            "details": [{ "@type": "x" }, { "@type": "RetryInfo", "retryDelay": "12.5s" }] });
        let expected = Error::RateLimited {
            provider: provider.clone(),
            retry_after: Some(Duration::from_millis(12_500)),
        };
        assert_eq!(read(429, exhausted.clone()), expected);
        let in_stream = from_stream("p", Complaint::read(&exhausted, None));
        assert_eq!(in_stream, expected);
        let bad_key = json!({ "code": 400, "status": "INVALID_ARGUMENT", "message": "words",
            "details": [{ "reason": "API_KEY_INVALID" }] });
        let expected = Error::Unauthorized {
            provider: provider.clone(),
            status: 400,
        };
        assert_eq!(read(400, bad_key), expected);
        let poor = json!({ "type": "invalid_request_error",
            "message": "Your credit balance is too low to access the API" });
        let expected = Error::QuotaExhausted {
            provider: provider.clone(),
        };
        assert_eq!(read(400, poor), expected);
        let overloaded = json!({ "type": "overloaded_error", "message": "Overloaded" });
        let expected = Error::Overloaded {
            provider,
            retry_after: None,
        };
        assert_eq!(read(529, overloaded.clone()), expected);
        assert_eq!(
            from_stream("p", Complaint::read(&overloaded, None)),
            expected
        );
    }

    #[test]
    fn an_empty_account_is_not_a_rate_limit() {
        let read = |code: &str| Complaint::read(&json!({ "code": code }), None);
        let error = from_status("p", 429, &HeaderMap::new(), read("insufficient_quota"));
        assert_eq!(
            error,
            Error::QuotaExhausted {
                provider: "p".to_owned()
            }
        );
        let error = from_status("p", 429, &HeaderMap::new(), read("rate_limit_exceeded"));
        assert_eq!(
            error,
            Error::RateLimited {
                provider: "p".to_owned(),
                retry_after: None
            }
        );
    }
}
