//! The keys that secrets are sealed with: in a file that only the server's own user may read, apart from the database.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use netra_context::{Runtime, Secret};
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::cursor;

/// What stands before each key in the file.
const PREFIX: &str = "xchacha20poly1305";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Why keys or what they seal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read or written.
    #[error("the key file of secrets {path} cannot be used: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than the owner can read the file.
    #[error("the key file of secrets {0} can be read by others: set its mode to 0600")]
    Exposed(PathBuf),
    /// The file is not one that this program wrote.
    #[error("the key file of secrets {0} is damaged")]
    Damaged(PathBuf),
    /// Stored secrets are sealed with a key that the file lacks.
    #[error(
        "the key file of secrets {path} lacks the key {key_id} that stored secrets are sealed with: put the file back \
         from its backup, or give them up by `netra secrets rotate --give-up-lost`"
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// The key's name.
        key_id: String,
    },
    /// It was not sealed like this: it was changed or moved, or the key is another.
    #[error("a stored secret cannot be opened: it was changed or moved")]
    Sealed,
}

struct Key {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Key {
    fn new(runtime: &Runtime) -> Self {
        Self {
            id: cursor::write(&runtime.secret_bytes::<8>()),
            bytes: Zeroizing::new(runtime.secret_bytes()),
        }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }

    fn read(line: &str) -> Option<Self> {
        let mut parts = line.split(':');
        let (prefix, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = prefix == PREFIX && !id.is_empty() && parts.next().is_none();
        let bytes = cursor::read(key).ok().filter(|_| whole)?;
        Some(Self {
            id: id.to_owned(),
            bytes: Zeroizing::new(bytes),
        })
    }

    fn line(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(cursor::write(&*self.bytes));
        Zeroizing::new(format!("{PREFIX}:{}:{}\n", self.id, *key))
    }
}

/// Something sealed, and by which key.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) key_id: String,
    pub(crate) bytes: Vec<u8>,
}

/// The keys of a key file: the first one seals, the others open what was sealed before. The file is read anew where
/// another process has changed it.
pub struct Keyring {
    path: Option<PathBuf>,
    runtime: Runtime,
    keys: RwLock<Vec<Key>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Keys of a server that keeps none, for tests.
    pub fn ephemeral(runtime: &Runtime) -> Self {
        Self {
            path: None,
            runtime: runtime.clone(),
            keys: RwLock::new(vec![Key::new(runtime)]),
        }
    }

    /// Of this file, which may not be there yet: it is made by [`Secrets::open`](super::Secrets::open) where nothing
    /// is sealed so far.
    ///
    /// # Errors
    /// When the file is there and cannot be read, is damaged, or can be read by others.
    pub fn at(runtime: &Runtime, path: PathBuf) -> Result<Self, KeyringError> {
        let keys = match path.try_exists() {
            Ok(true) => read(&path)?,
            Ok(false) => Vec::new(),
            Err(source) => return Err(KeyringError::Io { path, source }),
        };
        Ok(Self {
            path: Some(path),
            runtime: runtime.clone(),
            keys: RwLock::new(keys),
        })
    }

    /// Makes the file with one key where it is absent. Of two processes that do so at once one is faster, and the
    /// other takes its key.
    pub(super) fn make(&self) -> Result<(), KeyringError> {
        if let Some(path) = &self.path
            && self.keys.read().is_empty()
        {
            write(
                &self.runtime,
                path,
                &[Key::new(&self.runtime)],
                Place::Absent,
            )?;
            *self.keys.write() = read(path)?;
        }
        Ok(())
    }

    /// Reads the file anew.
    pub(super) fn reload(&self) -> Result<(), KeyringError> {
        if let Some(path) = &self.path {
            *self.keys.write() = read(path)?;
        }
        Ok(())
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, key_id: &str) -> bool {
        self.keys.read().iter().any(|key| key.id == key_id)
    }

    /// Whether what is sealed now is sealed with this key.
    pub(super) fn seals_with(&self, key_id: &str) -> bool {
        self.keys.read().first().is_some_and(|key| key.id == key_id)
    }

    /// That there is no such key.
    pub(super) fn lost(&self, key_id: &str) -> KeyringError {
        KeyringError::Lost {
            path: self.path.clone().unwrap_or_default(),
            key_id: key_id.to_owned(),
        }
    }

    /// Puts a new key first, unless a change that broke off has left one, and gives its name.
    pub(super) fn begin_change(&self) -> Result<String, KeyringError> {
        self.reload()?;
        let mut keys = self.keys.write();
        if keys.len() <= 1 {
            keys.insert(0, Key::new(&self.runtime));
            self.save(&keys)?;
        }
        Ok(keys.first().map(|key| key.id.clone()).unwrap_or_default())
    }

    /// Forgets all keys but the first.
    pub(super) fn end_change(&self) -> Result<(), KeyringError> {
        let mut keys = self.keys.write();
        keys.truncate(1);
        self.save(&keys)
    }

    fn save(&self, keys: &[Key]) -> Result<(), KeyringError> {
        match &self.path {
            Some(path) => write(&self.runtime, path, keys, Place::Any),
            None => Ok(()),
        }
    }

    /// Seals a value so that it can be opened for these `bonds` only.
    pub(crate) fn seal(&self, value: &Secret, bonds: &[u8]) -> Result<Sealed, KeyringError> {
        let keys = self.keys.read();
        let key = keys.first().ok_or(KeyringError::Sealed)?;
        let nonce: [u8; NONCE_BYTES] = self.runtime.secret_bytes();
        let payload = Payload {
            msg: value.expose().as_bytes(),
            aad: bonds,
        };
        let sealed = key.cipher().encrypt((&nonce).into(), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.map_err(|_| KeyringError::Sealed)?);
        Ok(Sealed {
            key_id: key.id.clone(),
            bytes,
        })
    }

