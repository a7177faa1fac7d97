//! Service tokens: a back end that acts for its own end users, each of whom is a user of its own.

use serde_json::json;

use super::sockets::{connect, listen};
use super::*;

/// A request of a back end for one of its end users.
fn for_user(
    method: Method,
    path: &str,
    key: &str,
    user: &str,
    body: Option<Value>,
) -> Request<Body> {
    with(request(method, path, Some(key), body), "x-netra-user", user)
}

impl Edge {
    async fn me_of(&self, key: &str, user: &str) -> Answer {
        self.send(for_user(Method::GET, "/api/auth/me", key, user, None))
            .await
    }

    async fn service(&self, name: &str) -> String {
        let (_, token) = self.user(name, Role::Admin).await;
        self.key(&token, &["service"]).await.1
    }
}

#[tokio::test]
async fn an_end_user_is_made_on_first_use_and_is_the_same_from_then_on() {
    let edge = Edge::new(Config::default());
    let (admin, token) = edge.user("shop", Role::Admin).await;
    let (_, key) = edge.key(&token, &["service"]).await;
    let (_, second_key) = edge.key(&token, &["service", "read"]).await;
    let first = edge.me_of(&key, "customer-1").await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(
        (&first.body["role"], &first.body["plan"]),
        (&json!("user"), &json!("free"))
    );
    let identity = json!({"issuer": admin.to_string(), "subject": "customer-1"});
    assert_eq!(first.body["identity"], identity);
    let id = &first.body["id"];
    assert_eq!(&edge.me_of(&key, "customer-1").await.body["id"], id);
    // Another key of the same back end knows the same end users.
    assert_eq!(&edge.me_of(&second_key, "customer-1").await.body["id"], id);
    assert_ne!(&edge.me_of(&key, "customer-2").await.body["id"], id);
    assert_ne!(&edge.me_of(&key, "Customer-1").await.body["id"], id);
    // Another back end's end user of the same name is another user.
    let other = edge.service("bank").await;
    assert_ne!(&edge.me_of(&other, "customer-1").await.body["id"], id);
    // Two at once make one.
    let (one, two) = futures::join!(
        edge.me_of(&key, "customer-3"),
        edge.me_of(&key, "customer-3")
    );
    assert_eq!(one.body["id"], two.body["id"]);
}

#[tokio::test]
async fn end_users_see_nothing_of_each_other_and_a_back_end_nothing_without_naming_one() {
    let edge = Edge::new(Config::default());
    let key = edge.service("shop").await;
    let start = json!({"agent": "echo", "input": "of the first"});
    let run = for_user(Method::POST, "/api/runs", &key, "first", Some(start));
    let run = edge.send(run).await;
    assert_eq!(run.status, 202, "{}", run.body);
    let path = format!("/api/runs/{}", run.body["id"].as_str().unwrap());
    let read = async |user: &str| {
        edge.send(for_user(Method::GET, &path, &key, user, None))
            .await
    };
    assert_eq!(read("first").await.status, 200);
    assert_eq!(read("second").await.refused(), (404, "not_found"));
    let list = for_user(Method::GET, "/api/runs", &key, "second", None);
    assert_eq!(edge.send(list).await.body["items"], json!([]));
    // By itself the key may do nothing: it has no scope but to act for others.
    assert_eq!(edge.get(&path, &key).await.refused(), (403, "forbidden"));
    let admin = for_user(Method::GET, "/api/admin/users", &key, "first", None);
    assert_eq!(edge.send(admin).await.refused(), (403, "forbidden"));
}

#[tokio::test]
async fn other_scopes_of_the_key_bound_what_it_does_for_others() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("shop", Role::Admin).await;
    let (_, reader) = edge.key(&token, &["service", "read", "admin"]).await;
    assert_eq!(edge.me_of(&reader, "first").await.status, 200);
    let start = json!({"agent": "echo", "input": "x"});
    let run = for_user(Method::POST, "/api/runs", &reader, "first", Some(start));
    assert_eq!(edge.send(run).await.refused(), (403, "forbidden"));
    let admin = for_user(Method::GET, "/api/admin/users", &reader, "first", None);
    assert_eq!(edge.send(admin).await.refused(), (403, "forbidden"));
}

