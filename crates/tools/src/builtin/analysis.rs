//! The analyses of the user's files as tools: each runs in the run's own worker process, and what
//! it draws or saves becomes an artifact.

use std::sync::Arc;

use async_trait::async_trait;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::tool::Risk;
use netra_worker::InputFile;
use serde_json::{Value, json};

use super::files::find;
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
    /// Whether its result may carry a file to be stored (`content`, `name`, `media_type`).
    pub artifact: bool,
    /// Whether its argument `files` names the files to work on, any of the user's.
    pub names_files: bool,
}

/// A tool for each operation. `prices` is the server's own price list, which each has beside the user's files.
pub fn analysis_tools(
    operations: Vec<AnalysisOperation>,
    prices: Option<InputFile>,
) -> Vec<Arc<dyn Tool>> {
    let tool = |operation: AnalysisOperation| -> Arc<dyn Tool> {
        Arc::new(Analyse {
            prices: prices.clone(),
            artifact: operation.artifact,
            names_files: operation.names_files,
            spec: ToolSpec {
                name: operation.name,
                description: operation.description,
                input_schema: operation.input_schema,
                permission: "analytics".into(),
                risk: Risk::Low,
                // What is computed may be computed again, and a file is stored once.
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
    names_files: bool,
    prices: Option<InputFile>,
}

#[async_trait]
impl Tool for Analyse {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    /// A run's analyses share one process, which does one after the other; waiting for it would be
    /// counted as the call's own time.
    fn beside(&self) -> bool {
        false
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let mut inputs = self.inputs(&call).await?;
        inputs.extend(self.prices.clone());
        let result = call.scope.analyse(&call, &self.spec.name, inputs).await?;
        if self.artifact {
            store_content(&call, result).await
        } else {
            Ok(result)
        }
    }
}

impl Analyse {
    /// The files that the call names, each looked up as the user's; the run's own where it names none.
    async fn inputs(&self, call: &Call<'_>) -> Result<Vec<InputFile>, Failure> {
        let named = call.arguments.get("files").and_then(Value::as_array);
        let Some(named) = named.filter(|_| self.names_files) else {
            return call.scope.inputs(call.ctx).await;
        };
        let mut inputs = Vec::with_capacity(named.len());
        for name in named.iter().filter_map(Value::as_str) {
            inputs.push(call.scope.input(&find(call, name).await?));
        }
        Ok(inputs)
    }
}

/// Stores what the result carries as a file and puts the file's id in its place.
async fn store_content(call: &Call<'_>, mut result: Value) -> Result<Value, Failure> {
    let broken = || {
        Failure::new(
            ErrorCode::ToolFailed,
            "the operation gave a file without a name",
        )
    };
    let fields = result.as_object_mut().ok_or_else(broken)?;
    let Some(Value::String(content)) = fields.remove("content") else {
        return Ok(result);
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let (Some(name), Some(media_type)) = (text("name"), text("media_type")) else {
        return Err(broken());
    };
    let file = call.artifact(name, media_type, content.as_bytes()).await?;
    fields.insert("file_id".into(), json!(file.id));
    fields.insert("name".into(), json!(file.name));
    fields.insert("bytes".into(), json!(file.bytes));
    Ok(result)
}
