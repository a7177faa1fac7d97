//! All that is a user's: taken along as an archive, and taken away.

use serde_json::json;

use super::*;
use crate::Registration;

impl Edge {
    /// The archive as names with contents.
    async fn export(&self, token: &str) -> Vec<(String, Vec<u8>)> {
        let asked = request(Method::GET, "/api/me/export", Some(token), None);
        let answer = self.router.clone().oneshot(asked).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/x-tar");
        entries(&answer.into_body().collect().await.unwrap().to_bytes())
    }

    async fn leave(&self, token: &str, body: Option<Value>) -> Answer {
        self.send(request(Method::DELETE, "/api/me", Some(token), body))
            .await
    }
}

fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| *byte == 0);
    std::str::from_utf8(&field[..end.unwrap_or(field.len())]).unwrap()
}

fn entries(mut archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while archive[0] != 0 {
        let name = text(&archive[..100]).to_owned();
        let size = usize::from_str_radix(text(&archive[124..136]), 8).unwrap();
        found.push((name, archive[512..512 + size].to_vec()));
        archive = &archive[512 + size.div_ceil(512) * 512..];
    }
    assert_eq!(archive, [0; 1024], "it ends with two empty blocks");
    found
}

fn open() -> Config {
    Config {
        registration: Registration::Open,
        logins_per_minute: 1_000.into(),
        ..Config::default()
    }
}

async fn registered(edge: &Edge, name: &str) -> Answer {
    let body = json!({"name": name, "password": PASSWORD});
    edge.post("/api/auth/register", None, body).await
}

/// An ended run, a waiting one, a file and a key of the user.
async fn furnish(edge: &Edge, token: &str, word: &str) {
    let upload = request(Method::POST, "/api/files?name=a.txt", Some(token), None);
    let (mut parts, _) = upload.into_parts();
    parts
        .headers
        .insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    let upload = Request::from_parts(parts, Body::from(format!("file of {word}")));
    assert_eq!(edge.send(upload).await.status, 201);
    let start = json!({"agent": "echo", "input": format!("input of {word}")});
    let run = edge.post("/api/runs", Some(token), start).await;
    edge.ended(run.body["id"].as_str().unwrap(), token).await;
    edge.asked(token).await;
}

#[tokio::test]
async fn an_export_has_all_that_is_the_users_and_nothing_of_others() {
    let edge = Edge::new(open());
    let (anna, token) = edge.user("anna", Role::User).await;
    let (_, other) = edge.user("bert", Role::User).await;
    furnish(&edge, &token, "anna").await;
    furnish(&edge, &other, "bert").await;
    let archive = edge.export(&token).await;
    let names: Vec<_> = archive
        .iter()
        .map(|(name, _)| name.split('/').next().unwrap())
        .collect();
    for expected in [
        "account.json",
        "threads",
        "messages",
        "runs",
        "approvals",
        "events",
        "files",
        "content",
    ] {
        assert!(names.contains(&expected), "{expected}: {names:?}");
    }
    let account: Value = serde_json::from_slice(&archive[0].1).unwrap();
    assert_eq!(account["id"], json!(anna));
    let all: Vec<u8> = archive
        .iter()
        .flat_map(|(_, content)| content.clone())
        .collect();
    let all = String::from_utf8(all).unwrap();
    assert!(all.contains("input of anna") && all.contains("file of anna"));
    assert!(!all.contains("bert"));
    for (name, content) in archive.iter().filter(|(name, _)| name.ends_with(".jsonl")) {
        for line in std::str::from_utf8(content).unwrap().lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{name}");
        }
    }
}

#[tokio::test]
async fn an_export_is_refused_to_who_has_no_room_and_to_half_a_key() {
    let edge = Edge::new(open());
    edge.limit(|limits| limits.memory_mib = 4);
    let (_, token) = edge.user("anna", Role::User).await;
    let refused = edge.get("/api/me/export", &token).await;
    assert_eq!(refused.refused(), (429, "rate_limited"));
    let (_, reader) = edge.key(&token, &["read"]).await;
    assert_eq!(
        edge.get("/api/me/export", &reader).await.refused(),
        (403, "forbidden")
    );
    assert_eq!(
        edge.leave(&reader, None).await.refused(),
        (403, "forbidden")
    );
}

