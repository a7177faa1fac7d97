//! Licences, bans and sources of third-party crates, held against deny.toml.

use anyhow::{Context as _, Result, bail};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::finding::Finding;
use crate::process;
use crate::workspace::Workspace;

const FILE: &str = "deny.toml";
const PAGE_LOCK: &str = "ui/package-lock.json";
/// What only tests of the page use: run in a test's browser, never linked, never part of what is
/// built or shipped. Nothing else may use the licence, and no source of the page may name it.
const FOR_TESTS: (&str, &str) = ("axe-core", "MPL-2.0");
/// What the page and the client for others are built from.
const PAGE_SOURCES: [&str; 2] = ["ui/src", "ui/client"];

/// What deny.toml says, as far as this program answers for it.
#[derive(Debug, Default)]
struct Policy {
    allow: Vec<String>,
    exceptions: Vec<(String, Vec<String>)>,
    banned: Vec<(String, String)>,
    registries: Vec<String>,
}

/// A package of the lock file that is not ours.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    source: String,
}

pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let policy = Policy::read(&workspace.read(FILE)?)?;
    let packages = packages(workspace)?;
    let mut findings: Vec<Finding> = packages
        .iter()
        .flat_map(|package| policy.judge(package))
        .collect();
    if workspace.path(PAGE_LOCK).is_file() {
        findings.extend(policy.judge_page(&workspace.read(PAGE_LOCK)?)?);
        findings.extend(test_tools_in_sources(workspace)?);
    }
    Ok(findings)
}

/// What is for tests only, and stands in what is built.
fn test_tools_in_sources(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for folder in PAGE_SOURCES {
        for file in workspace.files(folder, "")? {
            if workspace.read(&file)?.contains(FOR_TESTS.0) {
                let text = format!("{} is for the tests in ui/e2e only", FOR_TESTS.0);
                findings.push(Finding::new(&file, None, "licence", text));
            }
        }
    }
    Ok(findings)
}

/// One line for each third-party crate.
pub(crate) fn listing(workspace: &Workspace) -> Result<String> {
    let line = |package: Package| {
        let licence = package.licence.unwrap_or_else(|| "(none)".to_owned());
        format!("{:<32} {:<16} {licence}\n", package.name, package.version)
    };
    Ok(packages(workspace)?.into_iter().map(line).collect())
}

/// All packages of the lock file, for every platform; fails when the lock file is stale.
fn packages(workspace: &Workspace) -> Result<Vec<Package>> {
    let args = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--all-features",
    ];
    let text = process::output(&mut process::cargo(workspace, &args))?;
    let metadata: Json = serde_json::from_str(&text)?;
    let all = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let mut packages = Vec::new();
    for package in all {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        let name = text("name").context("a package without a name")?;
        // Without a source it is a folder of this repository, hence ours.
        let Some(source) = text("source") else {
            continue;
        };
        let version = text("version").context("a package without a version")?;
        packages.push(Package {
            name,
            version,
            licence: text("license"),
            source,
        });
    }
    Ok(packages)
}

impl Policy {
    fn read(text: &str) -> Result<Self> {
        let file: Table = text.parse().with_context(|| format!("{FILE} is no TOML"))?;
        let licences = file
            .get("licenses")
            .context("deny.toml has no [licenses]")?;
        let mut policy = Self {
            allow: strings(licences.get("allow"))?,
            ..Self::default()
        };
        if policy.allow.is_empty() {
            bail!("deny.toml allows no licence");
        }
        for exception in array(licences.get("exceptions"))? {
            let name = exception.get("crate").and_then(Value::as_str);
            let name = name
                .context("an exception in deny.toml names no crate")?
                .to_owned();
            policy
                .exceptions
                .push((name, strings(exception.get("allow"))?));
        }
        let bans = file.get("bans").context("deny.toml has no [bans]")?;
        for ban in array(bans.get("deny"))? {
            let text = |key| ban.get(key).and_then(Value::as_str).map(str::to_owned);
            let name = text("crate").context("a ban in deny.toml names no crate")?;
            policy.banned.push((
                name,
                text("reason").context("a ban in deny.toml has no reason")?,
            ));
        }
        let sources = file.get("sources").context("deny.toml has no [sources]")?;
        policy.registries = strings(sources.get("allow-registry"))?;
        Ok(policy)
    }

