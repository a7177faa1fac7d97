//! Whose rows a transaction sees: said to the server at its beginning, and gone with its end.

use super::session::Session;
use super::writers::lock_of;
use crate::cursor;
use crate::database::Whose;
use crate::sql::Result;

/// What all of the store's locks that are nobody's begin with.
const LOCKS: i32 = 0x6e65_7472;
/// Held together by the transactions of users, and alone by those that see everybody's rows.
const EVERYBODY: i32 = 1;
/// Held while the schema is brought up to date.
const SCHEMA: i32 = 2;
/// Held while an audit record is counted: after the locks of users, never before.
const TOTALS: i32 = 3;

/// Waits for the lock of the schema, until the end of the transaction.
pub(super) fn lock_schema(session: &Session) -> Result<()> {
    session.batch(&format!("SELECT pg_advisory_xact_lock({LOCKS}, {SCHEMA})"))
}

/// Waits for the lock of what is counted over all audit records, until the end of the transaction.
pub(crate) fn lock_totals(session: &Session) -> Result<()> {
    let lock = session.prepare("SELECT pg_advisory_xact_lock(?1, ?2)")?;
    session.defer(&lock, &(LOCKS, TOTALS))
}

pub(crate) fn begin_read(session: &Session, whose: Whose) -> Result<()> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    match whose {
        Whose::User(user) => {
            let user = cursor::write(&user.to_bytes());
            let set_up = "SELECT set_config('netra.user_id', ?1, true)";
            session.begin(begin, set_up, &[user])
        }
        Whose::All => session.begin(
            begin,
            "SELECT set_config('netra.everybody', 'on', true)",
            &[],
        ),
    }
}

pub(crate) fn begin_write(session: &Session, whose: Whose) -> Result<()> {
    match whose {
        Whose::User(user) => {
            let name = cursor::write(&user.to_bytes());
            let set_up = "SELECT set_config('netra.user_id', ?1, true),
                                 pg_advisory_xact_lock_shared(?2, ?3), pg_advisory_xact_lock(?4)";
            session.begin("BEGIN", set_up, &(name, LOCKS, EVERYBODY, lock_of(user)))
        }
        Whose::All => {
            let set_up =
                "SELECT set_config('netra.everybody', 'on', true), pg_advisory_xact_lock(?1, ?2)";
            session.begin("BEGIN", set_up, &(LOCKS, EVERYBODY))
        }
    }
}
