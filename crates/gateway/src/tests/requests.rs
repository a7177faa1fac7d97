//! Error bodies, parameters, limits, files: the letter of the contract over HTTP.

use netra_protocol::id::{FileId, RequestId, RunId, ThreadId};
use serde_json::json;

use super::*;

/// The answer's body with the request's id taken out.
fn without_id(mut answer: Answer) -> (StatusCode, Value) {
    let id = answer.body["error"]["request_id"].take();
    assert!(id.as_str().unwrap().parse::<RequestId>().is_ok());
    (answer.status, answer.body)
}

#[tokio::test]
async fn foreign_missing_and_malformed_are_the_same_404() {
    let edge = Edge::new(Config::default());
    let (_, anna) = edge.user("anna", Role::User).await;
    let (_, bert) = edge.user("bert", Role::Admin).await;
    let thread = edge.post("/api/threads", Some(&anna), json!({})).await;
    assert_eq!(thread.status, 201);
    let own = thread.body["id"].as_str().unwrap().to_owned();
    assert_eq!(
        edge.get(&format!("/api/threads/{own}"), &anna).await.status,
        200
    );

    let missing = ThreadId::from_parts(1, 1).to_string();
    let wanted = without_id(edge.get("/api/threads/x", &bert).await);
    assert_eq!(wanted.0, 404);
    for id in [
        own.as_str(),
        &missing,
        &RunId::from_parts(1, 1).to_string(),
        "%00",
        "%ff",
    ] {
        for path in ["", "/messages"] {
            let found = without_id(edge.get(&format!("/api/threads/{id}{path}"), &bert).await);
            assert_eq!(found, wanted, "{id}{path}");
        }
        // A body that is wrong does not tell them apart either.
        for path in ["/runs", "/fork"] {
            let path = format!("/api/threads/{id}{path}");
            let found = without_id(edge.post(&path, Some(&bert), json!({"x": 1})).await);
            assert_eq!(found, wanted, "{path}");
        }
    }
    for path in [
        format!("/api/runs/{}", RunId::from_parts(1, 1)),
        format!("/api/runs/{}/events", RunId::from_parts(1, 1)),
        format!("/api/runs/{}/wait", RunId::from_parts(1, 1)),
        format!("/api/files/{}/content", FileId::from_parts(1, 1)),
        "/api/agents/nobody".into(),
    ] {
        assert_eq!(without_id(edge.get(&path, &bert).await), wanted, "{path}");
    }
}

#[tokio::test]
async fn what_has_no_route_has_an_error_body_too() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let nothing = edge.get("/api/nothing", &token).await;
    assert_eq!(nothing.refused(), (404, "not_found"));
    let method = edge
        .send(request(Method::PUT, "/api/threads", Some(&token), None))
        .await;
    assert_eq!(method.status, 405);
    assert_eq!(method.code(), "invalid_request");
    let allowed = method.headers[header::ALLOW].to_str().unwrap();
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "{allowed}"
    );
    for answer in [&nothing, &method] {
        let id = answer.headers["x-request-id"].to_str().unwrap();
        assert_eq!(answer.body["error"]["request_id"], id);
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn every_answer_says_what_a_page_may_do_and_that_nobody_may_frame_it() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    for path in [
        "/",
        "/threads/thr_1",
        "/api/threads",
        "/api/nothing",
        "/health/live",
    ] {
        let answer = edge.get(path, &token).await;
        assert_eq!(answer.headers["x-frame-options"], "DENY", "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        let allowed = |name: &str| {
            let mut rules = policy.split(';').map(str::trim);
            rules
                .find_map(|rule| rule.strip_prefix(name))
                .map(str::trim)
        };
        assert_eq!(allowed("default-src"), Some("'none'"), "{path}");
        assert_eq!(allowed("frame-ancestors"), Some("'none'"), "{path}");
        assert_eq!(allowed("base-uri"), Some("'none'"), "{path}");
        // The word on how to get the page has its style within it, and no script.
        let is_word = answer.body.to_string().contains("cargo xtask ui");
        let (script, style) = if is_word {
            (None, Some("'unsafe-inline'"))
        } else {
            (Some("'self'"), Some("'self'"))
        };
        assert_eq!(allowed("script-src"), script, "{path}: {policy}");
        assert_eq!(allowed("style-src"), style, "{path}: {policy}");
        assert!(!policy.contains("eval") && !policy.contains('*'), "{path}");
    }
}

