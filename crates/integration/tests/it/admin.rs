//! Disabling a user from end to end, by an admin and beside a running server.

use anyhow::{Context as _, ensure};
use netra::accounts::Accounts;
use netra_client::{Error, Method};
use netra_integration::{Options, TestServer, TestUser, soon};
use netra_protocol::ErrorCode;
use netra_protocol::Page;
use netra_protocol::account::Role;
use netra_protocol::admin::AdminRun;
use netra_protocol::id::UserId;
use netra_protocol::run::RunStatus;
use netra_protocol::tool::Tool;
use serde_json::json;

use crate::Test;
use crate::expect::{hanging_model, names, refused, until_end};

pub(crate) async fn disable(by: &TestUser, user: UserId) -> Result<(), Error> {
    let path = format!("/api/admin/users/{user}");
    let request = by.client.request(Method::PATCH, &path);
    let request = request.json(&json!({ "disabled": true }));
    by.client.send(request).await.map(|_| ())
}

async fn runs(admin: &TestUser, query: &str) -> anyhow::Result<Vec<AdminRun>> {
    let path = format!("/api/admin/runs?{query}");
    let request = admin.client.request(Method::GET, &path);
    let answer = admin.client.send(request).await?;
    Ok(answer.json::<Page<AdminRun>>().await?.items)
}

/// Asks until none of the user's runs goes on; each question waits for an answer.
async fn until_ended(admin: &TestUser, user: UserId) -> anyhow::Result<Vec<AdminRun>> {
    loop {
        let all = runs(admin, &format!("user={user}")).await?;
        if all.iter().all(|run| run.status.is_terminal()) {
            return Ok(all);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_users_runs_and_sockets_end_and_others_go_on() -> Test {
    let (model, options) = hanging_model().await?;
    let options = options
        .set("limits.concurrent_runs", 1)
        // The ends are asked for again and again.
        .set("limits.requests_per_minute", 1_000_000);
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let (user, other) = (server.user().await?, server.user().await?);
    let mut socket = user.socket().await?;
    user.start("assistant", "one").await?;
    user.start("assistant", "two").await?;
    let others = other.start("assistant", "three").await?;
    model.until_open(2).await?;
    refused(disable(&user, other.id).await, 403, ErrorCode::Forbidden)?;
    disable(&admin, user.id).await?;
    let error = loop {
        match soon("the socket's end", socket.next_event()).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    ensure!(
        matches!(error, Error::Closed { code: 4001, .. }),
        "{error:?}"
    );
    refused(user.client.me().await, 401, ErrorCode::Unauthenticated)?;
    let ended = soon("the ends of the runs", until_ended(&admin, user.id)).await?;
    assert_eq!(ended.len(), 2);
    for run in ended {
        assert_eq!(run.status, RunStatus::Cancelled);
    }
    let running = runs(&admin, "status=running").await?;
    assert_eq!(running.len(), 1);
    assert_eq!((running[0].id, running[0].user_id), (others.id, other.id));

    let path = format!("/api/admin/runs/{}/cancel", others.id);
    let cancel = admin.client.request(Method::POST, &path);
    admin.client.send(cancel).await?;
    assert_eq!(
        other.client.run_end(others.id).await?.status,
        RunStatus::Cancelled
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whom_the_command_line_disables_has_no_run_left() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("assistant", "one").await?;
    model.until_open(1).await?;
    let beside = Accounts::open(server.config()).map_err(|problem| problem.error)?;
    let disabled = beside.set_disabled(&user.name, true).await;
    ensure!(disabled.map_err(|problem| problem.error)?.disabled);
    let events = until_end(&mut socket, run.id).await?;
    assert_eq!(names(&events).last(), Some(&"run_cancelled"));
    // The server has not looked at its account again; the store refuses the run all the same.
    ensure!(user.start("echo", "x").await.is_err(), "nothing begins");
    let last = beside.set_disabled(&admin.name, true).await;
    ensure!(last.is_err(), "the last admin stays");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_puts_users_into_groups_that_policies_ask_for() -> Test {
    let policies = tempfile::tempdir()?;
    let rule = "permit (principal in Netra::Group::\"ops\", action, resource == Netra::Tool::\"time_now\");";
    std::fs::write(policies.path().join("ops.cedar"), rule)?;
    let options = Options::new().set("policy.dir", policies.path().display());
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let user = server.user().await?;
    let put = async |groups: serde_json::Value| {
        let path = format!("/api/admin/users/{}", user.id);
        let request = admin.client.request(Method::PATCH, &path);
        admin
            .client
            .send(request.json(&json!({ "groups": groups })))
            .await
    };
    let allowed = async || -> anyhow::Result<bool> {
        let request = user.client.request(Method::GET, "/api/tools?limit=100");
        let tools: Page<Tool> = user.client.send(request).await?.json().await?;
        let clock = tools.items.into_iter().find(|tool| tool.name == "time_now");
        Ok(clock.context("no time_now")?.allowed)
    };
    ensure!(!allowed().await?);
    put(json!(["ops", "finance"])).await?;
    assert_eq!(user.client.me().await?.groups, ["ops", "finance"]);
    ensure!(allowed().await?);
    for bad in [json!(["a b"]), json!([""]), json!(vec!["x"; 33])] {
        refused(put(bad).await, 400, ErrorCode::InvalidRequest)?;
    }
    put(json!([])).await?;
    ensure!(!allowed().await?);
    Ok(())
}
