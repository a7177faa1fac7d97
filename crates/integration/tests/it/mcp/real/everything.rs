//! The reference server with every kind of tool, resource and prompt, over both transports.

use anyhow::{Context as _, Result, bail, ensure};
use netra_integration::{CALLER, TestUser, calls};
use netra_protocol::event::EventKind;
use netra_protocol::id::FileId;
use netra_protocol::tool::{ToolServer, ToolServerTransport};
use serde_json::{Value, json};

use crate::Test;
use crate::mcp::real::installed::Installed;
use crate::mcp::real::world::{World, call, failure, said, text, tools_of};

/// All that it offers to a client that gives it nothing: no folders, no model, no questions to the user.
pub(crate) const TOOLS: [&str; 17] = [
    "everything__echo",
    "everything__get_annotated_message",
    "everything__get_env",
    "everything__get_prompt",
    "everything__get_resource_links",
    "everything__get_resource_reference",
    "everything__get_structured_content",
    "everything__get_sum",
    "everything__get_tiny_image",
    "everything__gzip_file_as_resource",
    "everything__list_prompts",
    "everything__list_resources",
    "everything__read_resource",
    "everything__simulate_research_query",
    "everything__toggle_simulated_logging",
    "everything__toggle_subscriber_updates",
    "everything__trigger_long_running_operation",
];
/// What such files begin with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const GZIP: &[u8] = b"\x1f\x8b";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_over_standard_input_and_output() -> Test {
    let server = Installed::find()?.everything()?;
    let server = server.with("env", json!({"GREETING": "hello"}));
    let world = World::start(&[server], &TOOLS).await?;
    let shown = world.ready("everything").await?;
    assert_eq!(shown.transport, ToolServerTransport::Stdio);
    offers_all(&shown)?;
    let user = world.user("ada").await?;
    call_each(&user).await?;
    // Its environment is what the configuration says, and none of the server's own.
    let environment = call(&user, "everything__get_env", json!({})).await?;
    let environment: Value = serde_json::from_str(text(&environment))?;
    let names = environment.as_object().context("an object")?.keys();
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["GREETING", "HOME", "LANG", "PATH", "TMPDIR"]);
    assert_eq!(environment["GREETING"], "hello");
    world.instances("server-everything", 1).await?;
    assert_eq!(world.shown("everything").await?.instances, 1);
    Ok(())
}

/// It tells of itself, and nothing that it offers is missing or left out.
pub(crate) fn offers_all(shown: &ToolServer) -> Result<()> {
    assert_eq!(tools_of(shown), TOOLS);
    assert_eq!(shown.left_out, [""; 0]);
    let title = shown.title.as_deref().unwrap_or_default();
    ensure!(title.contains("everything"), "{shown:?}");
    assert_eq!(shown.protocol.as_deref(), Some("2025-11-25"));
    Ok(())
}

/// Calls each of [`TOOLS`] and looks at what it gives.
pub(crate) async fn call_each(user: &TestUser) -> Result<()> {
    let echo = call(user, "everything__echo", json!({"message": "Grüße"})).await?;
    assert_eq!(text(&echo), "Echo: Grüße");
    let sum = call(user, "everything__get_sum", json!({"a": 2, "b": 3})).await?;
    assert_eq!(text(&sum), "The sum of 2 and 3 is 5.");
    let weather = json!({"location": "New York"});
    let weather = call(user, "everything__get_structured_content", weather).await?;
    assert_eq!(
        weather["structured"],
        json!({"temperature": 33, "conditions": "Cloudy", "humidity": 82})
    );
    call(user, "everything__get_env", json!({})).await?;
    for toggled in ["simulated_logging", "subscriber_updates"] {
        let tool = format!("everything__toggle_{toggled}");
        for begins in ["Started", "Stopped"] {
            let told = call(user, &tool, json!({})).await?;
            ensure!(text(&told).starts_with(begins), "{told}");
        }
    }
    files(user).await?;
    resources(user).await?;
    prompts(user).await?;
    progress(user).await?;
    // It answers by tasks only, which Netra does not follow.
    let tasks = json!({"topic": "tea"});
    let tasks = failure(user, "everything__simulate_research_query", tasks).await?;
    ensure!(
        tasks.starts_with("tool_failed: ") && tasks.contains("requires task augmentation"),
        "{tasks}"
    );
    Ok(())
}

