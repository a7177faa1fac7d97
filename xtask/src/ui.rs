//! The web page: build, type check and tests.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::node;
use crate::process;
use crate::tally::Tally;
use crate::workspace::Workspace;

const BUILT: &str = "ui/dist/index.html";

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    match args {
        [] => {
            require_sources(workspace)?;
            node::check()?;
            build(workspace)?;
            println!("built ui/dist");
            Ok(ExitCode::SUCCESS)
        }
        [flag] if flag == "--check" => {
            let (tally, good) = check(workspace)?;
            println!("{tally}");
            Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        _ => bail!("`cargo xtask ui` takes only --check; see `cargo xtask ui --help`"),
    }
}

pub(crate) fn require_sources(workspace: &Workspace) -> Result<()> {
    if workspace.path("ui/package.json").is_file() {
        return Ok(());
    }
    bail!("ui/package.json is missing: the clone has no web page")
}

/// Installs what is needed and builds ui/dist.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    node::install(workspace)?;
    process::run(&mut node::npm(workspace, &["run", "build"]))?;
    if !workspace.path(BUILT).is_file() {
        bail!("`npm run build` left no {BUILT}");
    }
    Ok(())
}

/// Type check, tests and build. Gives the count of the tests and whether all is well.
pub(crate) fn check(workspace: &Workspace) -> Result<(Tally, bool)> {
    require_sources(workspace)?;
    node::check()?;
    node::install(workspace)?;
    process::run(&mut node::npm(workspace, &["run", "check"]))?;
    let mut tally = Tally::default();
    let mut tests = node::npm(workspace, &["run", "test"]);
    tests.env("CI", "1").env("NO_COLOR", "1");
    let good = process::watch(&mut tests, |line| tally.read(line))?;
    if good && tally.ran() == 0 {
        bail!("the tests of the web page gave no count: vitest must print its summary");
    }
    build(workspace)?;
    Ok((tally, good))
}

/// Whether ui/dist is there and no source is newer.
pub(crate) fn is_fresh(workspace: &Workspace) -> Result<bool> {
    let Ok(built) = fs::metadata(workspace.path(BUILT)) else {
        return Ok(false);
    };
    let built = built.modified()?;
    let newest = workspace
        .files("ui", "")?
        .iter()
        .map(|file| modified(&workspace.path(file)))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .max();
    Ok(newest.is_some_and(|newest| newest <= built))
}

fn modified(path: &Path) -> Result<SystemTime> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.modified()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn write(workspace: &Workspace, path: &str, time: SystemTime) {
        let path = workspace.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(&path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn the_page_is_built_again_only_when_a_source_is_newer() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        write(&workspace, "ui/src/main.ts", built - Duration::from_secs(5));
        write(
            &workspace,
            "ui/node_modules/p/index.js",
            built + Duration::from_secs(5),
        );
        assert!(!is_fresh(&workspace).unwrap());
        write(&workspace, BUILT, built);
        assert!(is_fresh(&workspace).unwrap());
        write(&workspace, "ui/src/main.ts", built + Duration::from_secs(1));
        assert!(!is_fresh(&workspace).unwrap());
    }

    #[test]
    fn a_clone_without_the_page_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        check(&Workspace::at(folder.path())).unwrap_err();
    }
}
