//! The shipped policies as people read them, policies of an operator, and what is refused at start.

use std::sync::Arc;

use netra_context::{Principal, Rights, Runtime};
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::UserId;
use netra_protocol::limits::Limits;
use netra_protocol::tool::Risk;
use serde_json::{Value, json};

use super::*;
use crate::tool::ToolSpec;

const PLANS: [Plan; 3] = [Plan::Free, Plan::Pro, Plan::Enterprise];
const ROLES: [Role; 3] = [Role::User, Role::Developer, Role::Admin];

fn principal(role: Role, plan: Plan) -> Principal {
    Principal {
        user_id: Runtime::new().new_id(UserId::from_parts),
        role,
        plan,
        groups: Arc::default(),
        rights: Rights::of_role(role),
        limits: Arc::new(Limits::default()),
        session: None,
    }
}

fn tool(name: &str, permission: &str, risk: Risk) -> ToolSpec {
    ToolSpec {
        name: name.into(),
        description: String::new(),
        input_schema: json!({}),
        permission: permission.into(),
        risk,
        idempotent: true,
        needs_approval: false,
    }
}

fn ask<'a>(principal: &'a Principal, tool: &'a ToolSpec) -> Question<'a> {
    Question {
        principal,
        tool,
        agent: "data",
        thread: None,
    }
}

fn policies(text: &str) -> Policy {
    Policy::of(&[("own.cedar".into(), text.into())], "production").unwrap()
}

fn mistakes(text: &str) -> String {
    let refused = Policy::of(&[("own.cedar".into(), text.into())], "production");
    refused.unwrap_err().to_string()
}

/// Permission by plan (free, pro, enterprise) and role (user, developer, admin): `+` may, `-` may not.
fn table(environment: &str) -> String {
    let policy = Policy::shipped(environment).unwrap();
    let permissions = [
        "basic",
        "artifacts",
        "memory",
        "web",
        "external",
        "analytics",
        "data_management",
        "advanced_optimization",
        "system_management",
        "developer_tools",
        "teleport",
    ];
    let mut table = String::new();
    for permission in permissions {
        let spec = tool("t", permission, Risk::Low);
        let mut row = format!("{permission:<22}");
        for plan in PLANS {
            for role in ROLES {
                let principal = principal(role, plan);
                let verdict = policy.decide(&ask(&principal, &spec), &json!({}));
                assert_eq!(policy.offers(&ask(&principal, &spec)), verdict);
                row.push(if verdict == Verdict::Allowed {
                    '+'
                } else {
                    '-'
                });
            }
            row.push(' ');
        }
        table.push_str(row.trim_end());
        table.push('\n');
    }
    table
}

#[test]
fn the_shipped_table() {
    let outside_production = "\
basic                 +++ +++ +++
artifacts             +++ +++ +++
memory                +++ +++ +++
web                   --- +++ +++
external              --- +++ +++
analytics             +++ +++ +++
data_management       --- +++ +++
advanced_optimization --- --- +++
system_management     --- --- --+
developer_tools       -++ -++ -++
teleport              --- --- ---
";
    assert_eq!(table("development"), outside_production);
    assert_eq!(table("staging"), outside_production);
    let in_production = outside_production.replace(
        "developer_tools       -++ -++ -++",
        "developer_tools       --- --- ---",
    );
    assert_eq!(table("production"), in_production);
}

