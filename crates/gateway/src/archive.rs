//! A tar archive (POSIX ustar) that is made while it is sent: nothing of it is kept.

use axum::body::Bytes;
use futures::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::Error;

/// Everything in an archive is filled up to a multiple of this, in bytes.
const BLOCK: usize = 512;
/// The largest size that the header's eleven octal digits can say.
const MOST_BYTES: u64 = 0o77_777_777_777;

/// Writes an archive into a stream of pieces. What is not read is not made.
pub(crate) struct Archive {
    pieces: mpsc::Sender<Bytes>,
    /// Seconds since 1970, as the time of every entry.
    at: u64,
}

/// What remains to be sent of an entry that was begun.
pub(crate) struct Entry<'a> {
    archive: &'a Archive,
    left: u64,
    padding: usize,
}

/// The reader has gone away.
pub(crate) struct Gone;

impl From<Gone> for Error {
    fn from(Gone: Gone) -> Self {
        Self::internal("nobody reads the archive any more")
    }
}

fn digits(field: &mut [u8], value: u64) {
    // The last byte ends the number.
    let (mut rest, last) = (value, field.len() - 1);
    for digit in field[..last].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest & 7).unwrap_or(0);
        rest >>= 3;
    }
    field[last] = 0;
}

fn header(name: &str, bytes: u64, at: u64) -> Result<[u8; BLOCK], Error> {
    let fits = name.len() <= 100 && name.is_ascii() && bytes <= MOST_BYTES;
    if !fits {
        return Err(Error::internal("an entry does not fit into the archive"));
    }
    let mut header = [0; BLOCK];
    header[..name.len()].copy_from_slice(name.as_bytes());
    digits(&mut header[100..108], 0o600);
    digits(&mut header[108..116], 0);
    digits(&mut header[116..124], 0);
    digits(&mut header[124..136], bytes);
    digits(&mut header[136..148], at);
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    digits(&mut header[148..155], sum);
    Ok(header)
}

fn padding(bytes: u64) -> usize {
    let over = usize::try_from(bytes % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

impl Archive {
    /// An archive, and the pieces of it as they are made.
    pub(crate) fn new(at: u64) -> (Self, impl Stream<Item = Bytes> + Send) {
        let (pieces, receiver) = mpsc::channel(1);
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            let piece: Bytes = receiver.recv().await?;
            Some((piece, receiver))
        });
        (Self { pieces, at }, stream)
    }

    async fn send(&self, piece: impl Into<Bytes>) -> Result<(), Gone> {
        self.pieces.send(piece.into()).await.map_err(|_| Gone)
    }

    /// Begins an entry of this size.
    pub(crate) async fn begin(&self, name: &str, bytes: u64) -> Result<Entry<'_>, Error> {
        self.send(header(name, bytes, self.at)?.to_vec()).await?;
        Ok(Entry {
            archive: self,
            left: bytes,
            padding: padding(bytes),
        })
    }

    /// A whole entry.
    pub(crate) async fn entry(&self, name: &str, content: Vec<u8>) -> Result<(), Error> {
        let mut entry = self.begin(name, content.len() as u64).await?;
        entry.add(content).await?;
        entry.end().await
    }

    /// An entry with a line of JSON for each of these; none where there are none.
    pub(crate) async fn lines<T: Serialize>(&self, name: &str, items: &[T]) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        let mut content = Vec::new();
        for item in items {
            serde_json::to_writer(&mut content, item).map_err(Error::internal)?;
            content.push(b'\n');
        }
        self.entry(name, content).await
    }

    /// The end of the archive.
    pub(crate) async fn end(self) -> Result<(), Error> {
        Ok(self.send(vec![0; 2 * BLOCK]).await?)
    }
}

impl Entry<'_> {
    /// Adds to the content.
    pub(crate) async fn add(&mut self, piece: impl Into<Bytes>) -> Result<(), Error> {
        let piece = piece.into();
        let left = self.left.checked_sub(piece.len() as u64);
        self.left = left.ok_or_else(|| Error::internal("an entry is larger than was said"))?;
        Ok(self.archive.send(piece).await?)
    }

    /// Ends the entry, which has to be whole.
    pub(crate) async fn end(self) -> Result<(), Error> {
        if self.left > 0 {
            return Err(Error::internal("an entry is smaller than was said"));
        }
        if self.padding > 0 {
            self.archive.send(vec![0; self.padding]).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn an_archive_has_headers_with_sums_and_whole_blocks() {
        let (archive, pieces) = Archive::new(0o17);
        let write = async {
            archive.entry("a.txt", b"hello".to_vec()).await.unwrap();
            archive.lines::<u8>("none.jsonl", &[]).await.unwrap();
            archive.lines("b.jsonl", &[1, 2]).await.unwrap();
            archive.end().await.unwrap();
        };
        let (_, pieces) = futures::join!(write, pieces.collect::<Vec<_>>());
        let all = pieces.concat();
        assert_eq!(all.len(), 2 * 2 * BLOCK + 2 * BLOCK);
        assert_eq!(&all[..5], b"a.txt");
        assert_eq!(&all[124..136], b"00000000005\0");
        assert_eq!(&all[136..148], b"00000000017\0");
        // The sum is over the header with spaces in its own place.
        let mut head = all[..BLOCK].to_vec();
        let told = std::str::from_utf8(&head[148..154]).unwrap().to_owned();
        head[148..156].fill(b' ');
        let sum: u64 = head.iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(u64::from_str_radix(&told, 8).unwrap(), sum);
        assert_eq!(&all[BLOCK..BLOCK + 6], b"hello\0");
        assert_eq!(&all[3 * BLOCK..3 * BLOCK + 4], b"1\n2\n");
    }

    #[tokio::test]
    async fn an_entry_is_as_large_as_was_said_or_an_error() {
        let (archive, pieces) = Archive::new(0);
        let pieces = pieces.collect::<Vec<_>>();
        let write = async {
            let mut entry = archive.begin("a", 3).await.unwrap();
            assert!(entry.add("four").await.is_err());
            let mut entry = archive.begin("a", 3).await.unwrap();
            entry.add("ab").await.unwrap();
            assert!(entry.end().await.is_err());
            assert!(archive.begin(&"n".repeat(101), 1).await.is_err());
            drop(archive);
        };
        futures::join!(write, pieces);
    }
}