/// What is no text is a file of the user.
async fn files(user: &TestUser) -> Result<()> {
    let image = call(user, "everything__get_tiny_image", json!({})).await?;
    ensure!(text(&image).contains("image"), "{image}");
    file(user, &image, "image/png", PNG).await?;
    let annotated = json!({"messageType": "success", "includeImage": true});
    let annotated = call(user, "everything__get_annotated_message", annotated).await?;
    ensure!(text(&annotated).contains("success"), "{annotated}");
    file(user, &annotated, "image/png", PNG).await?;
    let zipped = json!({
        "name": "x.gz", "data": "data:text/plain;base64,aGVsbG8=", "outputType": "resource"
    });
    let zipped = call(user, "everything__gzip_file_as_resource", zipped).await?;
    assert_eq!(zipped["files"][0]["name"], "x.gz");
    file(user, &zipped, "application/gzip", GZIP).await?;
    let blob = json!({"resourceType": "Blob", "resourceId": 2});
    let blob = call(user, "everything__get_resource_reference", blob).await?;
    file(
        user,
        &blob,
        "text/plain",
        b"Resource 2: This is a base64 blob",
    )
    .await
}

/// The only file of a result is of this type, and begins with this.
async fn file(user: &TestUser, result: &Value, media_type: &str, begins: &[u8]) -> Result<()> {
    let files = result["files"]
        .as_array()
        .with_context(|| format!("no files: {result}"))?;
    let [file] = files.as_slice() else {
        bail!("more than one file: {result}");
    };
    assert_eq!(file["media_type"], media_type);
    let id: FileId = file["file_id"].as_str().context("it has an id")?.parse()?;
    let content = user.client.file_content(id).await?;
    ensure!(content.starts_with(begins), "{content:?}");
    assert_eq!(file["bytes"], content.len());
    Ok(())
}

async fn resources(user: &TestUser) -> Result<()> {
    let links = call(user, "everything__get_resource_links", json!({"count": 2})).await?;
    let uris = [&links["links"][0]["uri"], &links["links"][1]["uri"]];
    assert_eq!(
        uris,
        [
            "demo://resource/dynamic/blob/1",
            "demo://resource/dynamic/text/2"
        ]
    );
    let reference = json!({"resourceType": "Text", "resourceId": 2});
    let reference = call(user, "everything__get_resource_reference", reference).await?;
    ensure!(
        text(&reference["resources"][0]).contains("Resource 2: This is a plaintext"),
        "{reference}"
    );
    let listed = call(user, "everything__list_resources", json!({})).await?;
    let static_ones = listed["resources"].as_array().context("it has resources")?;
    let feature = static_ones.iter().find(|one| one["name"] == "features.md");
    let uri = &feature.with_context(|| format!("{listed}"))?["uri"];
    let templates = listed["templates"].as_array().context("it has templates")?;
    assert_eq!(templates.len(), 2);
    let read = call(user, "everything__read_resource", json!({"uri": uri})).await?;
    ensure!(
        text(&read["resources"][0]).contains("# Everything Server"),
        "{read}"
    );
    let absent = json!({"uri": "demo://resource/nowhere"});
    let absent = failure(user, "everything__read_resource", absent).await?;
    ensure!(
        absent.starts_with("tool_failed: ") && absent.contains("nowhere"),
        "{absent}"
    );
    Ok(())
}

async fn prompts(user: &TestUser) -> Result<()> {
    let listed = call(user, "everything__list_prompts", json!({})).await?;
    let names: Vec<&Value> = listed["prompts"]
        .as_array()
        .context("it has prompts")?
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(
        names,
        [
            "simple-prompt",
            "args-prompt",
            "completable-prompt",
            "resource-prompt"
        ]
    );
    let wanted = json!({"name": "args-prompt", "arguments": {"city": "Zürich"}});
    let prompt = call(user, "everything__get_prompt", wanted).await?;
    assert_eq!(prompt["messages"][0]["role"], "user");
    ensure!(text(&prompt["messages"][0]).contains("Zürich"), "{prompt}");
    Ok(())
}

/// What a long call tells meanwhile is told on as events of the run.
async fn progress(user: &TestUser) -> Result<()> {
    let long = "everything__trigger_long_running_operation";
    let wanted = calls([(long, json!({"duration": 1, "steps": 4}))]);
    let run = user.run(CALLER, wanted).await?;
    let events = user.events(run.id).await?;
    let told: Vec<f64> = events
        .iter()
        .filter_map(|one| match &one.event.event.kind {
            EventKind::ToolProgress { progress, .. } => *progress,
            _ => None,
        })
        .collect();
    ensure!(!told.is_empty() && told.is_sorted(), "{told:?}");
    ensure!(
        told.iter().all(|part| (0.25..=1.0).contains(part)),
        "{told:?}"
    );
    let said = said(run)?;
    assert_eq!(
        text(&said[0]),
        "Long running operation completed. Duration: 1 seconds, Steps: 4."
    );
    Ok(())
}