#[test]
fn who_is_refused_is_told_what_is_missing() {
    let policy = Policy::shipped("production").unwrap();
    let user = principal(Role::User, Plan::Free);
    let reason = |permission| match policy
        .decide(&ask(&user, &tool("t", permission, Risk::Low)), &json!({}))
    {
        Verdict::Refused(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        reason("data_management"),
        "the permission \"data_management\" needs the plan pro or enterprise"
    );
    assert_eq!(
        reason("teleport"),
        "no policy grants the permission \"teleport\""
    );
}

#[test]
fn a_person_is_asked_before_what_is_risky_or_wants_it() {
    let policy = Policy::shipped("production").unwrap();
    let user = principal(Role::User, Plan::Free);
    let decide = |spec: &ToolSpec| policy.decide(&ask(&user, spec), &json!({}));
    assert_eq!(decide(&tool("t", "basic", Risk::Medium)), Verdict::Allowed);
    let risky = decide(&tool("t", "basic", Risk::High));
    assert_eq!(
        risky,
        Verdict::AfterApproval("the policy asks a person before this call".into())
    );
    let careful = ToolSpec {
        needs_approval: true,
        ..tool("t", "basic", Risk::Low)
    };
    assert_eq!(
        decide(&careful),
        Verdict::AfterApproval("the tool asks a person before each call".into())
    );
    // Users are told so before they call.
    for spec in [&careful, &tool("t", "basic", Risk::High)] {
        assert_eq!(policy.offers(&ask(&user, spec)), decide(spec));
    }
    // Nobody is asked for what may not be done.
    assert!(!decide(&tool("t", "system_management", Risk::High)).permits());
}

const BY_ARGUMENTS: &str = r#"
@id("fetch")
permit (principal, action == Netra::Action::"call", resource == Netra::Tool::"fetch")
when { context.text.hasTag("url") && context.text.getTag("url") like "https://example.com/*" };
@id("spend")
permit (principal, action == Netra::Action::"call", resource == Netra::Tool::"spend");
@id("unasked")
permit (principal, action == Netra::Action::"call_unasked", resource)
unless { context.number.hasTag("order.cents") && context.number.getTag("order.cents") >= 1000 };
@id("no_secrets") @reason("secrets stay here")
forbid (principal, action == Netra::Action::"call", resource)
when { context.text.hasTag("options.paths.1") && context.text.getTag("options.paths.1") like "*secret*" };
"#;

#[test]
fn policies_see_arguments_by_their_paths() {
    let policy = policies(BY_ARGUMENTS);
    let user = principal(Role::User, Plan::Free);
    let (fetch, spend) = (tool("fetch", "x", Risk::Low), tool("spend", "x", Risk::Low));
    let decide = |spec: &ToolSpec, arguments: Value| policy.decide(&ask(&user, spec), &arguments);
    assert_eq!(
        decide(&fetch, json!({"url": "https://example.com/a"})),
        Verdict::Allowed
    );
    assert!(!decide(&fetch, json!({"url": "https://example.org/a"})).permits());
    assert!(!decide(&fetch, json!({"url": ["https://example.com/a"]})).permits());
    assert!(!decide(&fetch, json!({})).permits());
    // Some call of it would be permitted, so users and models are told of the tool.
    assert_eq!(policy.offers(&ask(&user, &fetch)), Verdict::Allowed);
    assert_eq!(
        decide(&spend, json!({"order": {"cents": 999}})),
        Verdict::Allowed
    );
    let dear = decide(&spend, json!({"order": {"cents": 1000}}));
    assert!(matches!(dear, Verdict::AfterApproval(_)));
    let secret = decide(&spend, json!({"options": {"paths": ["a", "my-secrets"]}}));
    assert_eq!(secret, Verdict::Refused("secrets stay here".into()));
}

/// Such a policy passed every check and was taken for one that asks about no argument, so that it was given none.
#[test]
fn a_policy_that_names_the_arguments_by_their_entity_forbids_what_it_says() {
    let user = principal(Role::User, Plan::Free);
    let spec = tool("t", "x", Risk::Low);
    for (entity, secret) in [
        (
            "Netra::Text::\"arguments\"",
            json!({"path": "my-secret.txt"}),
        ),
        ("Netra::Number::\"arguments\"", json!({"path": 7})),
    ] {
        let says = match entity.contains("Text") {
            true => "like \"*secret*\"",
            false => "== 7",
        };
        let policy = policies(&format!(
            "permit (principal, action, resource);\nforbid (principal, action, resource)\n\
             when {{ {entity}.hasTag(\"path\") && {entity}.getTag(\"path\") {says} }};"
        ));
        let decide = |arguments| policy.decide(&ask(&user, &spec), &arguments);
        assert!(!decide(secret).permits(), "{entity}");
        assert!(
            decide(json!({"path": "open", "n": 7})).permits(),
            "{entity}"
        );
    }
}

#[test]
fn arguments_that_could_hide_from_a_policy_are_refused() {
    let policy = policies(BY_ARGUMENTS);
    let user = principal(Role::User, Plan::Free);
    let spend = tool("spend", "x", Risk::Low);
    let refused = |arguments: Value| match policy.decide(&ask(&user, &spend), &arguments) {
        Verdict::Refused(reason) => reason,
        other => panic!("{other:?}"),
    };
    let twice = json!({"order.cents": 1, "order": {"cents": 100_000}});
    assert!(refused(twice).contains("two arguments have the path"));
    let deep = (0..40).fold(json!("my-secret"), |inner, _| json!({ "a": inner }));
    assert!(refused(deep).contains("more parts"));
    let many: Vec<i32> = (0..5_000).collect();
    assert!(refused(json!({ "n": many })).contains("more parts"));
}

#[test]
fn a_policy_that_cannot_be_evaluated_refuses_the_call() {
    let policy = policies(
        r#"permit (principal, action, resource);
           forbid (principal, action == Netra::Action::"call", resource)
           when { context.number.hasTag("n") && context.number.getTag("n") + 9223372036854775807 == 0 };"#,
    );
    let user = principal(Role::User, Plan::Free);
    let spec = tool("t", "x", Risk::Low);
    let question = ask(&user, &spec);
    assert_eq!(policy.decide(&question, &json!({"n": 0})), Verdict::Allowed);
    assert_eq!(
        policy.decide(&question, &json!({"n": 5})),
        Verdict::Refused(BROKEN.into())
    );
}

#[test]
fn it_is_explained_which_policies_decide() {
    let policy = policies(BY_ARGUMENTS);
    let user = principal(Role::User, Plan::Free);
    let spend = tool("spend", "x", Risk::Low);
    let explained = policy.explain(&ask(&user, &spend), &json!({}));
    assert_eq!(explained.verdict, Verdict::Allowed);
    assert_eq!(
        (explained.call, explained.asking),
        (vec!["spend".to_owned()], vec!["unasked".to_owned()])
    );
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    let syntax =
        mistakes("permit (principal, action, resource);\n\npermit (principal action, resource);");
    assert!(syntax.starts_with("own.cedar:3: "), "{syntax}");
    let unknown = mistakes("permit (principal, action, resource) when { principal.rank == 1 };");
    assert!(unknown.contains("rank"), "{unknown}");
    let twice = mistakes(
        "@id(\"a\") permit (principal, action, resource); @id(\"a\") permit (principal, action, resource);",
    );
    assert!(twice.contains("two policies with the id \"a\""), "{twice}");
    let template = mistakes("permit (principal == ?principal, action, resource);");
    assert!(template.contains("templates"), "{template}");
    assert!(template.starts_with("own.cedar:1: "), "{template}");
    let lines = mistakes(
        "// one\npermit (principal, action, resource);\n\n@id(\"a\")\npermit (principal, action, resource)\nwhen { principal.rank == 1 };",
    );
    assert!(lines.starts_with("own.cedar:4: "), "{lines}");
}

/// The bound of a misspelt annotation was silently gone, and a plan that there is not permitted or forbade nothing.
#[test]
fn what_fits_the_schema_and_says_nothing_is_a_mistake() {
    for (policy, words) in [
        (
            "permit (principal, action, resource);\n// ;\n@id(\"a;b\")\n@rates(\"5/hour\")\npermit (principal, action, resource);",
            "own.cedar:4: there is no annotation @rates",
        ),
        (
            "permit (principal, action, resource)\nwhen { principal.plan == \"gold\" };",
            "own.cedar:2: plan is never \"gold\"",
        ),
        (
            "permit (principal, action, resource)\nwhen { [\"pro\", \"gold\"].contains(principal.plan) };",
            "own.cedar:2: plan is never \"gold\"",
        ),
        (
            "forbid (principal, action, resource)\nunless { \"root\" == principal.role };",
            "own.cedar:2: role is never \"root\"",
        ),
        (
            "forbid (principal, action, resource)\nwhen { resource.risk != \"hgih\" };",
            "own.cedar:2: risk is never \"hgih\"",
        ),
        (
            "forbid (principal, action, resource)\nwhen { context.environment == \"prod\" };",
            "own.cedar:2: environment is never \"prod\"",
        ),
        (
            "forbid (principal, action, resource)\nwhen { Netra::Text::\"argument\".hasTag(\"path\") };",
            "own.cedar:2: there is no Netra::Text::\"argument\"",
        ),
        ("// nothing", "own.cedar:1: no policy in it"),
    ] {
        let told = mistakes(policy);
        assert!(told.starts_with(words), "{policy}: {told}");
    }
}

#[test]
fn tools_and_permissions_that_there_are_not_are_found_with_their_line() {
    let known = Known {
        tools: ["save_file".to_owned()].into(),
        servers: ["git".to_owned()].into(),
        permissions: ["basic".to_owned(), "house".to_owned()].into(),
    };
    let findings = |text: &str| policies(text).findings(&known);
    let forbid =
        |tool: &str| format!("\nforbid (principal, action,\nresource == Netra::Tool::\"{tool}\");");
    for (policy, mistakes, doubts) in [
        (forbid("save_file"), "", ""),
        (forbid("my_notes"), "", ""),
        (forbid("save_fil"), "own.cedar:3: there is no tool \"save_fil\"", ""),
        (forbid("git__push"), "", "own.cedar:3: whether there is a tool \"git__push\""),
        (forbid("gti__push"), "", "own.cedar:3: there is no tool \"gti__push\""),
        (
            "forbid (principal, action, resource) when { resource.name == \"gone\" };".into(),
            "own.cedar:1: there is no tool \"gone\"",
            "",
        ),
        (
            "permit (principal, action, resource) when {\n[\"web\", \"house\", \"webb\"].contains(resource.permission) };".into(),
            "own.cedar:2: no tool has the permission \"webb\"",
            "",
        ),
    ] {
        let found = findings(&policy);
        for (found, wanted) in [(found.mistakes, mistakes), (found.doubts, doubts)] {
            let fits = found.len() == usize::from(!wanted.is_empty()) && found.concat().starts_with(wanted);
            assert!(fits, "{policy}: {found:?}");
        }
    }
    let shipped = Policy::shipped("production")
        .unwrap()
        .findings(&Known::default());
    assert_eq!(shipped, Findings::default());
    let beside = [
        ("a.cedar", "permit (principal, action, resource);"),
        ("b.cedar", "// later"),
    ];
    let beside = beside.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let found = Policy::of(&beside, "production").unwrap().findings(&known);
    assert_eq!(found.doubts, ["b.cedar:1: there is no policy in it"]);
}

#[test]
fn a_folder_is_read_in_the_order_of_names_and_an_empty_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let empty = Policy::read(dir.path(), "production")
        .unwrap_err()
        .to_string();
    assert!(empty.contains("netra policy print"), "{empty}");
    std::fs::write(
        dir.path().join("b.cedar"),
        "@id(\"b\") permit (principal, action, resource);",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("a.cedar"),
        "@id(\"a\") forbid (principal, action, resource);",
    )
    .unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not a policy").unwrap();
    let policy = Policy::read(dir.path(), "production").unwrap();
    assert_eq!(policy.len(), 2);
    let missing = Policy::read(&dir.path().join("none"), "production").unwrap_err();
    assert!(missing.to_string().contains("cannot read"));
}

