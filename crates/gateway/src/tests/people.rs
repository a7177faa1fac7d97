//! How admins bring people in: accounts, links to passwords, invitations; and what they give them: limits.

use netra_protocol::id::InviteId;
use serde_json::json;

use super::*;
use crate::Registration;

const OTHER: &str = "another long enough one";

impl Edge {
    async fn create(&self, admin: &str, body: Value) -> Answer {
        self.post("/api/admin/users", Some(admin), body).await
    }

    async fn login(&self, name: &str, password: &str) -> Answer {
        let body = json!({"name": name, "password": password});
        self.post("/api/auth/login", None, body).await
    }

    async fn reset(&self, token: &Value, password: &str) -> Answer {
        let body = json!({"token": token, "password": password});
        self.post("/api/auth/reset", None, body).await
    }

    async fn update(&self, user: &Value, admin: &str, body: Value) -> Answer {
        let path = format!("/api/admin/users/{}", user.as_str().unwrap());
        self.send(request(Method::PATCH, &path, Some(admin), Some(body)))
            .await
    }
}

fn generous() -> Config {
    Config {
        logins_per_minute: 1_000.into(),
        ..Config::default()
    }
}

#[tokio::test]
async fn an_admin_makes_an_account_with_a_password_or_a_link_to_one() {
    let edge = Edge::new(generous());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let body = json!({"name": "anna", "password": PASSWORD, "role": "developer", "plan": "pro"});
    let made = edge.create(&admin, body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(
        (&made.body["role"], &made.body["plan"]),
        (&json!("developer"), &json!("pro"))
    );
    assert_eq!(made.body["reset_link"], Value::Null);
    assert_eq!(edge.login("anna", PASSWORD).await.status, 200);
    assert_eq!(edge.create(&admin, body).await.refused(), (409, "conflict"));

    let made = edge.create(&admin, json!({"name": "bert"})).await;
    let link = &made.body["reset_link"];
    let url = link["url"].as_str().unwrap();
    let expected = format!(
        "http://127.0.0.1:1/reset#token={}",
        link["token"].as_str().unwrap()
    );
    assert_eq!(url, expected);
    assert_eq!(
        edge.login("bert", OTHER).await.refused(),
        (401, "unauthenticated")
    );
    assert_eq!(edge.reset(&link["token"], OTHER).await.status, 204);
    assert_eq!(edge.login("bert", OTHER).await.status, 200);
}

#[tokio::test]
async fn accounts_that_cannot_be_are_refused_with_the_field_and_the_rule() {
    let edge = Edge::new(generous());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let (_, user) = edge.user("anna", Role::User).await;
    for (body, field) in [
        (json!({"name": "a b"}), "name"),
        (json!({"name": ""}), "name"),
        (json!({}), "name"),
        (json!({"name": "x", "role": "king"}), "role"),
        (json!({"name": "x", "plan": "gold"}), "plan"),
        (json!({"name": "x", "password": "short"}), "password"),
        (json!({"name": "x", "password": "password1234"}), "password"),
    ] {
        let refused = edge.create(&admin, body.clone()).await;
        assert_eq!(refused.refused(), (400, "invalid_request"), "{body}");
        assert_eq!(refused.body["error"]["details"]["field"], field, "{body}");
    }
    let common = json!({"name": "x", "password": "password1234"});
    let common = edge.create(&admin, common).await;
    assert_eq!(common.body["error"]["details"]["rule"], "common");
    let unknown = edge.create(&admin, json!({"name": "x", "id": "y"})).await;
    assert_eq!(unknown.refused(), (400, "unknown_field"));
    let stranger = edge
        .create(&user, json!({"name": "x", "role": "admin"}))
        .await;
    assert_eq!(stranger.refused(), (403, "forbidden"));
}

#[tokio::test]
async fn a_repeated_request_makes_one_account_and_tells_no_link_again() {
    let edge = Edge::new(generous());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let send = async |name: &str| {
        let body = Some(json!({"name": name}));
        let create = request(Method::POST, "/api/admin/users", Some(&admin), body);
        edge.send(with(create, "idempotency-key", "once")).await
    };
    let (first, again) = (send("anna").await, send("anna").await);
    assert_eq!(first.body["id"], again.body["id"]);
    assert!(first.body["reset_link"].is_object() && again.body["reset_link"].is_null());
    assert_eq!(
        send("bert").await.refused(),
        (409, "idempotency_key_reused")
    );
}

#[tokio::test]
async fn a_reset_ends_all_sessions_and_its_link_is_good_once() {
    let edge = Edge::new(generous());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let made = edge
        .create(&admin, json!({"name": "anna", "password": PASSWORD}))
        .await;
    let id = &made.body["id"];
    let signed_in = edge.login("anna", PASSWORD).await;
    let access = signed_in.body["access_token"].as_str().unwrap();
    assert_eq!(edge.get("/api/auth/me", access).await.status, 200);
    let first = edge.update(id, &admin, json!({"reset_link": true})).await;
    let second = edge.update(id, &admin, json!({"reset_link": true})).await;
    let (first, second) = (&first.body["reset_link"], &second.body["reset_link"]);
    let replaced = edge.reset(&first["token"], OTHER).await;
    assert_eq!(replaced.refused(), (401, "unauthenticated"));
    // A password that cannot be uses nothing up.
    let weak = edge.reset(&second["token"], "123456789012").await;
    assert_eq!(weak.refused(), (400, "invalid_request"));
    assert_eq!(edge.login("anna", PASSWORD).await.status, 200);
    assert_eq!(edge.reset(&second["token"], OTHER).await.status, 204);
    assert_eq!(
        edge.reset(&second["token"], OTHER).await.refused(),
        (401, "unauthenticated")
    );
    assert_eq!(
        edge.get("/api/auth/me", access).await.refused(),
        (401, "unauthenticated")
    );
    let refresh = json!({"refresh_token": signed_in.body["refresh_token"]});
    let refresh = edge.post("/api/auth/refresh", None, refresh).await;
    assert_eq!(refresh.refused(), (401, "unauthenticated"));
    assert_eq!(
        edge.login("anna", PASSWORD).await.refused(),
        (401, "unauthenticated")
    );
    assert_eq!(edge.login("anna", OTHER).await.status, 200);
    // Nobody is let in by a link who was disabled meanwhile.
    let link = edge
        .update(id, &admin, json!({"reset_link": true, "disabled": true}))
        .await;
    let refused = edge
        .reset(&link.body["reset_link"]["token"], PASSWORD)
        .await;
    assert_eq!(refused.refused(), (401, "unauthenticated"));
}

#[tokio::test]
async fn resets_are_counted_by_address() {
    let edge = Edge::new(Config::default());
    for _ in 0..Config::default().logins_per_minute.get() {
        let refused = edge.reset(&json!("guess"), OTHER).await;
        assert_eq!(refused.refused(), (401, "unauthenticated"));
    }
    let refused = edge.reset(&json!("guess"), OTHER).await;
    assert_eq!(refused.refused(), (429, "rate_limited"));
}

#[tokio::test]
async fn an_invitation_makes_one_account_with_what_it_promises() {
    let edge = Edge::new(Config {
        registration: Registration::Invite,
        ..generous()
    });
    let (_, admin) = edge.user("root", Role::Admin).await;
    let promised = json!({"role": "developer", "plan": "enterprise"});
    let invite = edge
        .post("/api/admin/invites", Some(&admin), promised)
        .await;
    assert_eq!(invite.status, 201, "{}", invite.body);
    let token = &invite.body["link"]["token"];
    let register = async |name: &str, invite: &Value| {
        let body = json!({"name": name, "password": PASSWORD, "invite": invite});
        edge.post("/api/auth/register", None, body).await
    };
    let without = json!({"name": "anna", "password": PASSWORD});
    let without = edge.post("/api/auth/register", None, without).await;
    assert_eq!(without.refused(), (403, "forbidden"));
    assert_eq!(
        register("anna", &json!("guess")).await.refused(),
        (403, "forbidden")
    );
    // A name that is taken leaves the invitation as it is.
    assert_eq!(register("root", token).await.refused(), (409, "conflict"));
    let made = register("anna", token).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.body["user"]["role"], "developer");
    assert_eq!(made.body["user"]["plan"], "enterprise");
    assert_eq!(register("bert", token).await.refused(), (403, "forbidden"));

    let list = async || edge.get("/api/admin/invites", &admin).await.body["items"].clone();
    assert_eq!(list().await, json!([]));
    let invite = edge
        .post("/api/admin/invites", Some(&admin), json!({}))
        .await;
    let listed = list().await;
    assert_eq!(
        (&listed[0]["id"], &listed[0]["link"]),
        (&invite.body["id"], &Value::Null)
    );
    let path = format!("/api/admin/invites/{}", invite.body["id"].as_str().unwrap());
    let delete = async || {
        edge.send(request(Method::DELETE, &path, Some(&admin), None))
            .await
    };
    assert_eq!(delete().await.status, 204);
    assert_eq!(delete().await.refused(), (404, "not_found"));
    let taken_back = register("bert", &invite.body["link"]["token"]).await;
    assert_eq!(taken_back.refused(), (403, "forbidden"));
    for bad in [
        json!({"expires_in_ms": 0}),
        json!({"expires_in_ms": 7_776_000_001_u64}),
    ] {
        let refused = edge.post("/api/admin/invites", Some(&admin), bad).await;
        assert_eq!(refused.refused(), (400, "invalid_request"));
    }
    let missing = format!("/api/admin/invites/{}", InviteId::from_parts(1, 1));
    let missing = edge
        .send(request(Method::DELETE, &missing, Some(&admin), None))
        .await;
    assert_eq!(missing.refused(), (404, "not_found"));
}

