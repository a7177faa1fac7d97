//! Every list of the contract, page by page.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

/// The paths that are read in pages, from the contract, so that a new list cannot be forgotten.
fn lists(thread: &str) -> Vec<String> {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let paged = paths.filter(|(_, item)| {
        let parameters = item["get"]["parameters"].as_array();
        let mut parameters = parameters.into_iter().flatten();
        parameters.any(|parameter| parameter["name"] == "cursor")
    });
    paged
        .map(|(path, _)| path.replace("{id}", thread))
        .collect()
}

impl Edge {
    /// One more of most things: the thread, in which a run has ended.
    async fn one_more(&self, token: &str) -> String {
        self.key(token, &["read"]).await;
        let invite = self
            .post("/api/admin/invites", Some(token), json!({}))
            .await;
        let upload = request(Method::POST, "/api/files?name=a.txt", Some(token), None);
        let file = self.send(upload).await;
        let run = json!({"agent": "echo", "input": "x"});
        let run = self.post("/api/runs", Some(token), run).await;
        let made = [invite.status, file.status, run.status].map(|status| status.as_u16());
        assert_eq!(made, [201, 201, 202]);
        let run = self.ended(run.body["id"].as_str().unwrap(), token).await;
        run["thread_id"].as_str().unwrap().to_owned()
    }
}

/// An admin with at least two of most things, and a thread with messages.
async fn somebody(edge: &Edge, name: &str) -> (String, String) {
    let (_, token) = edge.user(name, Role::Admin).await;
    edge.one_more(&token).await;
    edge.asked(&token).await;
    edge.asked(&token).await;
    let thread = edge.one_more(&token).await;
    (token, thread)
}

#[tokio::test]
async fn every_list_takes_the_cursors_that_it_gave_this_user_and_no_others() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.requests_per_minute = 1_000_000);
    let (anna, thread) = somebody(&edge, "anna").await;
    let (bert, _) = somebody(&edge, "bert").await;
    let read = async |path: &str, cursor: Option<&str>, token: &str| {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}"));
        let path = format!("{path}?limit=1{}", cursor.unwrap_or_default());
        edge.get(&path, token).await
    };
    let mut given = BTreeMap::new();
    for path in lists(&thread) {
        let whole = edge.get(&format!("{path}?limit=100"), &anna).await.body;
        let whole = whole["items"].as_array().unwrap();
        let (mut found, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = read(&path, cursor.as_deref(), &anna).await;
            assert_eq!(page.status, 200, "{path} {}", page.body);
            found.extend(page.body["items"].as_array().unwrap().clone());
            cursor = page.body["next_cursor"].as_str().map(str::to_owned);
            let Some(cursor) = &cursor else { break };
            if given.insert(path.clone(), cursor.clone()).is_none() {
                // What comes in between moves nothing of what was there, and is at one end, if anywhere.
                edge.one_more(&anna).await;
            }
        }
        found.retain(|item| whole.contains(item));
        assert_eq!(&found, whole, "{path}");
    }
    assert!(given.len() >= 10, "{:?}", given.keys());
    let (zeros, id) = ("0".repeat(32), edge.runtime.new_id(UserId::from_parts));
    let made_up = ["x", "echo", "", "%00", "ntr", &zeros, &id.to_string()].map(str::to_owned);
    for path in lists(&thread) {
        let own = given.get(&path);
        let of_others = given.values().filter(|cursor| Some(*cursor) != own);
        for cursor in made_up.iter().chain(of_others) {
            let refused = read(&path, Some(cursor), &anna).await;
            assert_eq!(
                refused.refused(),
                (400, "invalid_request"),
                "{path} {cursor}"
            );
            let told = json!({"field": "cursor", "rule": "cursor"});
            assert_eq!(refused.body["error"]["details"], told, "{path} {cursor}");
        }
        let Some(own) = own else { continue };
        let refused = read(&path, Some(own), &bert).await;
        let is_annas = path.contains(&thread);
        let expected = if is_annas { 404 } else { 400 };
        assert_eq!(refused.status, expected, "{path}");
    }
}