/// A model was not told of tools that a policy permits to the run's thread.
#[test]
fn a_run_offers_what_is_permitted_to_its_thread() {
    use crate::policy::table::RunPolicy;
    use netra_context::UserExecutionContext;
    use netra_protocol::id::ThreadId;

    let runtime = Runtime::new();
    let [own, other] = [(), ()].map(|()| runtime.new_id(ThreadId::from_parts));
    let policy = Arc::new(policies(&format!(
        "permit (principal, action, resource) when {{ context.thread == \"{own}\" }};"
    )));
    let ctx = UserExecutionContext::for_test(&runtime, principal(Role::User, Plan::Free));
    let spec = tool("t", "x", Risk::Low);
    for (thread, offered) in [(own, true), (other, false)] {
        let run = RunPolicy::new(Arc::clone(&policy), thread);
        assert_eq!(run.offers(&ctx, "data", &spec).permits(), offered);
        assert_eq!(
            run.decide(&ctx, "data", &spec, &json!({}))
                .verdict
                .permits(),
            offered
        );
    }
}

/// What a run remembers of the policy is what Cedar says, for every user, tool, agent and argument.
#[test]
fn the_table_of_a_run_says_what_cedar_says() {
    use crate::policy::table::RunPolicy;
    use netra_context::UserExecutionContext;
    use netra_protocol::id::ThreadId;

    let by_agent = r#"permit (principal, action, resource) when { context.agent == "data" && resource.risk != "high" };
                      forbid (principal, action == Netra::Action::"call", resource == Netra::Tool::"b")
                      unless { principal.plan == "pro" };"#;
    let by_entity = r#"permit (principal, action, resource)
                       when { resource.name != "spend" || Netra::Number::"arguments".hasTag("order.cents") };
                       forbid (principal, action == Netra::Action::"call", resource == Netra::Tool::"b")
                       when { Netra::Text::"arguments".hasTag("url") };"#;
    let arguments = [
        json!({}),
        json!({"url": "https://example.com/x", "order": {"cents": 5_000}}),
    ];
    let mut seen = [0, 0, 0];
    for text in [source::SHIPPED, BY_ARGUMENTS, by_agent, by_entity] {
        let policy = Arc::new(policies(text));
        // Is asked with the arguments, whatever the policies were taken for.
        let mut cedar = policies(text);
        cedar.policies.reads_arguments = true;
        for (role, plan) in ROLES
            .into_iter()
            .flat_map(|role| PLANS.map(|plan| (role, plan)))
        {
            let runtime = Runtime::new();
            let ctx = UserExecutionContext::for_test(&runtime, principal(role, plan));
            let thread = runtime.new_id(ThreadId::from_parts);
            let run = RunPolicy::new(Arc::clone(&policy), thread);
            for (name, permission, risk) in [
                ("fetch", "basic", Risk::Low),
                ("spend", "data_management", Risk::High),
                ("b", "system_management", Risk::Medium),
            ] {
                let spec = tool(name, permission, risk);
                // Twice, so that the second answer comes from memory.
                for (agent, arguments) in ["data", "other", "data", "other"]
                    .into_iter()
                    .flat_map(|agent| arguments.iter().map(move |arguments| (agent, arguments)))
                {
                    let question = Question {
                        principal: ctx.principal().unwrap(),
                        tool: &spec,
                        agent,
                        thread: Some(thread),
                    };
                    let fresh = cedar.explain(&question, arguments);
                    let known = run.decide(&ctx, agent, &spec, arguments);
                    assert_eq!(
                        (&known.verdict, &known.rates),
                        (&fresh.verdict, &fresh.rates)
                    );
                    let offered = run.offers(&ctx, agent, &spec);
                    assert_eq!(offered, policy.offers(&question));
                    assert!(offered.permits() || !fresh.verdict.permits(), "not offered");
                    seen[match fresh.verdict {
                        Verdict::Allowed => 0,
                        Verdict::AfterApproval(_) => 1,
                        Verdict::Refused(_) => 2,
                    }] += 1;
                }
            }
        }
    }
    assert!(
        seen.iter().all(|count| *count > 20),
        "every answer was compared: {seen:?}"
    );
}

