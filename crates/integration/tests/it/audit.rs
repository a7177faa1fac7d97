//! `netra audit verify` finds what was changed in a database behind the server's back.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{ProcessOptions, TestProcess, change_rows, is_on_postgres, output, script};
use netra_protocol::run::RunStatus;
use serde_json::Value;

use crate::Test;

/// The exit code of `netra audit …` on this folder, and what it says.
async fn audit(words: &[&str], data: &Path) -> Result<(Option<i32>, String)> {
    let data = data.to_string_lossy();
    let ended = output(&[&["audit"], words, &["--data", &data]].concat(), "").await?;
    let problem = String::from_utf8_lossy(&ended.stderr).into_owned();
    let told = String::from_utf8(ended.stdout)?;
    ensure!(!told.is_empty(), "{problem}");
    Ok((ended.status.code(), told))
}

/// Puts other words of the same length into a file of the database; gives how often.
fn change(file: &Path, from: &str, to: &str) -> Result<usize> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(file)?;
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in &places {
        bytes[*at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    std::fs::write(file, bytes)?;
    Ok(places.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_changed_in_the_database_is_named_by_its_number() -> Test {
    let folder = tempfile::tempdir()?;
    let (agents, data) = (folder.path().join("agents"), folder.path().join("data"));
    script(
        &agents,
        "teller",
        "tools = [\"time_now\"]\n",
        "time_now()\n",
    )?;
    let options = ProcessOptions {
        arguments: vec!["--agents".into(), agents.display().to_string()],
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(&data, options).await?;
    let ada = server.user("ada").await?;
    for _ in 0..3 {
        let run = ada.run("teller", "what time is it?").await?;
        assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    }
    let (code, told) = audit(&["verify"], &data).await?;
    ensure!(code == Some(0) && told.contains("all is well"), "{told}");
    let (_, exported) = audit(&["export", "--user", "ada"], &data).await?;
    let records = exported.lines().map(serde_json::from_str::<Value>);
    let records = records.collect::<Result<Vec<_>, _>>()?;
    let mut calls = records.iter().filter(|one| one["action"] == "tool.call");
    let second = calls.nth(1).context("three calls")?;
    let (number, call) = (&second["seq"], &second["object"]);
    let call = call.as_str().context("the id of a call")?;

    // Who looks only at the record sees another call, which there may have been.
    let (head, last) = call.split_at(call.len() - 1);
    let other = format!("{head}{}", if last == "a" { "b" } else { "a" });
    let kept = folder.path().join("kept");
    let changed = if is_on_postgres() {
        let sql = format!("UPDATE audit SET object = '{other}' WHERE object = '{call}'");
        change_rows(&data, &sql)?;
        data
    } else {
        change_copy(&data, &kept, (call, &other)).await?;
        kept
    };
    let (code, told) = audit(&["verify"], &changed).await?;
    assert_eq!(code, Some(1), "{told}");
    ensure!(told.contains(&format!("ada at {number}: ")), "{told}");
    let (code, told) = audit(&["verify", "--json"], &changed).await?;
    assert_eq!(code, Some(1), "{told}");
    let report: Value = serde_json::from_str(&told)?;
    assert_eq!(&report["findings"][0]["seq"], number, "{report}");
    Ok(())
}

/// Changes a record in the file of a backup.
async fn change_copy(data: &Path, kept: &Path, (call, other): (&str, &str)) -> Test {
    // A backup is one file, with no log of the database beside it whose pages would be read instead.
    let (to, of) = (kept.to_string_lossy(), data.to_string_lossy());
    let copied = output(&["backup", &to, "--data", &of, "--with-keys"], "").await?;
    ensure!(copied.status.success(), "{copied:?}");
    let (code, told) = audit(&["verify"], kept).await?;
    ensure!(code == Some(0) && told.contains("all is well"), "{told}");
    let row = |call: &str| format!("tool.call{call}completed");
    let changed = change(&kept.join("netra.db"), &row(call), &row(other))?;
    ensure!(changed > 0, "the record is not in the file");
    Ok(())
}
