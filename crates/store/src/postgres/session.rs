//! A connection that keeps its statements prepared, and waits for the server only where an answer is needed.
//!
//! What nobody needs the answer of is written and sent with the next thing that is waited for, so that a transaction
//! takes fewer round trips than it has statements. A deferred statement that fails makes its transaction fail: at the
//! latest the commit tells.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::Oid;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend::{self, BindError};

use super::address::Address;
use super::wire::{Closer, Wire, refusal};
use super::{codec, dialect};
use crate::sql::{Error, Params, Result, Value};

/// What is written without waiting is sent when it is this much, so that it does not grow without end.
const DEFERRED_BYTES: usize = 64 * 1024;

/// A statement as the server knows it.
#[derive(Debug)]
pub(crate) struct Prepared {
    name: String,
    params: Vec<Oid>,
    columns: Arc<[Oid]>,
}

/// A connection. One thread uses it at a time.
pub(crate) struct Session(RefCell<State>);

struct State {
    wire: Wire,
    statements: HashMap<String, Arc<Prepared>>,
    /// How many statements stand before each `Sync` that was sent and whose answer was not read.
    sent: VecDeque<usize>,
    /// How many statements were written since the last `Sync`.
    written: usize,
    /// Whether anything of this transaction was sent.
    has_sent: bool,
    is_in_transaction: bool,
    is_broken: bool,
}

/// What a statement gave.
#[derive(Default)]
struct Outcome {
    rows: Vec<DataRowBody>,
    tag: String,
    error: Option<Error>,
}

/// A row, with the types of its columns.
pub(crate) struct Row {
    columns: Arc<[Oid]>,
    cells: Vec<Option<std::ops::Range<usize>>>,
    body: DataRowBody,
}

impl Row {
    /// How many columns it has.
    pub(crate) fn columns(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn get(&self, column: usize) -> Result<Value<'_>> {
        let both = self.cells.get(column).zip(self.columns.get(column));
        let (cell, oid) = both.ok_or_else(|| Error::Bug(format!("there is no column {column}")))?;
        let bytes = cell.clone().map(|range| &self.body.buffer()[range]);
        codec::read(bytes, *oid)
    }
}

impl Session {
    pub(crate) fn connect(address: &Address) -> Result<Self> {
        Ok(Self(RefCell::new(State {
            wire: Wire::connect(address)?,
            statements: HashMap::new(),
            sent: VecDeque::new(),
            written: 0,
            has_sent: false,
            is_in_transaction: false,
            is_broken: false,
        })))
    }

    /// Whether it can be used again: nothing has failed that leaves it in doubt, and the server is still there.
    pub(crate) fn is_usable(&self) -> bool {
        let mut state = self.0.borrow_mut();
        !state.is_broken && !state.is_in_transaction && state.wire.is_open()
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.0.borrow().is_in_transaction
    }

    /// Ends the connection from another thread.
    pub(super) fn closer(&self) -> Result<Closer> {
        self.0.borrow().wire.closer()
    }

