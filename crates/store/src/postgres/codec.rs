//! Values as PostgreSQL has them in binary form, by the type that the server gives a parameter or column.
//!
//! The store counts time in microseconds since 1970 and PostgreSQL in microseconds since 2000; ids are 16 bytes here
//! and `uuid` there. Modules that read and write rows know neither.

use bytes::{BufMut as _, BytesMut};
use postgres_protocol::{IsNull, Oid};

use crate::sql::{Error, Result, Value};

const BOOL: Oid = 16;
const BYTEA: Oid = 17;
const NAME: Oid = 19;
const INT8: Oid = 20;
const INT2: Oid = 21;
const INT4: Oid = 23;
const TEXT: Oid = 25;
const JSON: Oid = 114;
const FLOAT8: Oid = 701;
const UNKNOWN: Oid = 705;
const VARCHAR: Oid = 1043;
const TIMESTAMPTZ: Oid = 1184;
const UUID: Oid = 2950;
const VOID: Oid = 2278;
const JSONB: Oid = 3802;

/// The first byte of every `jsonb`.
const JSONB_VERSION: u8 = 1;
/// Microseconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800_000_000;

/// Writes a parameter of this type.
pub(super) fn write(value: Value<'_>, oid: Oid, buffer: &mut BytesMut) -> Result<IsNull> {
    match (value, oid) {
        (Value::Null, _) => return Ok(IsNull::Yes),
        (Value::Bool(is), BOOL) => buffer.put_u8(is.into()),
        (Value::Integer(number), INT8) => buffer.put_i64(number),
        (Value::Integer(number), INT4) => buffer.put_i32(narrow(number)?),
        (Value::Integer(number), INT2) => buffer.put_i16(narrow(number)?),
        (Value::Integer(micros), TIMESTAMPTZ) => {
            let since = micros.checked_sub(EPOCH);
            buffer.put_i64(since.ok_or_else(|| Error::Bug("a time is out of range".into()))?);
        }
        (Value::Real(number), FLOAT8) => buffer.put_f64(number),
        (Value::Text(text), TEXT | VARCHAR | NAME | JSON | UNKNOWN) => {
            buffer.put_slice(kept(text)?.as_bytes());
        }
        (Value::Text(text), JSONB) => {
            buffer.put_u8(JSONB_VERSION);
            buffer.put_slice(kept(text)?.as_bytes());
        }
        (Value::Blob(bytes), BYTEA) => buffer.put_slice(bytes),
        (Value::Blob(bytes), UUID) if bytes.len() == 16 => buffer.put_slice(bytes),
        _ => {
            return Err(Error::Bug(format!(
                "a parameter of type {oid} is given another"
            )));
        }
    }
    Ok(IsNull::No)
}

fn narrow<N: TryFrom<i64>>(number: i64) -> Result<N> {
    N::try_from(number).map_err(|_| Error::Bug(format!("{number} is too large to be stored")))
}

/// PostgreSQL has no text with the character NUL in it.
fn kept(text: &str) -> Result<&str> {
    if text.contains('\0') {
        Err(Error::Nul)
    } else {
        Ok(text)
    }
}

/// Reads a column of this type.
pub(super) fn read(bytes: Option<&[u8]>, oid: Oid) -> Result<Value<'_>> {
    let Some(bytes) = bytes else {
        return Ok(Value::Null);
    };
    match oid {
        BOOL => Ok(Value::Bool(bytes != [0])),
        INT8 => Ok(Value::Integer(i64::from_be_bytes(exact(bytes)?))),
        INT4 => Ok(Value::Integer(i32::from_be_bytes(exact(bytes)?).into())),
        INT2 => Ok(Value::Integer(i16::from_be_bytes(exact(bytes)?).into())),
        TIMESTAMPTZ => Ok(Value::Integer(i64::from_be_bytes(exact(bytes)?) + EPOCH)),
        FLOAT8 => Ok(Value::Real(f64::from_be_bytes(exact(bytes)?))),
        TEXT | VARCHAR | NAME | JSON => text(bytes),
        JSONB => text(
            bytes
                .strip_prefix(&[JSONB_VERSION])
                .ok_or_else(|| Error::unreadable("JSON"))?,
        ),
        BYTEA | UUID => Ok(Value::Blob(bytes)),
        VOID => Ok(Value::Null),
        _ => Err(Error::Bug(format!(
            "a column of type {oid}, which nobody reads"
        ))),
    }
}

fn text(bytes: &[u8]) -> Result<Value<'_>> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::unreadable("text"))?;
    Ok(Value::Text(text))
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::unreadable("number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: Value<'_>, oid: Oid) -> Result<Vec<u8>> {
        let mut buffer = BytesMut::new();
        write(value, oid, &mut buffer)?;
        Ok(buffer.to_vec())
    }

    #[test]
    fn each_value_reads_back_as_it_was_written() {
        for (value, oid) in [
            (Value::Bool(true), BOOL),
            (Value::Bool(false), BOOL),
            (Value::Integer(i64::MAX), INT8),
            (Value::Integer(-7), INT4),
            (Value::Integer(7), INT2),
            (Value::Integer(1_790_000_000_123_456), TIMESTAMPTZ),
            (Value::Integer(0), TIMESTAMPTZ),
            (Value::Real(-0.25), FLOAT8),
            (Value::Text("Zürich"), TEXT),
            (Value::Text("{}"), JSONB),
            (Value::Blob(&[0, 255]), BYTEA),
            (Value::Blob(&[9; 16]), UUID),
        ] {
            assert_eq!(
                read(Some(&written(value, oid).unwrap()), oid).unwrap(),
                value
            );
        }
        assert_eq!(written(Value::Integer(EPOCH), TIMESTAMPTZ).unwrap(), [0; 8]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (value, oid) in [
            (Value::Integer(i64::MAX), INT4),
            (Value::Integer(i64::MIN), TIMESTAMPTZ),
            (Value::Integer(1), TEXT),
            (Value::Text("x"), INT8),
            (Value::Blob(&[0; 15]), UUID),
        ] {
            assert!(
                matches!(written(value, oid), Err(Error::Bug(_))),
                "{value:?}"
            );
        }
        assert!(matches!(
            written(Value::Text("a\0b"), TEXT),
            Err(Error::Nul)
        ));
        assert!(read(Some(&[1, 2]), INT8).is_err());
    }
}
