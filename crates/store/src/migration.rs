//! Migrations: forward only, all that are missing in one transaction together with their records.

use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::sql::{Connection, OptionalExtension as _};

/// A name, and statements.
pub(crate) type Migration = (&'static str, &'static str);

const RECORDS: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS migrations (
        version    INTEGER PRIMARY KEY,
        name       TEXT NOT NULL,
        sha256     TEXT NOT NULL
    ) STRICT",
    "CREATE TABLE IF NOT EXISTS migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        sha256     text NOT NULL
    )",
];

/// Brings the schema up to date, in the transaction that has begun, and returns its version.
pub(crate) fn apply(connection: &Connection, migrations: &[Migration]) -> Result<u32, Error> {
    let [sqlite, postgres] = RECORDS;
    connection.batch(connection.either(sqlite, postgres))?;
    let known = known(migrations)?;
    refuse_newer(found(connection)?, known)?;
    for (version, (name, sql)) in (1_u32..).zip(migrations) {
        if !recorded(connection, version, name, sql)? {
            run(connection, version, name, sql)?;
        }
    }
    make_epoch(connection)?;
    Ok(known)
}

/// The version that this program works with.
pub(crate) fn known(migrations: &[Migration]) -> Result<u32, Error> {
    u32::try_from(migrations.len()).map_err(|_| Error::corrupt("version"))
}

/// The version that the schema has.
pub(crate) fn found(connection: &Connection) -> Result<Option<u32>, Error> {
    let mut statement = connection.prepare_cached("SELECT max(version) FROM migrations")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

pub(crate) fn refuse_newer(found: Option<u32>, known: u32) -> Result<(), Error> {
    match found {
        Some(found) if found > known => Err(Error::Migration(format!(
            "the data folder has schema version {found}, this program knows versions up to \
             {known}: start the newer program, or restore a backup from before the upgrade"
        ))),
        _ => Ok(()),
    }
}

fn recorded(connection: &Connection, version: u32, name: &str, sql: &str) -> Result<bool, Error> {
    let found: Option<String> = connection
        .prepare_cached("SELECT sha256 FROM migrations WHERE version = ?1")?
        .query_row([version], |row| row.get(0))
        .optional()?;
    match found {
        None => Ok(false),
        Some(sha256) if sha256 == fingerprint(sql) => Ok(true),
        Some(_) => Err(Error::Migration(format!(
            "migration {version} ({name}) of the data folder differs from this program's: the \
             folder was made by another build; restore a backup or start that build"
        ))),
    }
}

fn run(connection: &Connection, version: u32, name: &str, sql: &str) -> Result<(), Error> {
    connection.batch(sql).map_err(|error| {
        Error::Migration(format!(
            "migration {version} ({name}) failed and was taken back whole, nothing is lost: {error}"
        ))
    })?;
    connection
        .prepare_cached("INSERT INTO migrations (version, name, sha256) VALUES (?1, ?2, ?3)")?
        .execute((version, name, fingerprint(sql)))?;
    Ok(())
}

fn fingerprint(sql: &str) -> String {
    crate::cursor::write(&Sha256::digest(sql))
}

/// The log's name is made once, with the database.
fn make_epoch(connection: &Connection) -> Result<(), Error> {
    let epoch = crate::cursor::write(&rand::random::<[u8; 8]>());
    connection
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES ('epoch', ?1) ON CONFLICT (key) DO NOTHING",
        )?
        .execute([epoch])?;
    Ok(())
}