    /// Opens what was sealed for these `bonds`.
    pub(crate) fn open(&self, sealed: &Sealed, bonds: &[u8]) -> Result<Secret, KeyringError> {
        if !self.has(&sealed.key_id) {
            // Another process may have changed the keys.
            self.reload()?;
        }
        let keys = self.keys.read();
        let key = keys.iter().find(|key| key.id == sealed.key_id);
        let key = key.ok_or_else(|| self.lost(&sealed.key_id))?;
        let split = sealed.bytes.split_first_chunk::<NONCE_BYTES>();
        let (nonce, text) = split.ok_or(KeyringError::Sealed)?;
        let payload = Payload {
            msg: text,
            aad: bonds,
        };
        let opened = key.cipher().decrypt(nonce.into(), payload);
        let opened = opened.map_err(|_| KeyringError::Sealed)?;
        // The bytes themselves become the secret, so that no copy stays behind.
        String::from_utf8(opened).map(Secret::new).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            KeyringError::Sealed
        })
    }
}

fn read(path: &Path) -> Result<Vec<Key>, KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyringError::Exposed(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    let keys: Option<Vec<Key>> = text.lines().map(Key::read).collect();
    keys.filter(|keys| !keys.is_empty())
        .ok_or_else(|| KeyringError::Damaged(path.to_owned()))
}

/// Whether a file that is there already is replaced.
#[derive(PartialEq, Eq)]
enum Place {
    Any,
    Absent,
}

/// Writes the file under another name first and then moves it into place, so that nobody reads half of it.
fn write(runtime: &Runtime, path: &Path, keys: &[Key], place: Place) -> Result<(), KeyringError> {
    let io = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let suffix = cursor::write(&runtime.secret_bytes::<8>());
    let temporary = path.with_extension(suffix);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io)?;
    let written = (|| {
        for key in keys {
            file.write_all(key.line().as_bytes())?;
        }
        file.sync_all()?;
        match place {
            Place::Any => fs::rename(&temporary, path),
            Place::Absent => fs::hard_link(&temporary, path),
        }
    })();
    if place == Place::Absent || written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    match written {
        Err(error)
            if place == Place::Absent && error.kind() == std::io::ErrorKind::AlreadyExists =>
        {
            Ok(())
        }
        other => other.map_err(io),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(dir: &Path) -> Keyring {
        let keyring = Keyring::at(&Runtime::new(), dir.join("secret-keys")).unwrap();
        keyring.make().unwrap();
        keyring
    }

    #[test]
    fn what_is_sealed_opens_for_its_bonds_and_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keyring(dir.path());
        let sealed = keys.seal(&Secret::new("canary"), b"ada").unwrap();
        assert_eq!(keys.open(&sealed, b"ada").unwrap().expose(), "canary");
        assert!(matches!(
            keys.open(&sealed, b"bob"),
            Err(KeyringError::Sealed)
        ));
        assert!(!sealed.bytes.windows(6).any(|part| part == b"canary"));
        let again = keys.seal(&Secret::new("canary"), b"ada").unwrap();
        assert_ne!(sealed.bytes, again.bytes, "equal secrets look equal");
        for at in [0, NONCE_BYTES, sealed.bytes.len() - 1] {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            let changed = Sealed {
                key_id: sealed.key_id.clone(),
                bytes,
            };
            assert!(keys.open(&changed, b"ada").is_err());
        }
        let short = Sealed {
            key_id: sealed.key_id.clone(),
            bytes: vec![0; 3],
        };
        assert!(keys.open(&short, b"ada").is_err());
        let other = Keyring::ephemeral(&Runtime::new());
        assert!(matches!(
            other.open(&sealed, b"ada"),
            Err(KeyringError::Lost { .. })
        ));
    }

    #[test]
    fn the_file_is_the_owners_alone_and_a_damaged_one_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = keyring(dir.path())
            .seal(&Secret::new("canary"), b"")
            .unwrap();
        assert_eq!(
            keyring(dir.path()).open(&sealed, b"").unwrap().expose(),
            "canary"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let path = dir.path().join("secret-keys");
        let at = || Keyring::at(&Runtime::new(), path.clone());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(at(), Err(KeyringError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in ["", "nonsense\n", "xchacha20poly1305:a:00\n"] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(at(), Err(KeyringError::Damaged(_))), "{damaged}");
        }
    }

    #[test]
    fn another_process_sees_a_new_key_and_old_ones_open_until_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (server, console) = (keyring(dir.path()), keyring(dir.path()));
        let old = server.seal(&Secret::new("old"), b"").unwrap();
        let id = console.begin_change().unwrap();
        assert_eq!(
            console.begin_change().unwrap(),
            id,
            "a change that broke off goes on"
        );
        assert_eq!(console.open(&old, b"").unwrap().expose(), "old");
        let new = console.seal(&Secret::new("new"), b"").unwrap();
        assert_eq!(server.open(&new, b"").unwrap().expose(), "new");
        console.end_change().unwrap();
        assert!(matches!(
            console.open(&old, b""),
            Err(KeyringError::Lost { .. })
        ));
    }

    #[test]
    fn debug_shows_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keyring(dir.path());
        let key = cursor::write(&*keys.keys.read()[0].bytes);
        assert!(!format!("{keys:?}").contains(&key));
    }
}
