//! `netra backup` and `netra restore`: a data folder as a folder that can be kept elsewhere.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use netra_protocol::Timestamp;
use netra_store::backup::{Backed, back_up, restore as restore_data};
use serde::{Deserialize, Serialize};

use super::{Folder, output};
use crate::config::SECRET_KEYS;
use crate::exit::{Exit, Problem};

const MANIFEST: &str = "manifest.json";
const KEYS: &str = "keys";
/// The form of a backup; another one is refused.
const FORMAT: u32 = 1;
/// Between two words on how far it is, in files.
const TELL_EVERY: u64 = 500;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Works while a server runs on the folder. The backup is a folder with the \
    database, the files that it names, and a manifest with their checksums.\n\nExamples:\n  \
    netra backup ./backup-2026-11-25 --data ./netra-data\n  \
    netra backup ./backup --with-keys --json"
)]
pub(super) struct BackupArgs {
    /// A folder that is new, or empty.
    target: PathBuf,
    #[command(flatten)]
    folder: Folder,
    /// Also the keys that sign access tokens: whoever has them can sign in as anybody. Without
    /// them a restored server makes new ones, and everybody signs in anew.
    #[arg(long)]
    with_keys: bool,
    /// Print the manifest as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The log gets a new name, so that clients read their state anew. Runs that were \
    going on when the backup was made end as interrupted.\n\nExamples:\n  \
    netra restore ./backup-2026-11-25 --data ./netra-data\n  \
    netra restore ./backup --data ./netra-data --force"
)]
pub(super) struct RestoreArgs {
    /// A folder that `netra backup` has made.
    source: PathBuf,
    #[command(flatten)]
    folder: Folder,
    /// Replace the data that the folder has.
    #[arg(long)]
    force: bool,
    /// Print what was restored as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    netra_version: String,
    created_at: Timestamp,
    epoch: String,
    database_sha256: String,
    database_bytes: u64,
    files: u64,
    file_bytes: u64,
    keys: bool,
}

pub(super) fn backup(args: &BackupArgs) -> Result<Exit, Problem> {
    let data = folder_with_all(&args.folder)?;
    let runtime = netra_context::Runtime::new();
    let backed = back_up(&data, &args.target, &mut tell("copied"))
        .map_err(|error| Problem::new(Exit::Failure, error))?;
    if args.with_keys {
        copy_keys(&data, &args.target)?;
    }
    let manifest = Manifest {
        format: FORMAT,
        netra_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: runtime.now(),
        epoch: backed.epoch,
        database_sha256: backed.database_sha256,
        database_bytes: backed.database_bytes,
        files: backed.files,
        file_bytes: backed.file_bytes,
        keys: args.with_keys,
    };
    // Last: a folder with a manifest is a whole backup.
    let text = serde_json::to_string_pretty(&manifest).map_err(anyhow::Error::from)?;
    private_file(&args.target.join(MANIFEST), text.as_bytes())?;
    if args.json {
        output::json(&manifest)?;
    } else {
        output::line(format!(
            "backed up {} to {}: {} bytes of database, {} files with {} bytes{}",
            data.display(),
            args.target.display(),
            manifest.database_bytes,
            manifest.files,
            manifest.file_bytes,
            if args.with_keys { ", and the keys" } else { "" },
        ))?;
    }
    Ok(Exit::Success)
}

/// The data folder, where all of the data is in it.
fn folder_with_all(folder: &Folder) -> Result<PathBuf, Problem> {
    let config = folder.load()?;
    match config.database {
        None => Ok(config.data),
        Some(_) => Err(Problem::message(
            Exit::Usage,
            "the database is in PostgreSQL: `pg_dump` and `pg_restore` copy it, and the folder `files` of the data folder \
             is copied after it",
        )),
    }
}

pub(super) fn restore(args: &RestoreArgs) -> Result<Exit, Problem> {
    let data = folder_with_all(&args.folder)?;
    let manifest = manifest(&args.source)?;
    let expected = Backed {
        database_sha256: manifest.database_sha256.clone(),
        database_bytes: manifest.database_bytes,
        files: manifest.files,
        file_bytes: manifest.file_bytes,
        epoch: manifest.epoch.clone(),
    };
    let restored = restore_data(
        &args.source,
        &data,
        &expected,
        args.force,
        &mut tell("restored"),
    );
    let epoch = restored.map_err(|error| match error {
        netra_store::Error::InUse { .. } => Problem::new(Exit::DataInUse, error),
        netra_store::Error::Conflict(_) if !args.force => Problem::message(
            Exit::Failure,
            format!("{} is not empty: --force replaces its data", data.display()),
        ),
        error => Problem::new(Exit::Failure, error),
    })?;
    if manifest.keys {
        copy_keys(&args.source, &data)?;
    }
    if args.json {
        let told = serde_json::json!({
            "data": data, "created_at": manifest.created_at, "files": manifest.files,
            "epoch_before": manifest.epoch, "epoch": epoch, "keys": manifest.keys,
        });
        output::json(&told)?;
    } else {
        output::line(format!(
            "restored {} as it was at {:?}: {} files; the log is named {epoch} now",
            data.display(),
            manifest.created_at,
            manifest.files,
        ))?;
    }
    Ok(Exit::Success)
}

fn tell(what: &'static str) -> impl FnMut(u64, u64) {
    move |done, all| {
        if done % TELL_EVERY == 0 {
            output::note(format!("{what} {done} of {all} files"));
        }
    }
}

fn manifest(source: &Path) -> Result<Manifest, Problem> {
    let path = source.join(MANIFEST);
    let read = fs::read_to_string(&path)
        .with_context(|| format!("{} is no backup: {MANIFEST} is missing", source.display()))
        .and_then(|text| {
            let manifest: Manifest = serde_json::from_str(&text)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            anyhow::ensure!(
                manifest.format == FORMAT,
                "{} is of format {}, this program knows {FORMAT}",
                path.display(),
                manifest.format
            );
            Ok(manifest)
        });
    read.map_err(|error| Problem::new(Exit::Failure, error))
}

fn copy_keys(from: &Path, to: &Path) -> Result<(), Problem> {
    let keys = fs::read(from.join(KEYS)).context("the keys cannot be read");
    let keys = keys.map_err(|error| Problem::new(Exit::Failure, error))?;
    private_file(&to.join(KEYS), &keys)?;
    // There is none where no server has been started since there are secrets, or it is kept elsewhere.
    match fs::read(from.join(SECRET_KEYS)) {
        Ok(keys) => private_file(&to.join(SECRET_KEYS), &keys),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            let error = anyhow::Error::new(error).context("the keys of secrets cannot be read");
            Err(Problem::new(Exit::Failure, error))
        }
    }
}

/// Writes a file that nobody else may read.
fn private_file(path: &Path, content: &[u8]) -> Result<(), Problem> {
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        std::io::Write::write_all(&mut file, content)?;
        file.sync_all()
    };
    Ok(write()?)
}
