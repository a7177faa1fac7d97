//! One caller's part of a transaction: a connection, the time, and what it appends to the log.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use netra_protocol::Timestamp;
use netra_protocol::id::UserId;

use crate::audit::AuditKey;
use crate::error::Error;
use crate::log::{Encoded, Entry};
use crate::postgres::{Place, scope};
use crate::revoked::Revoked;
use crate::sql::{Connection, Params, Statement};

pub(crate) struct Tx<'a> {
    connection: &'a Connection,
    now: Timestamp,
    audit_key: &'a AuditKey,
    appended: &'a mut Vec<Arc<Entry>>,
    /// Its place in the order of fan-out, where several transactions commit at once.
    place: Option<&'a mut Place>,
    /// Whether other nodes are to look at the runs anew.
    rings: Cell<bool>,
    /// What whoever remembers it has to look at again.
    revoked: RefCell<Vec<Revoked>>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        now: Timestamp,
        audit_key: &'a AuditKey,
        appended: &'a mut Vec<Arc<Entry>>,
    ) -> Self {
        Self {
            connection,
            now,
            audit_key,
            appended,
            place: None,
            rings: Cell::new(false),
            revoked: RefCell::default(),
        }
    }

    /// Other nodes are to look at the runs anew when this is committed.
    pub(crate) fn ring(&self) {
        self.rings.set(true);
    }

    /// Whether [`Tx::ring`] was called.
    pub(crate) fn rings(&self) -> bool {
        self.rings.get()
    }

    /// Whoever remembers this is to look again when this is committed, on all nodes.
    pub(crate) fn revoke(&self, revoked: Revoked) {
        self.revoked.borrow_mut().push(revoked);
    }

    /// What [`Tx::revoke`] was called with.
    pub(crate) fn revoked(&self) -> Vec<Revoked> {
        self.revoked.take()
    }

    pub(crate) fn set_place(&mut self, place: &'a mut Place) {
        self.place = Some(place);
    }

    /// What chains of audit records are keyed with.
    pub(crate) fn audit_key(&self) -> &AuditKey {
        self.audit_key
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.connection
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement<'_>, Error> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Carries a statement out and returns how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, Error> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// Carries a statement out of which nobody needs to know more: where it fails, the transaction does.
    pub(crate) fn put(&self, sql: &str, params: impl Params) -> Result<(), Error> {
        Ok(self.connection.prepare_cached(sql)?.put(params)?)
    }

    /// Nobody else counts audit records until the transaction ends.
    pub(crate) fn lock_totals(&self) -> Result<(), Error> {
        match self.connection {
            // There is one writer.
            Connection::Sqlite(_) => Ok(()),
            Connection::Postgres(session) => Ok(scope::lock_totals(session)?),
        }
    }

    /// Writes something that nobody reads, to see whether writing works.
    pub(crate) fn touch(&self) -> Result<(), Error> {
        self.note("touched_at", self.now)
    }

    /// Notes a time of the whole store.
    pub(crate) fn note(&self, what: &str, at: Timestamp) -> Result<(), Error> {
        self.execute(
            "INSERT INTO meta (key, value) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (what, at.as_micros().to_string()),
        )?;
        Ok(())
    }

    /// The number of the user's last event.
    pub(crate) fn latest_seq(&self, user: UserId) -> Result<u64, Error> {
        crate::log::latest_seq(self.connection, user)
    }

    /// Appends events to the user's log and returns their numbers.
    pub(crate) fn append(&mut self, user: UserId, events: Vec<Encoded>) -> Result<Vec<u64>, Error> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let count = events.len() as u64;
        let last: u64 = self.numbers(user, count)?;
        let first = last - count + 1;
        if let Some(place) = &mut self.place {
            place.take(user, first);
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO events (user_id, seq, thread_id, run_id, type, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for (seq, event) in (first..).zip(events) {
            let entry = event.numbered(user, seq);
            insert.put((
                user.to_bytes(),
                seq,
                entry.thread_id.to_bytes(),
                entry.run_id.to_bytes(),
                entry.kind.as_str(),
                entry.body(),
            ))?;
            self.appended.push(Arc::new(entry));
        }
        Ok((first..=last).collect())
    }
    /// Takes the user's next numbers and gives the last of them. Until the transaction ends nobody else gets one.
    fn numbers(&self, user: UserId, count: u64) -> Result<u64, Error> {
        let user = user.to_bytes();
        let last = match self.connection {
            Connection::Sqlite(_) => self
                .prepare(
                    "INSERT INTO logs (user_id, seq, oldest_seq) VALUES (?1, ?2, 1)
                     ON CONFLICT (user_id) DO UPDATE SET seq = seq + excluded.seq RETURNING seq",
                )?
                .query_row((user, count), |row| row.get(0)),
            Connection::Postgres(_) => self
                .prepare(
                    "INSERT INTO logs (user_id, seq, oldest_seq, appended_at) VALUES (?1, ?2, 1, ?3)
                     ON CONFLICT (user_id) DO UPDATE
                     SET seq = logs.seq + excluded.seq, appended_at = excluded.appended_at
                     RETURNING seq",
                )?
                .query_row((user, count, self.now.as_micros()), |row| row.get(0)),
        };
        Ok(last?)
    }
}
