//! Values and errors as SQLite has them.

use rusqlite::ffi;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::{Error, Params, Result, Value};

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Self::NoRow,
            rusqlite::Error::SqliteFailure(failure, message) => {
                let text = message.unwrap_or_else(|| failure.to_string());
                match failure.code {
                    // The schema's triggers refuse one thing alone: to write for who is gone or disabled.
                    _ if failure.extended_code == ffi::SQLITE_CONSTRAINT_TRIGGER => Self::Refused,
                    rusqlite::ErrorCode::ConstraintViolation => Self::Bug(text),
                    _ => Self::Unavailable(text),
                }
            }
            other => Self::Bug(other.to_string()),
        }
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Null => ValueRef::Null,
            Self::Bool(is) => ValueRef::Integer((*is).into()),
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// Gives a statement all of its parameters.
pub(super) fn bind(
    statement: &mut rusqlite::CachedStatement<'_>,
    params: &impl Params,
) -> Result<()> {
    let mut given = 0;
    params.each(&mut |value| {
        given += 1;
        Ok(statement.raw_bind_parameter(given, value)?)
    })?;
    let wanted = statement.parameter_count();
    if given == wanted {
        Ok(())
    } else {
        Err(Error::Bug(format!(
            "{given} parameters for a statement that has {wanted}"
        )))
    }
}

pub(super) fn value(value: ValueRef<'_>) -> Result<Value<'_>> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => {
            Value::Text(std::str::from_utf8(text).map_err(|_| Error::unreadable("text"))?)
        }
        ValueRef::Blob(bytes) => Value::Blob(bytes),
    })
}
