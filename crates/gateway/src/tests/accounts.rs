//! Setting up, signing in and out, sessions, the browser's cookie, `--dev`.

use futures::FutureExt as _;
use serde_json::json;

use super::sockets::SOON;
use super::*;
use crate::Registration;

fn open() -> Config {
    Config {
        registration: Registration::Open,
        ..Config::default()
    }
}

fn cookie_of(answer: &Answer) -> Option<String> {
    let line = answer.headers.get(header::SET_COOKIE)?.to_str().unwrap();
    Some(line.split(';').next().unwrap().to_owned())
}

fn credentials(name: &str) -> Value {
    json!({"name": name, "password": PASSWORD})
}

#[tokio::test]
async fn the_set_up_token_makes_one_admin() {
    let edge = Edge::new(Config::default());
    let token = crate::setup_token(&edge.runtime, &edge.store)
        .await
        .unwrap()
        .unwrap();
    let body = |token: &str| json!({"token": token, "name": "root", "password": PASSWORD});
    let wrong = edge.post("/api/auth/setup", None, body("guess")).await;
    assert_eq!(wrong.refused(), (401, "unauthenticated"));
    let made = edge.post("/api/auth/setup", None, body(&token)).await;
    assert_eq!(
        (made.status.as_u16(), &made.body["user"]["role"]),
        (201, &json!("admin"))
    );
    let again = edge.post("/api/auth/setup", None, body(&token)).await;
    assert_eq!(again.refused(), (401, "unauthenticated"));
    assert!(
        crate::setup_token(&edge.runtime, &edge.store)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_look_alike_and_are_counted() {
    let edge = Edge::new(open());
    assert_eq!(
        edge.post("/api/auth/register", None, credentials("anna"))
            .await
            .status,
        201
    );
    assert_eq!(
        edge.post("/api/auth/login", None, credentials("anna"))
            .await
            .status,
        200
    );
    let taken = edge
        .post("/api/auth/register", None, credentials("Anna"))
        .await;
    assert_eq!(taken.refused(), (409, "conflict"));
    let wrong = |name: &str| json!({"name": name, "password": "wrong horse battery"});
    let mut texts = Vec::new();
    for name in ["anna", "nobody"] {
        let answer = edge.post("/api/auth/login", None, wrong(name)).await;
        assert_eq!(answer.refused(), (401, "unauthenticated"));
        texts.push(answer.body["error"]["message"].clone());
    }
    assert_eq!(texts[0], texts[1]);
    // Four of five are used for this account (its registrations too), one for the other.
    assert_eq!(
        edge.post("/api/auth/login", None, wrong("ANNA"))
            .await
            .status,
        401
    );
    let refused = edge
        .post("/api/auth/login", None, credentials("anna"))
        .await;
    assert_eq!(refused.refused(), (429, "rate_limited"));
    for name in ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
        assert_eq!(refused.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(
        edge.post("/api/auth/login", None, wrong("nobody"))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn registration_is_closed_unless_opened() {
    let edge = Edge::new(Config::default());
    let answer = edge
        .post("/api/auth/register", None, credentials("anna"))
        .await;
    assert_eq!(answer.refused(), (403, "forbidden"));
}

#[tokio::test]
async fn asking_where_registration_is_closed_uses_up_no_sign_ins() {
    let edge = Edge::new(Config::default());
    for _ in 0..=Config::default().logins_per_minute.get() {
        let refused = edge
            .post("/api/auth/register", None, credentials("anna"))
            .await;
        assert_eq!(refused.refused(), (403, "forbidden"));
    }
    let counted = edge
        .post("/api/auth/login", None, credentials("anna"))
        .await;
    assert_eq!(counted.refused(), (401, "unauthenticated"));
}

#[tokio::test]
async fn a_refresh_token_works_once_and_reuse_ends_the_session() {
    let edge = Edge::new(open());
    let first = edge
        .post("/api/auth/register", None, credentials("anna"))
        .await;
    let refresh = |token: &Value| json!({ "refresh_token": token });
    let second = edge
        .post(
            "/api/auth/refresh",
            None,
            refresh(&first.body["refresh_token"]),
        )
        .await;
    assert_eq!(second.status, 200);
    let access = second.body["access_token"].as_str().unwrap();
    assert_eq!(edge.get("/api/auth/me", access).await.status, 200);
    let reused = edge
        .post(
            "/api/auth/refresh",
            None,
            refresh(&first.body["refresh_token"]),
        )
        .await;
    assert_eq!(reused.refused(), (401, "unauthenticated"));
    // The family is over: its newest refresh token, and the access token that was remembered.
    let newest = edge
        .post(
            "/api/auth/refresh",
            None,
            refresh(&second.body["refresh_token"]),
        )
        .await;
    assert_eq!(newest.refused(), (401, "unauthenticated"));
    assert_eq!(
        edge.get("/api/auth/me", access).await.refused(),
        (401, "unauthenticated")
    );
}

#[tokio::test]
async fn a_browser_gets_a_cookie_that_refreshes_and_signs_out_and_nothing_else() {
    let edge = Edge::new(open());
    let from_page = |path: &str, body: Value| {
        let sent = request(Method::POST, path, None, Some(body));
        with(sent, "origin", "http://127.0.0.1:1")
    };
    let program = edge
        .post("/api/auth/register", None, credentials("anna"))
        .await;
    assert!(cookie_of(&program).is_none(), "a program gets no cookie");
    let signed_in = edge
        .send(from_page("/api/auth/login", credentials("anna")))
        .await;
    let cookie = cookie_of(&signed_in).unwrap();
    for path in ["/api/auth/me", "/api/threads", "/ws"] {
        let asked = with(request(Method::GET, path, None, None), "cookie", &cookie);
        assert_eq!(
            edge.send(asked).await.refused(),
            (401, "unauthenticated"),
            "{path}"
        );
    }
    let refreshed = edge
        .send(with(
            from_page("/api/auth/refresh", json!({})),
            "cookie",
            &cookie,
        ))
        .await;
    assert_eq!(refreshed.status, 200);
    let cookie = cookie_of(&refreshed).unwrap();
    let foreign = with(
        request(Method::POST, "/api/auth/refresh", None, None),
        "cookie",
        &cookie,
    );
    let foreign = with(foreign, "origin", "https://evil.example");
    assert_eq!(edge.send(foreign).await.refused(), (403, "origin_refused"));
    let out = edge
        .send(with(
            from_page("/api/auth/logout", json!({})),
            "cookie",
            &cookie,
        ))
        .await;
    assert_eq!(out.status, 204);
    assert_eq!(cookie_of(&out).as_deref(), Some("netra_refresh="));
    let after = edge
        .send(with(
            from_page("/api/auth/refresh", json!({})),
            "cookie",
            &cookie,
        ))
        .await;
    assert_eq!(after.refused(), (401, "unauthenticated"));
}

#[tokio::test]
async fn ending_a_session_ends_its_tokens_at_once() {
    let edge = Edge::new(open());
    let first = edge
        .post("/api/auth/register", None, credentials("anna"))
        .await;
    let second = edge
        .post("/api/auth/login", None, credentials("anna"))
        .await;
    let (first, second) = (
        first.body["access_token"].as_str().unwrap(),
        second.body["access_token"].as_str().unwrap(),
    );
    assert_eq!(edge.get("/api/auth/me", first).await.status, 200);
    let list = edge.get("/api/auth/sessions", second).await;
    let items = list.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    let other = items.iter().find(|item| item["current"] == false).unwrap();
    let path = format!("/api/auth/sessions/{}", other["id"].as_str().unwrap());
    let delete = || edge.send(request(Method::DELETE, &path, Some(second), None));
    assert_eq!(delete().await.status, 204);
    assert_eq!(
        edge.get("/api/auth/me", first).await.refused(),
        (401, "unauthenticated")
    );
    assert_eq!(edge.get("/api/auth/me", second).await.status, 200);
    assert_eq!(delete().await.refused(), (404, "not_found"));
}

#[tokio::test]
async fn all_sessions_of_a_user_end_at_once_and_nobody_elses_and_no_key() {
    let edge = Edge::new(open());
    let sign_in = async |path: &str, name: &str| {
        let answer = edge.post(path, None, credentials(name)).await;
        answer.body["access_token"].as_str().unwrap().to_owned()
    };
    let bert = sign_in("/api/auth/register", "bert").await;
    let first = sign_in("/api/auth/register", "anna").await;
    let second = sign_in("/api/auth/login", "anna").await;
    let (_, key) = edge.key(&first, &["account", "read"]).await;
    let me = async |token: &str| edge.get("/api/auth/me", token).await.status.as_u16();
    let end = async |token: &str| {
        let end = request(Method::DELETE, "/api/auth/sessions", Some(token), None);
        edge.send(end).await.status.as_u16()
    };
    assert_eq!((me(&first).await, me(&second).await), (200, 200));
    assert_eq!(end(&second).await, 204);
    assert_eq!((me(&first).await, me(&second).await), (401, 401));
    assert_eq!((me(&bert).await, me(&key).await), (200, 200));
    let left = edge.get("/api/auth/sessions", &key).await;
    assert_eq!(left.body["items"], serde_json::json!([]));
    assert_eq!(end(&key).await, 204, "none is no error");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_signs_out_is_signed_out() {
    let edge = Edge::new(open());
    let signed_in = edge
        .post("/api/auth/register", None, credentials("anna"))
        .await;
    let access = signed_in.body["access_token"].as_str().unwrap();
    let stream = request(Method::GET, "/api/events", Some(access), None);
    let stream = edge.router.clone().oneshot(stream).await.unwrap();
    assert_eq!(stream.status(), 200);
    let sign_out = edge.post("/api/auth/logout", Some(access), json!({}));
    assert!(sign_out.now_or_never().is_none(), "dropped half-way");
    let ended = stream.into_body().collect();
    tokio::time::timeout(SOON, ended).await.unwrap().unwrap();
    assert_eq!(
        edge.get("/api/auth/me", access).await.refused(),
        (401, "unauthenticated")
    );
}

#[tokio::test]
async fn an_access_token_ends_with_its_time() {
    let edge = Edge::new(Config::default());
    let (user, _) = edge.user("anna", Role::User).await;
    let long_ago = edge.runtime.now().plus_millis(-60_000);
    let ended = edge
        .keys
        .access_token(user, None, long_ago, std::time::Duration::from_secs(30));
    assert_eq!(
        edge.get("/api/auth/me", &ended.unwrap()).await.refused(),
        (401, "token_expired")
    );
}

#[tokio::test]
async fn dev_signs_in_a_browser_on_this_machine_and_nobody_else() {
    let edge = Edge::new(Config {
        dev: true,
        ..Config::default()
    });
    let ask = || request(Method::POST, "/api/auth/refresh", None, Some(json!({})));
    let page = |request| with(request, "origin", "http://127.0.0.1:1");
    let signed_in = edge.send(page(ask())).await;
    assert_eq!(signed_in.status, 200);
    assert_eq!(signed_in.body["user"]["name"], "local");
    assert_eq!(signed_in.body["user"]["role"], "admin");
    let again = edge.send(page(ask())).await;
    assert_eq!(again.body["user"]["id"], signed_in.body["user"]["id"]);

    let rebound = with(
        with(ask(), "host", "evil.example"),
        "origin",
        "http://evil.example",
    );
    assert_eq!(edge.send(rebound).await.refused(), (403, "origin_refused"));
    let foreign = with(ask(), "origin", "https://evil.example");
    assert_eq!(edge.send(foreign).await.refused(), (403, "origin_refused"));
    let forwarded = with(page(ask()), "x-forwarded-for", "203.0.113.7");
    assert_eq!(
        edge.send(forwarded).await.refused(),
        (401, "unauthenticated")
    );
    for elsewhere in [Peer::of("203.0.113.7".parse().unwrap()), Peer::Socket] {
        let mut remote = page(ask());
        remote.extensions_mut().insert(elsewhere);
        assert_eq!(edge.send(remote).await.refused(), (401, "unauthenticated"));
    }

    let normal = Edge::new(Config::default());
    assert_eq!(
        normal.send(page(ask())).await.refused(),
        (401, "unauthenticated")
    );
}
