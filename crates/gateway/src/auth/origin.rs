//! Which pages may speak to the server: its own, and those on the allow-list.

use axum::http::{HeaderMap, Uri, Version, header};
use netra_protocol::ErrorCode;

use crate::config::Config;
use crate::error::Error;

/// A host and the port, if one is named. Names have no case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host<'a> {
    /// An address of IP version 6 stands in brackets.
    name: &'a str,
    port: Option<u16>,
}

impl<'a> Host<'a> {
    /// None for what is no `host` or `host:port`: user names, and anything behind a bracket but a
    /// port, too.
    fn parse(text: &'a str) -> Option<Self> {
        let end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (name, rest) = text.split_at(end);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return None,
            // A colon without a port is allowed, and means nothing.
            Some("") => None,
            Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            Some(_) => return None,
        };
        let is_good = match name.strip_prefix('[') {
            Some(inner) => inner
                .strip_suffix(']')
                .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
            None => {
                let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
                !name.is_empty() && name.bytes().all(known)
            }
        };
        is_good.then_some(Self { name, port })
    }

    /// The port that is meant. Who names none means the scheme's, where the scheme is known.
    fn port_for(self, scheme: Option<&str>) -> Option<u16> {
        let implied = match scheme {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        };
        self.port.or(implied)
    }

    fn is(self, other: Host<'_>, scheme: Option<&str>) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
            && self.port_for(scheme) == other.port_for(scheme)
    }

    /// Whether this is the machine's own loopback: a page that had its own name resolved to the
    /// loopback address did not name it so.
    pub(crate) fn is_loopback(self) -> bool {
        let name = self.name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

/// The `Host` that the client named, where it named one that can be read.
pub(crate) fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<Host<'a>> {
    match headers.get(header::HOST) {
        Some(named) => Host::parse(named.to_str().ok()?),
        None => Host::parse(uri.authority()?.as_str()),
    }
}

/// The same, refused where it is missing, there twice, unreadable, or not the one of the address:
/// whoever stands before the server may have gone by another of them.
pub(crate) fn checked_host<'a>(
    version: Version,
    headers: &'a HeaderMap,
    uri: &'a Uri,
) -> Result<Option<Host<'a>>, Error> {
    let refused =
        || Error::invalid("A request names one host, in `Host`, as `host` or `host:port`.");
    let mut lines = headers.get_all(header::HOST).iter();
    let named = match (lines.next(), lines.next()) {
        (_, Some(_)) => return Err(refused()),
        (Some(line), None) => {
            let host = line.to_str().ok().and_then(Host::parse);
            Some(host.ok_or_else(refused)?)
        }
        (None, None) if version == Version::HTTP_11 => return Err(refused()),
        (None, None) => None,
    };
    let Some(authority) = uri.authority() else {
        return Ok(named);
    };
    let addressed = Host::parse(authority.as_str()).ok_or_else(refused)?;
    match named {
        Some(named) if !named.is(addressed, uri.scheme_str()) => Err(refused()),
        _ => Ok(Some(addressed)),
    }
}

/// The page that sent the request, if it was a page.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::ORIGIN)
        .map(|origin| origin.to_str().unwrap_or("null"))
}

/// Whether a text is an origin as browsers send it: scheme, host, and the port where it is not the scheme's own. `*` and
/// `null` are none.
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    let host = Host::parse(rest);
    let says_usual_port = host.is_some_and(|host| {
        host.port.is_some() && host.port == Host { port: None, ..host }.port_for(Some(scheme))
    });
    is_scheme
        && scheme.bytes().all(known)
        && host.is_some()
        && !rest.ends_with(':')
        && !says_usual_port
}

fn same_host(origin: &str, host: Option<Host<'_>>) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else {
        return false;
    };
    if !matches!(scheme, "http" | "https") {
        return false;
    }
    let page = Host::parse(rest);
    page.zip(host)
        .is_some_and(|(page, host)| page.is(host, Some(scheme)))
}

