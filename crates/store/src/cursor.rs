//! Page cursors: opaque text over the sort key of the last row of a page.

use crate::error::Error;

/// Writes the bytes of a sort key as a cursor.
pub(crate) fn write(key: &[u8]) -> String {
    key.iter()
        .fold(String::with_capacity(key.len() * 2), |mut text, byte| {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
            text
        })
}

/// Reads a cursor of exactly `N` bytes.
pub(crate) fn read<const N: usize>(cursor: &str) -> Result<[u8; N], Error> {
    let text = cursor.as_bytes();
    if text.len() != N * 2 {
        return Err(Error::InvalidCursor);
    }
    let mut key = [0; N];
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |place: usize| {
            char::from(pair[place])
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        *byte = digit(0)
            .zip(digit(1))
            .map(|(high, low)| high << 4 | low)
            .ok_or(Error::InvalidCursor)?;
    }
    Ok(key)
}

/// The largest key: every row comes before it.
pub(crate) const END: [u8; 16] = [0xff; 16];

/// Cuts the row too many that was read to see whether there is a next page.
pub(crate) fn next<T>(
    items: &mut Vec<T>,
    limit: u32,
    key: impl FnOnce(&T) -> String,
) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if items.len() <= limit {
        return None;
    }
    items.truncate(limit);
    items.last().map(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        assert_eq!(
            read::<3>(&write(&[1, 0xab, 0xff])).unwrap(),
            [1, 0xab, 0xff]
        );
        for bad in ["", "01abf", "01abfz", "é1abf0", "01abff00"] {
            assert!(matches!(read::<3>(bad), Err(Error::InvalidCursor)), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_key_reads_back_and_no_text_panics(key in any::<[u8; 24]>(), text in ".{0,60}") {
            prop_assert_eq!(read::<24>(&write(&key)).unwrap(), key);
            read::<16>(&text).ok();
        }
    }
}
