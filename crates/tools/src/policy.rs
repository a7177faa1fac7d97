//! Who may call which tool, and before which calls a person is asked: policies in Cedar, from files of the operator
//! or as shipped. What nothing permits is refused, and so is a call for which a policy cannot be evaluated.

mod place;
mod question;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod vet;

use std::collections::BTreeSet;
use std::path::Path;

use cedar_policy::{Authorizer, Decision, EntityUid, PolicyId, PolicySet, Response};
use netra_context::Principal;
use netra_protocol::tool::Risk;
use netra_store::Rate;
use serde_json::{Value, json};

pub use question::Question;
pub use source::Unusable;
pub(crate) use table::{Decided, RunPolicy};
pub use vet::{Findings, Known};

use question::{Asked, Names};
use source::{Policies, Schema};

use crate::tool::ToolSpec;

/// The permission that a tool server of a user's own needs.
const OWN_SERVERS: &str = "own_servers";

/// The answer of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call may go on to the next layer.
    Allowed,
    /// It may go on when a person has said yes, who is asked for this reason.
    AfterApproval(String),
    /// It may not, for this reason.
    Refused(String),
}

impl Verdict {
    /// Whether the call can be made, perhaps after a person has been asked.
    pub fn permits(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// A verdict and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The answer.
    pub verdict: Verdict,
    /// The policies that decided whether the call may be made.
    pub call: Vec<String>,
    /// The policies that decided whether a person is asked; empty for a call that is refused.
    pub asking: Vec<String>,
    /// How often the call may be made, by each policy that permits it; empty where one of them sets no bound.
    pub rates: Vec<Vec<Rate>>,
}

/// The policies in force; immutable after start.
#[derive(Debug, Clone)]
pub struct Policy {
    schema: Schema,
    names: Names,
    policies: Policies,
    /// The permissions that the shipped policies grant, whatever those in force are.
    shipped: BTreeSet<String>,
    environment: String,
}

/// What one evaluation gave: a reason where it is no.
struct Answer {
    refused: Option<String>,
    by: Vec<String>,
    /// It was a `forbid`, or a mistake: no further policy can change it.
    is_final: bool,
}

/// What a user is told of a policy that cannot be evaluated; the log has more.
const BROKEN: &str = "a policy cannot be evaluated for this call";

impl Policy {
    /// The policies that the server has where the operator gives no others.
    pub fn shipped(environment: &str) -> Result<Self, Unusable> {
        let files = [("default.cedar".to_owned(), source::SHIPPED.to_owned())];
        Self::of(&files, environment)
    }

    /// The text of the policies that the server has where the operator gives no others.
    pub const fn shipped_text() -> &'static str {
        source::SHIPPED
    }

    /// The policies in the files `*.cedar` of a folder, which take the place of the shipped ones.
    pub fn read(dir: &Path, environment: &str) -> Result<Self, Unusable> {
        Self::of(&source::read(dir)?, environment)
    }

    /// Policies by file name and text.
    pub fn of(files: &[(String, String)], environment: &str) -> Result<Self, Unusable> {
        let schema = Schema::new()?;
        Ok(Self {
            names: Names::new()?,
            policies: Policies::parse(&schema, files)?,
            shipped: source::shipped_permissions()?,
            schema,
            environment: environment.to_owned(),
        })
    }

    /// What the policies name that a server with these tools does not have, and what may be left of them by mistake.
    pub fn findings(&self, known: &Known) -> Findings {
        let mut findings = Findings::default();
        let mut known = known.clone();
        // They are there, whether or not a tool of this server has them.
        known.permissions.extend(self.shipped.iter().cloned());
        for policy in self.policies.whole.policies() {
            if let Some(place) = self.policies.places.get(policy.id()) {
                vet::unknown(policy, place, &known, &mut findings);
            }
        }
        let empty = self.policies.empty.iter();
        findings
            .doubts
            .extend(empty.map(|file| format!("{file}:1: there is no policy in it")));
        findings.mistakes.sort();
        findings.doubts.sort();
        findings
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.whole.policies().count()
    }

    /// Whether there are none, so that every call is refused.
    pub fn is_empty(&self) -> bool {
        self.policies.whole.is_empty()
    }

    /// Whether a call of the tool with some arguments or other may be permitted, and whether each of them asks a
    /// person: what is shown to users and offered to models.
    pub fn offers(&self, question: &Question<'_>) -> Verdict {
        self.judge(question, None).verdict
    }

    /// Whether this call may be made.
    pub fn decide(&self, question: &Question<'_>, arguments: &Value) -> Verdict {
        self.explain(question, arguments).verdict
    }

    /// Whether this call may be made, and which policies say so.
    pub fn explain(&self, question: &Question<'_>, arguments: &Value) -> Explained {
        self.judge(question, Some(arguments))
    }

