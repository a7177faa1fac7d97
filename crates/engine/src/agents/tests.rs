//! Loading agents: what is right, and that each flaw is named with its file and line.

use std::path::Path;

use netra_model::{Config, Models};
use netra_tools::{Policy, Registry};

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
    assert_eq!(
        load(Some(Path::new("/no/such/folder")), &[]).all().count(),
        0
    );
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
