//! A tool whose work a test gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use async_trait::async_trait;
use netra_protocol::Failure;
use netra_protocol::tool::Risk;
use netra_tools::{Call, Tool, ToolSpec};
use serde_json::{Value, json};

type Work = Box<dyn Fn(&Call<'_>) -> Result<Value, Failure> + Send + Sync>;

/// A tool besides the built-in ones, for what none of those does: asking a person, panicking,
/// needing a permission that few have.
pub struct TestTool {
    spec: ToolSpec,
    work: Work,
    /// Whether asking what it is panics.
    broken: Arc<AtomicBool>,
}

impl TestTool {
    /// Takes any object. Everybody has the permission `basic`.
    pub fn new(
        name: &str,
        permission: &str,
        work: impl Fn(&Call<'_>) -> Result<Value, Failure> + Send + Sync + 'static,
    ) -> Self {
        let spec = ToolSpec {
            name: name.to_owned(),
            description: "Of a test.".to_owned(),
            input_schema: json!({"type": "object"}),
            permission: permission.to_owned(),
            risk: Risk::Low,
            idempotent: true,
            needs_approval: false,
        };
        let work = Box::new(work);
        Self {
            spec,
            work,
            broken: Arc::default(),
        }
    }

    /// Gives back what it was called with, after a person has said yes.
    pub fn consent() -> Self {
        let mut tool = Self::new("consent", "basic", |call| Ok(call.arguments.clone()));
        tool.spec.needs_approval = true;
        tool
    }

    /// Panics.
    #[expect(clippy::panic, reason = "what a broken tool does")]
    pub fn panicking() -> Self {
        Self::new("panics", "basic", |call| panic!("{}", call.arguments))
    }

    /// Panics in the engine, which asks what it is before it lets it be called; from the moment that the test says so.
    pub fn breaking_engines(broken: &Arc<AtomicBool>) -> Self {
        let mut tool = Self::new("breaks", "basic", |call| Ok(call.arguments.clone()));
        tool.broken = Arc::clone(broken);
        tool
    }

    /// The same with a schema of its arguments.
    #[must_use]
    pub fn with_schema(mut self, schema: Value) -> Self {
        self.spec.input_schema = schema;
        self
    }
}

#[async_trait]
impl Tool for TestTool {
    #[expect(clippy::panic, reason = "what a broken engine does")]
    fn spec(&self) -> &ToolSpec {
        if self.broken.load(SeqCst) {
            panic!("the tool does not know itself any more");
        }
        &self.spec
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        (self.work)(&call)
    }
}
