//! One file as one table: read once for its columns and their types, and once more into the database.

use std::collections::HashMap;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::cells::{self, Cell, Kind};
use super::source::{Record, Skipped, Source};
use crate::error::Error;
use crate::jobs::InputFile;
use crate::output::cut;

/// The most columns of a table.
pub(super) const MAX_COLUMNS: usize = 500;
/// How much of a header and of an example is told, in characters.
const TOLD_CHARS: usize = 40;

/// A table that is loaded.
pub(super) struct Table {
    pub(super) name: String,
    file: String,
    pub(super) columns: Vec<Column>,
    rows: u64,
    skipped: Skipped,
}

/// A column, as far as the records so far tell.
pub(super) struct Column {
    /// In the database; empty until all columns are known.
    pub(super) name: String,
    /// In the file.
    header: String,
    kind: Kind,
    /// A whole number was seen that a decimal one cannot hold exactly.
    wide: bool,
    /// The first value.
    example: Option<String>,
}

impl Column {
    fn new(header: String) -> Self {
        Self {
            name: String::new(),
            header,
            kind: Kind::Null,
            wide: false,
            example: None,
        }
    }

    fn see(&mut self, cell: Cell<'_>) {
        let kind = cell.kind();
        if kind == Kind::Null {
            return;
        }
        self.kind = self.kind.max(kind);
        self.wide |= kind == Kind::Integer && cell.is_wide();
        if self.example.is_none() {
            self.example = Some(cut(&cell.text(), TOLD_CHARS).into_owned());
        }
    }

    /// What holds all its values without a loss.
    pub(super) fn kind(&self) -> Kind {
        if self.kind == Kind::Real && self.wide {
            Kind::Text
        } else {
            self.kind
        }
    }

    fn told(&self) -> Value {
        let mut told = json!({ "name": self.name, "type": self.kind().name() });
        if self.header != self.name {
            told["header"] = json!(cut(&self.header, TOLD_CHARS));
        }
        told["example"] = json!(self.example);
        told
    }
}

impl Table {
    /// What it is, with as many of its columns as fit into so many bytes of JSON.
    pub(super) fn told(&self, room: usize) -> Value {
        let (mut columns, mut bytes) = (Vec::new(), 0);
        for column in &self.columns {
            let told = column.told();
            bytes += told.to_string().len();
            if bytes > room {
                break;
            }
            columns.push(told);
        }
        let left_out = self.columns.len() - columns.len();
        json!({
            "name": self.name,
            "file": cut(&self.file, 200),
            "rows": self.rows,
            "columns": columns,
            "columns_left_out": left_out,
            "skipped": self.skipped.told(),
        })
    }
}

/// The columns as the records show them, in the order in which they come.
#[derive(Default)]
struct Shape {
    columns: Vec<Column>,
    /// Of objects, whose fields come in any order.
    places: HashMap<String, usize>,
    rows: u64,
}

impl Shape {
    fn see(&mut self, record: Record<'_>) -> Result<(), Error> {
        match record {
            Record::Header(cells) => {
                let headers = cells.cells().map(|cell| cell.trim().to_owned());
                self.columns = headers.map(Column::new).collect();
            }
            Record::Row(cells) => {
                self.rows += 1;
                for (column, cell) in self.columns.iter_mut().zip(cells.cells()) {
                    column.see(Cell::Plain(&cell));
                }
            }
            Record::Object(fields) => {
                self.rows += 1;
                for (field, value) in fields {
                    self.of_field(field).see(Cell::Json(value));
                    if self.columns.len() > MAX_COLUMNS {
                        break;
                    }
                }
            }
        }
        if self.columns.len() > MAX_COLUMNS {
            let words = format!("it has more than {MAX_COLUMNS} columns");
            return Err(Error::invalid(words));
        }
        Ok(())
    }