#[test]
fn a_call_has_the_rates_of_the_policies_that_permit_it() {
    let policy = policies(
        r#"@id("all") @rate("5/hour, 20/day")
           permit (principal, action == Netra::Action::"call", resource);
           @id("pro") @rate("50/hour")
           permit (principal, action == Netra::Action::"call", resource) when { principal.plan == "pro" };
           @id("admins")
           permit (principal, action == Netra::Action::"call", resource) when { principal.role == "admin" };
           permit (principal, action == Netra::Action::"call_unasked", resource);"#,
    );
    let rates = |role, plan| {
        let user = principal(role, plan);
        let explained = policy.explain(&ask(&user, &tool("t", "x", Risk::Low)), &json!({}));
        assert_eq!(explained.verdict, Verdict::Allowed);
        let mut rates: Vec<String> = explained
            .rates
            .iter()
            .map(|all| {
                all.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        rates.sort();
        rates
    };
    assert_eq!(rates(Role::User, Plan::Free), ["5/hour 20/day"]);
    assert_eq!(rates(Role::User, Plan::Pro), ["5/hour 20/day", "50/hour"]);
    // What one policy permits without a bound, no other bounds.
    assert!(rates(Role::Admin, Plan::Pro).is_empty());
}

#[test]
fn a_rate_that_is_none_is_told_with_file_and_line() {
    let told = |rate: &str, policy: &str| {
        mistakes(&format!(
            "// about @rate\n\n@id(\"a\")\n@rate(\"{rate}\")\n{policy};"
        ))
    };
    let permit = "permit (principal, action == Netra::Action::\"call\", resource)";
    for (rate, policy, words) in [
        ("5/fortnight", permit, "is no rate"),
        ("0/hour", permit, "is no rate"),
        ("5/hour, 6/hour", permit, "two rates for one hour"),
        ("5/hour", "forbid (principal, action, resource)", "`forbid`"),
        (
            "5/hour",
            "permit (principal, action == Netra::Action::\"call_unasked\", resource)",
            "where they are permitted",
        ),
    ] {
        let mistake = told(rate, policy);
        assert!(
            mistake.starts_with("own.cedar:4: @rate of the policy \"a\": ")
                && mistake.contains(words),
            "{mistake}"
        );
    }
}

#[test]
fn a_policy_asks_for_the_groups_of_a_user() {
    let policy = policies(
        r#"permit (principal in Netra::Group::"ops", action, resource);
           forbid (principal in Netra::Group::"guests", action, resource);"#,
    );
    let spec = tool("t", "x", Risk::Low);
    let may = |groups: &[&str]| {
        let user = Principal {
            groups: groups.iter().map(|&name| name.to_owned()).collect(),
            ..principal(Role::User, Plan::Free)
        };
        policy.decide(&ask(&user, &spec), &json!({})).permits()
    };
    assert!(may(&["ops"]) && may(&["finance", "ops"]));
    assert!(!may(&[]) && !may(&["finance"]) && !may(&["ops", "guests"]));
    let unknown = mistakes("permit (principal in Netra::Team::\"ops\", action, resource);");
    assert!(unknown.contains("Team"), "{unknown}");
}

#[test]
fn a_tool_server_of_ones_own_needs_a_permit_of_its_own() {
    let place = ("https://notes.example/mcp", "notes.example");
    let may = |policy: &Policy, plan: Plan| {
        let user = principal(Role::User, plan);
        policy.may_connect(&user, "my_notes", place)
    };
    let shipped = Policy::shipped("production").unwrap();
    let refused = may(&shipped, Plan::Free).unwrap_err();
    assert!(refused.contains("needs the plan pro"), "{refused}");
    assert_eq!(may(&shipped, Plan::Pro), Ok(()));
    // What permits calls permits no servers, and the other way round; neither looks at arguments for the other.
    let calls = policies("permit (principal, action == Netra::Action::\"call\", resource);");
    assert!(may(&calls, Plan::Enterprise).is_err());
    let by_host = policies(
        "permit (principal, action == Netra::Action::\"connect\", resource)\n\
         when { context.text.hasTag(\"host\") && context.text.getTag(\"host\") like \"*.example\" };",
    );
    assert_eq!(may(&by_host, Plan::Free), Ok(()));
    let user = principal(Role::User, Plan::Free);
    let spec = tool("my_notes__find", "external", Risk::Low);
    assert!(!by_host.offers(&ask(&user, &spec)).permits());
    let elsewhere = by_host.may_connect(&user, "my_x", ("https://x.test/", "x.test"));
    assert!(elsewhere.is_err());
    let rate =
        "@rate(\"5/hour\")\npermit (principal, action == Netra::Action::\"connect\", resource);";
    assert!(mistakes(rate).contains("where they are permitted"));
}
