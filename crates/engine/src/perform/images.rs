//! Pictures among a user's files, as a model is shown them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use netra_context::memory;
use netra_model::Image;
use netra_protocol::ErrorCode;
use netra_protocol::file::File;
use tokio::io::AsyncReadExt as _;

use crate::execution::{Fault, Frame, unwritten};

/// The largest picture, in bytes: what providers take at least (5 MB in base64).
const MAX_BYTES: u64 = 3_750_000;
/// All pictures of one conversation together, in bytes.
const MAX_ALL_BYTES: u64 = 12 * 1024 * 1024;
/// How many pictures one conversation has.
const MAX_COUNT: usize = 20;

/// The media type of a picture that every provider takes, by how its bytes begin: what a file is
/// called is its owner's word only.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        _ => None,
    }
}

/// Whether a file says that it is a picture, and is small enough to be shown.
fn is_shown(file: &File) -> bool {
    let kinds = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    kinds.contains(&file.media_type.as_str()) && file.bytes <= MAX_BYTES
}

/// The pictures among the run's files, in their order, as many as there is room for. What is not
/// shown still stands in the text, by its name.
pub(super) async fn of_run(frame: &Frame<'_>) -> Result<Vec<Image>, Fault> {
    let mut shown = Vec::new();
    let mut left = MAX_ALL_BYTES;
    for file in frame.execution.files.iter().filter(|file| is_shown(file)) {
        if shown.len() == MAX_COUNT || file.bytes > left {
            continue;
        }
        left -= file.bytes;
        shown.extend(read(frame, file).await?);
    }
    Ok(shown)
}

/// One picture; none where the bytes are none, or are gone.
async fn read(frame: &Frame<'_>, file: &File) -> Result<Option<Image>, Fault> {
    let bytes = usize::try_from(file.bytes).unwrap_or(usize::MAX);
    // The bytes, their base64, and the copy that is shared.
    let _room = memory::reserve(bytes.saturating_mul(4))
        .map_err(|over| Fault::agent(ErrorCode::MemoryLimitExceeded, over.to_string()))?;
    let store = &frame.execution.infra.store;
    let handle = match store.file(frame.ctx, file.id).for_read().await {
        Ok(handle) => handle,
        Err(netra_store::Error::NotFound) => return Ok(None),
        Err(error) => return Err(unwritten(&error)),
    };
    let mut content = Vec::with_capacity(bytes);
    let opened = tokio::fs::File::open(store.file_path(&handle)).await;
    let read = match opened {
        Ok(opened) => opened.take(file.bytes).read_to_end(&mut content).await,
        Err(error) => Err(error),
    };
    if let Err(error) = read {
        tracing::warn!(file.id = %file.id, %error, "a file's content cannot be read");
        return Ok(None);
    }
    Ok(media_type(&content).map(|media_type| Image {
        media_type: media_type.to_owned(),
        base64: STANDARD.encode(&content).into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_known_by_its_bytes() {
        for (bytes, expected) in [
            (b"\x89PNG\r\n\x1a\n...".as_slice(), Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"GIF89a;", Some("image/gif")),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\0\0\0\0WAVE", None),
            (b"<svg/>", None),
            (b"", None),
        ] {
            assert_eq!(media_type(bytes), expected);
        }
    }
}