    /// The next notification that has come on a channel that this connection listens to; none in this time.
    pub(super) fn heard(&self, patience: Duration) -> Result<Option<String>> {
        let mut state = self.0.borrow_mut();
        state.watched(|state| state.wire.heard(patience))
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<Arc<Prepared>> {
        let mut state = self.0.borrow_mut();
        if let Some(prepared) = state.statements.get(sql) {
            return Ok(Arc::clone(prepared));
        }
        state.watched(|state| state.prepare(sql))
    }

    /// Carries a statement out with the next one that is waited for.
    pub(crate) fn defer(&self, statement: &Prepared, params: &impl Params) -> Result<()> {
        let mut state = self.0.borrow_mut();
        state.write(statement, params)?;
        if state.wire.outgoing.len() > DEFERRED_BYTES {
            state.watched(State::flush)?;
        }
        Ok(())
    }

    /// Carries a statement out and gives the number of rows that it changed.
    pub(crate) fn execute(&self, statement: &Prepared, params: &impl Params) -> Result<usize> {
        let mut state = self.0.borrow_mut();
        state.write(statement, params)?;
        let outcome = state.watched(State::answer)?;
        let count = outcome.tag.rsplit(' ').next();
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    pub(crate) fn query(&self, statement: &Prepared, params: &impl Params) -> Result<Vec<Row>> {
        let mut state = self.0.borrow_mut();
        state.write(statement, params)?;
        let outcome = state.watched(State::answer)?;
        let row = |body: DataRowBody| {
            Ok(Row {
                columns: Arc::clone(&statement.columns),
                cells: body.ranges().collect()?,
                body,
            })
        };
        outcome.rows.into_iter().map(row).collect()
    }

    /// Several statements without parameters.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        let mut state = self.0.borrow_mut();
        state.watched(|state| {
            state.settle()?;
            frontend::query(sql, &mut state.wire.outgoing)?;
            state.flush()?;
            state.sent.push_back(usize::MAX);
            state.receive()?.error.map_or(Ok(()), Err)
        })
    }

    /// Begins a transaction; the server hears of it with the first statement that is waited for.
    pub(crate) fn begin(&self, begin: &str, set_up: &str, params: &impl Params) -> Result<()> {
        let (begin, set_up) = (self.prepare(begin)?, self.prepare(set_up)?);
        self.0.borrow_mut().has_sent = false;
        self.0.borrow_mut().is_in_transaction = true;
        self.defer(&begin, &[])?;
        self.defer(&set_up, params)
    }

    /// Ends the transaction and waits until it is durable.
    pub(crate) fn commit(&self) -> Result<()> {
        let commit = self.prepare("COMMIT")?;
        let mut state = self.0.borrow_mut();
        state.write(&commit, &[])?;
        let outcome = state.watched(State::answer)?;
        state.is_in_transaction = false;
        if outcome.tag == "COMMIT" {
            Ok(())
        } else {
            // Something in it had failed before.
            Err(Error::Bug(
                "a transaction that had failed was to be committed".into(),
            ))
        }
    }

    /// Ends a transaction of which nothing is to stay, without waiting.
    pub(crate) fn roll_back(&self) -> Result<()> {
        self.leave("ROLLBACK")
    }

    /// Ends a transaction that has only read, without waiting.
    pub(crate) fn end_read(&self) -> Result<()> {
        self.leave("COMMIT")
    }

    fn leave(&self, how: &str) -> Result<()> {
        let end = self.prepare(how)?;
        let mut state = self.0.borrow_mut();
        state.is_in_transaction = false;
        if !state.has_sent {
            state.wire.outgoing.clear();
            state.written = 0;
            return Ok(());
        }
        state.write(&end, &[])?;
        state.watched(State::sync)
    }
}

impl State {
    /// A connection on which sending or receiving has failed, or that stands where it should not, is not used again.
    fn watched<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let done = act(self);
        self.is_broken |= matches!(done, Err(Error::Unavailable(_)));
        done
    }

