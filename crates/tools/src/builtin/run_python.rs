//! `run_python`: a program of the caller, computed in a worker process that has nothing but what it is given.

use std::time::Duration;

use async_trait::async_trait;
use netra_context::UserExecutionContext;
use netra_context::memory;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::tool::Risk;
use netra_worker::{Error as WorkerError, Limits, Source};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::files::{find, read};
use crate::scope::worker_failure;
use crate::short::cut_text;
use crate::tool::{Call, Tool, ToolSpec};

/// What a program may print, and what its value may have as JSON, in bytes.
const OUTPUT_BYTES: u64 = 256 * 1024;
/// The most texts of files that a program is given, and how large they may be all in all, in bytes.
const MOST_FILES: usize = 8;
const FILES_BYTES: u64 = 4 * 1024 * 1024;
/// How much of what was printed and of the traceback a failure tells, in bytes.
const TOLD_BYTES: usize = 4 * 1024;
/// The name of the texts in the program.
const FILES: &str = "files";

pub(super) struct RunPython(ToolSpec);

#[derive(Deserialize)]
struct Program {
    code: String,
    #[serde(default)]
    inputs: Map<String, Value>,
    #[serde(default)]
    files: Vec<String>,
}

impl RunPython {
    pub(super) fn new() -> Self {
        let schema = json!({
            "type": "object",
            "properties": {
                "code": {
                    "type": "string", "minLength": 1, "maxLength": 100_000,
                    "description": "The program. The value of its last expression is the result."
                },
                "inputs": {
                    "type": "object", "maxProperties": 32,
                    "propertyNames": {
                        "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$", "not": { "const": FILES }
                    },
                    "description": "Variables that the program finds set, by name."
                },
                "files": {
                    "type": "array", "maxItems": MOST_FILES,
                    "items": { "type": "string", "minLength": 1, "maxLength": 255 },
                    "description": "Names or ids of text files of the user; the program finds \
                                    their texts in the dictionary `files`, by these names."
                }
            },
            "required": ["code"],
            "additionalProperties": false
        });
        let description = "Runs a Python program that only computes: no files, no network, no \
                           clock, no packages. There are functions, plain classes, comprehensions, \
                           f-strings, `re`, `json`, `math`, `datetime`, `collections`, `itertools`, \
                           `functools`; no inheritance, no `yield`, no `match`, no `csv`, `random`, \
                           `statistics` or `numpy`. Gives `value`, the value of the last \
                           expression, and what was `printed`.";
        Self(ToolSpec {
            name: "run_python".into(),
            description: description.into(),
            input_schema: schema,
            permission: "analytics".into(),
            risk: Risk::Medium,
            idempotent: true,
            needs_approval: false,
        })
    }
}

#[async_trait]
impl Tool for RunPython {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let Program {
            code,
            mut inputs,
            files,
        } = call.arguments_as()?;
        let texts = texts(&call, &files).await?;
        inputs.insert(FILES.into(), Value::Object(texts));
        let source = Source {
            name: "program.py".into(),
            code,
            inputs,
            functions: Vec::new(),
            keeps: None,
        };
        match call.scope.compute(call.ctx, source, limits(call.ctx)).await {
            (printed, Ok(value)) => Ok(json!({ "value": value, "printed": printed })),
            (printed, Err(error)) => Err(failed(error, &printed)),
        }
    }
}

/// A worker's usual limits, and never more than the user or the call has left.
fn limits(ctx: &UserExecutionContext) -> Limits {
    let usual = Limits::default();
    let own = ctx.limits().cloned().unwrap_or_default();
    Limits {
        memory_bytes: usual
            .memory_bytes
            .min(own.memory_mib.saturating_mul(1024 * 1024)),
        run_time: usual
            .run_time
            .min(Duration::from_millis(own.tool_call_ms.max(1))),
        output_bytes: OUTPUT_BYTES,
        ..usual
    }
}

/// The texts of the user's files by the names that the caller gave.
async fn texts(call: &Call<'_>, names: &[String]) -> Result<Map<String, Value>, Failure> {
    let refused = |words: String| Failure::new(ErrorCode::ToolFailed, words);
    let mut texts = Map::new();
    let mut left = FILES_BYTES;
    for name in names {
        let file = find(call, name).await?;
        left = left.checked_sub(file.bytes).ok_or_else(|| {
            refused(format!(
                "the files have more than {FILES_BYTES} bytes: read larger ones in parts by `read_file`, or ask them by \
                 `sql_query`"
            ))
        })?;
        let _room = memory::reserve(usize::try_from(file.bytes).unwrap_or(usize::MAX))
            .map_err(|over| Failure::new(ErrorCode::MemoryLimitExceeded, over.to_string()))?;
        let path = call.scope.store().file_path(&file);
        let most = usize::try_from(file.bytes).unwrap_or(0);
        let bytes = read(&path, 0, most).await.map_err(|error| {
            tracing::warn!(file.id = %file.id, %error, "a file's content cannot be read");
            refused(format!("the file {} cannot be read", file.name))
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| refused(format!("the file {} is no text in UTF-8", file.name)))?;
        texts.insert(name.clone(), Value::String(text));
    }
    Ok(texts)
}

/// What went wrong, with the line where it did, and what was printed before.
fn failed(error: WorkerError, printed: &str) -> Failure {
    let printed = cut_text(printed, TOLD_BYTES);
    match error {
        WorkerError::Script(traceback) => {
            let words = cut_text(&traceback.to_string(), TOLD_BYTES);
            Failure::new(ErrorCode::ToolFailed, words).with_details(json!({
                "reason": "exception",
                "exception": traceback.kind,
                "line": traceback.line,
                "traceback": cut_text(&traceback.traceback, TOLD_BYTES),
                "printed": printed,
            }))
        }
        other => worker_failure(other).with_details(json!({ "printed": printed })),
    }
}
