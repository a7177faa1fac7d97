//! `netra models test` against the mock.

use anyhow::{Result, ensure};
use netra_integration::output;
use serde_json::Value;

use super::installed::{FORMATS, Mock};
use crate::Test;

/// What the command says, as JSON, and whether it ended well.
async fn tried(file: &str, model: &str) -> Result<(Value, bool)> {
    let arguments = ["models", "test", model, "--config", file, "--json"];
    let ended = output(&arguments, "").await?;
    let said = serde_json::from_slice(&ended.stdout).unwrap_or_default();
    Ok((said, ended.status.success()))
}

#[tokio::test]
async fn the_command_says_what_works() -> Test {
    let mock = Mock::start().await?;
    let folder = tempfile::tempdir()?;
    let file = mock.configuration(folder.path())?.display().to_string();
    for kind in FORMATS {
        let (said, good) = tried(&file, &format!("{kind}/m")).await?;
        ensure!(good, "{kind}: {said}");
        for what in ["text", "streaming", "tools"] {
            ensure!(said[what]["works"] == true, "{kind}: {what}: {said}");
        }
        ensure!(
            said["usage"].as_array().map(Vec::len) == Some(2),
            "{kind}: {said}"
        );
    }
    drop(mock);
    let ended = output(&["models", "test", "openai/m", "--config", &file], "").await?;
    let problem = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.code() == Some(1), "{problem}");
    ensure!(problem.contains("openai/m does not answer"), "{problem}");
    ensure!(problem.contains("no connection"), "{problem}");
    let ended = output(&["models", "test", "nobody/m", "--config", &file], "").await?;
    ensure!(ended.status.code() == Some(2), "{:?}", ended.status);
    Ok(())
}
