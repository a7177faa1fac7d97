//! `save_file`: the agent writes a text that the user keeps, such as a report.

use async_trait::async_trait;
use netra_protocol::Failure;
use netra_protocol::tool::Risk;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::tool::{Call, Tool, ToolSpec};

pub(super) struct SaveFile(ToolSpec);

/// The media types that a text may be stored as; none of them is run by a browser.
const MEDIA_TYPES: [&str; 4] = [
    "text/plain",
    "text/markdown",
    "text/csv",
    "application/json",
];

#[derive(Deserialize)]
struct Arguments {
    name: String,
    content: String,
    media_type: Option<String>,
}

impl SaveFile {
    pub(super) fn new() -> Self {
        Self(ToolSpec {
            name: "save_file".into(),
            description: "Stores a text as a file for the user, for example report.md or \
                          report.json, and returns its id."
                .into(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "name": {
                        "type": "string", "minLength": 1, "maxLength": 200,
                        "description": "The file's name, without folders."
                    },
                    "content": { "type": "string", "description": "The whole text." },
                    "media_type": {
                        "enum": MEDIA_TYPES,
                        "description": "By the name's ending when absent."
                    }
                },
                "required": ["name", "content"],
                "additionalProperties": false
            }),
            permission: "artifacts".into(),
            risk: Risk::Medium,
            idempotent: true,
            needs_approval: false,
        })
    }
}

#[async_trait]
impl Tool for SaveFile {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let arguments: Arguments = call.arguments_as()?;
        let media_type = arguments
            .media_type
            .as_deref()
            .unwrap_or(by_ending(&arguments.name));
        let file = call
            .artifact(&arguments.name, media_type, arguments.content.as_bytes())
            .await?;
        Ok(json!({
            "file_id": file.id,
            "name": file.name,
            "media_type": file.media_type,
            "bytes": file.bytes,
        }))
    }
}

fn by_ending(name: &str) -> &'static str {
    match name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase())
        .as_deref()
    {
        Some("md" | "markdown") => "text/markdown",
        Some("json") => "application/json",
        Some("csv") => "text/csv",
        _ => "text/plain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_follows_the_ending_and_is_never_one_that_runs() {
        assert_eq!(by_ending("report.MD"), "text/markdown");
        assert_eq!(by_ending("report.json"), "application/json");
        assert_eq!(by_ending("page.html"), "text/plain");
        assert_eq!(by_ending("noending"), "text/plain");
    }
}
