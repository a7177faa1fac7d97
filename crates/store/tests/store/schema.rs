//! The documents have the tables that the migrations make.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use netra_store::Store;
use rusqlite::Connection;

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// A database that the migrations have just made.
fn database() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    Store::migrate(dir.path()).unwrap();
    let connection = Connection::open(dir.path().join("netra.db")).unwrap();
    (dir, connection)
}

fn texts(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Tables by name; of a table for looking words up, the one that is spoken to.
fn tables(connection: &Connection) -> Vec<String> {
    let sql =
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    texts(connection, sql)
}

fn columns(connection: &Connection, table: &str) -> Vec<String> {
    texts(
        connection,
        &format!("SELECT name FROM pragma_table_info('{table}')"),
    )
}

/// One row for each column of a table.
fn described(connection: &Connection, table: &str, text: &mut String) {
    let references = format!(
        "SELECT \"from\", \"table\" || coalesce('.' || \"to\", '') || CASE on_delete WHEN 'NO ACTION' THEN '' \
         ELSE ', on delete ' || lower(on_delete) END FROM pragma_foreign_key_list('{table}')"
    );
    let mut statement = connection.prepare(&references).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let references: BTreeMap<String, String> = rows.unwrap().map(Result::unwrap).collect();
    let sql = format!(
        "SELECT name, lower(type), \"notnull\", coalesce(dflt_value, ''), pk FROM pragma_table_info('{table}')"
    );
    let mut statement = connection.prepare(&sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    write!(
        text,
        "\n## {table}\n\n| Column | Type | Null | Default | Key |\n|---|---|---|---|---|\n"
    )
    .unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (name, kind): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        let (not_null, default): (bool, String) = (row.get(2).unwrap(), row.get(3).unwrap());
        let place: u32 = row.get(4).unwrap();
        let mut keys = Vec::new();
        if place > 0 {
            keys.push(format!("primary {place}"));
        }
        keys.extend(references.get(&name).map(|to| format!("of {to}")));
        let null = if not_null || place > 0 { "" } else { "yes" };
        let default = if default.is_empty() {
            default
        } else {
            format!("`{default}`")
        };
        writeln!(
            text,
            "| `{name}` | {kind} | {null} | {default} | {} |",
            keys.join("; ")
        )
        .unwrap();
    }
    let sql = format!(
        "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = '{table}' AND sql IS NOT NULL ORDER BY name"
    );
    for index in texts(connection, &sql) {
        let line = index.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(text, "\n`{line}`\n").unwrap();
    }
}

/// The page, as the database has it.
fn page(connection: &Connection) -> String {
    let mut text = String::from(
        "# Database schema\n\nMade from the database that the migrations make, and compared with it by a test: not \
         to be edited. What each table and column means stands in [data and database](database.md#tables).\n",
    );
    for table in tables(connection) {
        described(connection, &table, &mut text);
    }
    text
}

#[test]
fn the_page_of_the_schema_is_what_the_migrations_make() {
    let (_dir, connection) = database();
    let made = page(&connection);
    let path = documents().join("database-schema.md");
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    if made != stored {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("database-schema.md");
        std::fs::write(&new, &made).unwrap();
        panic!(
            "the schema is another one: cp {} {}",
            new.display(),
            path.display()
        );
    }
}

/// The rows of the table that says what tables and columns mean: the table, and what is in backticks of its columns.
fn meanings() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(documents().join("database.md")).unwrap();
    let section = text.split("\n## Tables\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.splitn(3, " | ");
        let table = cells.next()?.strip_suffix('`')?;
        Some((table.to_owned(), cells.nth(1)?.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_table_and_column_has_its_meaning_in_the_document() {
    let (_dir, connection) = database();
    let meanings = meanings();
    let mut lacking = Vec::new();
    let tables = tables(&connection);
    for table in &tables {
        // The tables of which a virtual one is made are its own affair.
        let is_part = tables
            .iter()
            .any(|other| table.starts_with(&format!("{other}_")) && other.ends_with("_words"));
        match meanings.get(table) {
            None if is_part => {}
            None => lacking.push(table.clone()),
            Some(told) => lacking.extend(
                columns(&connection, table)
                    .into_iter()
                    .filter(|column| !told.contains(&format!("`{column}`")))
                    .map(|column| format!("{table}.{column}")),
            ),
        }
    }
    assert!(lacking.is_empty(), "not in docs/database.md: {lacking:?}");
    let gone: Vec<_> = meanings
        .keys()
        .filter(|table| !tables.contains(table))
        .collect();
    assert!(
        gone.is_empty(),
        "docs/database.md has what is not there: {gone:?}"
    );
}
