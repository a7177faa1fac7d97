//! The analyses of the user's files as tools: each runs in the run's own worker process, and what
//! it draws becomes an artifact.

use std::sync::Arc;

use async_trait::async_trait;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::tool::Risk;
use serde_json::{Value, json};

use crate::tool::{Call, Tool, ToolSpec};

/// One operation that the worker knows, as whoever puts the server together names it.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalysisOperation {
    /// Its name, which is the tool's too.
    pub name: String,
    /// For people and models.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
    /// Whether its result carries a drawing (`svg`, `name`, `media_type`) to be stored as a file.
    pub artifact: bool,
}

/// A tool for each operation.
pub fn analysis_tools(operations: Vec<AnalysisOperation>) -> Vec<Arc<dyn Tool>> {
    let tool = |operation: AnalysisOperation| -> Arc<dyn Tool> {
        Arc::new(Analyse {
            artifact: operation.artifact,
            spec: ToolSpec {
                name: operation.name,
                description: operation.description,
                input_schema: operation.input_schema,
                permission: "analytics".into(),
                risk: Risk::Low,
                // What is computed may be computed again, and a drawing is stored once.
                idempotent: true,
                needs_approval: false,
            },
        })
    };
    operations.into_iter().map(tool).collect()
}

struct Analyse {
    spec: ToolSpec,
    artifact: bool,
}

#[async_trait]
impl Tool for Analyse {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let result = call.scope.analyse(&call, &self.spec.name).await?;
        if self.artifact {
            store_drawing(&call, result).await
        } else {
            Ok(result)
        }
    }
}

/// Stores the drawing as a file and puts the file's id in its place.
async fn store_drawing(call: &Call<'_>, mut result: Value) -> Result<Value, Failure> {
    let broken = || Failure::new(ErrorCode::ToolFailed, "the operation gave no drawing");
    let fields = result.as_object_mut().ok_or_else(broken)?;
    let Some(Value::String(svg)) = fields.remove("svg") else {
        return Err(broken());
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let (Some(name), Some(media_type)) = (text("name"), text("media_type")) else {
        return Err(broken());
    };
    let file = call.artifact(name, media_type, svg.as_bytes()).await?;
    fields.insert("file_id".into(), json!(file.id));
    fields.insert("name".into(), json!(file.name));
    fields.insert("bytes".into(), json!(file.bytes));
    Ok(result)
}
