//! Backup and restore of a data folder. A backup is consistent while a server works on the folder:
//! the database as it was at one moment, and the content of every file that it names.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use netra_protocol::id::FileId;
use rusqlite::Connection;
use rusqlite::backup::Backup;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::file::removed;
use crate::{cursor, lock, sqlite};

/// The database, in a data folder and in a backup alike.
const DATABASE: &str = "netra.db";
const FILES: &str = "files";
/// Pages of the database that are copied before other processes have their turn.
const PAGES: std::ffi::c_int = 1_000;
/// How often files that a user deletes meanwhile make the backup begin anew.
const TRIES: u32 = 3;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backed {
    /// SHA-256 of the database, in hexadecimal.
    pub database_sha256: String,
    /// Its size in bytes.
    pub database_bytes: u64,
    /// How many files it names.
    pub files: u64,
    /// Their size together, in bytes.
    pub file_bytes: u64,
    /// The log's name.
    pub epoch: String,
}

/// What a backup or restore has done so far: files, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A file as the database names it.
struct Row {
    id: FileId,
    bytes: u64,
    sha256: String,
}

/// Copies the data folder's database and files into a new folder.
///
/// # Errors
/// `Conflict` when the target is not empty; `Unavailable` when something cannot be read or written,
/// or a file's content is not what its row says.
pub fn back_up(dir: &Path, target: &Path, progress: Progress<'_>) -> Result<Backed, Error> {
    if !dir.join(DATABASE).is_file() {
        let words = format!("{} is no data folder: it has no {DATABASE}", dir.display());
        return Err(Error::Unavailable(words));
    }
    lock::make_private_dir(target)?;
    if fs::read_dir(target)?.next().is_some() {
        return Err(Error::Conflict("the folder for the backup is not empty"));
    }
    lock::make_private_dir(&target.join(FILES))?;
    for attempt in 1.. {
        copy_database(&dir.join(DATABASE), &target.join(DATABASE))?;
        let rows = rows(&target.join(DATABASE))?;
        match copy_files(dir, target, &rows, progress) {
            // A user has deleted it since: with the database of now it is not missed.
            Err(Missing(id)) if attempt == TRIES => {
                return Err(Error::Unavailable(format!(
                    "the content of {id} is missing"
                )));
            }
            Err(Missing(_)) => {}
            Ok(copied) => {
                copied?;
                return backed(target, &rows);
            }
        }
    }
    Err(Error::Bug("a backup that ends in no way".into()))
}

/// Copies a backup into a data folder that no server holds. The log gets another name, so that
/// cursors of clients that know what came after the backup are refused. Runs that were going on
/// end as interrupted at the next start: what they did after the backup is not known. Returns the
/// log's name. What the folder held stays as it was unless all of the backup is good.
///
/// # Errors
/// `InUse` while a server holds the folder; `Conflict` when it holds anything and `force` is not
/// given, or is the backup itself; `Unavailable` when the backup is not whole; `Migration` when it
/// is of a newer program.
pub fn restore(
    source: &Path,
    dir: &Path,
    expected: &Backed,
    force: bool,
    progress: Progress<'_>,
) -> Result<String, Error> {
    lock::make_private_dir(dir)?;
    refuse_nested(source, dir)?;
    let _lock = lock::DirLock::take(dir)?;
    let staged = dir.join(STAGED);
    if staged.exists() {
        // A restore that broke off.
        fs::remove_dir_all(&staged)?;
    }
    if !force && holds_anything(dir)? {
        return Err(Error::Conflict("the data folder is not empty"));
    }
    let epoch = stage(source, &staged, expected, progress);
    let swapped = epoch.and_then(|epoch| swap(&staged, dir).map(|()| epoch));
    fs::remove_dir_all(&staged)?;
    swapped
}

/// What is being restored, until it takes the place of what the folder holds.
const STAGED: &str = "restore.part";

fn refuse_nested(source: &Path, dir: &Path) -> Result<(), Error> {
    let (source, dir) = (fs::canonicalize(source)?, fs::canonicalize(dir)?);
    if source.starts_with(&dir) || dir.starts_with(&source) {
        return Err(Error::Conflict("the backup and the data folder are one"));
    }
    Ok(())
}

