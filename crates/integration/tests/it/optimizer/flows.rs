//! Which steps the team takes by how much the data tells, and what is left when one of them fails.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use netra_client::Upload;
use netra_integration::{Options, TestServer, TestUser, start_with_files};
use netra_protocol::run::RunStatus;
use serde_json::Value;

use crate::Test;
use crate::expect::text;
use netra_integration::script;

/// The sample has a time, a model, tokens, latency and a user, and no cost.
pub(super) fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/synthetic-llm-log.csv")
}

/// The result of a run of the team over one file.
pub(super) async fn result_of(
    user: &TestUser,
    question: &str,
    name: &str,
    file: Upload<'_>,
) -> Result<Value> {
    let file = user.client.file_upload(name, file).await?;
    let start = start_with_files("optimizer", question, vec![file.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    run.result.context("a completed run has a result")
}

fn steps(result: &Value) -> Vec<&str> {
    result["workflow"]["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_decides_which_steps_are_taken() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let path = sample();
    let all = [
        "triage",
        "data",
        "analysis",
        "optimization",
        "actions",
        "reporting",
    ];

    let told = result_of(
        &user,
        "Which model is used most?",
        "log.csv",
        Upload::Path(&path),
    )
    .await?;
    assert_eq!(told["workflow"]["data_sufficiency"], "sufficient");
    assert_eq!(steps(&told), all);
    assert_eq!(told["data_request"], Value::Null);

    // The log has no cost, so not all that is asked can be read from it.
    let told = result_of(
        &user,
        "Cut the cost by 30 %",
        "log.csv",
        Upload::Path(&path),
    )
    .await?;
    assert_eq!(told["workflow"]["data_sufficiency"], "partial");
    assert_eq!(
        steps(&told),
        [&["triage", "data_helper"], &all[1..]].concat()
    );
    let asked = told["data_request"]["structured_items"]
        .as_array()
        .context("items")?;
    ensure!(
        asked.iter().any(|item| item["header"] == "cost_usd"),
        "{asked:?}"
    );
    ensure!(
        asked.iter().all(|item| item["header"] != "model"),
        "it has a model: {asked:?}"
    );
    ensure!(
        text(&told, "/report_markdown")?.contains("LiteLLM_SpendLogs"),
        "and says how to get it"
    );

    let times =
        "timestamp,note\n2024-05-06T10:00:00Z,a\n2024-05-06T10:00:40Z,b\n2024-05-06T10:03:00Z,c\n";
    let told = result_of(
        &user,
        "Cut the cost by 30 %",
        "times.csv",
        Upload::Bytes(times.into()),
    )
    .await?;
    assert_eq!(told["workflow"]["data_sufficiency"], "insufficient");
    assert_eq!(
        steps(&told),
        ["triage", "data_helper", "data", "analysis", "reporting"]
    );
    assert_eq!(
        (told["data"]["rows"].as_u64(), &told["options"]),
        (Some(3), &serde_json::json!([]))
    );
    let asked = told["data_request"]["structured_items"]
        .as_array()
        .context("items")?;
    ensure!(
        asked
            .iter()
            .any(|item| item["header"] == "prompt_tokens" && item["required"] == true),
        "{asked:?}"
    );

    let told = result_of(
        &user,
        "Cut the cost",
        "notes.csv",
        Upload::Bytes("a,b\n1,2\n".into()),
    )
    .await?;
    assert_eq!(steps(&told), ["triage", "data_helper", "reporting"]);
    assert_eq!(told["data"]["rows"], Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_is_named_and_the_report_is_made() -> Test {
    let expected: [(&str, &[&str]); 7] = [
        ("triage", &["data_helper", "data", "reporting"]),
        (
            "data_helper",
            &[
                "triage",
                "data",
                "analysis",
                "optimization",
                "actions",
                "reporting",
            ],
        ),
        ("data", &["triage", "data_helper", "reporting"]),
        (
            "analysis",
            &[
                "triage",
                "data_helper",
                "data",
                "optimization",
                "actions",
                "reporting",
            ],
        ),
        (
            "optimization",
            &["triage", "data_helper", "data", "analysis", "reporting"],
        ),
        (
            "actions",
            &[
                "triage",
                "data_helper",
                "data",
                "analysis",
                "optimization",
                "reporting",
            ],
        ),
        (
            "reporting",
            &[
                "triage",
                "data_helper",
                "data",
                "analysis",
                "optimization",
                "actions",
            ],
        ),
    ];
    for (step, left) in expected {
        let agents = tempfile::tempdir()?;
        let manifest = "listed = false\ninput_schema = { type = \"object\" }\n";
        let name = format!("optimizer-{}", step.replace('_', "-"));
        script(
            agents.path(),
            &name,
            manifest,
            "raise RuntimeError('broken on purpose')\n",
        )?;
        let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
        let user = server.user().await?;
        let told = result_of(
            &user,
            "Cut the cost by 30 %",
            "log.csv",
            Upload::Path(&sample()),
        )
        .await?;
        assert_eq!(told["workflow"]["failed"], serde_json::json!([step]));
        assert_eq!(steps(&told), left, "{step}");
        let missing = told["missing"].to_string();
        let named = format!("the step {}", step.replace('_', " "));
        ensure!(
            missing.contains(&named) && missing.contains("broken on purpose"),
            "{step}: {missing}"
        );
        let report = text(&told, "/report_markdown")?;
        ensure!(report.contains(&named), "{step}: {report}");
        // What the other steps found is there all the same.
        if step != "data" {
            assert_eq!(
                told["data"]["files"][0]["rows"]
                    .as_u64()
                    .or(told["data"]["files"][0]["short"]["rows"].as_u64()),
                Some(5_000)
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_log_has_prompts_the_share_of_caching_is_measured() -> Test {
    let system = "You answer for the shop of a bakery. ".repeat(160);
    let lines: String = (0..60)
        .map(|minute| {
            let line = serde_json::json!({
                "timestamp": format!("2024-05-06T10:{minute:02}:00Z"), "model": "gpt-4o", "prompt_tokens": 1_600,
                "completion_tokens": 40, "prompt": format!("{system}Question {minute}"),
            });
            format!("{line}\n")
        })
        .collect();
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let told = result_of(
        &user,
        "Cut the cost by 30 %",
        "log.jsonl",
        Upload::Bytes(lines.into()),
    )
    .await?;
    // Each request but the first finds the whole blocks of the common beginning kept.
    let length = (system.len() + "Question 10".len()) as f64;
    let blocks = (system.len() / 512 * 512) as f64;
    let measured: f64 = (1..60)
        .map(|minute| {
            if minute < 10 {
                blocks / (length - 1.0)
            } else {
                blocks / length
            }
        })
        .sum::<f64>()
        / 60.0;
    let option = &told["options"][0];
    assert_eq!(option["kind"], "prompt_caching", "{option}");
    let share = option["arguments"]["cached_share"]
        .as_f64()
        .context("a share")?;
    ensure!(
        (share - measured).abs() < 2e-6,
        "{share} is tried, {measured} is right"
    );
    ensure!(
        option["assumptions"]
            .to_string()
            .contains("[prompt_repeats#1]"),
        "{option}"
    );
    let asked = &told["data_request"]["structured_items"];
    ensure!(
        !asked.to_string().contains("prompt_hash"),
        "there are prompts: {asked}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_logs_are_analysed_as_deep_as_the_steps_allow_and_the_rest_is_told() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let path = sample();
    let question = "Cut the cost by 30 % with gpt-4o-mini, and do not make it slower";
    for (names, studies_of_each) in [
        (&["a.csv", "b.csv", "c.csv"][..], 4),
        (&["a.csv", "b.csv", "c.csv", "d.csv"], 2),
    ] {
        let mut files = Vec::new();
        for name in names {
            let file = user.client.file_upload(name, Upload::Path(&path)).await?;
            files.push(file.id);
        }
        let start = start_with_files("optimizer", question, files);
        let run = user.client.run_start(None, &start, None).await?;
        let run = user.client.run_end(run.id).await?;
        ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
        let told = run.result.context("a completed run has a result")?;
        assert_eq!(told["workflow"]["failed"], serde_json::json!([]));
        let studies = told["analysis"].as_array().context("studies")?;
        for name in names {
            let of_file = studies.iter().filter(|study| study["file"] == *name);
            let tools: Vec<_> = of_file.filter_map(|study| study["tool"].as_str()).collect();
            assert_eq!(tools[..2], ["cost_drivers", "latency_drivers"], "{name}");
            assert_eq!(tools.len(), studies_of_each, "{name}: {tools:?}");
            let left_out = told["missing"].as_array().into_iter().flatten();
            let mut left_out = left_out.filter_map(|one| one["what"].as_str());
            ensure!(
                left_out.any(|what| what.contains("a forecast") && what.contains(name)),
                "{name}: {}",
                told["missing"]
            );
        }
        assert_eq!(told["options"].as_array().map(Vec::is_empty), Some(false));
    }
    Ok(())
}
