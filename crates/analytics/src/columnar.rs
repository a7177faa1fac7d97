//! Parquet files as logs: the columns that the analyses know, read in batches and turned into the texts that a CSV file
//! would hold, so that all kinds of logs take one way.
//!
//! Only columns with one value in each row are read. Before anything is unpacked the file's own directory is held against
//! limits; what lies about itself there meets the limits of the worker process.

use std::borrow::Cow;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::columns::{self, Column, Kind, Mapped};
use crate::error::Error;
use crate::lines::MAX_LINE_BYTES;
use crate::log::{Log, MAX_ROWS};
use crate::output::{cut, thousands};
use crate::read::{Cells, FIRST_ROWS, PROGRESS_EVERY, Progress, SHOWN_CHARS, take};
use crate::times::{self, Base, DAY};

/// The first bytes of a file.
pub(crate) const MAGIC: &[u8] = b"PAR1";
/// How many rows are unpacked at once.
const BATCH: usize = 256;
/// The most columns of a file, lists and structures counted by their leaves.
const MAX_COLUMNS: usize = 2_000;
/// The most bytes that the read columns of one row group may have when they are unpacked.
const MAX_UNPACKED: i64 = 512 << 20;
/// Objects that hold attributes, as in JSON lines: what is in them goes by its own name.
const HOLDERS: [&str; 3] = ["attributes", "span", "usage"];

/// Reads a Parquet file.
pub(crate) fn read(
    name: &str,
    file: File,
    bytes: u64,
    max_records: Option<u64>,
    progress: &mut Progress<'_>,
) -> Result<Log, Error> {
    let broken = || Error::unreadable(format!("{name} is a broken Parquet file"));
    // The library answers most broken files with an error, and some with a panic.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        whole(name, file, bytes, max_records.unwrap_or(u64::MAX), progress)
    }));
    match outcome {
        Ok(Ok(log)) => Ok(log),
        Ok(Err(Failed::Refused(error))) => Err(error),
        Ok(Err(Failed::Library(error))) => {
            let words = error.to_string();
            Err(Error::unreadable(format!(
                "{name} cannot be read as Parquet: {}",
                cut(&words, 160)
            )))
        }
        Err(_) => Err(broken()),
    }
}

enum Failed {
    Refused(Error),
    Library(ParquetError),
}

