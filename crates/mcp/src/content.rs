//! What a server answers, made into the result of a call: texts and structure as JSON, everything
//! else as files of the run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use netra_context::memory;
use netra_protocol::error::{ErrorCode, Failure};
use netra_tools::{Call, Schema, cut_text};
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Map, Value, json};

/// The most files of one answer.
const MAX_FILES: usize = 16;
/// The longest words of a server in an error, in bytes.
const MAX_WORDS: usize = 4096;
/// Types that a stranger's file may have: nothing that a browser would run.
const SAFE_TYPES: [(&str, &str); 11] = [
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
    ("audio/wav", "wav"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("application/pdf", "pdf"),
    ("application/json", "json"),
    ("application/gzip", "gz"),
    ("text/csv", "csv"),
];

/// A failure of a call that has a reason for agents to go by.
pub(crate) fn failed(reason: &str, words: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::ToolFailed, words).with_details(json!({ "reason": reason }))
}

/// The result of a tool; a failure in the server's words where the server calls it one.
pub(crate) async fn of_tool(
    call: &Call<'_>,
    (server, output): (&str, Option<&Schema>),
    result: CallToolResult,
) -> Result<Value, Failure> {
    let mut answer = Answer::new(call);
    for block in result.content {
        answer.take(block).await?;
    }
    if result.is_error == Some(true) {
        let words = cut_text(answer.text.join("\n").trim(), MAX_WORDS);
        let words = if words.is_empty() {
            "it gave no reason"
        } else {
            &words
        };
        return Err(failed(
            "server_error",
            format!("the tool server {server} says: {words}"),
        ));
    }
    check(server, output, result.structured_content.as_ref())?;
    let mut told = answer.finish();
    if let Some(structured) = result.structured_content {
        told.insert("structured".to_owned(), structured);
    }
    Ok(Value::Object(told))
}

/// Whether the structured result is what the tool says that it gives. The value itself is not told.
fn check(server: &str, output: Option<&Schema>, structured: Option<&Value>) -> Result<(), Failure> {
    let misfits = match (output, structured) {
        (None, _) => return Ok(()),
        (Some(_), None) => vec!["it has none".to_owned()],
        (Some(schema), Some(structured)) => schema.misfits(structured, 3),
    };
    if misfits.is_empty() {
        return Ok(());
    }
    let words = format!(
        "the structured result of the tool server {server} does not fit the tool's own schema: {}",
        misfits.join("; ")
    );
    Err(failed("result_invalid", cut_text(&words, MAX_WORDS)))
}

/// The contents of a resource.
pub(crate) async fn of_resource(
    call: &Call<'_>,
    contents: Vec<ResourceContents>,
) -> Result<Value, Failure> {
    let mut answer = Answer::new(call);
    for content in contents {
        answer.take_resource(content).await?;
    }
    Ok(Value::Object(answer.finish()))
}

/// One message of a prompt.
pub(crate) async fn of_message(
    call: &Call<'_>,
    role: &str,
    content: ContentBlock,
) -> Result<Value, Failure> {
    let mut answer = Answer::new(call);
    answer.take(content).await?;
    let mut told = answer.finish();
    told.insert("role".to_owned(), role.into());
    Ok(Value::Object(told))
}

/// What has been read of an answer.
struct Answer<'a> {
    call: &'a Call<'a>,
    text: Vec<String>,
    files: Vec<Value>,
    resources: Vec<Value>,
    links: Vec<Value>,
}

impl<'a> Answer<'a> {
    const fn new(call: &'a Call<'a>) -> Self {
        Self {
            call,
            text: Vec::new(),
            files: Vec::new(),
            resources: Vec::new(),
            links: Vec::new(),
        }
    }

    async fn take(&mut self, block: ContentBlock) -> Result<(), Failure> {
        match block {
            ContentBlock::Text(text) => self.text.push(text.text),
            ContentBlock::Image(image) => {
                self.file("image", &image.mime_type, &image.data).await?;
            }
            ContentBlock::Audio(audio) => {
                self.file("audio", &audio.mime_type, &audio.data).await?;
            }
            ContentBlock::Resource(embedded) => self.take_resource(embedded.resource).await?,
            ContentBlock::ResourceLink(link) => self.links.push(json!({
                "uri": link.uri, "name": link.name, "description": link.description,
                "media_type": link.mime_type, "bytes": link.size,
            })),
            // Of a later version of the protocol.
            _ => self
                .text
                .push("(content of a kind that is not known here)".to_owned()),
        }
        Ok(())
    }

