//! The contract, for programs and for people.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use bytes::Bytes;
use netra_context::memory::Scope;
use netra_protocol::ErrorCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, PathItem};

use crate::extract::Visitor;
use crate::openapi::openapi;

/// The description as JSON and as a page: made once, because everybody may ask for them, and whoever does not take the
/// answer holds it.
static CONTRACT: LazyLock<(Bytes, Bytes)> = LazyLock::new(|| {
    let _entered = Scope::system().enter();
    let contract = openapi();
    let json = serde_json::to_vec(&contract).unwrap_or_default();
    (json.into(), page(&contract).unwrap_or_default().into())
});

/// Reads this description
#[utoipa::path(get, path = "/api/openapi.json", tag = "server", operation_id = "openapi_get",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json",
        body = serde_json::Value)), security(()))]
pub(crate) async fn openapi_get(_: Visitor) -> Response {
    let json = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )];
    (json, CONTRACT.0.clone()).into_response()
}

/// Shows this description to people
#[utoipa::path(get, path = "/api/docs", tag = "server", operation_id = "docs_get",
    responses((status = 200, description = "A page", content_type = "text/html", body = String)),
    security(()))]
pub(crate) async fn docs_get(_: Visitor) -> Response {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    )];
    (headers, Html(CONTRACT.1.clone())).into_response()
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color-scheme:light dark}code{font-size:.9em}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884;vertical-align:top}";

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let all = [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PATCH", &item.patch),
        ("PUT", &item.put),
        ("DELETE", &item.delete),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| operation.as_ref().map(|found| (method, found)))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn page(api: &OpenApi) -> Result<String, std::fmt::Error> {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>Netra API</title>\
         <style>{STYLE}</style><h1>Netra API</h1><p>Every operation with its bodies stands in \
         <a href=/api/openapi.json>/api/openapi.json</a>.</p><h2>Operations</h2><table>"
    );
    for (path, item) in &api.paths.paths {
        for (method, operation) in operations(item) {
            let summary = escape(operation.summary.as_deref().unwrap_or_default());
            let more = escape(operation.description.as_deref().unwrap_or_default());
            write!(
                page,
                "<tr><td><code>{method}&nbsp;{path}</code><td>{summary}<br>{more}"
            )?;
        }
    }
    page.push_str("</table><h2>Errors</h2><table>");
    for code in ErrorCode::ALL {
        let status = match code.status() {
            0 => "run or tool".to_owned(),
            status => status.to_string(),
        };
        write!(page, "<tr id={code}><td><code>{code}</code><td>{status}")?;
    }
    page.push_str("</table>");
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_place_for_every_error_code() {
        let page = page(&openapi()).unwrap();
        for code in ErrorCode::ALL {
            assert!(page.contains(&format!("<tr id={code}>")), "{code}");
        }
        assert!(page.contains("POST&nbsp;/api/runs"));
    }
}
