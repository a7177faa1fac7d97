//! Loading agents: what is right, and that each flaw is named with its file and line.

use std::path::Path;

use netra_model::{Config, Models};
use netra_tools::{Policy, Registry};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn load(dir: Option<&Path>, builtin: &[EmbeddedAgent]) -> Agents {
    let registry = Registry::new(
        netra_tools::builtin::tools(),
        Policy::shipped("production").unwrap(),
    )
    .unwrap();
    Agents::load(
        builtin,
        dir,
        &registry,
        &Models::new(Config::default()).unwrap(),
    )
}

fn problem_of(toml: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("helper");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("agent.toml"), toml).unwrap();
    std::fs::write(folder.join("agent.py"), "{}").unwrap();
    std::fs::write(folder.join("bad.json"), "{\n  nope\n}").unwrap();
    let agents = load(Some(dir.path()), &[]);
    let problem = agents
        .get("helper")
        .unwrap()
        .problem
        .clone()
        .unwrap_or_default();
    problem.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn each_flaw_is_named_with_file_and_line() {
    let script = "description = \"x\"\nkind = \"script\"\nscript = \"agent.py\"\n";
    for (toml, expected) in [
        (script.to_owned(), ""),
        (
            format!("{script}speed = 3\n"),
            "agent.toml:4: unknown field `speed`",
        ),
        (
            format!("{script}tools = [\n  \"time_now\",\n  \"fly\",\n]\n"),
            "agent.toml:6: there is no tool named \"fly\"",
        ),
        (
            format!("{script}sub_agents = [\"nobody\"]\n"),
            "agent.toml:4: there is no agent named",
        ),
        (
            format!("{script}name = \"other\"\n"),
            "agent.toml:4: the name must be that of the folder",
        ),
        (
            format!("{script}input_schema = {{ type = 7 }}\n"),
            "agent.toml:4: this is not a valid JSON Schema",
        ),
        (
            format!("{script}input_schema = \"bad.json\"\n"),
            "bad.json:2: ",
        ),
        (format!("{script}model = \"no/model\"\n"), "agent.toml:4: "),
        (
            "description = \"x\"\nkind = \"script\"\nscript = \"gone.py\"\n".into(),
            "agent.toml:3: ",
        ),
        (
            "description = \"x\"\nkind = \"script\"\nscript = \"../../x\"\n".into(),
            "agent.toml:3: \"../../x\" is not the name of a file",
        ),
        (
            "description = \"x\"\nkind = \"model\"\n".into(),
            "agent.toml:2: this kind of agent needs the field `instructions`",
        ),
        (
            "description = \"x\"\nkind = \"native\"\n".into(),
            "agent.toml:2: the server has no native agent",
        ),
        (
            "description = \"x\"\nkind = \"magic\"\n".into(),
            "agent.toml:2: unknown variant `magic`",
        ),
        ("description = \n".into(), "agent.toml:1: "),
        (
            "kind = \"native\"\n".into(),
            "agent.toml:1: missing field `description`",
        ),
    ] {
        let problem = problem_of(&toml);
        let fits = if expected.is_empty() {
            problem.is_empty()
        } else {
            problem.starts_with(expected)
        };
        assert!(fits, "{toml}\n  gave {problem:?}\n  not  {expected:?}");
    }
}

