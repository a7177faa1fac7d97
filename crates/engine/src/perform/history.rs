//! The conversation so far, as a model gets it.

use netra_model::{Message as Said, ModelRef};
use netra_protocol::message::{Content, Message, MessageRole};
use serde_json::Value;

use super::images::{Album, Picture};
use crate::execution::{Fault, Frame, unwritten};

/// How much of a thread a model gets, counted from its end.
const MAX_MESSAGES: usize = 200;
const MAX_CHARS: usize = 400_000;
/// How many messages are read at a time.
const PAGE: u32 = 100;

/// The conversation up to the run's own question, which is last. A sub-agent gets its task only, one
/// that a conversation was handed over to gets that.
pub(super) async fn conversation(frame: &Frame<'_>) -> Result<Vec<Said>, Fault> {
    if let Some(handed_over) = &frame.conversation {
        return Ok(handed_over.clone());
    }
    Ok(told(frame)
        .await?
        .into_iter()
        .map(|told| told.said)
        .collect())
}

/// What a thread's agent or a sub-agent is told, its own question last.
async fn told(frame: &Frame<'_>) -> Result<Vec<Told>, Fault> {
    let before = match frame.is_root() {
        true => read_thread(frame).await?,
        false => Vec::new(),
    };
    Ok(assemble(before, task(frame)))
}

/// [`conversation`] with its pictures, where this model can look at them: the run's own, then those of
/// earlier messages, the newest first.
pub(super) async fn conversation_for(
    frame: &Frame<'_>,
    model: &ModelRef,
) -> Result<Vec<Said>, Fault> {
    if !frame.execution.infra.models.images(model) {
        let mut said = conversation(frame).await?;
        // One that had eyes may have handed the conversation over.
        for message in &mut said {
            if let Said::User { images, .. } = message {
                images.clear();
            }
        }
        return Ok(said);
    }
    if let Some(handed_over) = &frame.conversation {
        return Ok(handed_over.clone());
    }
    let mut told = told(frame).await?;
    let mut album = Album::new(frame);
    for (back, Told { said, pictures }) in told.iter_mut().rev().enumerate() {
        if let Said::User { images, .. } = said {
            *images = match back {
                0 => album.of_run().await?,
                _ => album.of_earlier(pictures).await?,
            };
        }
    }
    Ok(told.into_iter().map(|told| told.said).collect())
}

/// What the agent is asked, with the files that come with it.
fn task(frame: &Frame<'_>) -> String {
    let mut text = match frame.input.get("text").and_then(Value::as_str) {
        Some(text)
            if frame
                .input
                .as_object()
                .is_some_and(|fields| fields.len() == 1) =>
        {
            text.to_owned()
        }
        _ => frame.input.to_string(),
    };
    for file in &frame.execution.files {
        let line = format!(
            "\n[file: {}, {}, {} bytes]",
            file.name, file.media_type, file.bytes
        );
        text.push_str(&line);
    }
    text
}

/// The thread's messages before the run's own question: not those of runs that come after it.
async fn read_thread(frame: &Frame<'_>) -> Result<Vec<Message>, Fault> {
    let (store, run) = (&frame.execution.infra.store, frame.execution.emitter.run());
    let read = async {
        let thread = store.thread(frame.ctx, run.thread_id).for_read().await?;
        let (mut found, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = store
                .messages(frame.ctx, &thread, PAGE, cursor.as_deref())
                .await?;
            found.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(found),
            }
        }
    };
    let mut found = read
        .await
        .map_err(|error: netra_store::Error| unwritten(&error))?;
    // Ids of runs rise with time, so a later id is a run that waits behind this one.
    found.retain(|message| message.run_id.is_none_or(|id| id < run.id));
    Ok(found)
}

/// What was said, and the pictures that came with it.
struct Told {
    said: Said,
    pictures: Vec<Picture>,
}

impl From<Said> for Told {
    fn from(said: Said) -> Self {
        let pictures = Vec::new();
        Self { said, pictures }
    }
}

fn assemble(before: Vec<Message>, question: String) -> Vec<Told> {
    let mut chars = question.chars().count();
    let mut told = vec![Told::from(Said::user(question))];
    for message in before.into_iter().rev().take(MAX_MESSAGES) {
        let text = text_of(&message.content);
        chars += text.chars().count();
        if chars > MAX_CHARS {
            break;
        }
        match message.role {
            _ if text.is_empty() => {}
            MessageRole::User => told.push(Told {
                said: Said::user(text),
                pictures: message.content.iter().filter_map(picture).collect(),
            }),
            MessageRole::Assistant => told.push(Told::from(Said::Assistant {
                text,
                tool_calls: Vec::new(),
                keepsake: None,
            })),
            // Results of tools make sense only beside their calls, whose ids were for that run.
            MessageRole::Tool => {}
        }
    }
    told.reverse();
    told
}

fn picture(content: &Content) -> Option<Picture> {
    match content {
        Content::File {
            file_id,
            media_type,
            bytes,
            ..
        } => Picture::of(*file_id, media_type, *bytes),
        _ => None,
    }
}

fn text_of(content: &[Content]) -> String {
    let part = |content: &Content| match content {
        Content::Text { text } => Some(text.clone()),
        Content::File {
            name,
            media_type,
            bytes,
            ..
        } => Some(format!("[file: {name}, {media_type}, {bytes} bytes]")),
        Content::ToolCall { .. } | Content::ToolResult { .. } => None,
    };
    content
        .iter()
        .filter_map(part)
        .collect::<Vec<_>>()
        .join("\n")
}