#[tokio::test]
async fn unknown_parameters_and_fields_are_refused_by_name() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    for path in [
        "/api/threads?limt=3",
        "/api/auth/me?x=1",
        "/health/live?x=1",
        "/api/usage?limit=1",
    ] {
        let answer = edge.get(path, &token).await;
        assert_eq!(answer.refused(), (400, "unknown_field"), "{path}");
    }
    for path in [
        "/api/threads?limit=0",
        "/api/runs?limit=101",
        "/api/files?cursor=zz",
        "/api/agents?limit=x",
        "/api/threads?q=a%00",
        &format!("/api/threads?q={}", "a".repeat(1_001)),
    ] {
        assert_eq!(
            edge.get(path, &token).await.refused(),
            (400, "invalid_request"),
            "{path}"
        );
    }
    let body = json!({"title": "a", "colour": "red"});
    let answer = edge.post("/api/threads", Some(&token), body).await;
    assert_eq!(answer.refused(), (400, "unknown_field"));
    assert_eq!(answer.body["error"]["details"]["field"], "colour");
    let answer = edge
        .post(
            "/api/threads",
            Some(&token),
            json!({"title": "x".repeat(201)}),
        )
        .await;
    assert_eq!(answer.refused(), (400, "invalid_request"));
    let large = json!({"title": "x".repeat(1024 * 1024)});
    assert_eq!(
        edge.post("/api/threads", Some(&token), large)
            .await
            .refused(),
        (413, "too_large")
    );
    let text = with(
        request(Method::POST, "/api/threads", Some(&token), Some(json!({}))),
        "content-type",
        "text/plain",
    );
    assert_eq!(
        edge.send(text).await.refused(),
        (415, "unsupported_media_type")
    );
}

#[tokio::test]
async fn credentials_in_an_address_and_foreign_origins_are_refused() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let answer = edge
        .get(&format!("/api/threads?access_token={token}"), &token)
        .await;
    assert_eq!(answer.refused(), (401, "unauthenticated"));
    for origin in ["https://evil.example", "null", "http://127.0.0.1:2"] {
        let foreign = with(
            request(Method::GET, "/api/threads", Some(&token), None),
            "origin",
            origin,
        );
        assert_eq!(
            edge.send(foreign).await.refused(),
            (403, "origin_refused"),
            "{origin}"
        );
    }
    let own = with(
        request(Method::GET, "/api/threads", Some(&token), None),
        "origin",
        "http://127.0.0.1:1",
    );
    let answer = edge.send(own).await;
    assert_eq!(answer.status, 200);
    assert!(
        !answer
            .headers
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    );
}

#[tokio::test]
async fn every_answer_says_what_browsers_must_not_do_with_it() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    for path in [
        "/",
        "/no/such/page",
        "/assets/none.js",
        "/health/live",
        "/api/auth/me",
        "/api/docs",
        "/api/openapi.json",
        "/api/nothing",
    ] {
        for token in [None, Some(token.as_str())] {
            let answer = edge.send(request(Method::GET, path, token, None)).await;
            let says = |name: &str| answer.headers[name].to_str().unwrap();
            assert_eq!(says("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(says("referrer-policy"), "no-referrer", "{path}");
            assert_eq!(says("x-frame-options"), "DENY", "{path}");
            let policy = says("content-security-policy");
            assert!(policy.starts_with("default-src 'none'"), "{path} {policy}");
            for part in policy.split(';').map(str::trim) {
                // Scripts come from the server's own files, and a page without any may have its style in it.
                let is_strict = match part.split_once(' ') {
                    Some(("script-src", from)) => from == "'self'",
                    Some(("style-src" | "img-src", from)) => !from.contains('*'),
                    _ => !["unsafe", "*", "data:"]
                        .iter()
                        .any(|word| part.contains(word)),
                };
                assert!(is_strict, "{path} {policy}");
            }
        }
    }
}

#[tokio::test]
async fn a_signed_in_user_is_told_the_rate_and_held_to_it() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.requests_per_minute = 3);
    let (_, anna) = edge.user("anna", Role::User).await;
    let (_, bert) = edge.user("bert", Role::User).await;
    for left in ["2", "1", "0"] {
        let answer = edge.get("/api/auth/me", &anna).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["ratelimit-limit"], "3");
        assert_eq!(answer.headers["ratelimit-remaining"], left);
    }
    let refused = edge.get("/api/auth/me", &anna).await;
    assert_eq!(refused.refused(), (429, "rate_limited"));
    let wait: u64 = refused.headers[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(refused.headers["ratelimit-remaining"], "0");
    assert_eq!(
        edge.get("/api/auth/me", &bert).await.status,
        200,
        "another user is not touched"
    );
}