#[test]
fn an_agent_behind_an_endpoint_says_where_and_nothing_else() {
    let http = "description = \"x\"\nkind = \"http\"\n";
    let at = format!("{http}url = \"http://10.0.0.7:8000/agent\"\n");
    for (toml, expected) in [
        (at.clone(), ""),
        (format!("{at}secret = \"key\"\nheader = \"X-Key\"\n"), ""),
        (
            http.to_owned(),
            "agent.toml:2: this kind of agent needs the field `url`",
        ),
        (
            format!("{http}url = \"ftp://x/\"\n"),
            "agent.toml:3: url: it must begin with http",
        ),
        (
            format!("{at}timeout_ms = 0\n"),
            "agent.toml:4: timeout_ms must be at least 1",
        ),
        (
            format!("{at}header = \"X-Key\"\n"),
            "agent.toml:4: a header needs a `secret`",
        ),
        (
            format!("{at}secret = \"a b\"\n"),
            "agent.toml:4: this is no name of a secret",
        ),
        (
            format!("{at}secret = \"key\"\nheader = \"Host\"\n"),
            "agent.toml:5: header: the protocol itself",
        ),
        (
            format!("{at}script = \"agent.py\"\n"),
            "agent.toml:4: only a script agent has a script",
        ),
        (
            "description = \"x\"\nkind = \"script\"\nscript = \"agent.py\"\nurl = \"http://x/\"\n"
                .into(),
            "agent.toml:4: only an http agent has a url",
        ),
    ] {
        let problem = problem_of(&toml);
        let fits = if expected.is_empty() {
            problem.is_empty()
        } else {
            problem.starts_with(expected)
        };
        assert!(fits, "{toml}\n  gave {problem:?}\n  not  {expected:?}");
    }
}

#[test]
fn a_folder_replaces_a_built_in_agent_and_changes_its_hash() {
    let builtin = EmbeddedAgent {
        name: "greeter",
        files: &[
            (
                "agent.toml",
                "description = \"one\"\nkind = \"script\"\nscript = \"a.py\"\n",
            ),
            ("a.py", "1"),
        ],
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("greeter");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in builtin.files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let one = load(None, &[builtin]);
    let same = load(Some(dir.path()), &[builtin]);
    assert_eq!(one.get("greeter").unwrap().origin, "built-in");
    assert_ne!(same.get("greeter").unwrap().origin, "built-in");
    assert_eq!(
        one.get("greeter").unwrap().hash,
        same.get("greeter").unwrap().hash
    );
    std::fs::write(folder.join("a.py"), "2").unwrap();
    let other = load(Some(dir.path()), &[builtin]);
    assert_ne!(
        one.get("greeter").unwrap().hash,
        other.get("greeter").unwrap().hash
    );
}

#[test]
fn a_model_agent_without_a_model_is_there_and_says_why_it_is_not_ready() {
    let builtin = EmbeddedAgent {
        name: "assistant",
        files: &[
            (
                "agent.toml",
                "description = \"x\"\nkind = \"model\"\ninstructions = \"i.md\"\n",
            ),
            ("i.md", "Be brief."),
        ],
    };
    let agents = load(None, &[builtin]);
    let agent = agents.get("assistant").unwrap().describe(&BTreeSet::new());
    assert!(!agent.ready);
    assert!(
        agent
            .problem
            .unwrap()
            .starts_with("agents/assistant/agent.toml:2: ")
    );
    assert_eq!(agents.check().len(), 1);
}

#[test]
fn a_folder_that_is_not_there_stops_nothing() {
    assert_eq!(load(Some(Path::new("/no/such/folder")), &[]).all().len(), 0);
}

/// A folder of agents, read again after each change.
struct Changing {
    dir: tempfile::TempDir,
    registry: Registry,
    models: Models,
    agents: Agents,
}

impl Changing {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = Policy::shipped("production").unwrap();
        let registry = Registry::new(netra_tools::builtin::tools(), policy).unwrap();
        let models = Models::new(Config::default()).unwrap();
        let agents = Agents::load(&[], Some(dir.path()), &registry, &models);
        Self {
            dir,
            registry,
            models,
            agents,
        }
    }

    fn write(&self, code: &str, more: &str) -> Vec<Change> {
        let folder = self.dir.path().join("greeter");
        std::fs::create_dir_all(&folder).unwrap();
        let head = "description = \"x\"\nkind = \"script\"\nscript = \"a.py\"\n";
        std::fs::write(folder.join("agent.toml"), format!("{head}{more}")).unwrap();
        std::fs::write(folder.join("a.py"), code).unwrap();
        self.again()
    }

    fn again(&self) -> Vec<Change> {
        let reading = self.agents.read_again(&self.registry, &self.models);
        self.agents.put(reading)
    }

    fn code(&self) -> String {
        match &self.agents.get("greeter").unwrap().body {
            Body::Script { code, .. } => code.clone(),
            other => panic!("no script: {other:?}"),
        }
    }
}

