//! Requests: what is repeated, with which key, and with which token.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::script::{Script, error};
use crate::credentials::locked;
use crate::{Access, Backoff, Client, Error, Method, Upload};

fn patient(client: &Client) -> Client {
    let moment = Duration::from_millis(2);
    client.with_backoff(Backoff::new(moment, moment, 20 * moment))
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_is_repeated_with_the_same_key() {
    let script = Script::start().await;
    let client = patient(&script.client(Some("t")));
    let body = json!({"agent": "echo"});
    let starting = client.create::<Value>("/api/runs", Some(&body), None);
    let serving = async {
        let first = script.asked().await;
        let (key, body) = (first.headers["idempotency-key"].clone(), first.body.clone());
        drop(first);
        let away = script.asked().await;
        assert_eq!(away.headers["idempotency-key"], key);
        let draining = json!({"error": error("draining", &Value::Null)});
        away.answer("503 Service Unavailable", &draining).await;
        let last = script.asked().await;
        assert_eq!(
            (&last.headers["idempotency-key"], &last.body),
            (&key, &body)
        );
        last.answer("202 Accepted", &json!({"id": "one"})).await;
        key
    };
    let (run, key) = join(starting, serving).await;
    assert_eq!(run.unwrap(), json!({"id": "one"}));
    assert_eq!(key.len(), 32);

    let starting = client.create::<Value>("/api/runs", Some(&body), Some("mine"));
    let serving = async {
        let asked = script.asked().await;
        let told = asked.headers["idempotency-key"].clone();
        asked.answer("202 Accepted", &json!({})).await;
        told
    };
    assert_eq!(join(starting, serving).await.1, "mine");
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_the_middle_is_asked_for_again_with_the_same_key() {
    let script = Script::start().await;
    let client = patient(&script.client(Some("t")));
    let serving = async {
        let first = script.asked().await;
        let key = first.headers["idempotency-key"].clone();
        first.cut("202 Accepted").await;
        let second = script.asked().await;
        assert_eq!(second.headers["idempotency-key"], key);
        second.answer("202 Accepted", &json!({"id": "one"})).await;
        script.asked().await.cut("200 OK").await;
        script.asked().await.answer("200 OK", &json!(7)).await;
    };
    let asking = async {
        let run = client.create::<Value>("/api/runs", None::<&()>, None).await;
        (run.unwrap(), client.get::<u32>("/api/x").await.unwrap())
    };
    let (answers, ()) = join(asking, serving).await;
    assert_eq!(answers, (json!({"id": "one"}), 7));
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_not_sent_twice_when_its_answer_breaks_off() {
    let script = Script::start().await;
    let client = patient(&script.client(Some("t")));
    let serving = async { script.asked().await.cut("200 OK").await };
    let (answer, ()) = join(client.login("ada", "secret"), serving).await;
    assert!(matches!(answer, Err(Error::Unreachable(_))), "{answer:?}");
}

#[tokio::test]
async fn a_file_whose_answer_is_lost_is_stored_once() {
    let script = Script::start().await;
    let client = patient(&script.client(Some("t")));
    let note = std::env::temp_dir().join(format!("netra-client-{}.txt", std::process::id()));
    std::fs::write(&note, "a note").unwrap();
    for upload in [Upload::Bytes("a note".into()), Upload::Path(&note)] {
        let serving = async {
            let first = script.asked().await;
            assert_eq!(first.body, "a note");
            let key = first.headers["idempotency-key"].clone();
            first.cut("201 Created").await;
            let second = script.asked().await;
            assert_eq!(
                (&second.headers["idempotency-key"], &*second.body),
                (&key, "a note")
            );
            let file = json!({
                "id": "fil_00000000000000000000000001", "name": "note.txt",
                "media_type": "text/plain", "bytes": 6, "sha256": "00",
                "created_at": "2026-11-22T18:00:00.000000Z",
            });
            second.answer("201 Created", &file).await;
        };
        let (file, ()) = join(client.file_upload("note.txt", upload), serving).await;
        assert_eq!(file.unwrap().bytes, 6);
    }
    std::fs::remove_file(note).unwrap();
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_patience_ends() {
    let script = Script::start().await;
    let client = patient(&script.client(None));
    let starting = client.create::<Value>("/api/runs", None::<&()>, None);
    let serving = async {
        let full = json!({"error": error("queue_full", &Value::Null)});
        script
            .asked()
            .await
            .answer("429 Too Many Requests", &full)
            .await;
    };
    let (refused, ()) = join(starting, serving).await;
    assert_eq!(refused.unwrap_err().status(), Some(429));

    drop(script);
    let away = client.create::<Value>("/api/runs", None::<&()>, None).await;
    assert!(matches!(away, Err(Error::Unreachable(_))), "{away:?}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_and_the_request_sent_again() {
    let script = Script::start().await;
    let source = || async { Ok(Access::new("second")) };
    let client = script
        .client(None)
        .with_source(source, Some(Access::new("first")));
    let serving = async {
        let first = script.asked().await;
        assert_eq!(first.token(), Some("first"));
        let expired = json!({"error": error("token_expired", &Value::Null)});
        first.answer("401 Unauthorized", &expired).await;
        let second = script.asked().await;
        assert_eq!(second.token(), Some("second"));
        second.answer("200 OK", &json!(7)).await;
    };
    let (answer, ()) = join(client.get::<u32>("/api/x"), serving).await;
    assert_eq!(answer.unwrap(), 7);
    assert_eq!(client.token().as_deref(), Some("second"));
}

fn tokens(number: u32) -> Value {
    json!({
        "access_token": format!("access {number}"), "refresh_token": format!("refresh {number}"),
        "expires_in_ms": 900_000,
        "user": {
            "id": "usr_00000000000000000000000001", "name": "ada", "role": "user", "plan": "free",
            "disabled": false, "created_at": "2026-11-22T18:00:00.000000Z",
            "limits": netra_protocol::limits::Limits::default(),
        },
    })
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_the_next_one_is_told() {
    let script = Script::start().await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let client = script
        .client(None)
        .with_refresh_token("refresh 0", move |tokens| {
            locked(&keep).push(tokens.refresh_token.clone());
        });
    let expired = json!({"error": error("token_expired", &Value::Null)});
    let serving = async {
        for number in 1..=2_u32 {
            let renewal = script.asked().await;
            assert!(
                renewal.line.starts_with("POST /api/auth/refresh"),
                "{}",
                renewal.line
            );
            assert_eq!(renewal.token(), None);
            let used = json!({"refresh_token": format!("refresh {}", number - 1)});
            assert_eq!(serde_json::from_str::<Value>(&renewal.body).unwrap(), used);
            renewal.answer("200 OK", &tokens(number)).await;
            let asked = script.asked().await;
            assert_eq!(asked.token(), Some(&*format!("access {number}")));
            match number {
                1 => asked.answer("401 Unauthorized", &expired).await,
                _ => asked.answer("200 OK", &json!(1)).await,
            }
        }
    };
    let (answer, ()) = join(client.get::<u32>("/api/x"), serving).await;
    assert_eq!(answer.unwrap(), 1);
    assert_eq!(*locked(&kept), ["refresh 1", "refresh 2"]);

    let serving = async {
        script
            .asked()
            .await
            .answer("401 Unauthorized", &expired)
            .await;
        let revoked = json!({"error": error("unauthenticated", &Value::Null)});
        script
            .asked()
            .await
            .answer("401 Unauthorized", &revoked)
            .await;
    };
    let request = client.request(Method::GET, "/api/x");
    let (ended, ()) = join(client.send(request), serving).await;
    let ended = ended.unwrap_err();
    assert!(
        matches!(ended, Error::Renewal(_)) && !ended.is_passing(),
        "{ended:?}"
    );
    assert_eq!(ended.status(), Some(401));
}

fn run(status: &str) -> Value {
    json!({
        "id": "run_00000000000000000000000001", "thread_id": "thr_00000000000000000000000001",
        "agent": "echo", "status": status, "attempt": 1,
        "created_at": "2026-11-22T18:00:00.000000Z",
        "usage": netra_protocol::usage::RunUsage::default(), "metadata": {},
    })
}

#[tokio::test]
async fn a_server_that_drains_is_not_asked_for_the_end_of_a_run_in_a_tight_loop() {
    let script = Script::start().await;
    let client = patient(&script.client(Some("t")));
    let serving = async {
        let asked = script.asked().await;
        asked.answer("202 Accepted", &run("running")).await;
        let answered = Instant::now();
        let again = script.asked().await;
        let pause = answered.elapsed();
        again.answer("200 OK", &run("completed")).await;
        pause
    };
    let id = "run_00000000000000000000000001".parse().unwrap();
    let (ended, pause) = join(client.run_end(id), serving).await;
    assert!(ended.unwrap().status.is_terminal());
    assert!(pause >= Duration::from_millis(900), "{pause:?}");
}