#[tokio::test]
async fn the_same_key_makes_one_thread_and_another_body_is_a_conflict() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let make = |title: &str| {
        let body = json!({ "title": title });
        let made = request(Method::POST, "/api/threads", Some(&token), Some(body));
        edge.send(with(made, "idempotency-key", "k-1"))
    };
    let (first, second) = (make("a").await, make("a").await);
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!(make("b").await.refused(), (409, "idempotency_key_reused"));
    let list = edge.get("/api/threads", &token).await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(list.body["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_and_can_only_be_saved() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let upload = |name: &str, kind: &str, content: &'static str| {
        let path = format!("/api/files?name={name}");
        let mut upload = with(
            request(Method::POST, &path, Some(&token), None),
            "content-type",
            kind,
        );
        *upload.body_mut() = Body::from(content);
        with(upload, "idempotency-key", "upload-1")
    };
    let made = edge
        .send(upload("a%20b.html", "text/html", "<script>"))
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(made.body["name"], "a b.html");
    assert_eq!(made.body["bytes"], 8);
    let again = edge
        .send(upload("a%20b.html", "text/html", "<script>"))
        .await;
    assert_eq!(again.body, made.body);
    let other = edge
        .send(upload("a%20b.html", "text/html", "<other>"))
        .await;
    assert_eq!(other.refused(), (409, "idempotency_key_reused"));

    let id = made.body["id"].as_str().unwrap();
    let content = edge.get(&format!("/api/files/{id}/content"), &token).await;
    assert_eq!(content.body, "<script>");
    assert_eq!(content.headers["content-security-policy"], "sandbox");
    assert_eq!(content.headers["x-content-type-options"], "nosniff");
    let disposition = content.headers[header::CONTENT_DISPOSITION]
        .to_str()
        .unwrap();
    assert!(disposition.starts_with("attachment;"), "{disposition}");
    let nameless = with(
        request(Method::POST, "/api/files", Some(&token), None),
        "content-type",
        "text/csv",
    );
    assert_eq!(
        edge.send(nameless).await.refused(),
        (400, "invalid_request")
    );
}

#[tokio::test]
async fn an_upload_past_the_limit_is_refused_and_leaves_nothing() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.upload_mib = 1);
    let (_, token) = edge.user("anna", Role::User).await;
    let path = "/api/files?name=x.csv";
    let declared = with(
        request(Method::POST, path, Some(&token), None),
        "content-length",
        "1048577",
    );
    assert_eq!(edge.send(declared).await.refused(), (413, "too_large"));
    // Without a declared length the bytes themselves are counted.
    let mut streamed = request(Method::POST, path, Some(&token), None);
    let pieces = (0..17).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024]));
    *streamed.body_mut() = Body::from_stream(futures::stream::iter(pieces));
    let answer = edge.send(streamed).await;
    assert_eq!(answer.refused(), (413, "too_large"));
    assert_eq!(answer.body["error"]["details"]["limit_bytes"], 1024 * 1024);
    let list = edge.get("/api/files", &token).await;
    assert_eq!(list.body["items"], json!([]));
}

