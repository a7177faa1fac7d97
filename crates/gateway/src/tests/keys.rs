//! API keys: made, used, refused.

use serde_json::json;

use super::*;

impl Edge {
    pub(super) async fn key(&self, token: &str, scopes: &[&str]) -> (String, String) {
        let body = json!({"name": "ci", "scopes": scopes});
        let made = self.post("/api/keys", Some(token), body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let text = |field: &str| made.body[field].as_str().unwrap().to_owned();
        (text("id"), text("secret"))
    }

    async fn delete(&self, path: &str, token: &str) -> Answer {
        self.send(request(Method::DELETE, path, Some(token), None))
            .await
    }
}

#[tokio::test]
async fn one_key_has_its_own_limit_within_its_users() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| {
        limits.key_requests_per_minute = 2;
        limits.requests_per_minute = 6;
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let (_, one) = edge.key(&token, &["read"]).await;
    let (_, two) = edge.key(&token, &["read"]).await;
    for key in [&one, &two] {
        for left in ["1", "0"] {
            let answer = edge.get("/api/auth/me", key).await;
            assert_eq!(answer.headers["ratelimit-remaining"], left);
        }
        assert_eq!(
            edge.get("/api/auth/me", key).await.refused(),
            (429, "rate_limited")
        );
    }
    // Two made keys and four asked with them: what the keys were refused is not the user's.
    assert_eq!(
        edge.get("/api/auth/me", &token).await.refused(),
        (429, "rate_limited")
    );
}

#[tokio::test]
async fn a_secret_is_shown_once_and_stored_nowhere() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let create = || {
        let body = json!({"name": "ci", "scopes": ["run", "read"]});
        let request = request(Method::POST, "/api/keys", Some(&token), Some(body));
        with(request, "idempotency-key", "k")
    };
    let made = edge.send(create()).await;
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("ntr_"));
    assert_eq!(made.body["scopes"], json!(["read", "run"]));
    let again = edge.send(create()).await;
    assert_eq!(
        (again.status.as_u16(), &again.body["id"]),
        (201, &made.body["id"])
    );
    assert!(again.body.get("secret").is_none());
    let list = edge.get("/api/keys", &token).await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1);
    assert!(!list.body.to_string().contains("ntr_"));

    // What is on the disk, as it is.
    for file in std::fs::read_dir(edge._dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn both_headers_take_a_key_and_its_use_is_noted() {
    let edge = Edge::new(Config::default());
    let (user, token) = edge.user("anna", Role::User).await;
    let (_, secret) = edge.key(&token, &["read"]).await;
    let by_bearer = edge.get("/api/auth/me", &secret).await;
    assert_eq!(by_bearer.body["id"], json!(user));
    let bare = || request(Method::GET, "/api/auth/me", None, None);
    assert_eq!(
        edge.send(with(bare(), "x-api-key", &secret)).await.status,
        200
    );
    for refused in [
        with(bare(), "x-api-key", &token),
        with(bare(), "x-api-key", &format!("{secret}x")),
        with(bare(), "x-api-key", &format!("ntr_{}", "x".repeat(9_000))),
        with(
            request(Method::GET, "/api/auth/me", Some(&token), None),
            "x-api-key",
            &secret,
        ),
    ] {
        assert_eq!(edge.send(refused).await.refused(), (401, "unauthenticated"));
    }
    let list = edge.get("/api/keys", &token).await;
    assert!(list.body["items"][0]["last_used_at"].is_string());
}

#[tokio::test]
async fn a_key_has_no_right_that_its_maker_lacks() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let wanted = |scopes: &[&str]| json!({"name": "x", "scopes": scopes});
    let made = edge
        .post("/api/keys", Some(&token), wanted(&["admin"]))
        .await;
    assert_eq!(made.refused(), (403, "forbidden"));

    let (_, narrow) = edge.key(&token, &["account", "read"]).await;
    let wider = edge
        .post("/api/keys", Some(&narrow), wanted(&["run"]))
        .await;
    assert_eq!(wider.refused(), (403, "forbidden"));
    edge.key(&narrow, &["read"]).await;

    let end = edge.runtime.now().plus_millis(60_000);
    let body = json!({"name": "x", "scopes": ["account"], "expires_at": end});
    let short = edge.post("/api/keys", Some(&token), body).await;
    let short = short.body["secret"].as_str().unwrap().to_owned();
    let longer = edge
        .post("/api/keys", Some(&short), wanted(&["account"]))
        .await;
    assert_eq!(longer.refused(), (403, "forbidden"));
}