    fn judge(&self, package: &Package) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut refuse = |rule, text: String| {
            let text = format!("{} {}: {text}", package.name, package.version);
            findings.push(Finding::new(FILE, None, rule, text));
        };
        if let Some((_, reason)) = self.banned.iter().find(|(name, _)| *name == package.name) {
            refuse("banned crate", reason.clone());
        }
        let registry = package.source.strip_prefix("registry+");
        if !registry.is_some_and(|url| self.registries.iter().any(|known| known == url)) {
            refuse(
                "source",
                format!("{} is no registry that we take from", package.source),
            );
        }
        match &package.licence {
            None => refuse("licence", "it names none".to_owned()),
            Some(licence) => match satisfied(licence, &|id| self.admits(&package.name, id)) {
                Ok(true) => {}
                Ok(false) => refuse("licence", format!("{licence} is not admitted")),
                Err(error) => refuse("licence", format!("{licence} is not understood: {error}")),
            },
        }
        findings
    }

    /// The packages of the web page, its build tools too, stand under the same list.
    fn judge_page(&self, lock: &str) -> Result<Vec<Finding>> {
        let lock: Json =
            serde_json::from_str(lock).with_context(|| format!("{PAGE_LOCK}: JSON"))?;
        let packages = lock["packages"].as_object();
        let packages = packages.with_context(|| format!("{PAGE_LOCK} names no packages"))?;
        let mut findings = Vec::new();
        // The page itself and its own packages stand outside of node_modules, linked from there.
        let foreign = |path: &str, package: &Json| {
            path.contains("node_modules/") && package["link"] != Json::Bool(true)
        };
        for (path, package) in packages.iter().filter(|(path, one)| foreign(path, one)) {
            let name = path.rsplit("node_modules/").next().unwrap_or(path);
            let licence = package["license"].as_str().unwrap_or_default();
            // A package for development is none that the page is built from.
            let for_tests = (name, licence) == FOR_TESTS && package["dev"] == Json::Bool(true);
            let admitted = satisfied(licence, &|id| self.admits(name, id)).unwrap_or(false);
            if !admitted && !for_tests {
                let text = format!("{name}: {licence:?} is not admitted by {FILE}");
                findings.push(Finding::new(PAGE_LOCK, None, "licence", text));
            }
        }
        Ok(findings)
    }

    fn admits(&self, package: &str, id: &str) -> bool {
        let excepted = self.exceptions.iter().filter(|(name, _)| name == package);
        self.allow
            .iter()
            .chain(excepted.flat_map(|(_, ids)| ids))
            .any(|known| known == id)
    }
}

fn array(value: Option<&Value>) -> Result<Vec<Value>> {
    match value {
        None => Ok(Vec::new()),
        Some(value) => Ok(value
            .as_array()
            .context("deny.toml: a list is expected")?
            .clone()),
    }
}

fn strings(value: Option<&Value>) -> Result<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    array(value)?
        .iter()
        .map(text)
        .collect::<Option<_>>()
        .context("deny.toml: texts are expected")
}

/// Whether an SPDX expression can be met with admitted licences. `/` is the old way to write OR.
fn satisfied(expression: &str, admits: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let good = any_of(&mut rest, admits)?;
    match rest.first() {
        None => Ok(good),
        Some(word) => bail!("`{word}` is too much"),
    }
}

fn any_of(rest: &mut &[&str], admits: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut good = all_of(rest, admits)?;
    while take(rest, "OR") {
        // Read both sides whatever the first gave, so that nonsense is always noticed.
        good |= all_of(rest, admits)?;
    }
    Ok(good)
}

fn all_of(rest: &mut &[&str], admits: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut good = one(rest, admits)?;
    while take(rest, "AND") {
        good &= one(rest, admits)?;
    }
    Ok(good)
}

fn one(rest: &mut &[&str], admits: &dyn Fn(&str) -> bool) -> Result<bool> {
    if take(rest, "(") {
        let good = any_of(rest, admits)?;
        if !take(rest, ")") {
            bail!("a bracket is not closed");
        }
        return Ok(good);
    }
    let id = name(rest)?;
    if take(rest, "WITH") {
        let exception = name(rest)?;
        return Ok(admits(&format!("{id} WITH {exception}")));
    }
    Ok(admits(id))
}

