//! What `/health/dependencies` finds out about the store, the workers, the models and the tool servers.

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Method};
use netra_integration::{FakeModel, Options, Reply, TestServer, soon};
use netra_protocol::account::Role;
use serde_json::Value;

use crate::Test;
use crate::expect::with_model;

/// The answer, good or bad.
async fn asked(client: &Client) -> Result<(u16, Value)> {
    let request = client.request(Method::GET, "/health/dependencies");
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

fn status<'a>(body: &'a Value, name: &str) -> Result<&'a Value> {
    let all = body["dependencies"].as_array().context("a list")?;
    let found = all.iter().find(|one| one["name"] == name);
    Ok(&found.with_context(|| format!("no {name} in {body}"))?["status"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_server_finds_everything_sound() -> Test {
    let server = TestServer::start().await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let (code, body) = asked(&admin.client).await?;
    assert_eq!((code, &body["status"]), (200, &Value::from("ok")), "{body}");
    for name in ["store", "workers", "models"] {
        assert_eq!(status(&body, name)?, "ok", "{body}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_fails_and_a_tool_server_that_is_away_are_told() -> Test {
    let model = FakeModel::start(|_| Reply::Refuse(503, None)).await?;
    let options: Options = with_model(&model)
        .set("models.retries", 0)
        .set("mcp.servers.gone.command", "/no/such/program");
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    for _ in 0..5 {
        admin.run("assistant", "go").await?;
    }
    // A program is started beside the server, so that it is away may be known a moment later.
    let known = async {
        loop {
            let (code, body) = asked(&admin.client).await?;
            if status(&body, "tool_server gone")? == "failed" {
                return Ok::<_, anyhow::Error>((code, body));
            }
        }
    };
    let (code, body) = soon("a tool server that is away", known).await?;
    assert_eq!(code, 503, "{body}");
    assert_eq!(status(&body, "models")?, "failed", "{body}");
    assert_eq!(status(&body, "store")?, "ok", "{body}");
    ensure!(body.to_string().contains("fake/small"), "{body}");
    Ok(())
}
