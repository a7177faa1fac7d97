//! What admins may do, and that nobody else may.

use netra_protocol::id::{RunId, UserId};
use serde_json::json;

use super::sockets::{listen, open};
use super::*;

impl Edge {
    async fn patch(&self, user: impl std::fmt::Display, token: &str, body: Value) -> Answer {
        let path = format!("/api/admin/users/{user}");
        self.send(request(Method::PATCH, &path, Some(token), Some(body)))
            .await
    }

    /// Ids of users on a page.
    async fn ids(&self, path: &str, token: &str) -> (Vec<Value>, Value) {
        let page = self.get(path, token).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let items = page.body["items"].as_array().unwrap();
        let ids = items.iter().map(|item| item["id"].clone()).collect();
        (ids, page.body["next_cursor"].clone())
    }
}

#[tokio::test]
async fn nobody_else_learns_whether_an_object_exists() {
    let edge = Edge::new(Config::default());
    let (user, token) = edge.user("anna", Role::Developer).await;
    let (run, _) = edge.asked(&token).await;
    let missing = (
        UserId::from_parts(1, 1).to_string(),
        RunId::from_parts(1, 1).to_string(),
    );
    let mut texts = Vec::new();
    for (user, run) in [(user.to_string(), run), missing] {
        for mut answer in [
            edge.patch(&user, &token, json!({"nonsense": 1})).await,
            edge.post(
                &format!("/api/admin/runs/{run}/cancel"),
                Some(&token),
                json!({}),
            )
            .await,
            edge.get("/api/admin/users", &token).await,
            edge.get("/api/admin/runs?status=nonsense", &token).await,
        ] {
            assert_eq!(answer.refused(), (403, "forbidden"));
            answer.body["error"]["request_id"] = Value::Null;
            texts.push(answer.body.to_string());
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]));
}

#[tokio::test]
async fn all_accounts_and_all_runs_are_listed_without_content() {
    let edge = Edge::new(Config::default());
    let (root, admin) = edge.user("root", Role::Admin).await;
    let (anna, token) = edge.user("anna", Role::User).await;
    let (first, page) = edge.ids("/api/admin/users?limit=1", &admin).await;
    let next = format!("/api/admin/users?limit=1&cursor={}", page.as_str().unwrap());
    let (second, end) = edge.ids(&next, &admin).await;
    assert_eq!((first, second), (vec![json!(root)], vec![json!(anna)]));
    assert_eq!(end, Value::Null);

    let (waiting, _) = edge.asked(&token).await;
    let canary = json!({"agent": "echo", "input": "canary-7", "metadata": {"m": "canary-7"}});
    let echo = edge.post("/api/runs", Some(&token), canary).await.body["id"].clone();
    edge.ended(echo.as_str().unwrap(), &token).await;
    let all = edge.get("/api/admin/runs", &admin).await;
    assert!(!all.body.to_string().contains("canary"), "{}", all.body);
    assert_eq!(all.body["items"][0]["user_id"], json!(anna));
    let all = edge.ids("/api/admin/runs", &admin).await.0;
    assert_eq!(all, [echo.clone(), json!(waiting)]);
    for (query, expected) in [
        ("status=waiting".to_owned(), vec![json!(waiting)]),
        (format!("user={anna}&status=completed"), vec![echo]),
        (format!("user={root}"), vec![]),
    ] {
        let path = format!("/api/admin/runs?{query}");
        assert_eq!(edge.ids(&path, &admin).await.0, expected, "{query}");
    }
    for bad in ["user=anna", "status=gone", "limit=0", "cursor=x"] {
        let path = format!("/api/admin/runs?{bad}");
        let answer = edge.get(&path, &admin).await;
        assert_eq!(answer.refused(), (400, "invalid_request"), "{bad}");
    }
}

