//! The contract, for programs and for people.

use std::fmt::Write as _;

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use netra_protocol::ErrorCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, PathItem};

use crate::error::Error;
use crate::extract::Visitor;
use crate::openapi::openapi;

/// Reads this description
#[utoipa::path(get, path = "/api/openapi.json", tag = "server", operation_id = "openapi_get",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json",
        body = serde_json::Value)), security(()))]
pub(crate) async fn openapi_get(_: Visitor) -> axum::Json<OpenApi> {
    axum::Json(openapi())
}

/// Shows this description to people
#[utoipa::path(get, path = "/api/docs", tag = "server", operation_id = "docs_get",
    responses((status = 200, description = "A page", content_type = "text/html", body = String)),
    security(()))]
pub(crate) async fn docs_get(_: Visitor) -> Result<Response, Error> {
    let page = page(&openapi()).map_err(Error::internal)?;
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    )];
    Ok((headers, Html(page)).into_response())
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