#[tokio::test]
async fn bad_wishes_are_told_by_field() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let past = edge.runtime.now();
    for (body, field) in [
        (json!({"name": " ", "scopes": ["read"]}), "name"),
        (json!({"name": "x".repeat(101), "scopes": ["read"]}), "name"),
        (json!({"name": "a\nb", "scopes": ["read"]}), "name"),
        (json!({"name": "x", "scopes": []}), "scopes"),
        (json!({"name": "x", "scopes": ["READ"]}), "scopes[0]"),
        (
            json!({"name": "x", "scopes": ["read"], "expires_at": past}),
            "expires_at",
        ),
    ] {
        let answer = edge.post("/api/keys", Some(&token), body).await;
        assert_eq!(answer.refused(), (400, "invalid_request"), "{field}");
        assert_eq!(answer.body["error"]["details"]["field"], json!(field));
    }
    let unknown = json!({"name": "x", "scopes": ["read"], "secret": "ntr_mine"});
    let answer = edge.post("/api/keys", Some(&token), unknown).await;
    assert_eq!(answer.refused(), (400, "unknown_field"));
}

#[tokio::test]
async fn anothers_key_is_as_one_that_is_not_there() {
    let edge = Edge::new(Config::default());
    let (_, anna) = edge.user("anna", Role::User).await;
    let (_, bert) = edge.user("bert", Role::User).await;
    let (id, secret) = edge.key(&anna, &["read"]).await;
    let missing = netra_protocol::id::KeyId::from_parts(1, 1);
    let mut texts = Vec::new();
    for id in [id.clone(), missing.to_string(), "key_x".to_owned()] {
        let mut answer = edge.delete(&format!("/api/keys/{id}"), &bert).await;
        assert_eq!(answer.refused(), (404, "not_found"));
        answer.body["error"]["request_id"] = Value::Null;
        texts.push(answer.body.to_string());
    }
    assert!(texts.iter().all(|text| *text == texts[0]));
    assert_eq!(edge.get("/api/auth/me", &secret).await.status, 200);

    assert_eq!(
        edge.delete(&format!("/api/keys/{id}"), &anna).await.status,
        204
    );
    let revoked = edge.get("/api/auth/me", &secret).await;
    assert_eq!(revoked.refused(), (401, "unauthenticated"));
    let again = edge.delete(&format!("/api/keys/{id}"), &anna).await;
    assert_eq!(again.refused(), (404, "not_found"));
}

/// For tests that ask more often than a user may.
fn often() -> Edge {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.requests_per_minute = 1_000_000);
    edge
}

#[tokio::test]
async fn a_key_past_its_end_is_refused_though_it_was_remembered() {
    let edge = often();
    let (_, token) = edge.user("anna", Role::User).await;
    let end = edge.runtime.now().plus_millis(300);
    let body = json!({"name": "x", "scopes": ["read"], "expires_at": end});
    let made = edge.post("/api/keys", Some(&token), body).await;
    let secret = made.body["secret"].as_str().unwrap();
    loop {
        let answer = edge.get("/api/auth/me", secret).await;
        if edge.runtime.now() < end {
            assert_eq!(answer.status, 200);
            tokio::task::yield_now().await;
            continue;
        }
        let answer = edge.get("/api/auth/me", secret).await;
        // Not `token_expired`, which clients answer by refreshing.
        assert_eq!(answer.refused(), (401, "unauthenticated"));
        return;
    }
}

/// From the contract, so that a new operation cannot be forgotten.
#[tokio::test]
async fn no_operation_lets_a_key_in_that_lacks_its_scope() {
    let edge = often();
    let (_, token) = edge.user("anna", Role::Admin).await;
    let (_, useless) = edge.key(&token, &["metrics"]).await;
    let mut tried = 0;
    for (path, item) in crate::openapi().paths.paths {
        if path == "/ws" || path == "/api/metrics" || path.ends_with("/logout") {
            continue;
        }
        for (method, operation) in [
            (Method::GET, item.get),
            (Method::POST, item.post),
            (Method::PATCH, item.patch),
            (Method::PUT, item.put),
            (Method::DELETE, item.delete),
        ] {
            let Some(operation) = operation.filter(|operation| operation.security.is_some()) else {
                continue;
            };
            if operation.security == Some(vec![Default::default()]) {
                continue;
            }
            let answer = edge
                .send(request(method.clone(), &path, Some(&useless), None))
                .await;
            assert_eq!(answer.refused(), (403, "forbidden"), "{method} {path}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} operations need credentials");
    let metrics = edge.get("/api/metrics", &useless).await;
    assert_eq!(metrics.status, 200);
    let (_, reader) = edge.key(&token, &["read"]).await;
    assert_eq!(
        edge.get("/api/metrics", &reader).await.refused(),
        (403, "forbidden")
    );
}