impl From<ParquetError> for Failed {
    fn from(error: ParquetError) -> Self {
        Self::Library(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A column that is read: its place in the file, and what it means.
#[derive(Clone, Copy)]
struct Chosen {
    index: usize,
    column: Column,
}

fn whole(
    name: &str,
    file: File,
    bytes: u64,
    most: u64,
    progress: &mut Progress<'_>,
) -> Result<Log, Failed> {
    let reader = SerializedFileReader::new(file)?;
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema_descr();
    if schema.num_columns() > MAX_COLUMNS {
        return Err(Error::invalid(format!(
            "{name} has more than {} columns",
            thousands(MAX_COLUMNS as u64)
        ))
        .into());
    }
    let rows: i128 = metadata
        .row_groups()
        .iter()
        .map(|group| i128::from(group.num_rows()))
        .sum();
    if rows > MAX_ROWS as i128 {
        let most = thousands(MAX_ROWS as u64);
        return Err(Error::invalid(format!(
            "{name} has more than {most} rows; split it into parts"
        ))
        .into());
    }
    let mut log = Log::new(name, bytes, "parquet");
    let chosen = choose(&reader, &mut log);
    for group in 0..reader.num_row_groups() {
        fits(name, metadata.row_group(group), &chosen)?;
        let part = |rows: u64| (rows as f64 / rows_of(rows, metadata)) as f32;
        if !row_group(&reader, group, &chosen, &mut log, most, &mut |rows| {
            progress(part(rows).min(1.0), "reading")
        })? {
            log.complete = false;
            break;
        }
    }
    log.finish();
    Ok(log)
}

fn rows_of(least: u64, metadata: &parquet::file::metadata::ParquetMetaData) -> f64 {
    metadata
        .file_metadata()
        .num_rows()
        .max(i64::try_from(least).unwrap_or(i64::MAX))
        .max(1) as f64
}

/// Maps the headers, and says which columns are read.
fn choose(reader: &SerializedFileReader<File>, log: &mut Log) -> Vec<Chosen> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let described: Vec<(String, bool)> = schema
        .columns()
        .iter()
        .map(|column| (header(column), column.max_rep_level() == 0))
        .collect();
    let names: Vec<String> = described.iter().map(|(name, _)| name.clone()).collect();
    log.kind = Kind::of(names.iter().map(String::as_str));
    // A list has several values in a row; it is told, and takes no other column's place.
    let single: Vec<String> = described
        .iter()
        .map(|(name, one)| if *one { name.clone() } else { String::new() })
        .collect();
    log.headers = columns::map_headers(&single);
    for (mapped, (name, one)) in log.headers.iter_mut().zip(described) {
        mapped.header = cut(&name, SHOWN_CHARS).into_owned();
        if !one {
            *mapped = Mapped {
                column: None,
                reason: "it is a list, of which one row has several values",
                ..mapped.clone()
            };
        }
    }
    let used =
        |(index, mapped): (usize, &Mapped)| mapped.column.map(|column| Chosen { index, column });
    log.headers.iter().enumerate().filter_map(used).collect()
}

fn header(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts();
    let from = parts
        .iter()
        .take(parts.len() - 1)
        .take_while(|part| HOLDERS.contains(&part.as_str()))
        .count();
    parts[from..].join(".")
}

/// Whether the columns of a row group may be unpacked, by what the file says of them.
fn fits(name: &str, group: &RowGroupMetaData, chosen: &[Chosen]) -> Result<(), Error> {
    let unpacked: i128 = chosen
        .iter()
        .map(|c| i128::from(group.column(c.index).uncompressed_size()))
        .sum();
    if unpacked > i128::from(MAX_UNPACKED) {
        return Err(Error::invalid(format!(
            "{name} has a row group whose columns take {} MiB when they are unpacked, and {} are allowed; write it with \
             smaller row groups",
            thousands((unpacked >> 20) as u64),
            thousands((MAX_UNPACKED >> 20) as u64)
        )));
    }
    Ok(())
}

/// Reads a row group; `false` when enough records are read.
fn row_group(
    reader: &SerializedFileReader<File>,
    group: usize,
    chosen: &[Chosen],
    log: &mut Log,
    most: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<bool, Failed> {
    let group = reader.get_row_group(group)?;
    let mut readers = Vec::with_capacity(chosen.len());
    for one in chosen {
        let descriptor = group.metadata().column(one.index).column_descr_ptr();
        readers.push((
            *one,
            group.get_column_reader(one.index)?,
            Shape::of(&descriptor),
            descriptor,
        ));
    }
    let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    while left > 0 {
        let count = left.min(BATCH);
        let mut batch = Vec::with_capacity(readers.len());
        for (one, reader, shape, descriptor) in &mut readers {
            let texts = texts(reader, *shape, descriptor.max_def_level(), count)?;
            if texts.len() != count {
                let words = "its columns are of different length";
                return Err(Error::unreadable(format!(
                    "{} is a broken Parquet file: {words}",
                    log.file
                ))
                .into());
            }
            batch.push((one.column, texts));
        }
        for row in 0..count {
            if log.records() >= most {
                return Ok(false);
            }
            if log.records().is_multiple_of(PROGRESS_EVERY) {
                progress(log.records());
            }
            one_row(log, &batch, row)?;
        }
        left -= count;
    }
    Ok(true)
}

type Batch = Vec<(Column, Vec<Option<String>>)>;

fn one_row(log: &mut Log, batch: &Batch, row: usize) -> Result<(), Error> {
    let line = log.records() + 1;
    let long = |(_, texts): &(Column, Vec<Option<String>>)| {
        texts[row]
            .as_ref()
            .is_some_and(|t| t.len() > MAX_LINE_BYTES)
    };
    if batch.iter().any(long) {
        log.push_bad(line, "a cell is longer than 1 MiB".to_owned(), b"");
        return Ok(());
    }
    let mut cells: Cells<'_> = Default::default();
    let mut raw = Vec::new();
    for (column, texts) in batch {
        let text = texts[row].as_deref();
        cells[*column as usize] = text.map(Cow::Borrowed);
        raw.extend_from_slice(text.unwrap_or_default().as_bytes());
        raw.push(b',');
    }
    if log.first_rows.len() < FIRST_ROWS {
        let shown = |(column, texts): &(Column, Vec<Option<String>>)| {
            let text = texts[row].as_deref().unwrap_or_default();
            (
                column.name().to_owned(),
                cut(text, SHOWN_CHARS).into_owned(),
            )
        };
        log.first_rows.push(batch.iter().map(shown).collect());
    }
    take(log, line, &cells, &raw)
}

/// How a stored number is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    Unsigned,
    Date,
    /// Nanoseconds of one unit, and whether the time is in UTC.
    Time(i64, bool),
    /// Decimal places.
    Decimal(u32),
}

impl Shape {
    fn of(column: &ColumnDescriptor) -> Self {
        let nanos = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => 1_000_000,
            TimeUnit::MICROS => 1_000,
            TimeUnit::NANOS => 1,
        };
        let places = |scale: i32| u32::try_from(scale).unwrap_or(0).min(30);
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Timestamp(time)), _) => {
                Self::Time(nanos(&time.unit), time.is_adjusted_to_u_t_c)
            }
            (Some(LogicalType::Decimal(decimal)), _) => Self::Decimal(places(decimal.scale)),
            (Some(LogicalType::Integer(integer)), _) if !integer.is_signed => Self::Unsigned,
            (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) => Self::Date,
            (None, ConvertedType::TIMESTAMP_MILLIS) => Self::Time(1_000_000, true),
            (None, ConvertedType::TIMESTAMP_MICROS) => Self::Time(1_000, true),
            (None, ConvertedType::DECIMAL) => Self::Decimal(places(column.type_scale())),
            (
                None,
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
            ) => Self::Unsigned,
            _ => Self::Plain,
        }
    }

    fn whole(self, value: i64, unsigned: u64) -> String {
        match self {
            Self::Plain => value.to_string(),
            Self::Unsigned => unsigned.to_string(),
            Self::Date => time(value.checked_mul(DAY), true),
            Self::Time(nanos, utc) => time(value.checked_mul(nanos), utc),
            Self::Decimal(places) => decimal(i128::from(value), places),
        }
    }

    /// Decimals are also stored as bytes, the highest first.
    fn bytes(self, bytes: &[u8]) -> String {
        match self {
            Self::Decimal(places) if (1..=16).contains(&bytes.len()) => {
                let sign = if bytes[0] & 0x80 != 0 { 0xFF } else { 0 };
                let mut wide = [sign; 16];
                wide[16 - bytes.len()..].copy_from_slice(bytes);
                decimal(i128::from_be_bytes(wide), places)
            }
            _ => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// A time as text; one beyond the years that are known is none, and makes its row a bad one.
fn time(nanos: Option<i64>, utc: bool) -> String {
    let Some(nanos) = nanos else {
        return "out of range".to_owned();
    };
    let text = times::format(nanos, Base::Utc);
    match utc {
        true => text,
        // Without its mark the reader takes it as UTC, and says so.
        false => text.trim_end_matches('Z').to_owned(),
    }
}

fn decimal(value: i128, places: u32) -> String {
    let scale = 10_u128.pow(places);
    let sign = if value < 0 { "-" } else { "" };
    let (whole, part) = (value.unsigned_abs() / scale, value.unsigned_abs() % scale);
    match places {
        0 => format!("{sign}{whole}"),
        places => format!("{sign}{whole}.{part:0width$}", width = places as usize),
    }
}

/// The next `count` cells of a column as texts.
fn texts(
    reader: &mut ColumnReader,
    shape: Shape,
    levels: i16,
    count: usize,
) -> Result<Vec<Option<String>>, ParquetError> {
    match reader {
        ColumnReader::BoolColumnReader(r) => cells(r, levels, count, |v| v.to_string()),
        ColumnReader::Int32ColumnReader(r) => cells(r, levels, count, |v| {
            shape.whole(i64::from(*v), u64::from(v.cast_unsigned()))
        }),
        ColumnReader::Int64ColumnReader(r) => {
            cells(r, levels, count, |v| shape.whole(*v, v.cast_unsigned()))
        }
        // The time of old writers: days and nanoseconds of the day.
        ColumnReader::Int96ColumnReader(r) => {
            cells(r, levels, count, |v| time(Some(v.to_nanos()), true))
        }
        ColumnReader::FloatColumnReader(r) => cells(r, levels, count, |v| v.to_string()),
        ColumnReader::DoubleColumnReader(r) => cells(r, levels, count, |v| v.to_string()),
        ColumnReader::ByteArrayColumnReader(r) => {
            cells(r, levels, count, |v| shape.bytes(v.data()))
        }
        ColumnReader::FixedLenByteArrayColumnReader(r) => {
            cells(r, levels, count, |v| shape.bytes(v.data()))
        }
    }
}

fn cells<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: i16,
    count: usize,
    show: impl Fn(&T::T) -> String,
) -> Result<Vec<Option<String>>, ParquetError> {
    let (mut values, mut defined) = (Vec::new(), Vec::new());
    let mut records = 0;
    while records < count {
        let (read, _, _) =
            reader.read_records(count - records, Some(&mut defined), None, &mut values)?;
        if read == 0 {
            break;
        }
        records += read;
    }
    if levels == 0 {
        return Ok(values.iter().map(|value| Some(show(value))).collect());
    }
    let mut values = values.iter();
    Ok(defined
        .iter()
        .map(|level| {
            if *level == levels {
                values.next().map(&show)
            } else {
                None
            }
        })
        .collect())
}