#[tokio::test]
async fn an_invitation_that_is_asked_for_again_is_the_same_one_and_its_link_is_told_once() {
    let edge = Edge::new(generous());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let ask = async |body: Value| {
        let asked = request(Method::POST, "/api/admin/invites", Some(&admin), Some(body));
        edge.send(with(asked, "idempotency-key", "k")).await
    };
    let made = ask(json!({"plan": "pro"})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let url = made.body["link"]["url"].as_str().unwrap();
    assert!(
        url.starts_with("http://127.0.0.1:1/register#invite="),
        "{url}"
    );
    let again = ask(json!({"plan": "pro"})).await;
    assert_eq!(
        (again.status, &again.body["id"]),
        (StatusCode::CREATED, &made.body["id"])
    );
    assert_eq!(again.body.get("link"), None);
    let other = ask(json!({"plan": "free"})).await;
    assert_eq!(other.refused(), (409, "idempotency_key_reused"));
    let all = edge.get("/api/admin/invites", &admin).await;
    assert_eq!(all.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn links_are_https_where_the_server_speaks_tls() {
    let edge = Edge::new(Config {
        tls: true,
        ..generous()
    });
    let (_, admin) = edge.user("root", Role::Admin).await;
    let made = edge.create(&admin, json!({"name": "bert"})).await;
    let url = made.body["reset_link"]["url"].as_str().unwrap();
    assert!(url.starts_with("https://127.0.0.1:1/reset#token="), "{url}");
}

#[tokio::test]
async fn an_invitation_past_its_time_and_closed_doors_let_nobody_in() {
    let edge = Edge::new(generous());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let invite = edge
        .post("/api/admin/invites", Some(&admin), json!({}))
        .await;
    let token = &invite.body["link"]["token"];
    let body = json!({"name": "anna", "password": PASSWORD, "invite": token});
    let closed = edge.post("/api/auth/register", None, body).await;
    assert_eq!(closed.refused(), (403, "forbidden"));
    let store = &edge.store;
    let past = netra_store::NewLink {
        hash: crate::auth::secret_hash("late"),
        expires_at: edge.runtime.now(),
    };
    let promised = (Role::User, Plan::Free);
    store
        .invite_create(&edge.operator(), promised, past, None)
        .await
        .unwrap();
    let looking_up =
        UserExecutionContext::for_background(&edge.runtime, BackgroundKind::Authentication);
    let hash = crate::auth::secret_hash("late");
    assert!(
        store
            .invite_by_hash(&looking_up, hash)
            .await
            .unwrap()
            .is_none()
    );
    let late = store.user_create_invited(&looking_up, hash, "late".into(), "x".into());
    assert!(matches!(late.await, Err(netra_store::Error::NotFound)));
}

#[tokio::test]
async fn limits_come_from_the_plan_and_from_the_user_and_hold_at_once() {
    let edge = Edge::new(generous());
    let (_, admin) = edge.user("root", Role::Admin).await;
    let (anna, token) = edge.user("anna", Role::User).await;
    let anna = json!(anna);
    let limits = async || {
        let me = edge.get("/api/auth/me", &token).await;
        let told = me.headers["ratelimit-limit"].to_str().unwrap().to_owned();
        (told, me.body["limits"]["steps"].clone())
    };
    let plans = async |body: Value| {
        let put = request(Method::PUT, "/api/admin/plans", Some(&admin), Some(body));
        edge.send(put).await
    };
    assert_eq!(limits().await, ("600".into(), json!(50)));
    let set = json!({"free": {"requests_per_minute": 70, "steps": 7}, "pro": {"steps": 9}});
    assert_eq!(plans(set).await.status, 200);
    assert_eq!(limits().await, ("70".into(), json!(7)));
    let own = edge
        .update(&anna, &admin, json!({"limits": {"steps": 8}}))
        .await;
    assert_eq!(own.body["limits"]["steps"], 8);
    assert_eq!(limits().await, ("70".into(), json!(8)));
    edge.update(&anna, &admin, json!({"plan": "pro"})).await;
    assert_eq!(limits().await, ("600".into(), json!(8)));
    edge.update(&anna, &admin, json!({"limits": {}})).await;
    assert_eq!(limits().await, ("600".into(), json!(9)));
    let shown = edge.get("/api/admin/plans", &admin).await;
    assert_eq!(
        shown.body["free"],
        json!({"requests_per_minute": 70, "steps": 7})
    );
    assert_eq!(shown.body["enterprise"], json!({}));
    assert_eq!(plans(json!({})).await.body["free"], json!({}));
    assert_eq!(limits().await, ("600".into(), json!(50)));

    for (bad, field) in [
        (json!({"free": {"steps": 0}}), "free.steps"),
        (json!({"pro": {"budget_usd": -1.0}}), "pro.budget_usd"),
        (json!({"pro": {"steps": "many"}}), "pro.steps"),
    ] {
        let refused = plans(bad).await;
        assert_eq!(refused.refused(), (400, "invalid_request"));
        assert_eq!(refused.body["error"]["details"]["field"], field);
    }
    for bad in [json!({"gold": {}}), json!({"free": {"step": 1}})] {
        assert_eq!(plans(bad).await.refused(), (400, "unknown_field"));
    }
    let refused = edge
        .update(&anna, &admin, json!({"limits": {"sockets": 0}}))
        .await;
    assert_eq!(refused.body["error"]["details"]["field"], "limits.sockets");
    let stranger = edge.get("/api/admin/plans", &token).await;
    assert_eq!(stranger.refused(), (403, "forbidden"));
}

#[tokio::test]
async fn an_admin_reads_everybodys_audit_by_user_and_by_action() {
    let edge = Edge::new(generous());
    let (root, admin) = edge.user("root", Role::Admin).await;
    let made = edge
        .create(&admin, json!({"name": "anna", "password": PASSWORD}))
        .await;
    edge.update(&made.body["id"], &admin, json!({"plan": "pro"}))
        .await;
    let read = async |query: &str| {
        let path = format!("/api/admin/audit?{query}");
        let page = edge.get(&path, &admin).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let items = page.body["items"].as_array().unwrap().iter();
        let of = items.map(|one| (one["user_id"].clone(), one["action"].clone()));
        (of.collect::<Vec<_>>(), page.body["next_cursor"].clone())
    };
    let own = |action: &str| (made.body["id"].clone(), json!(action));
    let user = made.body["id"].as_str().unwrap();
    let (of_anna, _) = read(&format!("user={user}")).await;
    assert_eq!(of_anna, [own("user.update"), own("user.create")]);
    let (created, _) = read("action=user.create").await;
    assert_eq!(created.len(), 2);
    assert!(created.contains(&(json!(root), json!("user.create"))));
    let (mut all, mut next) = read("limit=3").await;
    let (rest, end) = read(&format!("limit=3&cursor={}", next.take().as_str().unwrap())).await;
    all.extend(rest);
    assert_eq!((all.len(), end), (4, Value::Null));
    for bad in ["user=anna", "limit=0", "cursor=x"] {
        let refused = edge.get(&format!("/api/admin/audit?{bad}"), &admin).await;
        assert_eq!(refused.refused(), (400, "invalid_request"), "{bad}");
    }
}
