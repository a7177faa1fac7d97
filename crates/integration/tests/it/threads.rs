//! Conversations: their life, search, messages, forks.

use anyhow::{Context as _, ensure};
use netra_client::Method;
use netra_integration::{TestServer, start, text_of};
use netra_protocol::ErrorCode;
use netra_protocol::message::MessageRole;
use netra_protocol::thread::{CreateThread, ForkThread, UpdateThread};
use serde_json::json;

use crate::Test;
use crate::expect::{hanging_model, refused};

fn titled(title: &str) -> CreateThread {
    CreateThread {
        title: Some(title.into()),
        metadata: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_made_changed_found_and_deleted() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let thread = user
        .client
        .thread_create(&titled("Cost of last week"))
        .await?;
    user.client.thread_create(&titled("Something else")).await?;

    let metadata = json!({"colour": "blue"}).as_object().cloned();
    let update = UpdateThread {
        title: None,
        metadata,
    };
    let changed = user.client.thread_update(thread.id, &update).await?;
    assert_eq!(changed.title, "Cost of last week");
    assert_eq!(changed.metadata["colour"], "blue");

    let found = user.client.threads(Some("last week"), None, None).await?;
    assert_eq!(
        found
            .items
            .iter()
            .map(|thread| thread.id)
            .collect::<Vec<_>>(),
        [thread.id]
    );
    assert_eq!(user.client.threads(None, None, None).await?.items.len(), 2);

    user.client.thread_delete(thread.id).await?;
    refused(
        user.client.thread(thread.id).await,
        404,
        ErrorCode::NotFound,
    )?;
    refused(
        user.client.thread_delete(thread.id).await,
        404,
        ErrorCode::NotFound,
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_every_thread_once() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(
            user.client
                .thread_create(&titled(&format!("thread {number}")))
                .await?
                .id,
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = user
            .client
            .threads(None, Some(3), cursor.as_deref())
            .await?;
        ensure!(page.items.len() <= 3);
        seen.extend(page.items.into_iter().map(|thread| thread.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    made.reverse();
    assert_eq!(seen, made, "newest first");
    for query in ["limit=0", "limit=101", "limit=x", "cursor=nonsense"] {
        let request = user
            .client
            .request(Method::GET, &format!("/api/threads?{query}"));
        refused(
            user.client.send(request).await,
            400,
            ErrorCode::InvalidRequest,
        )
        .context(query)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_stand_in_order_and_a_fork_takes_them_along() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let first = user.run("echo", "one").await?;
    let second = user
        .client
        .run_start(Some(first.thread_id), &start("echo", "two"), None)
        .await?;
    user.client.run_end(second.id).await?;

    let page = user.client.messages(first.thread_id, None, None).await?;
    let said: Vec<_> = page
        .items
        .iter()
        .map(|message| (message.role, text_of(message)))
        .collect();
    assert_eq!(
        said,
        [
            (MessageRole::User, "one".to_owned()),
            (MessageRole::Assistant, "one".to_owned()),
            (MessageRole::User, "two".to_owned()),
            (MessageRole::Assistant, "two".to_owned()),
        ]
    );
    ensure!(page.items.iter().all(|message| message.complete));
    ensure!(
        page.as_of.is_some(),
        "the first page says where the log stands"
    );

    let fork = ForkThread {
        after_message_id: Some(page.items[1].id),
    };
    let forked = user.client.thread_fork(first.thread_id, &fork).await?;
    assert_ne!(forked.id, first.thread_id);
    let copied = user.client.messages(forked.id, None, None).await?;
    assert_eq!(
        copied.items.iter().map(text_of).collect::<Vec<_>>(),
        ["one", "one"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_with_an_active_run_is_not_deleted() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let run = user.start("assistant", "hello").await?;
    model.until_open(1).await?;
    refused(
        user.client.thread_delete(run.thread_id).await,
        409,
        ErrorCode::ThreadBusy,
    )?;
    assert_eq!(
        user.client.thread(run.thread_id).await?.active_run_id,
        Some(run.id)
    );
    user.client.run_cancel(run.id).await?;
    user.client.run_end(run.id).await?;
    user.client.thread_delete(run.thread_id).await?;
    refused(user.client.run(run.id).await, 404, ErrorCode::NotFound)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_fields_and_wrong_types_are_refused() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let post = |body: &'static str| {
        let request = user.client.request(Method::POST, "/api/threads");
        user.client.send(
            request
                .header("content-type", "application/json")
                .body(body),
        )
    };
    refused(
        post(r#"{"titel": "x"}"#).await,
        400,
        ErrorCode::UnknownField,
    )?;
    refused(
        post(r#"{"title": 7}"#).await,
        400,
        ErrorCode::InvalidRequest,
    )?;
    refused(post(r#"{"title": "#).await, 400, ErrorCode::InvalidRequest)?;
    let request = user
        .client
        .request(Method::POST, "/api/threads")
        .body("title=x");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    refused(
        user.client.send(request).await,
        415,
        ErrorCode::UnsupportedMediaType,
    )?;
    Ok(())
}
