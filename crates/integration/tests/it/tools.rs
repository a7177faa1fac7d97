//! The built-in tools as an agent of a user calls them.

use anyhow::{Context as _, Result, ensure};
use netra_client::Upload;
use netra_integration::{Options, TestServer, TestUser, start_with_files};
use netra_protocol::ErrorCode;
use netra_protocol::account::{Plan, Role};
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use serde_json::{Value, json};

use crate::Test;
use netra_integration::script;

/// Fetches what it is told to, and gives what came of it.
const FETCHER: &str = "try:
    said = http_fetch(url=input['text'])
except RuntimeError as error:
    said = {'refused': str(error)}
said
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_fetches_what_is_opened_and_nothing_else_of_this_machine() -> Test {
    // Another server is the site, because a loopback address is all that a test may rely on.
    let site = TestServer::start().await?;
    let opened = site.url().strip_prefix("http://").context("no host")?;
    let agents = tempfile::tempdir()?;
    let tools = "tools = [\"http_fetch\"]\n";
    script(agents.path(), "fetcher", tools, FETCHER)?;
    let options = Options::new()
        .agents(agents.path())
        .set("tools.fetch.allow", opened);
    let server = TestServer::start_with(options).await?;
    let user = server.user_on(Role::User, Plan::Pro, None).await?;

    let page = format!("{}/health/live", site.url());
    let fetched = result(&user, "fetcher", &page).await?;
    assert_eq!(fetched["status"], 200, "{fetched}");
    assert_eq!(fetched["url"], page);
    assert_eq!(fetched["json"]["status"], "live");

    let own_port = server.url().rsplit(':').next().unwrap_or_default();
    for (url, words) in [
        (format!("http://127.0.0.1:{own_port}/"), "only the ports"),
        ("http://127.0.0.1/".into(), "no public address"),
        ("http://2130706433/".into(), "no public address"),
        ("http://[::ffff:7f00:1]/".into(), "no public address"),
        (
            "http://169.254.169.254/latest/meta-data/".into(),
            "no public address",
        ),
        ("http://localhost/".into(), "not public"),
    ] {
        let fetched = result(&user, "fetcher", &url).await?;
        let refused = fetched["refused"].as_str().unwrap_or_default();
        ensure!(
            refused.starts_with("tool_failed: ") && refused.contains(words),
            "{url}: {fetched}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_the_permission_is_refused_by_the_policy() -> Test {
    let agents = tempfile::tempdir()?;
    let tools = "tools = [\"http_fetch\"]\n";
    script(agents.path(), "fetcher", tools, FETCHER)?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("fetcher", "http://127.0.0.1/").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.unwrap_or_default();
    assert_eq!(
        result,
        json!({"refused": format!("{}: the permission \"web\" needs the plan pro or enterprise", ErrorCode::ToolDenied)})
    );
    let events = user.events(run.id).await?;
    let layer = events.iter().find_map(|one| match &one.event.event.kind {
        EventKind::ToolDenied { layer, .. } => Some(layer.as_str()),
        _ => None,
    });
    assert_eq!(layer, Some("policy"));
    let shown = user.client.tools().await?;
    let fetch = shown.items.iter().find(|tool| tool.name == "http_fetch");
    ensure!(fetch.is_some_and(|tool| !tool.allowed), "{fetch:?}");
    Ok(())
}

/// The result of a run of this agent, without the name of the call that gave it.
async fn result(user: &TestUser, agent: &str, text: &str) -> Result<Value> {
    let run = user.run(agent, text).await?;
    let mut result = run.result.with_context(|| format!("{:?}", run.error))?;
    if let Some(fields) = result.as_object_mut() {
        fields.remove("_call");
    }
    Ok(result)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_run_remembers_a_later_one_of_the_same_user_recalls() -> Test {
    let agents = tempfile::tempdir()?;
    for (name, tool, code) in [
        (
            "keeper",
            "remember",
            "remember(name='colour', text=input['text'])\n",
        ),
        ("finder", "recall", "recall(query=input['text'])\n"),
        ("eraser", "forget", "forget(name=input['text'])\n"),
    ] {
        script(
            agents.path(),
            name,
            &format!("tools = [\"{tool}\"]\n"),
            code,
        )?;
    }
    let options = Options::new().agents(agents.path());
    let server = TestServer::start_with(options).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let kept = result(&ada, "keeper", "Her favourite colour is blue.").await?;
    assert_eq!(kept["text"], "Her favourite colour is blue.");
    let found = result(&ada, "finder", "favourite").await?;
    assert_eq!((&found["total"], &found["notes"][0]), (&json!(1), &kept));
    let nothing = json!({"notes": [], "total": 0});
    assert_eq!(result(&bob, "finder", "favourite").await?, nothing);
    assert_eq!(
        result(&bob, "eraser", "colour").await?,
        json!({"forgotten": null})
    );
    let erased = result(&ada, "eraser", "Colour").await?;
    assert_eq!(erased["forgotten"], kept);
    assert_eq!(result(&ada, "finder", "favourite").await?, nothing);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reads_its_users_files_in_parts_and_nobody_elses() -> Test {
    let agents = tempfile::tempdir()?;
    let code = "text = ''
offset = 0
while offset is not None:
    part = read_file(file=input['text'], offset=offset, max_bytes=7)
    text += part['text']
    offset = part['next_offset']
{'text': text, 'names': [file['name'] for file in list_files()['files']]}
";
    let tools = "tools = [\"list_files\", \"read_file\"]\n";
    script(agents.path(), "reader", tools, code)?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let old = ada.client.file_upload("a.txt", Upload::Bytes("old".into()));
    let old = old.await?;
    let long = "Grüße aus Zürich, 😀!";
    for (name, content) in [("a.txt", long.as_bytes()), ("b.png", b"\x89PNG\0")] {
        let content = Upload::Bytes(content.to_vec().into());
        ada.client.file_upload(name, content).await?;
    }
    let names = json!(["b.png", "a.txt", "a.txt"]);
    let newest = result(&ada, "reader", "a.txt").await?;
    assert_eq!(newest, json!({"text": long, "names": names}));
    let by_id = result(&ada, "reader", &old.id.to_string()).await?;
    assert_eq!(by_id["text"], "old");
    // What the user gave to the run comes before what is newer.
    let given = start_with_files("reader", "a.txt", vec![old.id]);
    let given = ada.client.run_start(None, &given, None).await?;
    let given = ada.client.run_end(given.id).await?.result;
    assert_eq!(given.unwrap_or_default()["text"], "old");
    for (user, file, words) in [
        (&ada, "b.png", "no text in UTF-8"),
        (&ada, "c.txt", "there is no file"),
        (&ada, "../keys", "there is no file"),
        (&bob, "a.txt", "there is no file"),
        (&bob, &old.id.to_string(), "there is no file"),
    ] {
        let run = user.run("reader", file).await?;
        let error = run.error.context("it cannot be read")?;
        ensure!(error.message.contains(words), "{file}: {error:?}");
    }
    Ok(())
}
