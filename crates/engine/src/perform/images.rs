//! Pictures among a user's files, as a model is shown them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use netra_context::memory;
use netra_model::Image;
use netra_protocol::ErrorCode;
use netra_protocol::file::File;
use netra_protocol::id::FileId;
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

/// A file that says it is a picture, and is small enough to be shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Picture {
    id: FileId,
    bytes: u64,
}

impl Picture {
    /// The file as one, where it is one by what it says.
    pub(super) fn of(id: FileId, media_type: &str, bytes: u64) -> Option<Self> {
        let kinds = ["image/png", "image/jpeg", "image/gif", "image/webp"];
        let is_shown = kinds.contains(&media_type) && bytes <= MAX_BYTES;
        is_shown.then_some(Self { id, bytes })
    }
}

/// The pictures of one conversation, as many as there is room for. What is not shown still stands in the
/// text, by its name.
pub(super) struct Album<'f, 'e> {
    frame: &'f Frame<'e>,
    bytes_left: u64,
    count_left: usize,
}

impl<'f, 'e> Album<'f, 'e> {
    pub(super) fn new(frame: &'f Frame<'e>) -> Self {
        Self {
            frame,
            bytes_left: MAX_ALL_BYTES,
            count_left: MAX_COUNT,
        }
    }

    /// The pictures among the run's files, in their order.
    pub(super) async fn of_run(&mut self) -> Result<Vec<Image>, Fault> {
        let of = |file: &File| Picture::of(file.id, &file.media_type, file.bytes);
        let mut shown = Vec::new();
        for picture in self.frame.execution.files.iter().filter_map(of) {
            shown.extend(self.show(picture).await?);
        }
        Ok(shown)
    }

    /// The pictures of an earlier message. For these a user who is short of memory need not have room.
    pub(super) async fn of_earlier(&mut self, pictures: &[Picture]) -> Result<Vec<Image>, Fault> {
        let mut shown = Vec::new();
        for picture in pictures {
            match self.show(*picture).await {
                Ok(image) => shown.extend(image),
                Err(Fault::Agent(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(shown)
    }

    async fn show(&mut self, picture: Picture) -> Result<Option<Image>, Fault> {
        if self.count_left == 0 || picture.bytes > self.bytes_left {
            return Ok(None);
        }
        let image = read(self.frame, picture).await?;
        if image.is_some() {
            self.bytes_left -= picture.bytes;
            self.count_left -= 1;
        }
        Ok(image)
    }
}

/// One picture; none where the bytes are none, or are gone.
async fn read(frame: &Frame<'_>, file: Picture) -> Result<Option<Image>, Fault> {
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