    fn prepare(&mut self, sql: &str) -> Result<Arc<Prepared>> {
        self.settle()?;
        let name = format!("s{}", self.statements.len());
        let text = dialect::translate(sql);
        frontend::parse(&name, &text, [], &mut self.wire.outgoing)?;
        frontend::describe(b'S', &name, &mut self.wire.outgoing)?;
        self.written += 1;
        self.sync()?;
        let (mut params, mut columns, mut failed) = (Vec::new(), Vec::new(), None);
        // What was deferred before is answered too.
        loop {
            match self.wire.receive()? {
                Message::ParameterDescription(body) => params = body.parameters().collect()?,
                Message::RowDescription(body) => {
                    columns = body.fields().map(|field| Ok(field.type_oid())).collect()?;
                }
                Message::ErrorResponse(body) => failed = failed.or(Some(refusal(&body))),
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        self.sent.pop_front();
        if let Some(error) = failed {
            return Err(error);
        }
        let columns = columns.into();
        let prepared = Arc::new(Prepared {
            name,
            params,
            columns,
        });
        self.statements
            .insert(sql.to_owned(), Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Writes a statement with its parameters, to be sent later.
    fn write(&mut self, statement: &Prepared, params: &impl Params) -> Result<()> {
        let before = self.wire.outgoing.len();
        let bound = self.bind(statement, params);
        if bound.is_err() {
            self.wire.outgoing.truncate(before);
            return bound;
        }
        frontend::execute("", 0, &mut self.wire.outgoing)?;
        self.written += 1;
        Ok(())
    }

    fn bind(&mut self, statement: &Prepared, params: &impl Params) -> Result<()> {
        // The values live only as long as `each` lends them: they are written one by one, and then framed.
        let mut values = bytes::BytesMut::new();
        let mut lengths = Vec::with_capacity(statement.params.len());
        params.each(&mut |value| {
            let oid = statement.params.get(lengths.len()).copied();
            let oid =
                oid.ok_or_else(|| Error::Bug("a statement is given too many parameters".into()))?;
            let start = values.len();
            let is_null = codec::write(value, oid, &mut values)?;
            lengths.push((is_null, start..values.len()));
            Ok(())
        })?;
        if lengths.len() != statement.params.len() {
            return Err(Error::Bug("a statement is given too few parameters".into()));
        }
        let put = |(is_null, range): (postgres_protocol::IsNull, std::ops::Range<usize>),
                   buffer: &mut bytes::BytesMut| {
            buffer.extend_from_slice(&values[range]);
            Ok(is_null)
        };
        let outgoing = &mut self.wire.outgoing;
        frontend::bind("", &statement.name, [1], lengths, put, [1], outgoing).map_err(|error| {
            Error::Bug(match error {
                BindError::Conversion(error) => error.to_string(),
                BindError::Serialization(error) => error.to_string(),
            })
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.has_sent = true;
        self.wire.flush()
    }

    /// Sends all that was written, as a piece that is answered together.
    fn sync(&mut self) -> Result<()> {
        frontend::sync(&mut self.wire.outgoing);
        self.flush()?;
        self.sent.push_back(std::mem::take(&mut self.written));
        Ok(())
    }

    /// Sends all that was written and gives what the last statement of it gave.
    fn answer(&mut self) -> Result<Outcome> {
        self.sync()?;
        self.settle_but(1)?;
        let outcome = self.receive()?;
        match outcome.error {
            Some(error) => Err(error),
            None => Ok(outcome),
        }
    }

    /// Reads the answers that nobody has waited for.
    fn settle(&mut self) -> Result<()> {
        self.settle_but(0)
    }

    fn settle_but(&mut self, left: usize) -> Result<()> {
        while self.sent.len() > left {
            if let Some(error) = self.receive()?.error {
                tracing::warn!(%error, "the end of a transaction failed that nobody waited for");
            }
        }
        Ok(())
    }

    /// Reads the answers to the piece that was sent first, and gives what its last statement gave.
    fn receive(&mut self) -> Result<Outcome> {
        let statements = self.sent.pop_front().unwrap_or(1);
        let (mut outcome, mut done) = (Outcome::default(), 0);
        loop {
            match self.wire.receive()? {
                Message::DataRow(body) if done + 1 == statements => outcome.rows.push(body),
                Message::CommandComplete(body) => {
                    done += 1;
                    body.tag()?.clone_into(&mut outcome.tag);
                }
                Message::ErrorResponse(body) => {
                    outcome.error = outcome.error.or(Some(refusal(&body)));
                }
                Message::ReadyForQuery(_) => return Ok(outcome),
                _ => {}
            }
        }
    }
}