#[tokio::test]
async fn who_leaves_has_nothing_left_and_others_keep_theirs() {
    let edge = Edge::new(open());
    let signed_in = registered(&edge, "anna").await;
    let token = signed_in.body["access_token"].as_str().unwrap();
    let (_, other) = edge.user("bert", Role::User).await;
    furnish(&edge, token, "anna").await;
    furnish(&edge, &other, "bert").await;
    let (_, key) = edge.key(token, &["read", "account"]).await;
    let before = edge.export(&other).await.len();
    let gone = edge.leave(token, None).await;
    assert_eq!(gone.status, 204, "{}", gone.body);
    for credential in [token, &key] {
        let refused = edge.get("/api/auth/me", credential).await;
        assert_eq!(refused.refused(), (401, "unauthenticated"));
    }
    let login = json!({"name": "anna", "password": PASSWORD});
    let login = edge.post("/api/auth/login", None, login).await;
    assert_eq!(login.refused(), (401, "unauthenticated"));
    assert_eq!(edge.export(&other).await.len(), before);
    // The files on the disk are those of the other user.
    let files = std::fs::read_dir(edge._dir.path().join("files")).unwrap();
    assert_eq!(files.count(), 1);
    // The name is free, and whoever takes it is somebody new.
    let again = registered(&edge, "anna").await;
    assert_eq!(again.status, 201);
    assert_ne!(again.body["user"]["id"], signed_in.body["user"]["id"]);
    let (_, admin) = edge.user("root", Role::Admin).await;
    let listed = edge.get("/api/admin/users", &admin).await;
    assert!(
        !listed
            .body
            .to_string()
            .contains(signed_in.body["user"]["id"].as_str().unwrap())
    );
    let id = signed_in.body["user"]["id"].as_str().unwrap();
    let audit = edge
        .get(&format!("/api/admin/audit?user={id}"), &admin)
        .await;
    let records = audit.body["items"].as_array().unwrap();
    assert!(records.iter().any(|one| one["action"] == "user.leave"));
}

#[tokio::test]
async fn a_key_needs_the_password_and_a_wrong_one_is_counted() {
    let edge = Edge::new(Config {
        registration: Registration::Open,
        ..Config::default()
    });
    let signed_in = registered(&edge, "anna").await;
    let token = signed_in.body["access_token"].as_str().unwrap();
    let (_, key) = edge.key(token, &["read", "account"]).await;
    let asked = edge.leave(&key, None).await;
    assert_eq!(asked.refused(), (400, "invalid_request"));
    assert_eq!(asked.body["error"]["details"]["field"], "password");
    // One of five is used up by the registration.
    for _ in 1..Config::default().logins_per_minute.get() {
        let wrong = json!({"password": "not the right one"});
        assert_eq!(
            edge.leave(&key, Some(wrong)).await.refused(),
            (403, "forbidden")
        );
    }
    let right = json!({"password": PASSWORD});
    assert_eq!(
        edge.leave(&key, Some(right.clone())).await.refused(),
        (429, "rate_limited")
    );
    assert_eq!(edge.get("/api/auth/me", token).await.status, 200);
    let unknown = json!({"sure": true});
    assert_eq!(
        edge.leave(token, Some(unknown)).await.refused(),
        (400, "unknown_field")
    );
}

#[tokio::test]
async fn an_old_sign_in_needs_the_password() {
    let ahead = Arc::new(AtomicI64::new(0));
    let edge = Edge::with_clock(open(), ahead.clone());
    let signed_in = registered(&edge, "anna").await;
    ahead.store(11 * 60, Ordering::SeqCst);
    let token = signed_in.body["access_token"].as_str().unwrap();
    let asked = edge.leave(token, None).await;
    assert_eq!(asked.refused(), (400, "invalid_request"));
    let right = json!({"password": PASSWORD});
    assert_eq!(edge.leave(token, Some(right)).await.status, 204);
}

#[tokio::test]
async fn the_last_admin_does_not_leave() {
    let edge = Edge::new(open());
    let (_, admin) = edge.user("root", Role::Admin).await;
    assert_eq!(edge.leave(&admin, None).await.refused(), (409, "conflict"));
    assert_eq!(edge.get("/api/auth/me", &admin).await.status, 200);
    edge.user("other", Role::Admin).await;
    assert_eq!(edge.leave(&admin, None).await.status, 204);
}
