//! What the many users do things with: a model that repeats what it is told, agents, and a server.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use netra_integration::{FakeModel, ProcessOptions, Reply, TestProcess, script};
use netra_tools::Policy;
use serde_json::json;

use super::super::world::unlimited;
use super::{ANSWER, MARK, canaries};

/// What everybody asks the agent `same` for, to the letter.
pub(super) const SAME: &str = "the same for all";

/// Says again what it was told, in pieces, or as the arguments of a tool.
pub(super) async fn parrot() -> Result<FakeModel> {
    // So that it is seen whose answer somebody is given.
    let answers = AtomicU32::new(0);
    FakeModel::start(move |body| {
        let text = body["messages"].to_string();
        if text.contains(SAME) {
            let number = answers.fetch_add(1, Ordering::Relaxed);
            return Reply::Text(vec![format!("{ANSWER}{number:08x}")]);
        }
        let word = canaries(&text).last().unwrap_or(MARK).to_owned();
        let (early, late) = word.split_at(4);
        let file = json!({"name": format!("{word}.txt"), "content": word});
        match text.matches("tool_call_id").count() {
            0 => Reply::ToolCall("save_file".into(), file),
            1 => Reply::ToolCall("log_inspect".into(), json!({"file": word})),
            _ => Reply::Text(vec![early.to_owned(), late.to_owned()]),
        }
    })
    .await
}

/// Agents that keep, show and fail with what they are told.
pub(super) fn agents() -> Result<tempfile::TempDir> {
    let agents = tempfile::tempdir()?;
    let keep = "think(input['text'])\nfile = save_file(name=input['text'], content=input['text'])\n\
                {'report_markdown': input['text'], 'file': file['name']}\n";
    script(agents.path(), "keeper", "tools = [\"save_file\"]\n", keep)?;
    script(
        agents.path(),
        "breaker",
        "",
        "think(input['text'])\n{}[input['text']]\n",
    )?;
    // Everybody's notes have a word of the query.
    let remember = "remember(name=input['text'], text=input['text'])\nfound = recall(query='canary')\n\
                    {'found': found, 'report_markdown': found['notes'][0]['text']}\n";
    let tools = "tools = [\"remember\", \"recall\"]\n";
    script(agents.path(), "rememberer", tools, remember)?;
    let ask = "file = save_file(name=input['text'], content=input['text'])\n\
               {'report_markdown': input['text'], 'file': file['name']}\n";
    script(agents.path(), "asker", "tools = [\"save_file\"]\n", ask)?;
    for (name, further) in [
        ("writer", "tools = [\"save_file\", \"log_inspect\"]\n"),
        ("same", "cache = \"1h\"\n"),
    ] {
        let folder = agents.path().join(name);
        std::fs::create_dir_all(&folder)?;
        let manifest = "description = \"x\"\nkind = \"model\"\ninstructions = \"i.md\"\n";
        std::fs::write(folder.join("agent.toml"), format!("{manifest}{further}"))?;
        std::fs::write(folder.join("i.md"), "Repeat.")?;
    }
    // A person is asked before `asker` saves anything.
    let policies = agents.path().join("policies");
    std::fs::create_dir(&policies)?;
    let asked = "forbid (principal, action == Netra::Action::\"call_unasked\", resource)\n\
                 when { context.agent == \"asker\" };";
    let text = format!("{}\n{asked}\n", Policy::shipped_text());
    std::fs::write(policies.join("all.cedar"), text)?;
    Ok(agents)
}

pub(super) async fn start(
    data: &std::path::Path,
    model: &FakeModel,
    agents: &std::path::Path,
) -> Result<TestProcess> {
    let options = unlimited()
        .set("models.providers.fake.base_url", model.url())
        .set("models.default", "fake/small")
        .set("metrics.token", "for the metrics")
        .set("agents.dir", agents.display())
        .set("policy.dir", agents.join("policies").display())
        .set("log.level", "debug");
    let options = ProcessOptions {
        environment: options.environment(),
        ..ProcessOptions::default()
    };
    TestProcess::start_with(data, options).await
}
