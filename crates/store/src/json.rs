//! JSON in columns: read only after the reader's account was asked for the room that it takes.

use netra_context::memory;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The value of a column.
///
/// # Errors
/// `Memory` where the account has no room for it; `Bug` where it is not what was written.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let _room = memory::reserve_for_json(text.as_bytes())?;
    Ok(serde_json::from_str(text)?)
}
