//! Files of a user: rows in the database, content on the disk.
//!
//! Content is written under a temporary name, synced, renamed, and only then recorded, so a row
//! always has its content. A writer that is dropped leaves nothing behind.

use std::path::PathBuf;

use netra_context::memory::{self, Reservation};
use netra_context::runtime::TaskKind;
use netra_context::{Right, UserExecutionContext};
use netra_protocol::file::File;
use netra_protocol::id::{FileId, RunId, UserId};
use netra_protocol::{Page, Timestamp};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::error::Error;
use crate::handle::{Readable, Writable};
use crate::idempotency::{Created, Idempotency, once};
use crate::listing::Listing;
use crate::lookup::Lookup;
use crate::owner::require;
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::{Store, cursor};

/// How the name of content ends that is being written.
pub(crate) const PART: &str = ".part";
/// What may be on its way to the disk of one file: tokio takes as much at once.
const WRITE_BUFFER: usize = 2 * 1024 * 1024;
/// How much of a file is sent to the disk at once: a commit waits for what is on its way there, whoever sent it.
const SYNC_BYTES: u64 = 256 * 1024;
const COLUMNS: &str = "id, name, media_type, bytes, sha256, run_id, created_at";

fn file(row: &Row<'_>) -> sql::Result<File> {
    Ok(File {
        id: FileId::from_bytes(row.get(0)?),
        name: row.get(1)?,
        media_type: row.get(2)?,
        bytes: row.get(3)?,
        sha256: row.get(4)?,
        run_id: row.get::<_, Option<[u8; 16]>>(5)?.map(RunId::from_bytes),
        created_at: Timestamp::from_micros(row.get(6)?),
    })
}

pub(crate) fn find(connection: &Connection, user: UserId, id: FileId) -> Result<File, Error> {
    let sql = format!("SELECT {COLUMNS} FROM files WHERE id = ?1 AND user_id = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement
        .query_row((id.to_bytes(), user.to_bytes()), file)
        .optional()?;
    found.ok_or(Error::NotFound)
}

fn find_named(connection: &Connection, user: UserId, name: &str) -> Result<File, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM files WHERE user_id = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement
        .query_row((user.to_bytes(), name), file)
        .optional()?;
    found.ok_or(Error::NotFound)
}

fn insert(tx: &Tx<'_>, user: UserId, file: &File) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO files (id, user_id, name, media_type, bytes, sha256, run_id, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            file.id.to_bytes(),
            user.to_bytes(),
            &file.name,
            &file.media_type,
            file.bytes,
            &file.sha256,
            file.run_id.map(RunId::to_bytes),
            file.created_at.as_micros(),
        ),
    )?;
    Ok(())
}

/// Whether a file was removed; one that is not there any more is gone as well, for whoever else removes it was faster.
pub(crate) fn removed(outcome: std::io::Result<()>) -> std::io::Result<bool> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// A file that is being written. Dropping it leaves nothing behind.
pub struct FileWriter {
    store: Store,
    user: UserId,
    id: FileId,
    name: String,
    media_type: String,
    run_id: Option<RunId>,
    limit_bytes: u64,
    written: u64,
    /// What was written since the disk had all.
    unsynced: u64,
    hash: Sha256,
    content: tokio::fs::File,
    temporary: Temporary,
    _room: Reservation,
}

/// Removes its file when dropped, unless it is kept.
struct Temporary(PathBuf);

impl Temporary {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename, or when it is kept, there is nothing to remove.
        std::fs::remove_file(&self.0).ok();
    }
}