#[tokio::test]
async fn nobody_else_acts_for_others() {
    let edge = Edge::new(Config::default());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let (_, user) = edge.user("anna", Role::User).await;
    let (_, plain) = edge.key(&admin, &["read", "admin"]).await;
    for credential in [&admin, &user, &plain] {
        let refused = edge.me_of(credential, "first").await;
        assert_eq!(refused.refused(), (403, "forbidden"));
    }
    // Nor does a user get such a key.
    let key = json!({"name": "mine", "scopes": ["service"]});
    let refused = edge.post("/api/keys", Some(&user), key).await;
    assert_eq!(refused.refused(), (403, "forbidden"));
    let key = edge.service("shop").await;
    for bad in ["", "a b", &"x".repeat(129), "\u{e4}"] {
        let mut asked = request(Method::GET, "/api/auth/me", Some(&key), None);
        let value = axum::http::HeaderValue::from_bytes(bad.as_bytes()).unwrap();
        asked.headers_mut().insert("x-netra-user", value);
        let refused = edge.send(asked).await;
        assert_eq!(refused.refused(), (400, "invalid_request"), "{bad:?}");
    }
    let mut twice = for_user(Method::GET, "/api/auth/me", &key, "first", None);
    twice
        .headers_mut()
        .append("x-netra-user", "second".parse().unwrap());
    assert_eq!(edge.send(twice).await.refused(), (400, "invalid_request"));
    let unknown = edge.me_of("ntr_unknown", "first").await;
    assert_eq!(unknown.refused(), (401, "unauthenticated"));
}

#[tokio::test]
async fn each_end_user_has_limits_of_its_own() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.requests_per_minute = 3);
    let (_, admin) = edge.user("root", Role::Admin).await;
    let key = edge.service("shop").await;
    for _ in 0..3 {
        assert_eq!(edge.me_of(&key, "greedy").await.status, 200);
    }
    assert_eq!(
        edge.me_of(&key, "greedy").await.refused(),
        (429, "rate_limited")
    );
    let modest = edge.me_of(&key, "modest").await;
    assert_eq!(modest.status, 200);
    let path = format!("/api/admin/users/{}", modest.body["id"].as_str().unwrap());
    let more = json!({"limits": {"requests_per_minute": 900}});
    let changed = edge
        .send(request(Method::PATCH, &path, Some(&admin), Some(more)))
        .await;
    assert_eq!(changed.status, 200);
    let modest = edge.me_of(&key, "modest").await;
    assert_eq!(modest.headers["ratelimit-limit"], "900");
}

#[tokio::test]
async fn a_service_token_that_names_ever_new_users_has_a_limit_of_its_own_and_makes_no_more() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.key_requests_per_minute = 3);
    let (owner, admin) = edge.user("shop", Role::Admin).await;
    let (_, other_admin) = edge.user("root", Role::Admin).await;
    let (_, key) = edge.key(&admin, &["service"]).await;
    for (user, left) in [("a", "2"), ("b", "1"), ("a", "0")] {
        let answer = edge.me_of(&key, user).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["ratelimit-limit"], "3");
        assert_eq!(answer.headers["ratelimit-remaining"], left);
    }
    // Neither one that is known nor one that is not; of the latter nothing is made.
    let known = async || {
        let users = edge.get("/api/admin/users?limit=100", &other_admin).await;
        users.body["items"].as_array().unwrap().len()
    };
    let before = known().await;
    for user in ["a", "new"] {
        let refused = edge.me_of(&key, user).await;
        assert_eq!(refused.refused(), (429, "rate_limited"), "{user}");
        assert_eq!(refused.headers["ratelimit-limit"], "3");
        assert!(refused.headers.contains_key(header::RETRY_AFTER));
    }
    assert_eq!(known().await, before);
    // The owner is not the key, and another key of the same back end not this one.
    assert_eq!(edge.get("/api/auth/me", &admin).await.status, 200);
    let (_, second) = edge.key(&admin, &["service"]).await;
    assert_eq!(edge.me_of(&second, "a").await.status, 200);
    // An admin gives the back end more, at once.
    let path = format!("/api/admin/users/{owner}");
    let more = json!({"limits": {"key_requests_per_minute": 100}});
    let change = request(Method::PATCH, &path, Some(&other_admin), Some(more));
    assert_eq!(edge.send(change).await.status, 200);
    assert_eq!(edge.me_of(&key, "new").await.status, 200);
}