#[test]
fn a_newer_version_is_taken_and_a_broken_one_leaves_the_one_before() {
    let folder = Changing::new();
    let taken = || vec![Change::Taken("greeter".to_owned())];
    assert_eq!(folder.write("1", ""), taken());
    let first = folder.agents.get("greeter").unwrap();
    assert_eq!(folder.again(), []);
    assert_eq!(folder.write("2", ""), taken());
    assert_eq!(folder.code(), "2");
    // Whoever holds the earlier one holds it still.
    assert!(matches!(&first.body, Body::Script { code, .. } if code == "1"));

    let changes = folder.write("3", "tools = [\"fly\"]\n");
    let [Change::Broken(problem)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert!(
        problem.problem.contains("agent.toml:4: there is no tool"),
        "{problem:?}"
    );
    assert_eq!(folder.code(), "2");
    assert!(folder.agents.get("greeter").unwrap().problem.is_none());
    assert_eq!(folder.agents.check(), std::slice::from_ref(problem));
    // It is told once.
    assert_eq!(folder.again(), []);
    assert_eq!(folder.write("4", ""), taken());
    assert_eq!(
        (folder.code().as_str(), folder.agents.check().len()),
        ("4", 0)
    );
    // Back to what it was before is a change too, where something else was wrong meanwhile.
    folder.write("4", "tools = [\"fly\"]\n");
    assert_eq!(folder.write("4", ""), taken());

    std::fs::remove_file(folder.dir.path().join("greeter/agent.toml")).unwrap();
    assert_eq!(folder.again(), [Change::Gone("greeter".to_owned())]);
    assert!(folder.agents.get("greeter").is_none());
}

/// What is wrong with a model agent of these fields, beside an agent `other` of each kind that may be named.
fn problem_of_model(fields: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, file: &str, text: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file), text).unwrap();
    };
    let head = "description = \"x\"\nkind = \"model\"\ninstructions = \"i.md\"\n";
    let long = "a".repeat(60);
    for name in ["helper", "other", &long] {
        write(name, "i.md", "Be brief.");
        write(name, "agent.toml", head);
    }
    write("helper", "agent.toml", &format!("{head}{fields}"));
    write(
        "script",
        "agent.toml",
        "description = \"x\"\nkind = \"script\"\nscript = \"a.py\"\n",
    );
    write("script", "a.py", "{}");
    write("garbled", "agent.toml", "description = \n");
    let model = std::sync::Arc::new(netra_model::scripted::ScriptedModel::new("test", []));
    let models = Models::new(Config::default())
        .unwrap()
        .with(model)
        .with_default("test/model".parse().unwrap());
    let policy = Policy::shipped("production").unwrap();
    let registry = Registry::new(netra_tools::builtin::tools(), policy).unwrap();
    let agents = Agents::load(&[], Some(dir.path()), &registry, &models);
    let problem = agents.get("helper").unwrap().problem.clone();
    let folder = dir.path().join("helper");
    problem
        .unwrap_or_default()
        .replace(&format!("{}/", folder.display()), "")
}

