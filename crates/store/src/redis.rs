//! Redis, where nodes over one PostgreSQL have one besides: it carries what they say to each other, with the events
//! themselves where they are short. It is never the truth: what it loses costs time, and without it nodes tell each other
//! by the database.
//!
//! Reading order: [`address`], [`seal`], [`word`], [`link`], [`count`], [`kept`],
//! [`answers`].

mod address;
mod answers;
mod count;
mod kept;
mod link;
mod seal;
mod word;

use netra_context::Runtime;

use crate::error::Error;
use crate::sql::OptionalExtension as _;
use crate::transaction::Tx;

pub use address::Redis;
pub use count::{Count, Counted};
pub(crate) use link::{Link, Place};
pub(crate) use seal::Seal;

/// Where the database keeps the installation's secret.
const SECRET: &str = "redis_secret";

/// What the nodes of an installation seal with, made by the first of them.
pub(crate) fn secret(tx: &Tx<'_>, runtime: &Runtime) -> Result<[u8; 32], Error> {
    let stored = "SELECT value FROM meta WHERE key = ?1";
    let find = |tx: &Tx<'_>| {
        let mut statement = tx.prepare(stored)?;
        let found: Option<String> = statement.query_row([SECRET], |row| row.get(0)).optional()?;
        Ok::<_, Error>(found)
    };
    if let Some(found) = find(tx)? {
        return read(&found);
    }
    let made: [u8; 32] = runtime.secret_bytes();
    let text: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
    let insert = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
    tx.execute(insert, (SECRET, &text))?;
    find(tx)?.as_deref().map_or(Ok(made), read)
}

fn read(text: &str) -> Result<[u8; 32], Error> {
    let corrupt = || Error::corrupt("secret of the nodes");
    if !text.is_ascii() || text.len() != 64 {
        return Err(corrupt());
    }
    let mut secret = [0; 32];
    for (place, byte) in secret.iter_mut().enumerate() {
        let digits = &text[2 * place..2 * place + 2];
        *byte = u8::from_str_radix(digits, 16).map_err(|_| corrupt())?;
    }
    Ok(secret)
}
