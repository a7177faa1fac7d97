//! What a tool is, and what it is given for one call.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use netra_context::{Secret, UserExecutionContext};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::file::File;
use netra_protocol::id::ToolCallId;
use netra_protocol::tool::Risk;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::dispatcher::Caller;
use crate::scope::RunScope;

/// How a tool describes itself: to users, to models, and to the permission layers.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// To call it by: a lower-case letter, then letters, digits and `_`, at most 64 in all, so that
    /// it is a name in scripts and for every model provider.
    pub name: String,
    /// For people and models.
    pub description: String,
    /// JSON Schema of the arguments.
    pub input_schema: Value,
    /// The named permission that a caller needs; see [`crate::Policy`].
    pub permission: String,
    /// How much harm it can do.
    pub risk: Risk,
    /// Whether calling it twice does no harm.
    pub idempotent: bool,
    /// Whether a person is asked before each call.
    pub needs_approval: bool,
}

/// Something that agents may call. It is shared by all runs and keeps nothing between calls.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Its description; the same at every call.
    fn spec(&self) -> &ToolSpec;

    /// Whether calls of it may be made beside others of the same run. By default those may that only
    /// read or compute, and that nobody is asked for.
    fn beside(&self) -> bool {
        let spec = self.spec();
        spec.idempotent && spec.risk == Risk::Low && !spec.needs_approval
    }

    /// Does the work. The arguments fit the schema, permission is given, and the future is dropped
    /// at the call's deadline or when the run is cancelled.
    async fn call(&self, call: Call<'_>) -> Result<Value, Failure>;
}

/// One call, as the tool sees it.
pub struct Call<'a> {
    /// Who asks, and until when.
    pub ctx: &'a UserExecutionContext,
    /// The call's id.
    pub id: ToolCallId,
    /// What the tool is called with.
    pub arguments: Value,
    /// The run that the call belongs to.
    pub scope: &'a RunScope,
    pub(crate) caller: &'a Caller<'a>,
    /// The call's key in the run's journal.
    pub(crate) key: &'a str,
    /// Files that the call has made.
    pub(crate) made: AtomicU32,
    /// The names of the secrets that the call was given, for the audit.
    pub(crate) given: &'a Mutex<Vec<String>>,
}

impl Call<'_> {
    /// Reads the arguments into a type. The schema was checked before, so a failure here says that
    /// schema and type disagree.
    pub fn arguments_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        T::deserialize(&self.arguments).map_err(|error| {
            Failure::new(
                ErrorCode::ToolFailed,
                format!("the arguments do not fit: {error}"),
            )
        })
    }

    /// Opens a secret, by its name, for a tool that sends it to this place: `api.example.com`, or with a port where that
    /// is not 443. What the run's tools give back has it no more, the audit names it, and nothing else does.
    pub async fn secret(&self, name: &str, place: &str) -> Result<Secret, Failure> {
        let opened = self.scope.secret(self.ctx, name, place).await;
        let secret = opened.map_err(|words| {
            let details = json!({ "reason": "secret_refused" });
            Failure::new(ErrorCode::ToolFailed, words).with_details(details)
        })?;
        let mut given = self.given.lock();
        if !given.iter().any(|one| one == name) {
            given.push(name.to_owned());
        }
        Ok(secret)
    }

    /// What the run's tools give back has this no more: for what was had in exchange for a secret.
    pub fn conceal(&self, name: &str, secret: &Secret) {
        self.scope.redaction().add(name, secret);
    }

    /// Tells the user how far the call is: a fraction from 0 to 1, and words.
    pub async fn progress(
        &self,
        progress: Option<f64>,
        message: Option<String>,
    ) -> Result<(), Failure> {
        self.scope
            .progress(self.ctx, self.caller, self.id, progress, message)
            .await
    }

    /// Stores a file that the call made, and tells the user of it. A call that is made again after
    /// a crash stores and tells what the first one did not, so this alone does not keep a tool
    /// from being idempotent.
    pub async fn artifact(
        &self,
        name: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<File, Failure> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}/{number}", self.key);
        self.scope
            .artifact(self.ctx, (self.caller, &key), name, media_type, content)
            .await
    }
}