#[test]
fn each_flaw_of_how_a_model_agent_works_is_named_with_its_line() {
    let long = "a".repeat(60);
    for (fields, expected) in [
        (
            "tools = [\"time_now\"]\nsub_agents = [\"other\", \"script\"]\nhandoffs = [\"other\"]\n\
             max_rounds = 3\nstop_after_tool = [\"time_now\", \"agent_other\"]\noutput_repairs = 0\n\
             context = \"summarise\"\ncontext_tokens = 1000\noutput_schema = { type = \"object\" }\n"
                .to_owned(),
            "",
        ),
        (
            "sub_agents = [\"nobody\"]\n".into(),
            "agent.toml:4: there is no agent named \"nobody\"",
        ),
        (
            "tools = []\nhandoffs = [\n \"other\",\n \"nobody\",\n]\n".into(),
            "agent.toml:7: there is no agent named \"nobody\"",
        ),
        (
            "handoffs = [\"script\"]\n".into(),
            "agent.toml:4: only a model agent can take a conversation over",
        ),
        (
            "handoffs = [\"garbled\"]\n".into(),
            "agent.toml:4: only a model agent can take a conversation over",
        ),
        (
            "sub_agents = [\"other\", \"other\"]\n".into(),
            "agent.toml:4: the model would have two tools named \"agent_other\"",
        ),
        (
            format!("sub_agents = [\"{long}\"]\n"),
            "agent.toml:4: \"agent_aaaa",
        ),
        (
            "max_rounds = 0\n".into(),
            "agent.toml:4: a model agent needs one round at least",
        ),
        ("max_rounds = -1\n".into(), "agent.toml:4: "),
        (
            "stop_after_tool = [\"time_now\"]\n".into(),
            "agent.toml:4: \"time_now\" is neither in `tools` nor",
        ),
        (
            "handoffs = [\"other\"]\nstop_after_tool = [\"handoff_other\"]\n".into(),
            "agent.toml:5: \"handoff_other\" is neither in `tools` nor",
        ),
        (
            "output_schema = { type = \"object\" }\noutput_repairs = 11\n".into(),
            "agent.toml:5: a result is sent back 10 times at most",
        ),
        (
            "output_repairs = 1\n".into(),
            "agent.toml:4: without `output_schema` every result fits",
        ),
        (
            "context = \"forget\"\n".into(),
            "agent.toml:4: unknown variant `forget`",
        ),
        (
            "context_tokens = 999\n".into(),
            "agent.toml:4: a conversation needs room for 1000 tokens at least",
        ),
    ] {
        let problem = problem_of_model(&fields);
        let fits = match expected {
            "" => problem.is_empty(),
            expected => problem.starts_with(expected),
        };
        assert!(fits, "{fields}\n  gave {problem:?}\n  not  {expected:?}");
    }
}

#[test]
fn how_a_model_agent_works_is_for_model_agents_only() {
    for (field, name) in [
        ("handoffs = [\"helper\"]", "handoffs"),
        ("max_rounds = 1", "max_rounds"),
        ("stop_after_tool = [\"time_now\"]", "stop_after_tool"),
        ("output_repairs = 1", "output_repairs"),
        ("context = \"trim\"", "context"),
        ("context_tokens = 5000", "context_tokens"),
    ] {
        let toml =
            format!("description = \"x\"\nkind = \"script\"\nscript = \"agent.py\"\n{field}\n");
        let expected = format!("agent.toml:4: only a model agent has `{name}`");
        assert_eq!(problem_of(&toml), expected);
    }
}

/// An agent file that is right.
const RIGHT: &str = "description = \"x\"\nkind = \"script\"\nscript = \"agent.py\"\ntools = [\"time_now\"]\n\
    sub_agents = []\ninput_schema = { type = \"object\" }\nstate = true\nlisted = false\n";

/// What a folder with this file makes, whatever is in it.
fn made_of(text: &[u8]) -> Agents {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("helper");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("agent.toml"), text).unwrap();
    std::fs::write(folder.join("agent.py"), "pass\n").unwrap();
    load(Some(dir.path()), &[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_agent_file_is_an_agent_or_a_problem(
        places in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut damaged = RIGHT.as_bytes().to_vec();
        for (place, byte) in places {
            let place = place.index(damaged.len());
            damaged[place] = byte;
        }
        for text in [damaged, bytes] {
            let agents = made_of(&text);
            prop_assert!(agents.get("helper").is_some(), "it is listed, with its problem");
        }
    }

    #[test]
    fn what_an_agent_file_says_is_what_is_shown(words in "[^\\x00-\\x1f\\x7f]{1,60}") {
        let told = toml::Value::String(words.clone());
        let text = format!("description = {told}\nkind = \"script\"\nscript = \"agent.py\"\n");
        let agents = made_of(text.as_bytes());
        let agent = agents.get("helper").unwrap();
        prop_assert_eq!(agent.problem.as_deref(), None);
        prop_assert_eq!(&agent.description, words.trim());
    }
}
