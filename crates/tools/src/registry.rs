//! All tools of the server: those that are built in never change, those of tool servers come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use netra_context::{Secret, UserExecutionContext};
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::policy::{Policy, Question, Verdict};
use crate::said::{Said, Voice};
use crate::servers::UserTools;
use crate::shelf::{Entry, Shelf, Source, Standing, source_of};
use crate::tool::{Tool, ToolSpec};

/// A tool that the registry does not take. The server does not start with one that is built in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTool {
    /// Two tools have one name.
    #[error("there are two tools named {0}")]
    Duplicate(String),
    /// The name is not one that every caller can use.
    #[error(
        "{0:?} cannot be a tool's name: a lower-case letter, then at most 63 letters, digits or `_`, and not `agent`, `think`, `ask_model` or `print`"
    )]
    Name(String),
    /// The schema of the arguments is none.
    #[error("the input schema of the tool {name} is not valid: {problem}")]
    Schema {
        /// The tool.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// The tools by name, and the policy that says who may call them.
///
/// What tool servers offer can change while runs go on. It is therefore kept as one value that is
/// replaced whole: a run keeps the one that it began with.
pub struct Registry {
    shelf: watch::Sender<Arc<Shelf>>,
    policy: Arc<Policy>,
    of_users: Arc<dyn UserTools>,
    /// By source, what its servers are given that nobody is to see, with the names that stand for it.
    concealed: BTreeMap<String, Vec<(String, Secret)>>,
    /// What sources have for single users now, because the instance of that user says so.
    said: Mutex<Said>,
}

impl Registry {
    /// Takes the tools under this policy, or names the first that cannot be taken.
    pub fn new(
        tools: Vec<Arc<dyn Tool>>,
        policy: impl Into<Arc<Policy>>,
    ) -> Result<Self, InvalidTool> {
        Ok(Self {
            shelf: watch::Sender::new(Arc::new(Shelf::of_built_in(tools)?)),
            policy: policy.into(),
            of_users: Arc::new(()),
            concealed: BTreeMap::new(),
            said: Mutex::default(),
        })
    }

    /// With what single users have besides.
    pub fn with_tools_of_users(self, of_users: Arc<dyn UserTools>) -> Self {
        Self { of_users, ..self }
    }

    /// With what is taken out of all that the tools of a source give back.
    pub fn with_concealed(self, concealed: BTreeMap<String, Vec<(String, Secret)>>) -> Self {
        Self { concealed, ..self }
    }

    /// What the source of this tool is given that nobody is to see.
    pub(crate) fn concealed_of(&self, tool: &str) -> &[(String, Secret)] {
        let concealed = source_of(tool).and_then(|source| self.concealed.get(source));
        concealed.map_or(&[], Vec::as_slice)
    }

    /// Says that tools named `SOURCE__…` will come from these sources, so that agents may name
    /// them before they are there.
    pub fn expect(&self, sources: impl IntoIterator<Item = String>) {
        self.stand(sources, &Standing::Asked);
    }

    /// Says that of these sources each user has tools of one's own, so that agents may name them.
    pub fn expect_of_users(&self, sources: impl IntoIterator<Item = String>) {
        self.stand(sources, &Standing::OfUsers);
    }

    fn stand(&self, sources: impl IntoIterator<Item = String>, standing: &Standing) {
        self.change(|shelf| {
            let stand = |source| shelf.stand(source, standing.clone());
            sources.into_iter().for_each(stand);
        });
    }

    /// Puts the tools of a source in the place of those that it had, but for those that cannot be
    /// taken, which are named.
    pub fn learn(&self, source: &str, tools: Vec<Arc<dyn Tool>>) -> Vec<InvalidTool> {
        let (source, refused) = Source::here(source, tools);
        self.change(|shelf| shelf.lay(source.into()));
        refused
    }

    /// Of an instance that begins to serve this user: what one before has said of the source for the user is forgotten.
    pub fn voice(self: &Arc<Self>, user: UserId, source: &str) -> Voice {
        Voice::new(self, user, source)
    }

    pub(crate) const fn said(&self) -> &Mutex<Said> {
        &self.said
    }

    /// Whether each user has tools of one's own of this source, which are asked for when they are needed.
    pub fn is_of_each_user(&self, source: &str) -> bool {
        self.shelf.borrow().is_of_each_user(source)
    }

    /// Says that a source does not answer. The tools that it had stay, and are listed with this reason.
    pub fn away(&self, source: &str, why: &str) {
        self.change(|shelf| shelf.stand(source.to_owned(), Standing::Away(why.to_owned())));
    }

    fn change(&self, change: impl FnOnce(&mut Shelf)) {
        self.shelf.send_modify(|shelf| change(Arc::make_mut(shelf)));
    }

    /// What there is now.
    pub(crate) fn now(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf.borrow())
    }

    /// What there is now for this user.
    pub(crate) fn now_for(&self, user: Option<UserId>) -> Arc<Shelf> {
        let mut shelf = self.now();
        let said = self.said.lock();
        said.of(user)
            .for_each(|one| Arc::make_mut(&mut shelf).lay(one.clone()));
        shelf
    }

    /// Looks this name up in what its source has for this user now.
    fn look_up<T>(
        &self,
        user: Option<UserId>,
        name: &str,
        look: impl FnOnce(&Shelf) -> Option<T>,
    ) -> Option<T> {
        match self.said.lock().about(user, name) {
            Some(shelf) => look(shelf),
            None => look(&self.shelf.borrow()),
        }
    }

    /// What there is of this name now for this user.
    pub(crate) fn entry_for(&self, user: Option<UserId>, name: &str) -> Option<Arc<Entry>> {
        self.look_up(user, name, |shelf| shelf.entry(name).map(Arc::clone))
    }

    /// Waits until every source that tools of these names would come from has been asked once. A
    /// source bounds by itself how long that takes.
    pub async fn settled(&self, names: &[String]) {
        let settled = |shelf: &Arc<Shelf>| !names.iter().any(|name| shelf.is_asked(name));
        // The sender is this registry, so it cannot be gone.
        self.shelf.subscribe().wait_for(settled).await.ok();
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The tools that there are, for what is to be known of all of them.
    pub fn specs(&self) -> Vec<ToolSpec> {
        let shelf = self.shelf.borrow();
        shelf
            .entries()
            .map(|entry| entry.tool.spec().clone())
            .collect()
    }

    /// Whether there is a tool of this name, or a source that may bring it.
    pub fn contains(&self, name: &str) -> bool {
        self.shelf.borrow().may_have(name)
    }

    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Tool>> {
        let shelf = self.shelf.borrow();
        shelf.entry(name).map(|entry| Arc::clone(&entry.tool))
    }

    /// Whether a tool of this name would be one of a user alone.
    pub(crate) fn is_of_users(&self, name: &str) -> bool {
        self.shelf.borrow().is_of_users(name)
    }

    /// What this user alone has now.
    pub(crate) async fn own_of(&self, ctx: &UserExecutionContext) -> Shelf {
        Shelf::of(self.of_users.of(ctx).await)
    }

    /// Why there is nothing of this name now for this user, where it would come from a tool server.
    pub(crate) fn absence_for(&self, user: Option<UserId>, name: &str) -> Option<String> {
        self.look_up(user, name, |shelf| shelf.absence(name))
    }

    /// Where the arguments do not fit the schema of the tool as this user has it; none where they fit, or there is no
    /// such tool.
    pub async fn misfits(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
        arguments: &Value,
    ) -> Option<String> {
        if self.is_of_users(name) {
            return self.own_of(ctx).await.entry(name)?.misfits(arguments);
        }
        self.entry_for(ctx.user_id(), name)?.misfits(arguments)
    }

    /// Every tool, with whether this user may call it and why not, by name. What the user alone has is among them.
    pub async fn list_for(&self, ctx: &UserExecutionContext) -> Vec<netra_protocol::tool::Tool> {
        let (shelf, own) = (self.now_for(ctx.user_id()), self.own_of(ctx).await);
        let shown = |shelf: &Shelf, entry: &Arc<Entry>| self.shown(ctx, shelf, entry);
        let mut tools: Vec<_> = shelf
            .entries()
            .map(|entry| shown(&shelf, entry))
            .chain(own.entries().map(|entry| shown(&own, entry)))
            .collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    }

    fn shown(
        &self,
        ctx: &UserExecutionContext,
        shelf: &Shelf,
        entry: &Entry,
    ) -> netra_protocol::tool::Tool {
        let spec = entry.tool.spec();
        let verdict = match shelf.absence(&spec.name) {
            Some(absence) => Verdict::Refused(absence),
            None => self.offers(ctx, spec),
        };
        netra_protocol::tool::Tool {
            name: spec.name.clone(),
            description: spec.description.clone(),
            input_schema: spec.input_schema.clone(),
            permission: spec.permission.clone(),
            risk: spec.risk,
            allowed: verdict.permits(),
            needs_approval: matches!(verdict, Verdict::AfterApproval(_)),
            reason: match verdict {
                Verdict::Refused(reason) => Some(reason),
                _ => None,
            },
            idempotent: spec.idempotent,
        }
    }

    fn offers(&self, ctx: &UserExecutionContext, spec: &ToolSpec) -> Verdict {
        match ctx.principal() {
            None => Verdict::Refused("no user asks".into()),
            Some(principal) => self.policy.offers(&Question {
                principal,
                tool: spec,
                agent: "",
                thread: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use netra_protocol::Failure;
    use netra_protocol::tool::Risk;
    use serde_json::json;

    use super::*;
    use crate::tool::{Call, ToolSpec};

    struct Named(ToolSpec);

    #[async_trait]
    impl Tool for Named {
        fn spec(&self) -> &ToolSpec {
            &self.0
        }

        async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
            Ok(call.arguments)
        }
    }

    fn tool(name: &str, input_schema: Value) -> Arc<dyn Tool> {
        Arc::new(Named(ToolSpec {
            name: name.into(),
            description: String::new(),
            input_schema,
            permission: "basic".into(),
            risk: Risk::Low,
            idempotent: true,
            needs_approval: false,
        }))
    }

    fn registry(tools: Vec<Arc<dyn Tool>>) -> Result<Registry, InvalidTool> {
        Registry::new(tools, Policy::shipped("production").unwrap())
    }

    #[test]
    fn duplicates_bad_names_and_bad_schemas_are_refused_at_start() {
        let twice = registry(vec![tool("a", json!({})), tool("a", json!({}))]);
        assert_eq!(twice.err(), Some(InvalidTool::Duplicate("a".into())));
        for name in ["", "Upper", "1st", "with-dash", "agent", &"x".repeat(65)] {
            let refused = registry(vec![tool(name, json!({}))]).err();
            assert_eq!(refused, Some(InvalidTool::Name(name.into())));
        }
        let schema = registry(vec![tool("a", json!({"type": 7}))]).err();
        assert!(matches!(schema, Some(InvalidTool::Schema { name, .. }) if name == "a"));
    }

    #[test]
    fn a_misfit_names_its_place_and_not_the_value() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let registry = registry(vec![tool("a", schema)]).unwrap();
        let shelf = registry.now();
        let entry = shelf.entry("a").unwrap();
        assert_eq!(entry.misfits(&json!({"n": 1})), None);
        let misfit = entry.misfits(&json!({"n": "secret"})).unwrap();
        assert!(
            misfit.contains("/n") && !misfit.contains("secret"),
            "{misfit}"
        );
    }

    #[tokio::test]
    async fn a_source_brings_tools_and_replaces_them_whole() {
        let registry = registry(vec![tool("a", json!({}))]).unwrap();
        assert!(!registry.contains("src__x"));
        registry.expect(["src".to_owned()]);
        assert!(registry.contains("src__x") && !registry.contains("other__x"));
        assert!(registry.get("src__x").is_none());
        let before = registry.now();

        let backtracking = json!({"properties": {"n": {"type": "string", "pattern": "(?=a)a"}}});
        let refused = registry.learn(
            "src",
            vec![
                tool("src__x", json!({})),
                tool("src__x", json!({})),
                tool("other__x", json!({})),
                tool("src__bad", json!({"type": 7})),
                tool("src__slow", backtracking),
            ],
        );
        assert_eq!(refused.len(), 4, "{refused:?}");
        registry.settled(&["src__x".to_owned()]).await;
        assert!(registry.get("src__x").is_some() && registry.get("a").is_some());
        assert!(!registry.contains("src__bad"));
        // Who began before keeps what there was.
        assert!(before.entry("src__x").is_none());

        registry.away("src", "it fell over");
        let absence = registry.absence_for(None, "src__x").unwrap();
        assert!(absence.contains("it fell over"), "{absence}");
        registry.learn("src", vec![tool("src__y", json!({}))]);
        assert!(registry.get("src__x").is_none() && registry.get("src__y").is_some());
    }

    #[test]
    fn what_a_source_is_given_is_concealed_from_its_own_tools_only() {
        let of_git = vec![("TOKEN".to_owned(), Secret::new("plain-key-777"))];
        let registry = registry(vec![]).unwrap();
        let registry = registry.with_concealed([("git".to_owned(), of_git)].into());
        let names = |tool| -> Vec<&str> {
            let concealed = registry.concealed_of(tool).iter();
            concealed.map(|(name, _)| name.as_str()).collect()
        };
        assert_eq!(names("git__push"), ["TOKEN"]);
        assert_eq!(names("gitlab__push"), [""; 0]);
        assert_eq!(names("git"), [""; 0]);
    }

    fn user(number: u8) -> UserId {
        UserId::from_bytes([number; 16])
    }

    /// A registry whose source has `src__x` for everybody.
    fn with_source() -> Arc<Registry> {
        let registry = registry(vec![tool("a", json!({}))]).unwrap();
        registry.learn("src", vec![tool("src__x", json!({}))]);
        Arc::new(registry)
    }

    fn names(registry: &Registry, user: Option<UserId>) -> Vec<String> {
        let shelf = registry.now_for(user);
        let entries = shelf.entries();
        entries.map(|one| one.tool.spec().name.clone()).collect()
    }

    #[test]
    fn what_one_users_instance_has_is_that_users_alone() {
        let (registry, ada) = (with_source(), user(1));
        let voice = registry.voice(ada, "src");
        assert_eq!(names(&registry, Some(ada)), ["a", "src__x"]);
        assert_eq!(voice.say(vec![tool("src__y", json!({}))]), []);
        assert_eq!(names(&registry, Some(ada)), ["a", "src__y"]);
        assert_eq!(names(&registry, Some(user(2))), ["a", "src__x"]);
        assert_eq!(names(&registry, None), ["a", "src__x"]);
        drop(voice);
        assert_eq!(names(&registry, Some(ada)), ["a", "src__x"]);
        assert!(registry.said.lock().is_empty());
    }

    #[test]
    fn the_end_of_an_old_instance_does_not_forget_what_the_new_one_has_said() {
        let (registry, ada) = (with_source(), user(1));
        let old = registry.voice(ada, "src");
        old.say(vec![tool("src__old", json!({}))]);
        let new = registry.voice(ada, "src");
        assert_eq!(names(&registry, Some(ada)), ["a", "src__x"]);
        new.say(vec![tool("src__new", json!({}))]);
        // It has calls to answer, and is heard no more.
        old.say(vec![tool("src__late", json!({}))]);
        assert_eq!(names(&registry, Some(ada)), ["a", "src__new"]);
        drop(old);
        assert_eq!(names(&registry, Some(ada)), ["a", "src__new"]);
    }

    #[test]
    fn a_tool_that_a_users_instance_has_not_is_missed_there_and_by_nobody_else() {
        let registry = with_source();
        let (ada, bob) = (Some(user(1)), Some(user(2)));
        let voice = registry.voice(user(1), "src");
        voice.say(vec![tool("src__y", json!({}))]);
        let has = |user, name| registry.entry_for(user, name).is_some();
        assert!(has(ada, "src__y") && !has(ada, "src__x") && has(ada, "a"));
        assert!(has(bob, "src__x") && !has(bob, "src__y") && has(bob, "a"));
        let absence = |user, name| registry.absence_for(user, name);
        let missing = absence(ada, "src__x").unwrap();
        assert!(missing.contains("no tool of this name"), "{missing}");
        assert_eq!(absence(ada, "src__y"), None);
        assert_eq!(absence(bob, "src__x"), None);
        registry.away("src", "it fell over");
        assert_eq!(absence(ada, "src__y"), None);
        assert!(absence(bob, "src__x").unwrap().contains("it fell over"));
    }

    #[tokio::test]
    async fn who_needs_a_source_waits_for_its_first_answer_and_nobody_else() {
        let registry = registry(vec![]).unwrap();
        registry.expect(["src".to_owned()]);
        registry.settled(&["time_now".to_owned()]).await;
        let names = ["src__x".to_owned()];
        let mut waits = std::pin::pin!(registry.settled(&names));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        registry.away("src", "no answer");
        waits.await;
    }
}