#[tokio::test]
async fn an_admin_cancels_anybodys_run() {
    let edge = Edge::new(Config::default());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let (_, token) = edge.user("anna", Role::User).await;
    let (run, _) = edge.asked(&token).await;
    let cancel = format!("/api/admin/runs/{run}/cancel");
    let answer = edge.post(&cancel, Some(&admin), json!({})).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let ended = edge.ended(&run, &token).await;
    assert_eq!(ended["status"], "cancelled");
    assert!(
        ended["error"]["message"]
            .as_str()
            .unwrap()
            .contains("admin")
    );
    let again = edge.post(&cancel, Some(&admin), json!({})).await;
    assert_eq!(again.refused(), (409, "run_ended"));
    let missing = format!("/api/admin/runs/{}/cancel", RunId::from_parts(1, 1));
    let missing = edge.post(&missing, Some(&admin), json!({})).await;
    assert_eq!(missing.refused(), (404, "not_found"));
}

#[tokio::test]
async fn nothing_of_a_disabled_user_goes_on() {
    let edge = Edge::new(Config::default());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let (anna, token) = edge.user("anna", Role::User).await;
    let (_, secret) = edge.key(&token, &["read", "run", "approve"]).await;
    let (run, approval) = edge.asked(&token).await;
    let address = listen(&edge).await;
    let (mut by_token, mut by_key) = (open(address, &token).await, open(address, &secret).await);
    let disable = reqwest::Client::new()
        .patch(format!("http://{address}/api/admin/users/{anna}"))
        .bearer_auth(&admin)
        .header("content-type", "application/json")
        .body(json!({"disabled": true}).to_string());
    let disabled = disable.send().await.unwrap();
    assert_eq!(disabled.status(), 200);
    assert_eq!(by_token.close_code().await, 4001);
    assert_eq!(by_key.close_code().await, 4001);

    let path = format!("/api/admin/runs?user={anna}&status=cancelled");
    assert_eq!(edge.ids(&path, &admin).await.0, [json!(run)]);
    // The other router remembers the credentials until it is told, too.
    assert_eq!(
        edge.patch(anna, &admin, json!({"disabled": true}))
            .await
            .status,
        200
    );
    let answer = json!({"decision": "approve"});
    let path = format!("/api/approvals/{approval}");
    for credential in [&token, &secret] {
        let answered = edge.post(&path, Some(credential), answer.clone()).await;
        assert_eq!(answered.refused(), (401, "unauthenticated"));
    }

    let enabled = edge.patch(anna, &admin, json!({"disabled": false})).await;
    assert_eq!(enabled.body["disabled"], json!(false));
    assert_eq!(edge.get("/api/auth/me", &token).await.status, 200);
    let ended = edge.get("/api/auth/me", &secret).await;
    assert_eq!(ended.refused(), (401, "unauthenticated"));
}

#[tokio::test]
async fn the_last_admin_stays_one() {
    let edge = Edge::new(Config::default());
    let (root, admin) = edge.user("root", Role::Admin).await;
    let (other, _) = edge.user("other", Role::Admin).await;
    assert_eq!(
        edge.patch(other, &admin, json!({"disabled": true}))
            .await
            .status,
        200
    );
    for change in [json!({"disabled": true}), json!({"role": "user"})] {
        let answer = edge.patch(root, &admin, change).await;
        assert_eq!(answer.refused(), (409, "conflict"));
    }
    let plan = edge.patch(root, &admin, json!({"plan": "pro"})).await;
    assert_eq!(plan.body["plan"], "pro");
    let unknown = edge.patch(root, &admin, json!({"name": "x"})).await;
    assert_eq!(unknown.refused(), (400, "unknown_field"));
    let missing = edge
        .patch(UserId::from_parts(1, 1), &admin, json!({}))
        .await;
    assert_eq!(missing.refused(), (404, "not_found"));
}

#[tokio::test]
async fn a_key_is_no_more_than_its_users_role_of_now() {
    let edge = Edge::new(Config::default());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let (other, token) = edge.user("other", Role::Admin).await;
    let (_, secret) = edge.key(&token, &["admin", "read"]).await;
    assert_eq!(edge.get("/api/admin/runs", &secret).await.status, 200);
    assert_eq!(
        edge.patch(other, &admin, json!({"role": "user"}))
            .await
            .status,
        200
    );
    let demoted = edge.get("/api/admin/runs", &secret).await;
    assert_eq!(demoted.refused(), (403, "forbidden"));
    assert_eq!(edge.get("/api/auth/me", &secret).await.status, 200);
}
