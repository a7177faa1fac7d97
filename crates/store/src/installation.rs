//! What all nodes over one PostgreSQL share beside its rows: the keys, and the folder with the content of files.
//!
//! The database knows a fingerprint of the keys, and the folder has the name that the database gives it. A node that has
//! others does not start: it would refuse the tokens that the others give, break the chains of the audit, and find no
//! content.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::audit::AuditKey;
use crate::cursor;
use crate::error::Error;
use crate::sql::{Connection, OptionalExtension as _};

/// What the table `meta` calls them.
const KEYS: &str = "keys";
const FILES: &str = "files";
/// The file with the name of the folder that it is in.
const NAME: &str = ".installation";

/// Refuses keys and a folder that are not those of the installation; the first node's are.
pub(crate) fn check(connection: &Connection, key: &AuditKey, files: &Path) -> Result<(), Error> {
    let fingerprint = key.fingerprint();
    if said_first(connection, KEYS, &fingerprint)? != fingerprint {
        let dir = files.parent().unwrap_or(files).display();
        return Err(Error::OtherInstallation(format!(
            "the keys in {dir} are not those of the other nodes of this database: stop, copy the files `keys` and \
             `secret-keys` of a node that works to {dir}, each with mode 600, and start again. Where the keys of the \
             installation are lost, `DELETE FROM meta WHERE key = '{KEYS}'` as the owner of the tables lets the next \
             node's be taken: all tokens and the chains of the audit are lost with them"
        )));
    }
    let named = name_of(files)?;
    let name = match &named {
        Some(name) => name.clone(),
        None => new_name(),
    };
    let wanted = said_first(connection, FILES, &name)?;
    match named {
        Some(named) if named == wanted => Ok(()),
        // Nobody was before us: the folder is that of the installation from now on.
        None if name == wanted => write_name(files, &name),
        _ => {
            let (files, marker) = (files.display(), files.join(NAME));
            let marker = marker.display();
            Err(Error::OtherInstallation(format!(
                "{files} is not the folder in which the other nodes of this database have the content of files: mount \
                 the same folder there on every node, or link to it. Where that content is lost, or was copied without \
                 the file {NAME}, write `{wanted}` into {marker}"
            )))
        }
    }
}

/// What the installation has under this name: what whoever came first had.
fn said_first(connection: &Connection, what: &str, ours: &str) -> Result<String, Error> {
    connection
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
        )?
        .execute((what, ours))?;
    let mut said = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    let value: Option<String> = said.query_row([what], |row| row.get(0)).optional()?;
    value.ok_or_else(|| Error::corrupt("name of the installation"))
}

fn new_name() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes[..]);
    cursor::write(&bytes)
}

fn name_of(files: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(files.join(NAME)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Durable before the database says so: who is killed in between finds the folder named, and the database takes its name.
fn write_name(files: &Path, name: &str) -> Result<(), Error> {
    let aside = files.join(format!("{NAME}.new"));
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, files.join(NAME))?;
    Ok(std::fs::File::open(files)?.sync_all()?)
}
