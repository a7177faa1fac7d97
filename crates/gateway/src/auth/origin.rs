//! Which pages may speak to the server: its own, and those on the allow-list.

use axum::http::{HeaderMap, Uri, header};
use netra_protocol::ErrorCode;

use crate::config::Config;
use crate::error::Error;

/// Host and port, in lower case, without the port that the scheme implies.
fn authority(text: &str, scheme: Option<&str>) -> String {
    let text = text.to_ascii_lowercase();
    let implied = match scheme {
        Some("https") => &[":443"][..],
        Some("http") => &[":80"],
        _ => &[":443", ":80"],
    };
    for port in implied {
        if let Some(host) = text.strip_suffix(port) {
            return host.to_owned();
        }
    }
    text
}

/// The `Host` that the client named: a header in HTTP/1.1, a part of the URI in HTTP/2.
pub(crate) fn host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let named = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    named
        .or_else(|| uri.authority().map(|authority| authority.as_str()))
        .map(str::to_owned)
}

/// The page that sent the request, if it was a page.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::ORIGIN)
        .map(|origin| origin.to_str().unwrap_or("null"))
}

fn same_host(origin: &str, host: Option<&str>) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else {
        return false;
    };
    if !matches!(scheme, "http" | "https") || rest.is_empty() {
        return false;
    }
    host.is_some_and(|host| authority(rest, Some(scheme)) == authority(host, Some(scheme)))
}

/// Refuses a page that is neither the server's own nor on the allow-list. A request without
/// `Origin` is no page's.
pub(crate) fn check(config: &Config, headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    let Some(origin) = origin(headers) else {
        return Ok(());
    };
    let listed = config.allowed_origins.iter().chain(&config.public_origin);
    let listed = listed
        .into_iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(origin));
    if listed || same_host(origin, host(headers, uri).as_deref()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::OriginRefused,
        "Requests from this page's origin are not accepted.",
    ))
}

/// Whether no page sent the request, or one of the very host that it was sent to.
pub(crate) fn is_own(headers: &HeaderMap, uri: &Uri) -> bool {
    origin(headers).is_none_or(|origin| same_host(origin, host(headers, uri).as_deref()))
}

/// Whether the client named this machine's own loopback: a page that had its own name resolved to
/// the loopback address did not.
pub(crate) fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether a browser sent the request: only browsers send these, and pages cannot forge them.
pub(crate) fn from_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(config: &Config, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check(config, &headers, &Uri::from_static("/ws")).is_ok()
    }

    #[test]
    fn own_and_listed_origins_pass() {
        let config = Config {
            public_origin: Some("https://netra.example".into()),
            allowed_origins: vec!["https://app.example".into()],
            ..Config::default()
        };
        for (host, origin) in [
            ("127.0.0.1:8080", None),
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("example.org", Some("https://example.org:443")),
            ("inner:9000", Some("https://netra.example")),
            ("inner:9000", Some("https://app.example")),
        ] {
            assert!(verdict(&config, host, origin), "{host} {origin:?}");
        }
        for (host, origin) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8081"),
            ("127.0.0.1:8080", "http://localhost:8080"),
            ("127.0.0.1:8080", "null"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080.evil.example"),
            ("127.0.0.1:8080", "https://evil.example"),
            ("example.org", "http://example.org:443"),
            ("x", "x"),
            ("x", "://x"),
        ] {
            assert!(!verdict(&config, host, Some(origin)), "{host} {origin}");
        }
    }

    #[test]
    fn only_loopback_names_are_loopback() {
        for own in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:8080",
            "127.9.9.9",
        ] {
            assert!(names_loopback(own), "{own}");
        }
        for other in [
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "[::2]:1",
        ] {
            assert!(!names_loopback(other), "{other}");
        }
    }
}