fn name<'a>(rest: &mut &[&'a str]) -> Result<&'a str> {
    match rest.split_first() {
        Some((word, tail)) if !["AND", "OR", "WITH", "(", ")"].contains(word) => {
            *rest = tail;
            Ok(word)
        }
        _ => bail!("a licence is expected"),
    }
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, tail)) if *first == word => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0", "BSD-3-Clause"]
        exceptions = [{ crate = "roots", allow = ["CDLA-Permissive-2.0"] }]
        [bans]
        deny = [{ crate = "openssl", reason = "one TLS stack" }]
        [sources]
        allow-registry = ["https://registry.test/index"]
    "#;

    fn rules(name: &str, licence: Option<&str>, source: &str) -> Vec<&'static str> {
        let package = Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
            source: source.to_owned(),
        };
        let findings = Policy::read(POLICY).unwrap().judge(&package);
        findings.into_iter().map(|finding| finding.rule).collect()
    }

    const HOME: &str = "registry+https://registry.test/index";

    #[test]
    fn licences_are_held_against_the_list() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR GPL-3.0) AND BSD-3-Clause",
        ] {
            assert_eq!(rules("a", Some(good), HOME), [""; 0], "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "MIT OR",
            "(MIT",
            "MIT Apache-2.0",
            "",
        ] {
            assert_eq!(rules("a", Some(bad), HOME), ["licence"], "{bad}");
        }
        assert_eq!(rules("a", None, HOME), ["licence"]);
    }

    #[test]
    fn an_exception_is_for_its_crate_only() {
        assert_eq!(rules("roots", Some("CDLA-Permissive-2.0"), HOME), [""; 0]);
        assert_eq!(rules("a", Some("CDLA-Permissive-2.0"), HOME), ["licence"]);
    }

    #[test]
    fn banned_crates_and_other_sources_fail() {
        assert_eq!(rules("openssl", Some("MIT"), HOME), ["banned crate"]);
        for source in [
            "git+https://registry.test/index",
            "registry+https://other.test/index",
        ] {
            assert_eq!(rules("a", Some("MIT"), source), ["source"]);
        }
    }

    #[test]
    fn packages_of_the_page_stand_under_the_same_list() {
        let policy = Policy::read(POLICY).unwrap();
        let judge = |licence: &str| {
            let lock = format!(
                r#"{{"packages": {{"": {{}}, "node_modules/a/node_modules/b": {{ {licence} }}}}}}"#
            );
            policy.judge_page(&lock).unwrap()
        };
        assert_eq!(judge(r#""license": "(MPL-2.0 OR Apache-2.0)""#), []);
        assert_eq!(judge(r#""license": "MPL-2.0""#).len(), 1);
        let found = judge("");
        assert!(found[0].text.starts_with("b: "), "{found:?}");
        let own = r#"{"packages": {"client": {"license": "UNLICENSED"},
            "node_modules/@netra/client": {"resolved": "client", "link": true}}}"#;
        assert_eq!(policy.judge_page(own).unwrap(), []);
        policy.judge_page("{}").unwrap_err();
    }

    #[test]
    fn what_only_tests_use_is_excepted_by_name_and_only_for_development() {
        let policy = Policy::read(POLICY).unwrap();
        let judge = |name: &str, rest: &str| {
            let lock = format!(
                r#"{{"packages": {{"node_modules/{name}": {{"license": "MPL-2.0"{rest}}}}}}}"#
            );
            policy.judge_page(&lock).unwrap().len()
        };
        assert_eq!(judge("axe-core", r#", "dev": true"#), 0);
        assert_eq!(judge("axe-core", ""), 1);
        assert_eq!(judge("other", r#", "dev": true"#), 1);
        assert_eq!(rules("axe-core", Some("MPL-2.0"), HOME), ["licence"]);
    }

    #[test]
    fn what_only_tests_use_is_refused_in_the_sources_of_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["ui/e2e/visitor.mjs", "ui/src/main.ts", "ui/client/index.ts"]
            .map(|path| (path, "import axe from 'axe-core';"));
        let workspace = Workspace::with_files(folder.path(), &files);
        let found = test_tools_in_sources(&workspace).unwrap();
        let files: Vec<&str> = found.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(files, ["ui/src/main.ts", "ui/client/index.ts"]);
    }

    #[test]
    fn a_policy_that_says_nothing_is_an_error() {
        for text in [
            "",
            "[licenses]\nallow = []\n[bans]\n[sources]",
            "[licenses]\nallow = 'MIT'",
        ] {
            assert!(Policy::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn our_own_policy_is_understood() {
        let workspace = Workspace::find().unwrap();
        let policy = Policy::read(&workspace.read(FILE).unwrap()).unwrap();
        assert!(policy.admits("any", "MIT") && !policy.admits("any", "GPL-3.0-only"));
    }
}
