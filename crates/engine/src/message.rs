//! The assistant's messages: written piece by piece, then stored whole.

use netra_events::Emission;
use netra_protocol::event::EventKind;
use netra_protocol::id::MessageId;
use netra_protocol::message::{Content, Message, MessageRole};
use netra_store::Changes;
use netra_tools::{bytes_of, cut_text};
use serde_json::Value;

use crate::closing::OpenMessage;
use crate::execution::{Fault, Frame, unwritten};

/// The longest text that stands in a message itself, in bytes of JSON; a longer one becomes a file.
const MAX_TEXT_BYTES: usize = 160 * 1024;
/// How much of a text that became a file stands in the message, in bytes.
const EXCERPT_BYTES: usize = 16 * 1024;
/// The pieces in which a text that is there as a whole is written, in bytes.
const PIECE_BYTES: usize = 4 * 1024;
/// The largest text of a message, in bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The field of a text's result that says why it is not whole.
pub(crate) const FINISH_REASON: &str = "finish_reason";

/// A message that has ended: its event, and its row.
pub(crate) struct Whole {
    pub(crate) emission: Emission,
    pub(crate) row: Message,
}

/// What the user is told of a result: its report, its text where it has nothing else, or all of it.
pub(crate) fn text_of_result(result: &Value) -> String {
    let only = result.as_object().filter(|fields| {
        let mut names = fields.keys().filter(|name| *name != FINISH_REASON);
        names.next().is_some() && names.next().is_none()
    });
    let text = result
        .get("report_markdown")
        .or_else(|| only?.get("text"))
        .and_then(Value::as_str);
    text.map_or_else(|| result.to_string(), str::to_owned)
}

/// Writes a text that is there as a whole as a message of the agent: its deltas now, its end with
/// what the caller commits next. What an earlier attempt has written of it is not written again.
pub(crate) async fn write_whole(frame: &Frame<'_>, text: &str) -> Result<Whole, Fault> {
    let (id, written) = match go_on(frame, text).await? {
        Some(begun) => begun,
        None => (frame.new_id(MessageId::from_parts), 0),
    };
    let mut rest = &text[written..];
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        write_piece(frame, id, piece).await?;
        rest = next;
    }
    complete(frame, id, text, Vec::new(), false).await
}

/// The message of an earlier attempt that this text goes on, and how much of it is written. One of
/// another text is cut off.
async fn go_on(frame: &Frame<'_>, text: &str) -> Result<Option<(MessageId, usize)>, Fault> {
    let unfinished = {
        let mut unfinished = frame.execution.unfinished.lock();
        let own = |open: &OpenMessage| open.agent == frame.agent.name;
        unfinished
            .iter()
            .position(own)
            .map(|index| unfinished.remove(index))
    };
    match unfinished {
        None => Ok(None),
        Some(open) if text.starts_with(&open.text) => Ok(Some((open.id, open.text.len()))),
        Some(open) => {
            let (emission, row) = open.cut_off(&frame.execution.emitter);
            let changes = Changes {
                messages: vec![row],
                ..Changes::default()
            };
            frame.commit(changes, vec![emission]).await?;
            Ok(None)
        }
    }
}

/// Begins a message whose text is still being said. Its row is there from the first piece on, so that
/// whoever reads the thread meanwhile sees the message grow.
pub(crate) async fn begin(frame: &Frame<'_>) -> Result<MessageId, Fault> {
    let id = frame.new_id(MessageId::from_parts);
    let changes = Changes {
        messages: vec![frame.message(id, Vec::new(), false)],
        ..Changes::default()
    };
    frame.commit(changes, Vec::new()).await?;
    Ok(id)
}

/// Adds a piece to a message.
pub(crate) async fn write_piece(
    frame: &Frame<'_>,
    id: MessageId,
    piece: &str,
) -> Result<(), Fault> {
    let emitter = &frame.execution.emitter;
    let written = emitter
        .delta(frame.ctx, &frame.agent.name, frame.step(), id, piece)
        .await;
    written.map_err(|error| unwritten(&error))
}

/// The end of a message whose text has been written; `is_cut` where it ends before its end.
pub(crate) async fn complete(
    frame: &Frame<'_>,
    id: MessageId,
    text: &str,
    tool_calls: Vec<Content>,
    is_cut: bool,
) -> Result<Whole, Fault> {
    let mut content = text_content(frame, id, text).await?;
    content.extend(tool_calls);
    let kind = EventKind::MessageCompleted {
        message_id: id,
        role: MessageRole::Assistant,
        content: content.clone(),
        incomplete: is_cut,
    };
    Ok(Whole {
        emission: frame.emission(kind),
        row: frame.message(id, content, !is_cut),
    })
}

/// The text as content; with a file in its place where it is larger than an event may be.
async fn text_content(frame: &Frame<'_>, id: MessageId, text: &str) -> Result<Vec<Content>, Fault> {
    let short = text.len() <= MAX_TEXT_BYTES / 6;
    if short || bytes_of(&Value::from(text)) <= MAX_TEXT_BYTES {
        return Ok(vec![Content::Text {
            text: text.to_owned(),
        }]);
    }
    let scope = frame.execution.dispatcher.scope();
    let named = ("message.md".to_owned(), "text/markdown".to_owned());
    let key = id.to_string();
    let kept = scope.keep_file(frame.ctx, &key, named, text.as_bytes(), MAX_FILE_BYTES);
    let (file, is_new) = kept.await.map_err(|error| unwritten(&error))?;
    if is_new {
        let created = EventKind::ArtifactCreated {
            file_id: file.id,
            name: file.name.clone(),
            media_type: file.media_type.clone(),
            bytes: file.bytes,
        };
        frame.emit(created).await?;
    }
    let excerpt = Content::Text {
        text: cut_text(text, EXCERPT_BYTES),
    };
    let whole = Content::File {
        file_id: file.id,
        name: file.name,
        media_type: file.media_type,
        bytes: file.bytes,
    };
    Ok(vec![excerpt, whole])
}