/// Refuses a page that is neither the server's own nor on the allow-list. A request without
/// `Origin` is no page's.
pub(crate) fn check(config: &Config, headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    let Some(origin) = origin(headers) else {
        return Ok(());
    };
    let public = config.public_origin.as_ref();
    let is_public = public.is_some_and(|public| public.eq_ignore_ascii_case(origin));
    if is_public || config.allowed_origins.have(origin) || same_host(origin, host(headers, uri)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::OriginRefused,
        "Requests from this page's origin are not accepted.",
    ))
}

/// Whether no page sent the request, or one of the very host that it was sent to.
pub(crate) fn is_own(headers: &HeaderMap, uri: &Uri) -> bool {
    origin(headers).is_none_or(|origin| same_host(origin, host(headers, uri)))
}

/// Whether the client reaches us over TLS, directly or by way of a proxy.
pub(crate) fn is_secure(config: &Config, headers: &HeaderMap) -> bool {
    let starts = |value: Option<&str>| value.is_some_and(|value| value.starts_with("https"));
    config.tls
        || starts(config.public_origin.as_deref())
        || starts(origin(headers))
        || starts(
            headers
                .get("x-forwarded-proto")
                .and_then(|value| value.to_str().ok()),
        )
}

/// Where browsers reach the server, as far as it knows: as configured, or as the client named it.
pub(crate) fn base(config: &Config, headers: &HeaderMap, uri: &Uri) -> String {
    if let Some(public) = &config.public_origin {
        return public.trim_end_matches('/').to_owned();
    }
    let named = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = named.or_else(|| uri.authority().map(|authority| authority.as_str()));
    let scheme = if is_secure(config, headers) {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}", host.unwrap_or("localhost"))
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
            allowed_origins: vec!["https://app.example".into()].into(),
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
    fn an_origin_is_scheme_host_and_port() {
        for good in [
            "https://app.example",
            "http://localhost:5173",
            "https://[::1]:8443",
            "capacitor://localhost",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "*",
            "null",
            "",
            "app.example",
            "https://",
            "https://*.example",
            "https://app.example/",
            "https://app.example/page",
            "https://app.example:443",
            "http://a:80",
            "https://app.example:",
            "https://me@app.example",
        ] {
            assert!(!is_origin(bad), "{bad}");
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
            assert!(Host::parse(own).unwrap().is_loopback(), "{own}");
        }
        for other in [
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "[::2]:1",
            "[::1].evil.example",
            "localhost:80@evil.example",
            "127.0.0.1@evil.example",
        ] {
            let is_loopback = Host::parse(other).is_some_and(Host::is_loopback);
            assert!(!is_loopback, "{other}");
        }
    }

    fn checked(version: Version, hosts: &[&str], uri: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        checked_host(version, &headers, &Uri::from_static(uri)).is_ok()
    }

    #[test]
    fn a_request_names_one_host() {
        let v11 = Version::HTTP_11;
        for (hosts, uri) in [
            (&["example.org"][..], "/"),
            (&["example.org:8080"], "/"),
            (&["example.org:"], "/"),
            (&["[::1]:8080"], "/"),
            (&["netra_1"], "/"),
            (&["Example.org"], "http://example.org:80/"),
        ] {
            assert!(checked(v11, hosts, uri), "{hosts:?} {uri}");
        }
        assert!(checked(Version::HTTP_10, &[], "/"));
        for (hosts, uri) in [
            (&[][..], "/"),
            (&[""], "/"),
            (&["127.0.0.1", "evil.example"], "/"),
            (&["127.0.0.1", "127.0.0.1"], "/"),
            (&["127.0.0.1"], "http://evil.example/"),
            (&["[::1].evil.example"], "/"),
            (&["localhost:80@evil.example"], "/"),
            (&["example.org:99999"], "/"),
            (&["example.org:+80"], "/"),
            (&["a b"], "/"),
        ] {
            assert!(!checked(v11, hosts, uri), "{hosts:?} {uri}");
        }
    }
}
