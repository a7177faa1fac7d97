//! The servers in Python, for git and for the clock, by all their tools.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use netra_integration::TestUser;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Test;
use crate::mcp::real::installed::{Installed, open_folder};
use crate::mcp::real::world::{World, call, failure, text, tools_of};

const GIT: [&str; 16] = [
    "git__get_prompt",
    "git__git_add",
    "git__git_branch",
    "git__git_checkout",
    "git__git_commit",
    "git__git_create_branch",
    "git__git_diff",
    "git__git_diff_staged",
    "git__git_diff_unstaged",
    "git__git_log",
    "git__git_reset",
    "git__git_show",
    "git__git_status",
    "git__list_prompts",
    "git__list_resources",
    "git__read_resource",
];
const TIME: [&str; 6] = [
    "time__convert_time",
    "time__get_current_time",
    "time__get_prompt",
    "time__list_prompts",
    "time__list_resources",
    "time__read_resource",
];

/// These servers say that they have resources and prompts, and have none.
async fn has_neither(user: &TestUser, server: &str) -> Result<()> {
    for list in ["prompts", "resources"] {
        let listed = call(user, &format!("{server}__list_{list}"), json!({})).await?;
        assert_eq!(listed[list], json!([]));
    }
    for (tool, arguments) in [
        ("get_prompt", json!({"name": "none"})),
        ("read_resource", json!({"uri": "none://here"})),
    ] {
        let told = failure(user, &format!("{server}__{tool}"), arguments).await?;
        ensure!(told.starts_with("tool_failed: "), "{told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_gets_a_commit_and_a_branch() -> Test {
    let folder = open_folder()?;
    let repository = folder.path();
    // The sandbox may have a user of its own, who must be able to write.
    let mut made = Command::new("sh");
    made.args(["-c", "umask 0; git init -q -b main \"$0\""]);
    ensure!(
        made.arg(repository).status().await?.success(),
        "git init failed"
    );
    fs::write(repository.join("a.txt"), "one\n")?;
    let server = Installed::find()?.git(repository)?;
    let world = World::start(&[server], &GIT).await?;
    let shown = world.ready("git").await?;
    assert_eq!(tools_of(&shown), GIT);
    assert_eq!(shown.left_out, [""; 0]);
    let user = world.user("ada").await?;
    let step = async |tool: &str, more: Value, contains: &str| -> Result<()> {
        let mut arguments = json!({"repo_path": repository});
        let fields = arguments.as_object_mut().context("an object")?;
        fields.extend(more.as_object().cloned().unwrap_or_default());
        let result = call(&user, &format!("git__git_{tool}"), arguments).await?;
        ensure!(text(&result).contains(contains), "{tool}: {result}");
        Ok(())
    };
    step("status", json!({}), "No commits yet").await?;
    step("add", json!({"files": ["a.txt"]}), "staged successfully").await?;
    step("diff_staged", json!({}), "+one").await?;
    step(
        "commit",
        json!({"message": "first"}),
        "committed successfully",
    )
    .await?;
    step("log", json!({"max_count": 1}), "Message: first").await?;
    step("show", json!({"revision": "HEAD"}), "+one").await?;
    step(
        "create_branch",
        json!({"branch_name": "side"}),
        "Created branch 'side'",
    )
    .await?;
    step("branch", json!({"branch_type": "local"}), "side").await?;
    step(
        "checkout",
        json!({"branch_name": "side"}),
        "Switched to branch 'side'",
    )
    .await?;
    fs::write(repository.join("a.txt"), "two\n")?;
    step("diff_unstaged", json!({}), "-one\n+two").await?;
    step("diff", json!({"target": "main"}), "+two").await?;
    step("add", json!({"files": ["."]}), "staged successfully").await?;
    step("reset", json!({}), "reset").await?;
    let elsewhere = failure(&user, "git__git_status", json!({"repo_path": "/tmp"})).await?;
    ensure!(
        elsewhere.contains("outside the allowed repository"),
        "{elsewhere}"
    );
    has_neither(&user, "git").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_tells_the_time_of_other_places() -> Test {
    let world = World::start(&[Installed::find()?.time()?], &TIME).await?;
    let shown = world.ready("time").await?;
    assert_eq!(tools_of(&shown), TIME);
    assert_eq!(shown.left_out, [""; 0]);
    assert_eq!(shown.protocol.as_deref(), Some("2026-07-28"));
    let user = world.user("ada").await?;
    let now = json!({"timezone": "Asia/Tokyo"});
    let now = call(&user, "time__get_current_time", now).await?;
    assert_eq!(now["structured"]["timezone"], "Asia/Tokyo");
    ensure!(text(&now).contains("+09:00"), "{now}");
    let wanted = json!({
        "source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "Asia/Kolkata"
    });
    let converted = call(&user, "time__convert_time", wanted).await?;
    assert_eq!(converted["structured"]["time_difference"], "-3.5h");
    let nowhere = json!({"timezone": "Nowhere/X"});
    let nowhere = failure(&user, "time__get_current_time", nowhere).await?;
    ensure!(
        nowhere.starts_with("tool_failed: ") && nowhere.contains("Invalid timezone"),
        "{nowhere}"
    );
    has_neither(&user, "time").await
}
