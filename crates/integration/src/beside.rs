//! A server's data folder, opened beside the server: to write what no engine would, or what runs would take too long for.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use netra_context::{Principal, Rights, Runtime, UserExecutionContext};
use netra_events::Hub;
use netra_gateway::Keys;
use netra_protocol::Event;
use netra_protocol::account::{Plan, Role};
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RunId, ThreadId, UserId};
use netra_protocol::limits::Limits;
use netra_protocol::run::Run;
use netra_store::{NewRun, Store, Target, Writable};
use serde_json::{Map, json};

use crate::database::config_beside;

/// The store of a folder that a server may have too.
pub struct Beside {
    /// Makes ids and tells the time.
    pub runtime: Runtime,
    /// Nobody listens to what it writes: the server reads it from the log.
    pub store: Store,
}

impl Beside {
    /// Opens the folder with its own keys.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(data: &Path) -> Result<Self> {
        let runtime = Runtime::new();
        let audit_key = Keys::load_or_create(&runtime, data)?.audit_key();
        let store = config_beside(data)?.store(&runtime, audit_key, Hub::new())?;
        Ok(Self { runtime, store })
    }

    /// Acts as this user.
    pub fn user(&self, user_id: UserId) -> UserExecutionContext {
        let principal = Principal {
            user_id,
            role: Role::User,
            plan: Plan::Free,
            groups: Arc::default(),
            rights: Rights::of_role(Role::User),
            limits: Arc::new(Limits::default()),
            session: None,
        };
        UserExecutionContext::for_test(&self.runtime, principal)
    }

    /// Writes a run that no engine has.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn run(&self, ctx: &UserExecutionContext, title: &str) -> Result<Writable<Run>> {
        let target = Target::New {
            id: self.runtime.new_id(ThreadId::from_parts),
            title: title.to_owned(),
        };
        let new = NewRun {
            id: self.runtime.new_id(RunId::from_parts),
            agent: "echo".into(),
            agent_hash: String::new(),
            input: json!("x"),
            files: Vec::new(),
            metadata: Map::new(),
            timeout_ms: 1_000,
            deadline: self.runtime.now(),
            input_message_id: self.runtime.new_id(MessageId::from_parts),
            started: true,
            over_nodes: None,
            events: Vec::new(),
        };
        Ok(self.store.run_create(ctx, target, new, None).await?.value)
    }

    /// That the run's agent thinks, whether or not it has begun.
    pub fn thought(&self, run: &Run, message: &str) -> Event {
        Event {
            event_id: self.runtime.new_id(EventId::from_parts),
            ts: self.runtime.now(),
            thread_id: run.thread_id,
            run_id: run.id,
            agent: Some("echo".into()),
            step: Some(1),
            kind: EventKind::AgentThinking {
                message: message.to_owned(),
                progress: None,
            },
        }
    }
}
