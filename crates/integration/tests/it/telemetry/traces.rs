//! One trace for each run, across agents, tools, models and whatever else a run reaches, whichever engines drive it.

use anyhow::{Context as _, ensure};
use netra_client::Method;
use netra_integration::{
    Collected, FakeCollector, FakeEndpoint, FakeModel, Options, Reply, TestServer, TestTool,
    attributes, start,
};
use netra_protocol::account::{Plan, Role};
use netra_protocol::run::{Run, RunStatus};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use super::{calls_once, one, traced};
use crate::Test;
use crate::calls::model_agent;
use crate::expect::{until, with_model};
use crate::http_agents::{agent, result};
use crate::mcp::http::Http;
use netra_integration::script;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const CANARY: &str = "canary-77ab";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_error(span: &Span) -> bool {
    let code = span.status.as_ref().map(|status| status.code());
    code == Some(StatusCode::Error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_one_trace_below_whoever_asked_and_says_nothing_of_what_was_said() -> Test {
    let collector = FakeCollector::start().await?;
    let (_model, options) = calls_once("time_now", json!({})).await?;
    let agents = tempfile::tempdir()?;
    model_agent(agents.path(), "asker", "tools = [\"time_now\"]\n")?;
    script(
        agents.path(),
        "lead",
        "sub_agents = [\"asker\"]\n",
        "agent('asker', {'text': input['text']})\n",
    )?;
    let options = traced(options, &collector)
        .set("telemetry.headers.x-key", "hush")
        .agents(agents.path());
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let request = user.client.request(Method::POST, "/api/runs");
    let request = request
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&start("lead", CANARY));
    let answer = user.client.send(request).await?;
    let told = answer.headers()["traceparent"].to_str()?.to_owned();
    let run: Run = answer.json().await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    collector.until_span("POST /api/runs").await?;
    let spans = collector.until_span("run lead").await?;
    ensure!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));

    let request = one(&spans, "POST /api/runs")?;
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&request.span_id)));
    let of_run = one(&spans, "run lead")?;
    let lead = one(&spans, "invoke_agent lead")?;
    let asker = one(&spans, "invoke_agent asker")?;
    let tool = one(&spans, "execute_tool time_now")?;
    assert_eq!(of_run.parent_span_id, request.span_id);
    assert_eq!(lead.parent_span_id, of_run.span_id);
    assert_eq!(asker.parent_span_id, lead.span_id);
    assert_eq!(tool.parent_span_id, asker.span_id);
    let chats: Vec<&Span> = spans
        .iter()
        .filter(|span| span.name == "chat small")
        .collect();
    assert_eq!(chats.len(), 2);
    for chat in &chats {
        assert_eq!(chat.parent_span_id, asker.span_id);
        assert_eq!(chat.kind(), SpanKind::Client);
        let told = attributes(&chat.attributes);
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "small"),
            ("gen_ai.response.model", "small"),
            ("gen_ai.usage.input_tokens", "11"),
            ("gen_ai.usage.output_tokens", "7"),
            ("gen_ai.conversation.id", &run.thread_id.to_string()),
        ] {
            assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
        }
    }
    let reasons = chats.iter().map(|chat| attributes(&chat.attributes));
    let reasons: Vec<_> = reasons
        .map(|told| told["gen_ai.response.finish_reasons"].clone())
        .collect();
    assert_eq!(reasons, ["tool_call", "stop"]);
    assert_eq!(attributes(&tool.attributes)["gen_ai.tool.name"], "time_now");
    assert_eq!(attributes(&asker.attributes)["gen_ai.agent.name"], "asker");
    let told = attributes(&of_run.attributes);
    assert_eq!(told["netra.run.id"], run.id.to_string());
    assert_eq!(told["netra.run.status"], "completed");
    assert_eq!(told["netra.run.input_tokens"], "22");

    ensure!(!spans.iter().any(is_error));
    for span in &spans {
        ensure!(span.start_time_unix_nano <= span.end_time_unix_nano);
        ensure!(
            span.start_time_unix_nano >= of_run.start_time_unix_nano
                || span.span_id == request.span_id
        );
    }
    let collected = collector.now();
    assert_eq!(
        attributes(&collected.resource.attributes)["service.name"],
        "netra"
    );
    assert_eq!(collected.headers["x-key"], "hush");
    for bytes in &collected.raw {
        for secret in [CANARY, &user.id.to_string(), &user.name, "hush", "Be brief"] {
            ensure!(
                !bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes()),
                "{secret}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_is_told_where_the_operator_wants_it() -> Test {
    let collector = FakeCollector::start().await?;
    let arguments = json!({"text": CANARY});
    let (_model, options) = calls_once("repeats", arguments).await?;
    let agents = tempfile::tempdir()?;
    model_agent(agents.path(), "asker", "tools = [\"repeats\"]\n")?;
    let repeats = TestTool::new("repeats", "basic", |call| Ok(call.arguments.clone()));
    let options = traced(options, &collector)
        .set("telemetry.content", true)
        .agents(agents.path())
        .tool(repeats);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    user.run("asker", "the question").await?;
    let spans = collector.until_span("run asker").await?;
    let tool = attributes(&one(&spans, "execute_tool repeats")?.attributes);
    for name in ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"] {
        ensure!(tool[name].contains(CANARY), "{name}: {tool:?}");
    }
    let last = spans.iter().rev().find(|span| span.name == "chat small");
    let last = attributes(&last.context("a call of the model")?.attributes);
    ensure!(last["gen_ai.system_instructions"].contains("Be brief"));
    ensure!(last["gen_ai.output.messages"].contains("done"));
    let said: serde_json::Value = serde_json::from_str(&last["gen_ai.input.messages"])?;
    let roles: Vec<_> = said
        .as_array()
        .context("a list")?
        .iter()
        .map(|one| &one["role"])
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool"]);
    ensure!(said.to_string().contains("the question"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waited_and_whose_server_was_stopped_is_still_one_trace() -> Test {
    let collector = FakeCollector::start().await?;
    let agents = tempfile::tempdir()?;
    let asks = "consent(question=input['text'])\n";
    script(agents.path(), "asker", "tools = [\"consent\"]\n", asks)?;
    let options = traced(Options::new(), &collector)
        .agents(agents.path())
        .tool(TestTool::consent());
    let server = TestServer::start_with(options.clone()).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("asker", "may I?").await?;
    until(&mut socket, "run_waiting").await?;
    let (data, _) = server.stop().await;
    // A stopping server sends all that it has: the request, and nothing of what has not ended.
    let names: Vec<String> = collector
        .now()
        .spans
        .into_iter()
        .map(|span| span.name)
        .collect();
    assert_eq!(names, ["POST /api/runs"]);

    let server = TestServer::start_on(data, options).await?;
    let user = netra_integration::TestUser {
        client: netra_client::Client::new(server.url(), None)?,
        ..user
    };
    let client = server
        .client_for(&user, std::time::Duration::from_secs(60))
        .await?;
    let approvals = client.approvals(None, None).await?.items;
    let yes = netra_protocol::approval::ResolveApproval {
        decision: netra_protocol::approval::Decision::Approve,
        note: None,
        arguments: None,
    };
    client.approval_resolve(approvals[0].id, &yes).await?;
    let ended = client.run_end(run.id).await?;
    assert_eq!(ended.status, RunStatus::Completed, "{:?}", ended.error);
    let spans = collector.until_span("run asker").await?;
    let first = one(&spans, "POST /api/runs")?;
    let of_run = one(&spans, "run asker")?;
    let agent = one(&spans, "invoke_agent asker")?;
    let tool = one(&spans, "execute_tool consent")?;
    assert_eq!(of_run.parent_span_id, first.span_id);
    assert_eq!(agent.parent_span_id, of_run.span_id);
    assert_eq!(tool.parent_span_id, agent.span_id);
    let ids = [first, of_run, agent, tool].map(|span| &span.trace_id);
    ensure!(ids.iter().all(|id| *id == ids[0]));
    ensure!(!is_error(tool) && !is_error(of_run));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_says_so_in_each_span_that_was_open() -> Test {
    let collector = FakeCollector::start().await?;
    let model = FakeModel::start(|_| Reply::Hang("thinking".into())).await?;
    let server = TestServer::start_with(traced(with_model(&model), &collector)).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("assistant", "go on").await?;
    // A call whose answer has not begun is cancelled, not cut off.
    until(&mut socket, "message_delta").await?;
    user.client.run_cancel(run.id).await?;
    let spans = collector.until_span("run assistant").await?;
    for (name, why) in [
        ("run assistant", "cancelled"),
        ("invoke_agent assistant", "cancelled"),
        ("chat small", "cut_off"),
    ] {
        let span = one(&spans, name)?;
        ensure!(is_error(span), "{name}");
        assert_eq!(attributes(&span.attributes)["error.type"], why, "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_behind_an_endpoint_gets_its_place_in_the_trace() -> Test {
    let collector = FakeCollector::start().await?;
    let endpoint = FakeEndpoint::start(|_| result(json!("done"))).await?;
    let agents = tempfile::tempdir()?;
    agent(agents.path(), "own", endpoint.url(), "")?;
    let with = |collector: Option<&FakeCollector>| {
        let options = Options::new().agents(agents.path());
        collector.map_or(options.clone(), |collector| traced(options, collector))
    };
    let server = TestServer::start_with(with(Some(&collector))).await?;
    server.user().await?.run("own", "go").await?;
    let spans = collector.until_span("run own").await?;
    let span = one(&spans, "invoke_agent own")?;
    assert_eq!(span.kind(), SpanKind::Client);
    let expected = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
    assert_eq!(
        endpoint.seen()[0].header("traceparent"),
        Some(expected.as_str())
    );

    // A server that tells nobody of its traces passes none on either.
    let server = TestServer::start_with(with(None)).await?;
    let user = server.user().await?;
    let request = user.client.request(Method::POST, "/api/runs");
    let request = request
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&start("own", "go"));
    let run: Run = user.client.send(request).await?.json().await?;
    user.client.run_end(run.id).await?;
    assert_eq!(endpoint.seen()[1].header("traceparent"), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_not_to_be_traced_is_not_nor_is_its_run() -> Test {
    let collector = FakeCollector::start().await?;
    let server = TestServer::start_with(traced(Options::new(), &collector)).await?;
    let user = server.user().await?;
    let request = user.client.request(Method::POST, "/api/runs");
    let request = request
        .header("traceparent", format!("00-{TRACE}-{CALLER}-00"))
        .json(&start("echo", "hush"));
    let run: Run = user.client.send(request).await?.json().await?;
    user.client.run_end(run.id).await?;
    user.run("echo", "aloud").await?;
    let spans = collector.until_span("run echo").await?;
    one(&spans, "run echo")?;
    ensure!(spans.iter().all(|span| hex(&span.trace_id) != TRACE));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cancelled_while_it_waits_leaves_no_span_without_its_parent() -> Test {
    let collector = FakeCollector::start().await?;
    let agents = tempfile::tempdir()?;
    let asks = "time_now()\nconsent(question=input['text'])\n";
    let tools = "tools = [\"time_now\", \"consent\"]\n";
    script(agents.path(), "asker", tools, asks)?;
    let options = traced(Options::new(), &collector)
        .agents(agents.path())
        .tool(TestTool::consent());
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("asker", "may I?").await?;
    until(&mut socket, "run_waiting").await?;
    user.client.run_cancel(run.id).await?;
    let spans = collector.until_span("run asker").await?;
    let agent = one(&spans, "invoke_agent asker")?;
    assert_eq!(agent.parent_span_id, one(&spans, "run asker")?.span_id);
    assert_eq!(
        one(&spans, "execute_tool time_now")?.parent_span_id,
        agent.span_id
    );
    assert_eq!(attributes(&agent.attributes)["error.type"], "cancelled");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_server_of_the_operators_gets_its_place_in_the_trace_and_a_users_own_does_not()
-> Test {
    let (collector, http) = (FakeCollector::start().await?, Http::open()?);
    let agents = tempfile::tempdir()?;
    for (name, tool) in [
        ("of_operator", "web__traced"),
        ("of_user", "my_notes__traced"),
    ] {
        let code = format!("{tool}()['text']\n");
        script(
            agents.path(),
            name,
            &format!("tools = [\"{tool}\"]\n"),
            &code,
        )?;
    }
    let options = traced(Options::new(), &collector)
        .agents(agents.path())
        .set("mcp.servers.web.url", http.url())
        .set("mcp.servers.web.permission", "basic")
        .set("tools.fetch.allow", http.place());
    let server = TestServer::start_with(options).await?;
    let user = server.user_on(Role::User, Plan::Pro, None).await?;
    let run = user.run("of_operator", "go").await?;
    let spans = collector.until_span("run of_operator").await?;
    let span = one(&spans, "execute_tool web__traced")?;
    let expected = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
    assert_eq!(run.result, Some(json!(expected)), "{:?}", run.error);

    let own = user.client.request(Method::PUT, "/api/tool-servers/notes");
    user.client
        .send(own.json(&json!({ "url": http.url() })))
        .await?;
    let run = user.run("of_user", "go").await?;
    assert_eq!(run.result, Some(json!("none")), "{:?}", run.error);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_told_of_the_trace_where_the_operator_wants_it_and_nowhere_else() -> Test {
    let collector = FakeCollector::start().await?;
    let model = FakeModel::start(|_| Reply::Text(vec!["hello".into()])).await?;
    let options = traced(with_model(&model), &collector);
    let server = TestServer::start_with(options.clone()).await?;
    server.user().await?.run("assistant", "go").await?;
    assert_eq!(model.traces(), [""; 0]);

    let options = options.set("models.providers.fake.trace_context", true);
    let server = TestServer::start_with(options).await?;
    let run = server.user().await?.run("assistant", "go").await?;
    let enough = |now: &Collected| {
        now.spans
            .iter()
            .filter(|span| span.name == "run assistant")
            .count()
            == 2
    };
    let spans = collector.until("both runs", enough).await?.spans;
    let chat = spans.iter().rev().find(|span| {
        let told = attributes(&span.attributes);
        span.name == "chat small" && told["gen_ai.conversation.id"] == run.thread_id.to_string()
    });
    let chat = chat.context("the call")?;
    let expected = format!("00-{}-{}-01", hex(&chat.trace_id), hex(&chat.span_id));
    assert_eq!(model.traces(), [expected]);
    Ok(())
}