#[tokio::test]
async fn a_revoked_token_and_a_disabled_end_user_are_refused_at_once() {
    let edge = Edge::new(Config::default());
    let (owner, admin) = edge.user("shop", Role::Admin).await;
    let (_, other_admin) = edge.user("root", Role::Admin).await;
    let (id, key) = edge.key(&admin, &["service"]).await;
    let user = edge.me_of(&key, "first").await.body["id"].clone();
    let change = async |user: &str, body: Value| {
        let path = format!("/api/admin/users/{user}");
        let change = request(Method::PATCH, &path, Some(&other_admin), Some(body));
        assert_eq!(edge.send(change).await.status, 200);
    };
    change(user.as_str().unwrap(), json!({"disabled": true})).await;
    assert_eq!(
        edge.me_of(&key, "first").await.refused(),
        (401, "unauthenticated")
    );
    assert_eq!(edge.me_of(&key, "second").await.status, 200);
    change(user.as_str().unwrap(), json!({"disabled": false})).await;
    assert_eq!(edge.me_of(&key, "first").await.status, 200);
    // No link to a password for who has none here.
    let path = format!("/api/admin/users/{}", user.as_str().unwrap());
    let link = Some(json!({"reset_link": true}));
    let link = edge
        .send(request(Method::PATCH, &path, Some(&other_admin), link))
        .await;
    assert_eq!(link.refused(), (409, "conflict"));
    // Who is no admin any more has no service token any more.
    change(&owner.to_string(), json!({"role": "user"})).await;
    assert_eq!(
        edge.me_of(&key, "first").await.refused(),
        (403, "forbidden")
    );
    change(&owner.to_string(), json!({"role": "admin"})).await;
    assert_eq!(edge.me_of(&key, "first").await.status, 200);
    let path = format!("/api/keys/{id}");
    let revoked = edge
        .send(request(Method::DELETE, &path, Some(&admin), None))
        .await;
    assert_eq!(revoked.status, 204);
    assert_eq!(
        edge.me_of(&key, "first").await.refused(),
        (401, "unauthenticated")
    );
}

#[tokio::test]
async fn a_ticket_of_an_end_user_opens_the_end_users_socket_until_the_token_is_revoked() {
    let edge = Edge::new(Config {
        allowed_origins: vec!["https://shop.example".into()].into(),
        ..Config::default()
    });
    let (_, admin) = edge.user("shop", Role::Admin).await;
    let (_, key) = edge.key(&admin, &["service"]).await;
    let user = edge.me_of(&key, "first").await.body["id"].clone();
    let address = listen(&edge).await;
    let ask = reqwest::Client::new()
        .post(format!("http://{address}/api/auth/ws-ticket"))
        .bearer_auth(&key)
        .header("x-netra-user", "first");
    let ticket: Value =
        serde_json::from_slice(&ask.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let ticket = ticket["ticket"].as_str().unwrap();
    // The page has an origin, which the back end that asked for the ticket had not.
    let page = [("origin", "https://shop.example")];
    let opened = connect(address, &format!("?ticket={ticket}"), &page).await;
    let (mut socket, _) = opened.unwrap();
    assert_eq!(socket.next().await["user_id"], user);
    let keys = edge.get("/api/keys", &admin).await;
    let id = keys.body["items"][0]["id"].as_str().unwrap();
    let revoke = reqwest::Client::new()
        .delete(format!("http://{address}/api/keys/{id}"))
        .bearer_auth(&admin);
    assert_eq!(revoke.send().await.unwrap().status(), 204);
    assert_eq!(socket.close_code().await, 4001);
}

#[tokio::test]
async fn an_end_user_can_leave_and_comes_back_as_somebody_new() {
    let edge = Edge::new(Config::default());
    let key = edge.service("shop").await;
    let first = edge.me_of(&key, "first").await.body["id"].clone();
    let leave = for_user(Method::DELETE, "/api/me", &key, "first", None);
    assert_eq!(edge.send(leave).await.status, 204);
    let again = edge.me_of(&key, "first").await;
    assert_eq!(again.status, 200);
    assert_ne!(again.body["id"], first);
}

#[tokio::test]
async fn a_service_token_makes_no_keys_that_would_outlive_it() {
    let edge = Edge::new(Config::default());
    let key = edge.service("shop").await;
    assert_eq!(edge.me_of(&key, "first").await.status, 200);
    let body = json!({"name": "mine", "scopes": ["read"]});
    let make = for_user(Method::POST, "/api/keys", &key, "first", Some(body));
    assert_eq!(edge.send(make).await.refused(), (403, "forbidden"));
}

#[tokio::test]
async fn a_service_token_with_the_servers_scopes_alone_does_nothing_for_users() {
    let edge = Edge::new(Config::default());
    let (_, admin) = edge.user("shop", Role::Admin).await;
    let (_, key) = edge.key(&admin, &["service", "metrics"]).await;
    assert_eq!(
        edge.me_of(&key, "first").await.refused(),
        (403, "forbidden")
    );
}

#[tokio::test]
async fn whoever_has_end_users_leaves_after_them() {
    let edge = Edge::new(Config::default());
    let (_, _other) = edge.user("other", Role::Admin).await;
    let (_, admin) = edge.user("shop", Role::Admin).await;
    let (_, key) = edge.key(&admin, &["service"]).await;
    assert_eq!(edge.me_of(&key, "first").await.status, 200);
    let leave = || request(Method::DELETE, "/api/me", Some(&admin), None);
    assert_eq!(edge.send(leave()).await.refused(), (409, "conflict"));
    let first = for_user(Method::DELETE, "/api/me", &key, "first", None);
    assert_eq!(edge.send(first).await.status, 204);
    assert_eq!(edge.send(leave()).await.status, 204);
}