    async fn take_resource(&mut self, contents: ResourceContents) -> Result<(), Failure> {
        match contents {
            ResourceContents::TextResourceContents {
                uri,
                mime_type,
                text,
                ..
            } => {
                self.resources
                    .push(json!({ "uri": uri, "media_type": mime_type, "text": text }));
            }
            ResourceContents::BlobResourceContents {
                uri,
                mime_type,
                blob,
                ..
            } => {
                let name = uri.rsplit('/').next().unwrap_or_default();
                let name = if name.is_empty() { "resource" } else { name };
                let file = self.file(name, mime_type.as_deref().unwrap_or_default(), &blob);
                let file = file.await?;
                self.resources
                    .push(json!({ "uri": uri, "media_type": mime_type, "file_id": file }));
            }
            _ => {}
        }
        Ok(())
    }

    /// Stores what is in base64, and gives the file's id.
    async fn file(&mut self, name: &str, media_type: &str, data: &str) -> Result<Value, Failure> {
        if self.files.len() == MAX_FILES {
            let words = format!("the answer has more than {MAX_FILES} files");
            return Err(failed("too_much", words));
        }
        let _room = memory::reserve(data.len() / 4 * 3).map_err(|over| {
            let words = format!("no memory is left for a file of the answer: {over}");
            Failure::new(ErrorCode::MemoryLimitExceeded, words)
        })?;
        let content = STANDARD.decode(data).map_err(|error| {
            failed(
                "not_understood",
                format!("a file of the answer is no base64: {error}"),
            )
        })?;
        let (media_type, ending) = safe(media_type);
        let number = self.files.len() + 1;
        let name = if name.contains('.') {
            name.to_owned()
        } else {
            format!("{name}-{number}.{ending}")
        };
        let file = self.call.artifact(&name, media_type, &content).await?;
        let id = json!(file.id);
        self.files.push(json!({
            "file_id": file.id, "name": file.name, "media_type": file.media_type, "bytes": file.bytes
        }));
        Ok(id)
    }

    /// Only what there is stands in the result, `text` always.
    fn finish(self) -> Map<String, Value> {
        let mut told = Map::new();
        told.insert("text".to_owned(), self.text.join("\n").into());
        for (key, items) in [
            ("files", self.files),
            ("resources", self.resources),
            ("links", self.links),
        ] {
            if !items.is_empty() {
                told.insert(key.to_owned(), items.into());
            }
        }
        told
    }
}

/// A type that no browser runs, and the ending that goes with it.
fn safe(media_type: &str) -> (&'static str, &'static str) {
    let bare = media_type.split(';').next().unwrap_or_default().trim();
    let known = SAFE_TYPES
        .iter()
        .find(|(safe, _)| bare.eq_ignore_ascii_case(safe));
    known.copied().unwrap_or(match bare.get(..5) {
        Some(kind) if kind.eq_ignore_ascii_case("text/") => ("text/plain", "txt"),
        _ => ("application/octet-stream", "bin"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structured_result_fits_the_tools_own_schema_or_the_call_has_failed() {
        let schema = json!({
            "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]
        });
        let schema = Schema::new(&schema).unwrap();
        let told = |structured: Option<Value>| {
            let checked = check("srv", Some(&schema), structured.as_ref());
            checked.map_err(|failure| failure.message)
        };
        assert_eq!(told(Some(json!({"n": 7}))), Ok(()));
        assert_eq!(check("srv", None, Some(&json!([1]))), Ok(()));
        let wrong = told(Some(json!({"n": "a secret"}))).unwrap_err();
        assert!(
            wrong.contains("/n: ") && wrong.contains("integer"),
            "{wrong}"
        );
        assert!(!wrong.contains("a secret"), "{wrong}");
        assert!(told(Some(json!({}))).unwrap_err().contains("required"));
        assert!(told(None).unwrap_err().contains("it has none"));
    }

    #[test]
    fn a_strangers_file_never_has_a_type_that_runs() {
        assert_eq!(safe("Image/PNG"), ("image/png", "png"));
        assert_eq!(safe("text/html"), ("text/plain", "txt"));
        assert_eq!(safe("text/csv; charset=utf-8"), ("text/csv", "csv"));
        for runs in ["image/svg+xml", "application/xhtml+xml", "é", ""] {
            assert_eq!(safe(runs), ("application/octet-stream", "bin"), "{runs}");
        }
    }
}
