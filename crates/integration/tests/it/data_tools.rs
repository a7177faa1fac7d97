//! SQL, charts and Python over the user's own files: right numbers, and nothing that one can break out with.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_client::Upload;
use netra_integration::{
    FakeModel, Options, ProcessOptions, Reply, TestProcess, TestServer, TestUser, real_log,
    start_with_files,
};
use netra_protocol::event::EventKind;
use netra_protocol::id::FileId;
use netra_protocol::run::RunStatus;
use serde_json::{Value, json};

use crate::Test;
use crate::expect::{text, with_model};
use crate::isolation::children;
use netra_integration::script;

const TOOLS: &str = "tools = [\"sql_query\", \"make_chart\", \"run_python\"]\n\
                     input_schema = { type = \"object\" }\n";
/// Makes the calls that it is told to, and gives what came of each.
const CALLER: &str = "def call(tool, arguments):
    try:
        if tool == 'sql_query':
            return sql_query(**arguments)
        if tool == 'make_chart':
            return make_chart(**arguments)
        return run_python(**arguments)
    except RuntimeError as error:
        return {'refused': str(error)}

[call(one['tool'], one['arguments']) for one in input['calls']]
";

/// Lets the agent make these calls over these files, and gives the events too.
async fn calls(
    user: &TestUser,
    files: Vec<FileId>,
    calls: &[(&str, Value)],
) -> Result<(Vec<Value>, Vec<EventKind>)> {
    let calls: Vec<Value> = calls
        .iter()
        .map(|(tool, arguments)| json!({ "tool": tool, "arguments": arguments }))
        .collect();
    let start = start_with_files("caller", json!({ "calls": calls }), files);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let Some(Value::Array(results)) = run.result else {
        anyhow::bail!("no list: {:?}", run.result);
    };
    let events = user.events(run.id).await?;
    let kinds = events.into_iter().map(|one| one.event.event.kind);
    Ok((results, kinds.collect()))
}

fn agents() -> Result<tempfile::TempDir> {
    let agents = tempfile::tempdir()?;
    script(agents.path(), "caller", TOOLS, CALLER)?;
    Ok(agents)
}

