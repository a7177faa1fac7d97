//! Who may use which permission: one table, and everything that is not in it is refused.
//!
//! The question has the shape principal, action, resource, so that another engine of rules can
//! take the place of the table without a change at the callers.

use netra_context::Principal;
use netra_protocol::account::{Plan, Role};

use crate::tool::ToolSpec;

/// The answer of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call may go on to the next layer.
    Allowed,
    /// It may not, for this reason.
    Refused(String),
}

impl Verdict {
    /// Why not; none where the call is allowed.
    pub fn reason(self) -> Option<String> {
        match self {
            Self::Allowed => None,
            Self::Refused(reason) => Some(reason),
        }
    }
}

/// One row of the table: who has a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The permission's name, as tools declare it.
    pub permission: String,
    /// The plans that grant it.
    pub plans: Vec<Plan>,
    /// The roles that may use it.
    pub roles: Vec<Role>,
    /// Why the rule is what it is, for those who read the policy.
    pub because: String,
}

/// The rules in force; immutable after start.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Vec<Rule>,
}

const EVERY_PLAN: [Plan; 3] = [Plan::Free, Plan::Pro, Plan::Enterprise];
const PAID: [Plan; 2] = [Plan::Pro, Plan::Enterprise];
const EVERY_ROLE: [Role; 3] = [Role::User, Role::Developer, Role::Admin];

impl Default for Policy {
    fn default() -> Self {
        let rule = |permission: &str, plans: &[Plan], roles: &[Role], because: &str| Rule {
            permission: permission.into(),
            plans: plans.to_vec(),
            roles: roles.to_vec(),
            because: because.into(),
        };
        Self::new(vec![
            rule(
                "basic",
                &EVERY_PLAN,
                &EVERY_ROLE,
                "reads nothing but the caller's own",
            ),
            rule(
                "artifacts",
                &EVERY_PLAN,
                &EVERY_ROLE,
                "adds a file of the run to the caller's own files, and changes no other",
            ),
            rule(
                "analytics",
                &EVERY_PLAN,
                &EVERY_ROLE,
                "computes over the files that the caller gave to the run, in a worker process \
                 with hard limits: it reaches nothing else and costs only what the limits allow, \
                 so the free plan has it too and the optimizer runs for everybody",
            ),
            rule(
                "data_management",
                &PAID,
                &EVERY_ROLE,
                "makes and changes stored data in bulk",
            ),
            rule(
                "advanced_optimization",
                &[Plan::Enterprise],
                &EVERY_ROLE,
                "long computations over many runs",
            ),
            rule(
                "system_management",
                &[Plan::Enterprise],
                &[Role::Admin],
                "changes what all users share",
            ),
            rule(
                "developer_tools",
                &EVERY_PLAN,
                &[Role::Developer, Role::Admin],
                "shows how agents work inside",
            ),
        ])
    }
}

impl Policy {
    /// These rules and no others.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// The rules, for those who read the policy.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether this principal may call this tool.
    pub fn decide(&self, principal: Option<&Principal>, tool: &ToolSpec) -> Verdict {
        let Some(principal) = principal else {
            return Verdict::Refused("no user asks".into());
        };
        let permission = tool.permission.as_str();
        let Some(rule) = self.rules.iter().find(|rule| rule.permission == permission) else {
            return Verdict::Refused(format!("no rule grants the permission {permission:?}"));
        };
        if !rule.plans.contains(&principal.plan) {
            let plans: Vec<&str> = rule.plans.iter().map(|plan| plan.as_str()).collect();
            let plans = plans.join(" or ");
            return Verdict::Refused(format!(
                "the permission {permission:?} needs the plan {plans}"
            ));
        }
        if !rule.roles.contains(&principal.role) {
            let roles: Vec<&str> = rule.roles.iter().map(|role| role.as_str()).collect();
            let roles = roles.join(" or ");
            return Verdict::Refused(format!(
                "the permission {permission:?} needs the role {roles}"
            ));
        }
        Verdict::Allowed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netra_context::{Rights, Runtime};
    use netra_protocol::id::UserId;
    use netra_protocol::limits::Limits;
    use netra_protocol::tool::Risk;

    use super::*;

    fn principal(role: Role, plan: Plan) -> Principal {
        Principal {
            user_id: Runtime::new().new_id(UserId::from_parts),
            role,
            plan,
            rights: Rights::of_role(role),
            limits: Arc::new(Limits::default()),
            session: None,
        }
    }

    fn needing(permission: &str) -> ToolSpec {
        ToolSpec {
            name: "t".into(),
            description: String::new(),
            input_schema: serde_json::json!({}),
            permission: permission.into(),
            risk: Risk::Low,
            idempotent: true,
            needs_approval: false,
        }
    }

    /// Every permission for every role and plan, written down once as people read it.
    #[test]
    fn the_default_table() {
        let policy = Policy::default();
        let mut table = String::new();
        for rule in policy.rules() {
            let mut row = format!("{:<22}", rule.permission);
            for plan in EVERY_PLAN {
                for role in EVERY_ROLE {
                    let asked = principal(role, plan);
                    let verdict = policy.decide(Some(&asked), &needing(&rule.permission));
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
        let expected = "\
basic                 +++ +++ +++
artifacts             +++ +++ +++
analytics             +++ +++ +++
data_management       --- +++ +++
advanced_optimization --- --- +++
system_management     --- --- --+
developer_tools       -++ -++ -++
";
        assert_eq!(table, expected);
    }

    #[test]
    fn without_a_rule_a_user_or_somebody_to_ask_the_answer_is_no() {
        let policy = Policy::default();
        let admin = principal(Role::Admin, Plan::Enterprise);
        let unknown = policy.decide(Some(&admin), &needing("teleport"));
        assert!(unknown.reason().unwrap().contains("no rule"));
        assert_ne!(policy.decide(None, &needing("basic")), Verdict::Allowed);
    }
}