fn holds_anything(dir: &Path) -> Result<bool, Error> {
    for entry in fs::read_dir(dir)? {
        if entry?.file_name() != "lock" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a whole data folder of the backup, checked, beside the one that is there.
fn stage(
    source: &Path,
    staged: &Path,
    expected: &Backed,
    progress: Progress<'_>,
) -> Result<String, Error> {
    lock::make_private_dir(&staged.join(FILES))?;
    let (database, copy) = (source.join(DATABASE), staged.join(DATABASE));
    if sha256_of(&database)? != expected.database_sha256 {
        return Err(broken("its database is not the one of its manifest"));
    }
    copy_database(&database, &copy)?;
    check_integrity(&copy)?;
    let rows = rows(&copy)?;
    copy_files(source, staged, &rows, progress)
        .map_err(|Missing(id)| broken(&format!("the content of {id} is missing")))??;
    begin_anew(&copy)
}

/// Puts the staged data in the place of what the folder holds. The database comes last: a folder
/// with one is a whole one.
fn swap(staged: &Path, dir: &Path) -> Result<(), Error> {
    for name in [DATABASE, "netra.db-wal", "netra.db-shm"] {
        removed(fs::remove_file(dir.join(name)))?;
    }
    if dir.join(FILES).exists() {
        fs::remove_dir_all(dir.join(FILES))?;
    }
    fs::rename(staged.join(FILES), dir.join(FILES))?;
    fs::rename(staged.join(DATABASE), dir.join(DATABASE))?;
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}

fn broken(words: &str) -> Error {
    Error::Unavailable(format!("the backup is broken: {words}"))
}

fn copy_database(from: &Path, to: &Path) -> Result<(), Error> {
    removed(fs::remove_file(to))?;
    let source = sqlite::open_to_read(from)?;
    // One snapshot for all steps: without it each commit of a server would begin the copy anew.
    source.execute_batch("BEGIN DEFERRED; SELECT count(*) FROM meta;")?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let mut target = Connection::open(to)?;
    Backup::new(&source, &mut target)?.run_to_completion(
        PAGES,
        std::time::Duration::from_millis(1),
        None,
    )?;
    // One file that holds everything, whatever the source was.
    target.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")?;
    drop(target);
    fs::File::open(to)?.sync_all()?;
    Ok(())
}

fn rows(database: &Path) -> Result<Vec<Row>, Error> {
    let connection = sqlite::open_to_read(database)?;
    let mut statement = connection.prepare("SELECT id, bytes, sha256 FROM files ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        Ok(Row {
            id: FileId::from_bytes(row.get(0)?),
            bytes: row.get(1)?,
            sha256: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A file whose content is not there.
struct Missing(FileId);

/// Copies what the rows name and is not there yet, and nothing else stays there.
fn copy_files(
    from: &Path,
    to: &Path,
    rows: &[Row],
    progress: Progress<'_>,
) -> Result<Result<(), Error>, Missing> {
    let named: HashSet<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let path = |dir: &Path, row: &Row| dir.join(FILES).join(row.id.to_string());
    for (number, row) in (1..).zip(rows) {
        let (source, target) = (path(from, row), path(to, row));
        if !target.exists() {
            match copy_file(&source, &target, row) {
                Ok(true) => {}
                Ok(false) => return Err(Missing(row.id)),
                Err(error) => return Ok(Err(error)),
            }
        }
        progress(number, rows.len() as u64);
    }
    Ok(drop_others(&to.join(FILES), &named))
}

fn drop_others(files: &Path, named: &HashSet<String>) -> Result<(), Error> {
    for entry in fs::read_dir(files)? {
        let entry = entry?;
        if !named.contains(&*entry.file_name().to_string_lossy()) {
            removed(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// Copies a file's content and holds it against its row; false when it is not there.
fn copy_file(from: &Path, to: &Path, row: &Row) -> Result<bool, Error> {
    let mut source = match fs::File::open(from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let part = PathBuf::from(format!("{}.part", to.display()));
    let mut target = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        target.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
    if bytes != row.bytes || cursor::write(&hash.finalize()) != row.sha256 {
        return Err(broken(&format!("the content of {} is another one", row.id)));
    }
    target.sync_all()?;
    fs::rename(&part, to)?;
    Ok(true)
}

fn sha256_of(path: &Path) -> Result<String, Error> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    Ok(cursor::write(&hash.finalize()))
}

fn backed(target: &Path, rows: &[Row]) -> Result<Backed, Error> {
    let database = target.join(DATABASE);
    fs::File::open(target)?.sync_all()?;
    let epoch = sqlite::open_to_read(&database)?.query_row(
        "SELECT value FROM meta WHERE key = 'epoch'",
        [],
        |row| row.get(0),
    )?;
    Ok(Backed {
        database_sha256: sha256_of(&database)?,
        database_bytes: fs::metadata(&database)?.len(),
        files: rows.len() as u64,
        file_bytes: rows.iter().map(|row| row.bytes).sum(),
        epoch,
    })
}

fn check_integrity(database: &Path) -> Result<(), Error> {
    let found: String =
        sqlite::open_to_read(database)?
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(broken(&found))
    }
}

/// Gives the log another name and lets no run go on that was going on, and returns the name.
fn begin_anew(database: &Path) -> Result<String, Error> {
    sqlite::migrate_file(database)?;
    let connection = Connection::open(database)?;
    connection.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;
         DELETE FROM meta WHERE key IN ('epoch', 'alive_at');
         UPDATE runs SET agent_hash = '' WHERE ended_at IS NULL;",
    )?;
    drop(connection);
    sqlite::migrate_file(database)?;
    let connection = Connection::open(database)?;
    // One file again, whatever the other connections have made of it.
    connection.execute_batch("PRAGMA journal_mode = DELETE;")?;
    let sql = "SELECT value FROM meta WHERE key = 'epoch'";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backed_up(data: &Path, backup: &Path) -> Backed {
        sqlite::migrate_file(&data.join(DATABASE)).unwrap();
        fs::create_dir(data.join(FILES)).unwrap();
        back_up(data, backup, &mut |_, _| ()).unwrap()
    }

    fn folders() -> (tempfile::TempDir, [PathBuf; 3]) {
        let all = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = all.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let three = ["data", "backup", "target"].map(folder);
        (all, three)
    }

    #[test]
    fn a_folder_that_holds_anything_at_all_is_not_restored_into() {
        let (_all, [data, backup, target]) = folders();
        let expected = backed_up(&data, &backup);
        fs::create_dir(target.join(FILES)).unwrap();
        fs::write(target.join(FILES).join("thesis.txt"), "years of work").unwrap();
        let refused = restore(&backup, &target, &expected, false, &mut |_, _| ());
        assert!(matches!(refused, Err(Error::Conflict(_))));
        assert!(target.join(FILES).join("thesis.txt").exists());
    }

    #[test]
    fn a_forced_restore_of_a_broken_backup_leaves_what_was_there() {
        let (_all, [data, backup, target]) = folders();
        let expected = backed_up(&data, &backup);
        sqlite::migrate_file(&target.join(DATABASE)).unwrap();
        let before = fs::read(target.join(DATABASE)).unwrap();
        let other = Backed {
            database_sha256: "another".into(),
            ..expected.clone()
        };
        restore(&backup, &target, &other, true, &mut |_, _| ()).unwrap_err();
        assert_eq!(fs::read(target.join(DATABASE)).unwrap(), before);
        let epoch = restore(&backup, &target, &expected, true, &mut |_, _| ()).unwrap();
        assert_ne!(epoch, expected.epoch);
        let mut left: Vec<String> = fs::read_dir(&target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["files", "lock", "netra.db"]);
    }

    #[test]
    fn a_backup_is_not_restored_into_itself() {
        let (_all, [data, backup, _]) = folders();
        let expected = backed_up(&data, &backup);
        let refused = restore(&backup, &backup, &expected, true, &mut |_, _| ());
        assert!(matches!(refused, Err(Error::Conflict(_))));
        assert!(backup.join(DATABASE).exists());
    }
}