#[tokio::test]
async fn a_form_with_one_file_is_stored_and_other_forms_are_refused() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let part = |name: &str, content: &str| {
        format!(
            "--B\r\nContent-Disposition: form-data; name=\"f\"{name}\r\nContent-Type: text/csv\r\n\r\n{content}\r\n"
        )
    };
    let form = |parts: String| {
        let upload = request(Method::POST, "/api/files", Some(&token), None);
        let mut upload = with(upload, "content-type", "multipart/form-data; boundary=B");
        *upload.body_mut() = Body::from(format!("{parts}--B--\r\n"));
        edge.send(upload)
    };
    let made = form(part("; filename=\"log.csv\"", "a,b")).await;
    assert_eq!(made.status, 201);
    assert_eq!(
        (&made.body["name"], &made.body["media_type"]),
        (&json!("log.csv"), &json!("text/csv"))
    );
    let two = part("; filename=\"a\"", "1") + &part("; filename=\"b\"", "2");
    assert_eq!(form(two).await.refused(), (400, "invalid_request"));
    assert_eq!(form(part("", "x")).await.refused(), (400, "unknown_field"));
    assert_eq!(
        form(String::new()).await.refused(),
        (400, "invalid_request")
    );
    let list = edge.get("/api/files", &token).await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn metrics_and_dependencies_are_for_admins_and_the_metrics_token() {
    let config = Config {
        metrics_token: Some(netra_context::Secret::new("scrape-me")),
        ..Config::default()
    };
    let edge = Edge::new(config);
    let (_, user) = edge.user("anna", Role::User).await;
    let (_, admin) = edge.user("root", Role::Admin).await;
    assert_eq!(edge.get("/api/metrics", &admin).await.body, "metric 1\n");
    assert_eq!(edge.get("/api/metrics", "scrape-me").await.status, 200);
    assert_eq!(
        edge.get("/api/metrics", &user).await.refused(),
        (403, "forbidden")
    );
    assert_eq!(
        edge.get("/api/metrics", "guess").await.refused(),
        (401, "unauthenticated")
    );
    assert_eq!(
        edge.get("/api/auth/me", "scrape-me").await.refused(),
        (401, "unauthenticated")
    );
    let probed = edge.get("/health/dependencies", &admin).await;
    // The workers of these tests are no program that could be one, and the probe finds that out.
    assert_eq!(probed.status.as_u16(), 503);
    assert_eq!(probed.body["status"], "failed");
    let found = |name: &str| {
        let all = probed.body["dependencies"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    assert_eq!(found("store")["status"], "ok");
    assert_eq!(found("models")["status"], "ok");
    assert_eq!(found("workers")["status"], "failed");
    assert!(found("workers")["problem"].is_string());
    assert_eq!(
        edge.get("/health/dependencies", &user).await.refused(),
        (403, "forbidden")
    );
    let live = edge
        .send(request(Method::GET, "/health/live", None, None))
        .await;
    assert_eq!(live.body, json!({"status": "live"}));
}

#[tokio::test]
async fn a_run_is_started_awaited_and_streamed() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let body = json!({"agent": "echo", "input": "hello"});
    let run = edge.post("/api/runs", Some(&token), body).await;
    assert_eq!(run.status, 202, "{}", run.body);
    assert_eq!(run.body["id"], run.body["run_id"]);
    let id = run.body["id"].as_str().unwrap();
    let ended = edge.get(&format!("/api/runs/{id}/wait"), &token).await;
    assert_eq!(
        (ended.status.as_u16(), &ended.body["status"]),
        (200, &json!("completed"))
    );
    assert_eq!(ended.body["result"]["text"], "hello");

    // The stream ends by itself after the last event; resumed there, nothing follows.
    let stream = edge.get(&format!("/api/runs/{id}/events"), &token).await;
    let text = stream.body.as_str().unwrap().to_owned();
    assert!(text.contains("event: run_completed\n"), "{text}");
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap();
    let resumed = request(
        Method::GET,
        &format!("/api/runs/{id}/events"),
        Some(&token),
        None,
    );
    let resumed = edge.send(with(resumed, "last-event-id", last)).await;
    assert_eq!(resumed.status, 204);
    let path = format!("/api/runs/{id}/events?after=999999");
    let beyond = edge.get(&path, &token).await;
    assert_eq!(beyond.refused(), (410, "cursor_expired"));
    assert!(beyond.body["error"]["details"]["latest_seq"].is_u64());
    let cancel = edge
        .post(&format!("/api/runs/{id}/cancel"), Some(&token), json!({}))
        .await;
    assert_eq!(cancel.refused(), (409, "run_ended"));
    let unknown = json!({"agent": "nobody", "input": "x"});
    assert_eq!(
        edge.post("/api/runs", Some(&token), unknown)
            .await
            .refused(),
        (404, "not_found")
    );
}

#[tokio::test]
async fn a_panic_is_a_bland_500_with_an_id() {
    use axum::middleware::from_fn_with_state;
    let edge = Edge::new(Config::default());
    let gateway = crate::state::Gateway::new((edge.parts)());
    let broken = async || {
        if std::hint::black_box(true) {
            panic!("the secret of the defect");
        }
    };
    let router = Router::new()
        .route("/api/broken", axum::routing::get(broken))
        .layer(from_fn_with_state(gateway, crate::layers::finish));
    let edge = Edge { router, ..edge };
    let answer = edge.get("/api/broken", "x").await;
    assert_eq!(answer.refused(), (500, "internal"));
    assert!(!answer.body.to_string().contains("secret"));
    assert_eq!(
        answer.body["error"]["request_id"],
        answer.headers["x-request-id"].to_str().unwrap()
    );
}