impl FileWriter {
    /// Adds to the content.
    ///
    /// # Errors
    /// `TooLarge` past the limit; `Unavailable` when the disk is full or cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.limit_bytes {
            return Err(Error::TooLarge {
                limit_bytes: self.limit_bytes,
            });
        }
        self.hash.update(bytes);
        self.content.write_all(bytes).await?;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.content.sync_data().await?;
        }
        Ok(())
    }

    /// The SHA-256 of what was added so far.
    pub fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Makes the content durable and records the file.
    ///
    /// # Errors
    /// `IdempotencyKeyReused`; `Unavailable` when the disk is full or cannot be written.
    pub async fn finish(self, idempotency: Option<&Idempotency>) -> Result<Created<File>, Error> {
        let runtime = self.store.0.runtime.clone();
        let key = idempotency.cloned();
        // A task of its own: a caller that goes away must not part the content from its row.
        let recording = runtime.spawn(TaskKind::Part, self.record(key));
        let recorded = recording.await.ok().flatten();
        recorded.unwrap_or_else(|| Err(Error::Bug("a file could not be recorded".into())))
    }

    async fn record(mut self, key: Option<Idempotency>) -> Result<Created<File>, Error> {
        self.content.flush().await?;
        self.content.sync_all().await?;
        let path = self.store.content_path(self.id);
        tokio::fs::rename(&self.temporary.0, &path).await?;
        let kept = Temporary(path);
        // The name is durable only with its folder.
        tokio::fs::File::open(self.store.content_dir())
            .await?
            .sync_all()
            .await?;
        let file = File {
            id: self.id,
            name: self.name,
            media_type: self.media_type,
            bytes: self.written,
            sha256: cursor::write(&self.hash.finalize()),
            run_id: self.run_id,
            created_at: self.store.0.runtime.now(),
        };
        let user = self.user;
        let work = move |tx: &mut Tx<'_>| {
            once(tx, user, key.as_ref(), |tx| {
                insert(tx, user, &file).map(|()| file)
            })
        };
        let created = self.store.0.db.of(user).write(work).await?;
        if !created.replayed {
            kept.keep();
        }
        Ok(created)
    }
}

impl Store {
    /// Looks a file up.
    pub fn file<'a>(
        &'a self,
        ctx: &'a UserExecutionContext,
        id: FileId,
    ) -> Lookup<'a, File, FileId> {
        Lookup::new(self, ctx, id, Right::Files, |_, connection, user, id| {
            find(connection, user, id)
        })
    }

    /// Looks the newest file of this name up.
    pub fn file_named<'a>(
        &'a self,
        ctx: &'a UserExecutionContext,
        name: String,
    ) -> Lookup<'a, File, String> {
        Lookup::new(
            self,
            ctx,
            name,
            Right::Files,
            |_, connection, user, name| find_named(connection, user, &name),
        )
    }

    /// Begins a file. Its content may have at most `limit_bytes`.
    ///
    /// # Errors
    /// `Forbidden` without the right over files; `Unavailable` when the disk cannot be written.
    pub async fn file_begin(
        &self,
        ctx: &UserExecutionContext,
        name: String,
        media_type: String,
        run_id: Option<RunId>,
        limit_bytes: u64,
    ) -> Result<FileWriter, Error> {
        let user = require(ctx, Right::Files)?;
        let room = memory::reserve(WRITE_BUFFER)?;
        let id = self.0.runtime.new_id(FileId::from_parts);
        let temporary = Temporary(self.content_dir().join(format!("{id}{PART}")));
        let content = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary.0)
            .await?;
        Ok(FileWriter {
            store: self.clone(),
            user,
            id,
            name,
            media_type,
            run_id,
            limit_bytes,
            written: 0,
            unsynced: 0,
            hash: Sha256::new(),
            content,
            temporary,
            _room: room,
        })
    }

    /// The user's files, newest first.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right to read.
    pub async fn files(
        &self,
        ctx: &UserExecutionContext,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<File>, Error> {
        let listing = Listing {
            table: "files",
            columns: COLUMNS,
            read: |row| Ok(file(row)?),
            id: |one: &File| one.id.to_bytes(),
        };
        listing.newest(self, ctx, limit, cursor).await
    }

    /// Where the file's content is, for reading.
    pub fn file_path(&self, handle: &Readable<File>) -> PathBuf {
        self.content_path(handle.id)
    }

    pub(crate) fn content_path(&self, id: FileId) -> PathBuf {
        self.content_dir().join(id.to_string())
    }

    pub(crate) fn content_dir(&self) -> PathBuf {
        self.0.dir.join("files")
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// `NotFound` where it was deleted meanwhile.
    pub async fn file_delete(
        &self,
        _ctx: &UserExecutionContext,
        handle: Writable<File>,
    ) -> Result<(), Error> {
        let (user, id) = (handle.owner(), handle.id);
        let work = move |tx: &mut Tx<'_>| {
            let sql = "DELETE FROM files WHERE id = ?1 AND user_id = ?2";
            let deleted = tx.execute(sql, (id.to_bytes(), user.to_bytes()))?;
            if deleted == 0 {
                Err(Error::NotFound)
            } else {
                Ok(())
            }
        };
        self.0.db.of(user).write(work).await?;
        removed(tokio::fs::remove_file(self.content_path(id)).await)?;
        Ok(())
    }
}
