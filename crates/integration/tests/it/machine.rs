//! What the machine gives, and what the server makes of less than it is to have.

use anyhow::{Result, ensure};
use netra_integration::output;

use crate::Test;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code and all that a command says, with this configuration.
async fn said(command: &[&str], configuration: &str) -> Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let (data, file) = (folder.path().join("data"), folder.path().join("netra.toml"));
    std::fs::write(&file, configuration)?;
    let (data, file) = (data.to_string_lossy(), file.to_string_lossy());
    let arguments = [command, &["--data", &data, "--config", &file]].concat();
    let ended = output(&arguments, "").await?;
    let told = format!("{}{}", text(&ended.stdout), text(&ended.stderr));
    Ok((ended.status.code(), told))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_to_have_more_than_the_machine_gives_does_not_start() -> Test {
    // No machine has this cgroup.
    let wanted = "[sandbox]\nrequire = \"full\"\ncgroup = \"/nowhere/at/all\"\n";
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let (code, told) = said(&serve, wanted).await?;
    assert_eq!(code, Some(2), "{told}");
    let missing =
        "cgroup: none: in /nowhere/at/all the controllers memory and pids must be delegated";
    for words in [
        "sandbox.require",
        "\"full\" is required",
        "netra doctor",
        missing,
    ] {
        ensure!(told.contains(words), "{words}: {told}");
    }
    ensure!(!told.contains("ready http"), "{told}");
    // The doctor says the same of this layer, and that nothing starts.
    let (code, told) = said(&["doctor"], wanted).await?;
    assert_eq!(code, Some(1), "{told}");
    for words in ["no server starts", "in /nowhere/at/all the controllers"] {
        ensure!(told.contains(words), "{words}: {told}");
    }
    Ok(())
}
