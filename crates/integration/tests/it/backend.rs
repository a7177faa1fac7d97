//! A back end that acts for its own users: the example of the documents, as people will run it, and what no end user
//! gets by it.

use anyhow::{Context as _, ensure};
use netra_client::Method;
use netra_integration::{TestServer, soon};
use netra_protocol::ErrorCode;
use netra_protocol::account::{CreateKey, Role, User};
use tokio::process::Command;

use crate::Test;
use crate::expect::refused;

const PAGE: &str = include_str!("../../../../docs/for-your-backend.md");

async fn service_token(server: &TestServer) -> anyhow::Result<String> {
    let shop = server.user_as(Role::Admin, None).await?;
    let key = CreateKey {
        name: "shop".into(),
        scopes: vec!["service".into()],
        expires_at: None,
    };
    let made = shop.client.key_create(&key).await?;
    made.secret.context("the secret is told once")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_the_documents_does_what_they_say() -> Test {
    let server = TestServer::start().await?;
    let token = service_token(&server).await?;
    let (_, code) = PAGE.split_once("```python\n").context("an example")?;
    let (code, _) = code.split_once("```").context("its end")?;
    let run = Command::new("python3")
        .arg("-c")
        .arg(code)
        .env("NETRA_URL", server.url())
        .env("NETRA_SERVICE_TOKEN", token)
        .output();
    let output = soon("the example's end", run).await;
    let output = output.context("python3 is needed: apt-get install python3")?;
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{said}{failed}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "user free customer-17");
    ensure!(lines.contains(&"event run_started"), "{said}");
    ensure!(lines.contains(&"event run_completed"), "{said}");
    ensure!(
        lines.contains(&"result completed How were my orders?"),
        "{said}"
    );
    ensure!(lines.contains(&"customer-18 404 not_found"), "{said}");
    assert_eq!(lines.last(), Some(&"customer-18 has 0 runs"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_users_outlive_the_server_and_no_end_user_is_an_admin() -> Test {
    let server = TestServer::start().await?;
    let token = service_token(&server).await?;
    let me = async |server: &TestServer| -> anyhow::Result<User> {
        let client = server.anonymous()?.with_token(&token);
        let request = client.request(Method::GET, "/api/auth/me");
        let answer = client.send(request.header("x-netra-user", "c-1")).await?;
        Ok(answer.json().await?)
    };
    let before = me(&server).await?;
    assert_eq!(before.role, Role::User);
    let client = server.anonymous()?.with_token(&token);
    for path in ["/api/admin/users", "/api/admin/audit", "/api/admin/plans"] {
        let request = client.request(Method::GET, path);
        let answer = client.send(request.header("x-netra-user", "c-1")).await;
        refused(answer.map(|_| ()), 403, ErrorCode::Forbidden)?;
    }
    let (data, _) = server.stop().await;
    let server = TestServer::start_on(data, netra_integration::Options::new()).await?;
    assert_eq!(me(&server).await?.id, before.id);
    Ok(())
}