    /// Whether the user may have this tool server of one's own.
    ///
    /// # Errors
    /// Why not.
    pub fn may_connect(
        &self,
        principal: &Principal,
        server: &str,
        (url, host): (&str, &str),
    ) -> Result<(), String> {
        let tool = ToolSpec {
            name: server.to_owned(),
            description: String::new(),
            input_schema: Value::Bool(true),
            permission: OWN_SERVERS.to_owned(),
            risk: Risk::Medium,
            idempotent: true,
            needs_approval: false,
        };
        let question = Question {
            principal,
            tool: &tool,
            agent: "",
            thread: None,
        };
        let asked = self.asked(&question, Some(&json!({ "url": url, "host": host })))?;
        let whole = &self.policies.whole;
        let answer = self.answer(&asked, &self.names.connect, whole, &question);
        answer.refused.map_or(Ok(()), Err)
    }

    /// Of one call, or without arguments of all calls that there could be: then a policy that looks at them may yet
    /// permit what the others do not.
    fn judge(&self, question: &Question<'_>, arguments: Option<&Value>) -> Explained {
        let policies = match arguments {
            Some(_) => &self.policies.whole,
            None => &self.policies.fixed,
        };
        let may_yet = arguments.is_none() && self.policies.permits_by_arguments;
        let answer = |asked: &Asked, action| {
            let answer = self.answer(asked, action, policies, question);
            let refused = answer.refused.filter(|_| answer.is_final || !may_yet);
            Answer { refused, ..answer }
        };
        let mut explained = Explained {
            verdict: Verdict::Allowed,
            call: Vec::new(),
            asking: Vec::new(),
            rates: Vec::new(),
        };
        let asked = match self.asked(
            question,
            arguments.filter(|_| self.policies.reads_arguments),
        ) {
            Ok(asked) => asked,
            Err(reason) => {
                explained.verdict = Verdict::Refused(reason);
                return explained;
            }
        };
        let call = answer(&asked, &self.names.call);
        explained.rates = self.rates(&call.by);
        explained.call = call.by;
        if let Some(reason) = call.refused {
            explained.verdict = Verdict::Refused(reason);
            return explained;
        }
        let unasked = answer(&asked, &self.names.call_unasked);
        explained.asking = unasked.by;
        if let Some(reason) = unasked.refused {
            explained.verdict = Verdict::AfterApproval(match unasked.is_final {
                _ if question.tool.needs_approval => {
                    "the tool asks a person before each call".into()
                }
                true => reason,
                false => "the policy asks a person before this call".into(),
            });
        }
        explained
    }

    /// The rates of the policies that permit a call. What one of them permits without a bound, no other bounds.
    fn rates(&self, permits: &[String]) -> Vec<Vec<Rate>> {
        let of = |id: &String| self.policies.rates.get(&PolicyId::new(id)).cloned();
        let all: Option<Vec<_>> = permits.iter().map(of).collect();
        all.unwrap_or_default()
    }

    fn asked(&self, question: &Question<'_>, arguments: Option<&Value>) -> Result<Asked, String> {
        Asked::new(
            &self.names,
            &self.schema,
            question,
            &self.environment,
            arguments,
        )
    }

    fn answer(
        &self,
        asked: &Asked,
        action: &EntityUid,
        policies: &PolicySet,
        question: &Question<'_>,
    ) -> Answer {
        let refused = |reason: String, by| Answer {
            refused: Some(reason),
            by,
            is_final: true,
        };
        let request = match asked.request(action, &self.schema) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(
                    tool.name = question.tool.name,
                    error,
                    "a call does not fit the schema of policies"
                );
                return refused(BROKEN.into(), Vec::new());
            }
        };
        let response = Authorizer::new().is_authorized(&request, policies, &asked.entities);
        let by: Vec<String> = response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        // Cedar passes over a policy that it cannot evaluate. A `forbid` must not go unheard that way.
        if let Some(error) = response.diagnostics().errors().next() {
            tracing::error!(tool.name = question.tool.name, %error, "a policy cannot be evaluated");
            return refused(BROKEN.into(), by);
        }
        match response.decision() {
            Decision::Allow => Answer {
                refused: None,
                by,
                is_final: false,
            },
            Decision::Deny if by.is_empty() => Answer {
                refused: Some(self.missing(&question.tool.permission)),
                by,
                is_final: false,
            },
            Decision::Deny => refused(self.forbidden(&response), by),
        }
    }

    /// What would have to be so for a policy to permit it.
    fn missing(&self, permission: &str) -> String {
        let mut needs = Vec::new();
        let mut known = false;
        for policy in self.policies.whole.policies() {
            if policy.annotation("permission") == Some(permission) {
                known = true;
                needs.extend(policy.annotation("needs"));
            }
        }
        match (known, needs.is_empty()) {
            (false, _) => format!("no policy grants the permission {permission:?}"),
            (true, true) => {
                format!("no policy permits this call with the permission {permission:?}")
            }
            (true, false) => format!(
                "the permission {permission:?} needs {}",
                needs.join(", or ")
            ),
        }
    }

    fn forbidden(&self, response: &Response) -> String {
        let word = |id: &PolicyId| {
            self.policies
                .whole
                .annotation(id, "reason")
                .map_or_else(|| format!("the policy {id} forbids it"), str::to_owned)
        };
        let mut words: Vec<String> = response.diagnostics().reason().map(word).collect();
        words.sort();
        words.join("; ")
    }
}