/// The rows of a CSV file without quotes, read with nothing but Rust.
fn rows(path: &Path) -> Result<Vec<Vec<String>>> {
    let file = std::fs::read_to_string(path)?;
    let lines = file.lines().skip(1).filter(|line| !line.is_empty());
    Ok(lines
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_by_model_are_those_of_the_file() -> Test {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/synthetic-llm-log.csv");
    let mut truth: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for row in rows(&path)? {
        let [count, input, slowest] = truth.entry(row[1].clone()).or_default();
        *count += 1;
        *input += row[2].parse::<u64>()?;
        *slowest = (*slowest).max(row[4].parse()?);
    }
    let truth: Vec<Value> = truth
        .into_iter()
        .map(|(model, [count, input, slowest])| json!([model, count, input, slowest]))
        .collect();
    ensure!(truth.len() > 2, "{truth:?}");

    let agents = agents()?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let file = Upload::Path(&path);
    let file = user.client.file_upload("llm log.csv", file).await?.id;
    let by_model = "SELECT model, count(*) AS requests, sum(prompt_tokens) AS input, max(latency_ms) AS slowest \
                    FROM llm_log GROUP BY model ORDER BY model";
    let (results, kinds) = calls(
        &user,
        vec![file],
        &[
            ("sql_query", json!({ "query": by_model, "save_as": "by model" })),
            ("make_chart", json!({ "kind": "bar", "query": by_model, "x": "model", "y": ["requests", "input"] })),
        ],
    )
    .await?;
    assert_eq!(results[0]["rows"], json!(truth));
    assert_eq!(results[0]["tables"][0]["rows"], 5_000);
    assert_eq!(results[1]["points"], truth.len() * 2);
    // Both are files of the user now, which others do not see.
    let saved: FileId = text(&results[0], "/file_id")?.parse()?;
    let csv = String::from_utf8(user.client.file_content(saved).await?.to_vec())?;
    let again: Vec<Vec<String>> = csv
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect();
    assert_eq!(again.len(), truth.len() + 1);
    assert_eq!(again[1][2], truth[0][2].to_string());
    let made = kinds.iter().filter_map(|kind| match kind {
        EventKind::ArtifactCreated {
            name, media_type, ..
        } => Some((name.as_str(), media_type.as_str())),
        _ => None,
    });
    assert_eq!(
        made.collect::<Vec<_>>(),
        [
            ("by model.csv", "text/csv"),
            ("bar-chart.svg", "image/svg+xml")
        ]
    );
    let stranger = server.user().await?;
    ensure!(stranger.client.file_content(saved).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_and_python_find_the_same_in_a_real_log_as_rust() -> Test {
    let Some(path) = real_log()? else {
        return Ok(());
    };
    let (mut input, mut output, mut minutes) = (0_u64, 0_u64, BTreeMap::<String, u64>::new());
    for row in rows(&path)? {
        input += row[1].parse::<u64>()?;
        output += row[2].parse::<u64>()?;
        *minutes.entry(row[0][..16].to_owned()).or_default() += 1;
    }
    let busiest = minutes.values().copied().max().context("minutes")?;

    let agents = agents()?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let file = user
        .client
        .file_upload("azure.csv", Upload::Path(&path))
        .await?;
    let by_minute =
        "SELECT substr(TIMESTAMP, 1, 16) AS minute, count(*) AS requests FROM azure GROUP BY 1";
    let total = "SELECT count(*), sum(ContextTokens), sum(GeneratedTokens) FROM azure";
    let busy = format!("SELECT max(requests) FROM ({by_minute})");
    let code = "rows = [line.split(',') for line in files['azure.csv'].splitlines()[1:] if line]
print(len(rows))
[sum([int(row[1]) for row in rows]), sum([int(row[2]) for row in rows])]";
    let (results, _) = calls(
        &user,
        Vec::new(),
        &[
            // By id and by name: neither has to be given to the run.
            ("sql_query", json!({ "files": [file.id], "query": total })),
            ("sql_query", json!({ "files": ["azure.csv"], "query": busy })),
            ("make_chart", json!({ "files": ["azure.csv"], "query": by_minute, "kind": "line", "x": "minute", "y": "requests" })),
            ("make_chart", json!({ "files": ["azure.csv"], "query": "SELECT * FROM azure", "kind": "histogram", "x": "ContextTokens" })),
            ("run_python", json!({ "files": ["azure.csv"], "code": code })),
        ],
    )
    .await?;
    assert_eq!(results[0]["rows"], json!([[8_819, input, output]]));
    assert_eq!((input, output), (18_059_974, 245_896));
    assert_eq!(results[1]["rows"], json!([[busiest]]));
    assert_eq!(results[2]["points"], minutes.len());
    ensure!(text(&results[2], "/alt")?.contains(&format!("highest with {busiest}")));
    assert_eq!(results[3]["points"], 8_819);
    assert_eq!(results[4]["value"], json!([input, output]));
    assert_eq!(results[4]["printed"], "8819\n");
    for chart in &results[2..4] {
        let id: FileId = text(chart, "/file_id")?.parse()?;
        let svg = String::from_utf8(user.client.file_content(id).await?.to_vec())?;
        ensure!(svg.starts_with("<svg") && !svg.contains("<script"), "{svg}");
        ensure!(!svg.contains("NaN"), "{svg}");
    }
    Ok(())
}

/// A call, with how its failure begins and what it says.
type Hostile = (&'static str, Value, &'static str, &'static str);

fn of_others(strangers: FileId) -> Vec<Hostile> {
    vec![
        (
            "sql_query",
            json!({ "files": [strangers], "query": "SELECT 1" }),
            "tool_failed",
            "there is no file",
        ),
        (
            "sql_query",
            json!({ "files": ["secret.csv"] }),
            "tool_failed",
            "there is no file",
        ),
        (
            "sql_query",
            json!({ "files": ["../../keys"] }),
            "tool_failed",
            "there is no file",
        ),
        (
            "make_chart",
            json!({ "files": [strangers], "query": "SELECT 1 AS a", "kind": "bar", "x": "a", "y": "a" }),
            "tool_failed",
            "there is no file",
        ),
        (
            "run_python",
            json!({ "files": [strangers], "code": "1" }),
            "tool_failed",
            "there is no file",
        ),
    ]
}

fn hostile_queries() -> Vec<Hostile> {
    let query = |query: &str| json!({ "query": query });
    let endless_list =
        "WITH RECURSIVE t(s) AS (SELECT 'x' UNION SELECT s || hex(zeroblob(50000)) FROM t)";
    vec![
        (
            "sql_query",
            query("ATTACH 'netra.db' AS n"),
            "tool_failed",
            "ATTACH is not allowed",
        ),
        (
            "sql_query",
            query("PRAGMA hard_heap_limit = 0"),
            "tool_failed",
            "not allowed",
        ),
        (
            "sql_query",
            query("DELETE FROM big"),
            "tool_failed",
            "not allowed",
        ),
        (
            "sql_query",
            query("SELECT load_extension('/tmp/x.so')"),
            "tool_failed",
            "not allowed",
        ),
        (
            "sql_query",
            query("SELECT readfile('/etc/passwd')"),
            "tool_failed",
            "no such function",
        ),
        (
            "sql_query",
            query("SELEC 1"),
            "tool_failed",
            "line 1, column 1",
        ),
        (
            "sql_query",
            json!({ "query": "SELECT 1", "rows": 1 }),
            "tool_denied",
            "schema",
        ),
        (
            "sql_query",
            query("SELECT a.t || hex(zeroblob(50000)) AS t FROM big a, big b ORDER BY t"),
            "memory_limit_exceeded",
            "memory",
        ),
        (
            "sql_query",
            query(&format!("{endless_list} SELECT count(*) FROM t")),
            "memory_limit_exceeded",
            "memory",
        ),
        (
            "sql_query",
            query("SELECT group_concat(a.t) FROM big a, big b"),
            "tool_failed",
            "too big",
        ),
    ]
}

fn hostile_programs() -> Vec<Hostile> {
    let program = |code: &str| json!({ "code": code });
    vec![
        (
            "run_python",
            program("while True:\n    print('x' * 1000)"),
            "tool_failed",
            "put out",
        ),
        (
            "run_python",
            program("print('x' * 1000000000)"),
            "memory_limit_exceeded",
            "memory",
        ),
        (
            "run_python",
            program("'x' * 1000000"),
            "tool_failed",
            "put out",
        ),
        (
            "run_python",
            program("a = []\nwhile True:\n    a.append('x' * 100000)"),
            "memory_limit_exceeded",
            "memory",
        ),
        (
            "run_python",
            program("def f(n):\n    return f(n + 1)\nf(0)"),
            "tool_failed",
            "RecursionError",
        ),
        (
            "run_python",
            program("x = 1\ny = x / 0"),
            "tool_failed",
            "ZeroDivisionError: division by zero (line 2)",
        ),
        ("run_python", program("def ("), "tool_failed", "SyntaxError"),
        (
            "run_python",
            program("open('/etc/passwd').read()"),
            "tool_failed",
            "line 1",
        ),
        (
            "run_python",
            program("sql_query(query='SELECT 1')"),
            "tool_failed",
            "NameError",
        ),
        (
            "run_python",
            program("import subprocess"),
            "tool_failed",
            "line 1",
        ),
        (
            "run_python",
            json!({ "code": "files", "inputs": { "files": 1 } }),
            "tool_denied",
            "schema",
        ),
        (
            "run_python",
            json!({ "code": "1", "inputs": { "a b": 1 } }),
            "tool_denied",
            "schema",
        ),
    ]
}

/// Waits until the server has no process of its own any more.
async fn until_alone(server: &TestProcess) -> Test {
    let pid = server.pid().context("it runs")?;
    let gone = async {
        while !children(pid)?.is_empty() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
    gone.context("a worker is left")?
}

fn endless() -> Vec<Hostile> {
    let endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)";
    let endless = format!("{endless} SELECT max(n) FROM t");
    let product = "SELECT count(*) FROM big a, big b, big c, big d";
    [
        ("sql_query", json!({ "query": endless })),
        ("sql_query", json!({ "query": product })),
        ("run_python", json!({ "code": "while True:\n    pass" })),
    ]
    .map(|(tool, arguments)| (tool, arguments, "tool_timeout", "1000 ms"))
    .into()
}

/// A server whose agents have the tools, and each of whose workers is gone with its run.
async fn server(data: &Path, agents: &Path, tool_call_ms: u64) -> Result<TestProcess> {
    let settings = Options::new()
        .set("workers.warm", 0)
        // An agent's script and the program that it runs share the one place.
        .set("workers.scripts", 1)
        .set("limits.memory_mib", 512)
        .set("limits.tool_call_ms", tool_call_ms);
    let mut environment = settings.environment();
    let dir = agents.display().to_string();
    environment.push(("NETRA__AGENTS__DIR".into(), dir));
    let options = ProcessOptions {
        environment,
        ..ProcessOptions::default()
    };
    TestProcess::start_with(data, options).await
}

async fn big_file(user: &TestUser) -> Result<FileId> {
    let mut big = String::from("t,n\n");
    for n in 0..2_000 {
        big.push_str(&format!("{n:0>300},{n}\n"));
    }
    let content = Upload::Bytes(big.into());
    Ok(user.client.file_upload("big.csv", content).await?.id)
}

/// Makes the hostile calls, then the good ones, and gives what came of these.
async fn all_fail(
    server: &TestProcess,
    (user, file): (&TestUser, FileId),
    hostile: Vec<Hostile>,
    good: &[(&str, Value)],
) -> Result<Vec<Value>> {
    let mut asked: Vec<(&str, Value)> = hostile
        .iter()
        .map(|(tool, arguments, ..)| (*tool, arguments.clone()))
        .collect();
    asked.extend_from_slice(good);
    let (mut results, kinds) = calls(user, vec![file], &asked).await?;
    for ((tool, arguments, code, words), result) in hostile.iter().zip(&results) {
        let refused = result["refused"].as_str().unwrap_or_default();
        ensure!(
            refused.starts_with(code) && refused.contains(words),
            "{tool} {arguments}: not {code} {words}, but {result}"
        );
    }
    let ended = |kind: &&EventKind| {
        matches!(
            kind,
            EventKind::ToolCompleted { .. } | EventKind::ToolDenied { .. }
        )
    };
    assert_eq!(kinds.iter().filter(ended).count(), asked.len());
    until_alone(server).await?;
    Ok(results.split_off(hostile.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_its_bounds_is_a_failed_call_and_its_worker_is_gone() -> Test {
    let (data, agents) = (tempfile::tempdir()?, agents()?);
    let server = server(data.path(), agents.path(), 30_000).await?;
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let secret = Upload::Bytes("a\n1\n".into());
    let secret = bob.client.file_upload("secret.csv", secret).await?.id;
    let big = big_file(&ada).await?;
    // After all of it the run goes on as if nothing had been.
    let good = [
        ("sql_query", json!({ "query": "SELECT count(*) FROM big" })),
        (
            "run_python",
            json!({ "code": "n + 1", "inputs": { "n": 1 } }),
        ),
    ];
    for hostile in [of_others(secret), hostile_queries(), hostile_programs()] {
        let results = all_fail(&server, (&ada, big), hostile, &good).await?;
        assert_eq!(results[0]["rows"], json!([[2_000]]));
        assert_eq!(results[1]["value"], 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_ends_is_a_failed_call_in_time_and_its_worker_is_gone() -> Test {
    let (data, agents) = (tempfile::tempdir()?, agents()?);
    let server = server(data.path(), agents.path(), 1_000).await?;
    let ada = server.user("ada").await?;
    let big = big_file(&ada).await?;
    all_fail(&server, (&ada, big), endless(), &[]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_analyst_asks_the_table_and_tells_what_it_says() -> Test {
    let model = FakeModel::start(|request| {
        let messages = request["messages"].as_array().cloned().unwrap_or_default();
        let told = messages
            .iter()
            .rev()
            .find(|message| message["role"] == "tool");
        match told.and_then(|message| message["content"].as_str()) {
            None => Reply::ToolCall(
                "sql_query".into(),
                json!({ "query": "SELECT sum(amount) AS total FROM sales" }),
            ),
            Some(result) => {
                let result: Value = serde_json::from_str(result).unwrap_or_default();
                Reply::Text(vec![format!("It is {}.", result["rows"][0][0])])
            }
        }
    })
    .await?;
    let server = TestServer::start_with(with_model(&model)).await?;
    let user = server.user().await?;
    let sales = Upload::Bytes("amount\n20\n22\n".into());
    let sales = user.client.file_upload("sales.csv", sales).await?;
    let start = start_with_files("analyst", "What is the total?", vec![sales.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(run.result, Some(json!({ "text": "It is 42." })));
    Ok(())
}
