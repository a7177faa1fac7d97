//! The same key starts one run.

use netra_client::Method;
use netra_integration::{TestServer, start};
use netra_protocol::ErrorCode;
use netra_protocol::frame::RunStart;

use crate::Test;
use crate::expect::refused;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_and_body_give_the_same_run() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let other = server.user().await?;
    let hello = start("echo", "hello");
    let first = user.client.run_start(None, &hello, Some("key-1")).await?;
    let again = user.client.run_start(None, &hello, Some("key-1")).await?;
    assert_eq!(first.id, again.id);
    user.client.run_end(first.id).await?;
    let later = user.client.run_start(None, &hello, Some("key-1")).await?;
    assert_eq!(first.id, later.id, "after its end too");

    let changed = user
        .client
        .run_start(None, &start("echo", "other"), Some("key-1"))
        .await;
    refused(changed, 409, ErrorCode::IdempotencyKeyReused)?;
    let foreign = other.client.run_start(None, &hello, Some("key-1")).await?;
    assert_ne!(foreign.id, first.id, "keys belong to users");
    assert_eq!(user.client.runs(None, None).await?.items.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_at_the_same_time_gives_one_run() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let hello = start("echo", "hello");
    let starts = (0..8).map(|_| user.client.run_start(None, &hello, Some("race")));
    let runs = futures::future::try_join_all(starts).await?;
    assert!(runs.iter().all(|run| run.id == runs[0].id));
    assert_eq!(user.client.runs(None, None).await?.items.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_knows_the_key_too() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let frame = |text: &str| RunStart {
        thread_id: None,
        idempotency_key: Some("key".into()),
        start: start("echo", text),
    };
    let first = socket.run_start(frame("hello")).await?;
    assert_eq!(socket.run_start(frame("hello")).await?.run_id, first.run_id);
    refused(
        socket.run_start(frame("other")).await,
        0,
        ErrorCode::IdempotencyKeyReused,
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_and_threads_are_made_once_too() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    for _ in 0..2 {
        let request = user
            .client
            .request(Method::POST, "/api/threads")
            .header("idempotency-key", "t");
        user.client
            .send(request.json(&serde_json::json!({"title": "once"})))
            .await?;
        let request = user.client.request(Method::POST, "/api/files?name=a.txt");
        user.client
            .send(request.header("idempotency-key", "f").body("content"))
            .await?;
    }
    assert_eq!(user.client.threads(None, None, None).await?.items.len(), 1);
    assert_eq!(user.client.files(None, None).await?.items.len(), 1);
    Ok(())
}
