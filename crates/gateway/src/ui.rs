//! The embedded page: what `ui/dist` held when the server was built, or a word on how to get it.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{Html, IntoResponse as _, Response};

use crate::error::Error;

/// Path within `ui/dist`, and content.
type Asset = (&'static str, &'static [u8]);

include!(concat!(env!("OUT_DIR"), "/ui_assets.rs"));

const NO_UI: &str = include_str!("../assets/no-ui.html");
/// What pages may do: use what this server sends, and be framed by nobody.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const NO_UI_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Answers what no route takes: a file of the page, the page itself, or 404.
pub(crate) async fn page_or_nothing(request: Request) -> Result<Response, Error> {
    let path = request.uri().path();
    let is_interface = ["/api", "/ws", "/health"].iter().any(|prefix| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if is_interface || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Error::no_route());
    }
    answer(ASSETS, path, takes_gzip(request.headers())).ok_or_else(Error::no_route)
}

/// Whether the client reads gzip: names it, and not with the weight of nothing.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|one| {
            let (name, weight) = one.split_once(';').unwrap_or((one, ""));
            let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
            name.trim().eq_ignore_ascii_case("gzip") && weight.parse::<f32>().is_ok_and(|q| q > 0.0)
        })
}

fn find(assets: &[Asset], path: &str) -> Option<&'static [u8]> {
    assets
        .iter()
        .find(|(name, _)| *name == path)
        .map(|(_, content)| *content)
}

fn answer(assets: &[Asset], path: &str, gzip: bool) -> Option<Response> {
    let name = path.trim_start_matches('/');
    if let Some(content) = find(assets, name).filter(|_| name != "index.html") {
        let life = if name.starts_with("assets/") {
            // The bundler puts a hash of the content into these names.
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        // The bundler has packed what is worth it.
        let packed = find(assets, &format!("{name}.gz"));
        let content = packed.filter(|_| gzip).unwrap_or(content);
        let mut response = with_type(media_type(name), life, content);
        if packed.is_some() {
            let headers = response.headers_mut();
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
            if gzip {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        return Some(response);
    }
    // The page's own places have no dot; a missing file must not be answered with the page.
    if name.contains('.') && name != "index.html" {
        return None;
    }
    Some(match find(assets, "index.html") {
        Some(index) => with_type("text/html; charset=utf-8", "no-cache", index),
        None => {
            let policy = HeaderValue::from_static(NO_UI_POLICY);
            ([(header::CONTENT_SECURITY_POLICY, policy)], Html(NO_UI)).into_response()
        }
    })
}

fn with_type(media_type: &'static str, life: &'static str, content: &'static [u8]) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(life)),
    ];
    (headers, content).into_response()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "ico" => "image/x-icon",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// Gives every answer that has no policy of its own the strict one.
pub(crate) async fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(POLICY));
    headers
        .entry(header::X_FRAME_OPTIONS)
        .or_insert(HeaderValue::from_static("DENY"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::HttpBody as _;

    const BUILT: &[Asset] = &[
        ("index.html", b"<p>"),
        ("assets/index-a1b2.js", b"long"),
        ("assets/index-a1b2.js.gz", b"gz"),
        ("favicon.svg", b"<svg/>"),
    ];

    fn header_of(path: &str, name: header::HeaderName) -> Option<String> {
        let response = answer(BUILT, path, false)?;
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn files_with_a_hash_are_kept_for_ever_and_the_page_is_asked_for_each_time() {
        let cached = header_of("/assets/index-a1b2.js", header::CACHE_CONTROL).unwrap();
        assert!(cached.contains("immutable"));
        for place in ["/", "/index.html", "/threads/thr_1", "/setup"] {
            assert_eq!(
                header_of(place, header::CACHE_CONTROL).as_deref(),
                Some("no-cache")
            );
            let kind = header_of(place, header::CONTENT_TYPE).unwrap();
            assert_eq!(kind, "text/html; charset=utf-8", "{place}");
        }
        assert_eq!(
            header_of("/favicon.svg", header::CONTENT_TYPE).unwrap(),
            "image/svg+xml"
        );
    }

    #[test]
    fn who_reads_gzip_gets_what_was_packed() {
        for (gzip, encoding, length) in [(true, Some("gzip"), 2), (false, None, 4)] {
            let response = answer(BUILT, "/assets/index-a1b2.js", gzip).unwrap();
            let header = |name: header::HeaderName| {
                let value = response.headers().get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            assert_eq!(header(header::CONTENT_ENCODING).as_deref(), encoding);
            assert_eq!(header(header::VARY).as_deref(), Some("accept-encoding"));
            assert_eq!(
                header(header::CONTENT_TYPE).unwrap(),
                "text/javascript; charset=utf-8"
            );
            assert_eq!(response.body().size_hint().exact(), Some(length));
        }
        assert_eq!(header_of("/favicon.svg", header::VARY), None);
        for (accepted, gzip) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.8", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("*", false),
        ] {
            let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))];
            assert_eq!(
                takes_gzip(&headers.into_iter().collect()),
                gzip,
                "{accepted}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_missing() {
        assert!(answer(BUILT, "/assets/other.js", true).is_none());
        assert!(answer(BUILT, "/../Cargo.toml", true).is_none());
    }

    #[test]
    fn without_a_built_page_a_word_says_how_to_get_it() {
        let response = answer(&[], "/", true).unwrap();
        assert_eq!(response.status(), 200);
        assert!(NO_UI.contains("cargo xtask ui"));
    }
}
