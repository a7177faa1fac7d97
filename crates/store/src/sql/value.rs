//! Values on their way into statements and out of rows.

use super::{Error, Result};

/// A value of a column or parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn as_str(self) -> Result<&'a str> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(Error::unreadable("text")),
        }
    }
}

/// What can be a parameter.
pub(crate) trait ToSql {
    /// # Errors
    /// `Bug` for a number that no column holds.
    fn to_sql(&self) -> Result<Value<'_>>;
}

/// What can be read from a column.
pub(crate) trait FromSql: Sized {
    /// None where the value is of another type, or too large.
    fn from_sql(value: Value<'_>) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl ToSql for $number {
            fn to_sql(&self) -> Result<Value<'_>> {
                let number = i64::try_from(*self);
                number.map(Value::Integer).map_err(|_| Error::Bug(format!("{self} is too large to be stored")))
            }
        }

        impl FromSql for $number {
            fn from_sql(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(number) => number.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

numbers!(i32, i64, u32, u64, usize);

impl ToSql for bool {
    fn to_sql(&self) -> Result<Value<'_>> {
        Ok(Value::Bool(*self))
    }
}

impl FromSql for bool {
    fn from_sql(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(is) => Some(is),
            Value::Integer(number) => Some(number != 0),
            _ => None,
        }
    }
}

impl ToSql for f64 {
    fn to_sql(&self) -> Result<Value<'_>> {
        Ok(Value::Real(*self))
    }
}

impl FromSql for f64 {
    fn from_sql(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Real(number) => Some(number),
            Value::Integer(number) => Some(number as f64),
            _ => None,
        }
    }
}

impl ToSql for str {
    fn to_sql(&self) -> Result<Value<'_>> {
        Ok(Value::Text(self))
    }
}

impl ToSql for String {
    fn to_sql(&self) -> Result<Value<'_>> {
        Ok(Value::Text(self))
    }
}

impl FromSql for String {
    fn from_sql(value: Value<'_>) -> Option<Self> {
        value.as_str().ok().map(str::to_owned)
    }
}

impl ToSql for [u8] {
    fn to_sql(&self) -> Result<Value<'_>> {
        Ok(Value::Blob(self))
    }
}

impl ToSql for Vec<u8> {
    fn to_sql(&self) -> Result<Value<'_>> {
        Ok(Value::Blob(self))
    }
}

impl FromSql for Vec<u8> {
    fn from_sql(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl<const N: usize> ToSql for [u8; N] {
    fn to_sql(&self) -> Result<Value<'_>> {
        Ok(Value::Blob(self))
    }
}

impl<const N: usize> FromSql for [u8; N] {
    fn from_sql(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }
}

impl<T: ToSql> ToSql for Option<T> {
    fn to_sql(&self) -> Result<Value<'_>> {
        self.as_ref().map_or(Ok(Value::Null), ToSql::to_sql)
    }
}

impl<T: FromSql> FromSql for Option<T> {
    fn from_sql(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_sql(value).map(Some),
        }
    }
}

impl<T: ToSql + ?Sized> ToSql for &T {
    fn to_sql(&self) -> Result<Value<'_>> {
        (**self).to_sql()
    }
}

/// What a statement is given, in the order of its parameters.
pub(crate) trait Params {
    fn each<F: FnMut(Value<'_>) -> Result<()>>(&self, take: &mut F) -> Result<()>;
}

/// Nothing.
impl Params for [&dyn ToSql; 0] {
    fn each<F: FnMut(Value<'_>) -> Result<()>>(&self, _: &mut F) -> Result<()> {
        Ok(())
    }
}

impl<P: Params> Params for &P {
    fn each<F: FnMut(Value<'_>) -> Result<()>>(&self, take: &mut F) -> Result<()> {
        (**self).each(take)
    }
}

impl Params for &[&dyn ToSql] {
    fn each<F: FnMut(Value<'_>) -> Result<()>>(&self, take: &mut F) -> Result<()> {
        self.iter().try_for_each(|value| take(value.to_sql()?))
    }
}

macro_rules! arrays {
    ($($length:literal),*) => {$(
        impl<T: ToSql> Params for [T; $length] {
            fn each<F: FnMut(Value<'_>) -> Result<()>>(&self, take: &mut F) -> Result<()> {
                self.iter().try_for_each(|value| take(value.to_sql()?))
            }
        }
    )*};
}

arrays!(1, 2, 3);

macro_rules! tuples {
    ($(($($name:ident $place:tt),*))*) => {$(
        impl<$($name: ToSql),*> Params for ($($name,)*) {
            fn each<Take: FnMut(Value<'_>) -> Result<()>>(&self, take: &mut Take) -> Result<()> {
                $(take(self.$place.to_sql()?)?;)*
                Ok(())
            }
        }
    )*};
}

tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10)
}
