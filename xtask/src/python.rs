//! The Python client: its environment, its tests, its types.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::part::{self, Outcome};
use crate::process;
use crate::workspace::Workspace;

const PACKAGE: &str = "clients/python";
const PROJECT: &str = "clients/python/pyproject.toml";
/// Minor version of Python 3; older ones cannot install the package.
const OLDEST: u32 = 10;
/// What was installed last, kept beside it.
const STAMP: &str = ".netra-installed";

/// pytest against the server, then mypy.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let target = process::target_folder(workspace)?;
    let environment = Environment {
        folder: target.join("python-venv"),
        python: Path::new("python3"),
    };
    let wish = format!("{PACKAGE}[test]");
    environment.pip(workspace, PROJECT, &["install", "--editable", &wish])?;
    let mut types = environment.module(workspace, "mypy");
    types.arg("--cache-dir").arg(target.join("mypy"));
    process::run(&mut types)?;
    let mut tests = environment.module(workspace, "pytest");
    tests
        .arg("-o")
        .arg(format!("cache_dir={}", target.join("pytest").display()))
        .env("NETRA_BINARY", target.join("debug/netra"));
    part::tests(&mut tests)
}

/// A folder with a Python of its own, so that nothing else on the machine is changed or found.
pub(crate) struct Environment<'a> {
    pub(crate) folder: PathBuf,
    /// The Python that it is made from.
    pub(crate) python: &'a Path,
}

impl Environment<'_> {
    /// Makes it anew, with what these arguments of `pip` bring into it, when the file `names` of the
    /// repository is not the one that was installed last.
    pub(crate) fn pip(&self, workspace: &Workspace, names: &str, pip: &[&str]) -> Result<()> {
        let wanted = self.wanted(workspace, names)?;
        let stamp = self.folder.join(STAMP);
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        println!("installing what {names} names");
        let mut make = process::command(workspace, self.python);
        make.args(["-m", "venv", "--clear"]).arg(&self.folder);
        process::run(&mut make)?;
        let mut install = process::command(workspace, self.python());
        install
            .args(["-m", "pip", "--quiet"])
            .args(pip)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        process::run(&mut install)?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }

    /// What says which environment it is: of which Python, for which checkout, with what.
    fn wanted(&self, workspace: &Workspace, names: &str) -> Result<String> {
        let (python, names) = (found(self.python)?, workspace.read(names)?);
        // What is installed to be edited stays where it is, and several checkouts may share a target folder.
        Ok(format!(
            "{python}\n{}\n{names}",
            workspace.path(".").display()
        ))
    }

    /// The same with the packages of a file that names each by checksum, as wheels only: no script of theirs runs.
    pub(crate) fn wheels(&self, workspace: &Workspace, requirements: &str) -> Result<()> {
        let install = [
            "install",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--requirement",
            requirements,
        ];
        self.pip(workspace, requirements, &install)
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// A program of the environment, in the folder of the package.
    fn module(&self, workspace: &Workspace, name: &str) -> Command {
        let mut command = process::command(workspace, self.python());
        command
            .args(["-m", name])
            .current_dir(workspace.path(PACKAGE))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// The version of a Python, once it is sure that it is new enough and can make environments.
fn found(python: &Path) -> Result<String> {
    let name = python.to_string_lossy();
    process::require(&name)?;
    let said = process::output(Command::new(python).arg("--version"))?;
    if minor(&said).with_context(|| format!("`{name} --version` said {said:?}"))? < OLDEST {
        bail!(
            "{} is too old; {}",
            said.trim(),
            process::missing("python3")
        );
    }
    // Debian has the two in a package of their own.
    if !can_make_environments(python) {
        bail!("{name} has no venv: `apt-get install python3-venv` on Debian");
    }
    Ok(format!("{name} {}", said.trim()))
}

pub(crate) fn can_make_environments(python: &Path) -> bool {
    let mut asked = Command::new(python);
    asked.args(["-c", "import ensurepip, venv"]);
    process::output(&mut asked).is_ok()
}

fn minor(said: &str) -> Option<u32> {
    let version = said.trim().strip_prefix("Python 3.")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read() {
        assert_eq!(minor("Python 3.11.7\n"), Some(11));
        assert!(minor("Python 3.9.2") < Some(OLDEST));
        assert_eq!(minor("Python 2.7.18"), None);
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let error = process::missing("python3").to_string();
        assert!(error.contains("apt-get install python3"), "{error}");
        assert!(!can_make_environments(Path::new("false")));
    }

    #[test]
    fn what_is_installed_is_not_installed_again() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        fs::create_dir_all(workspace.path(PACKAGE)).unwrap();
        fs::write(workspace.path(PROJECT), "[project]\n").unwrap();
        let python = Path::new("python3");
        let environment = Environment {
            folder: workspace.path("venv"),
            python,
        };
        fs::create_dir_all(&environment.folder).unwrap();
        let stamp = environment.folder.join(STAMP);
        fs::write(&stamp, environment.wanted(&workspace, PROJECT).unwrap()).unwrap();
        environment.pip(&workspace, PROJECT, &["install"]).unwrap();
        assert!(!environment.python().exists());
    }
}