    fn of_field(&mut self, field: &str) -> &mut Column {
        let place = match self.places.get(field) {
            Some(place) => *place,
            None => {
                self.places.insert(field.to_owned(), self.columns.len());
                self.columns.push(Column::new(field.to_owned()));
                self.columns.len() - 1
            }
        };
        &mut self.columns[place]
    }
}

/// Loads a file into a new table of this name.
pub(super) fn load(
    connection: &Connection,
    input: &InputFile,
    name: String,
    progress: &mut dyn FnMut(f32),
) -> Result<Table, Failed> {
    let source = Source::of(input)?;
    let mut shape = Shape::default();
    let skipped = source.read(&mut |share| progress(share / 2.0), &mut |record| {
        shape
            .see(record)
            .map_err(|error| Error::invalid(format!("{}: {error}", input.name)))
    })?;
    let mut columns = shape.columns;
    if columns.is_empty() || (shape.rows == 0 && skipped.first().is_some()) {
        let why = skipped.first().unwrap_or_else(|| "it is empty".to_owned());
        let words = format!("{} has no rows that can be read: {why}", input.name);
        return Err(Error::unreadable(words).into());
    }
    let headers = columns.iter().map(|column| column.header.as_str());
    let names = cells::names(headers, "column");
    for (column, name) in columns.iter_mut().zip(names) {
        column.name = name;
    }
    let mut second = |share: f32| progress(0.5 + share / 2.0);
    fill(connection, &source, &name, &columns, &mut second)?;
    Ok(Table {
        name,
        file: input.name.clone(),
        columns,
        rows: shape.rows,
        skipped,
    })
}

/// Makes the table and puts every record into it.
fn fill(
    connection: &Connection,
    source: &Source<'_>,
    name: &str,
    columns: &[Column],
    progress: &mut dyn FnMut(f32),
) -> Result<(), Failed> {
    let mut filling = Filling::begin(connection, name, columns)?;
    let mut refused = None;
    let filled = source.read(progress, &mut |record| {
        filling.add(record).map_err(|error| {
            refused = Some(error);
            Error::internal("a row was refused")
        })
    });
    match refused {
        Some(error) => Err(error.into()),
        None => filled.map(drop).map_err(Failed::File),
    }
}

/// Why a file is not loaded.
pub(super) enum Failed {
    /// The file is not as it must be.
    File(Error),
    /// The database refuses it.
    Database(rusqlite::Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

struct Filling<'a> {
    insert: rusqlite::Statement<'a>,
    columns: &'a [Column],
}

impl<'a> Filling<'a> {
    /// Makes the table. Its names are quoted, as they may be words of SQL.
    fn begin(
        connection: &'a Connection,
        name: &str,
        columns: &'a [Column],
    ) -> rusqlite::Result<Self> {
        let declared = |column: &Column| match column.kind() {
            // A column without a type keeps what it is given.
            Kind::Null => format!("\"{}\"", column.name),
            kind => format!("\"{}\" {}", column.name, kind.name()),
        };
        let declared: Vec<String> = columns.iter().map(declared).collect();
        let create = format!("CREATE TABLE \"{name}\" ({})", declared.join(", "));
        connection.execute(&create, [])?;
        let places = vec!["?"; columns.len()].join(", ");
        let insert = connection.prepare(&format!("INSERT INTO \"{name}\" VALUES ({places})"))?;
        Ok(Self { insert, columns })
    }

    fn add(&mut self, record: Record<'_>) -> rusqlite::Result<()> {
        let columns = self.columns.iter().enumerate();
        match record {
            Record::Header(_) => return Ok(()),
            Record::Row(cells) => {
                for ((at, column), cell) in columns.zip(cells.cells()) {
                    Cell::Plain(&cell).bind(&mut self.insert, at + 1, column.kind())?;
                }
            }
            Record::Object(fields) => {
                for (at, column) in columns {
                    let value = fields.get(&column.header).unwrap_or(&Value::Null);
                    Cell::Json(value).bind(&mut self.insert, at + 1, column.kind())?;
                }
            }
        }
        self.insert.raw_execute().map(drop)
    }
}
