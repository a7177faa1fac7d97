//! The server's key, in `DIR/keys`, readable by its owner only: it signs access tokens, and what
//! API keys are hashed and cursors sealed with is made from it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use hmac::Mac as _;
use netra_context::{Runtime, Secret};
use netra_protocol::Timestamp;
use netra_protocol::id::{SessionId, UserId};
use netra_store::AuditKey;
use zeroize::Zeroizing;

use super::token::{self, Claims, Seal};

const PREFIX: &str = "ed25519:";
/// What the key for hashing API keys is made for: other uses would have other words here.
const API_KEYS: &[u8] = b"netra: hashes of API keys, 1";
/// The same for seals of cursors.
const CURSORS: &[u8] = b"netra: cursors of lists, 1";
/// The same for chains of audit records.
const AUDIT: &[u8] = b"netra: chains of audit records, 1";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or made.
    #[error("the key file {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner can read the file.
    #[error("the key file {0} can be read by others: set its mode to 0600")]
    Exposed(PathBuf),
    /// The file is not one that this program wrote.
    #[error("the key file {0} is damaged")]
    Damaged(PathBuf),
}

/// The server's own key, and what signs its tokens. Cheap to clone; never shown.
#[derive(Clone)]
pub struct Keys(Arc<Held>);

struct Held {
    seed: Zeroizing<[u8; 32]>,
    seal: Seal,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Keys of a server that keeps none, for tests.
    pub fn ephemeral(runtime: &Runtime) -> Self {
        Self::of(Zeroizing::new(runtime.secret_bytes()))
    }

    fn of(seed: Zeroizing<[u8; 32]>) -> Self {
        let seal = Seal::EdDsa(SigningKey::from_bytes(&seed));
        Self(Arc::new(Held { seed, seal }))
    }

    /// The same, but that tokens are signed with this secret and HS256. Tokens of before are no longer good.
    #[must_use]
    pub fn with_hs256(self, secret: &Secret) -> Self {
        let (seed, seal) = (self.0.seed.clone(), Seal::hs256(secret.expose().as_bytes()));
        Self(Arc::new(Held { seed, seal }))
    }

    /// Reads `dir/keys`, or makes it. Two processes that do so at once get the same key.
    ///
    /// # Errors
    /// When the file cannot be read or made, is damaged, or can be read by others.
    pub fn load_or_create(runtime: &Runtime, dir: &Path) -> Result<Self, Error> {
        let path = dir.join("keys");
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        if !path.try_exists().map_err(io)? {
            create(runtime, dir, &path).map_err(io)?;
        }
        Self::load(dir)
    }

    /// Reads `dir/keys`, and makes none.
    ///
    /// # Errors
    /// When the file is not there or cannot be read, is damaged, or can be read by others.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("keys");
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mode = fs::metadata(&path).map_err(io)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::Exposed(path));
        }
        let text = Zeroizing::new(fs::read_to_string(&path).map_err(io)?);
        let seed = text
            .trim()
            .strip_prefix(PREFIX)
            .and_then(|text| STANDARD.decode(text).ok().map(Zeroizing::new));
        let whole = |seed: &Zeroizing<Vec<u8>>| <[u8; 32]>::try_from(seed.as_slice()).ok();
        match seed.as_ref().and_then(whole).map(Zeroizing::new) {
            Some(seed) => Ok(Self::of(seed)),
            None => Err(Error::Damaged(path)),
        }
    }

    /// An access token for this user, good for `ttl` from now. `session` is none for a token that
    /// belongs to no sign-in, such as one made at the server's command line.
    ///
    /// # Errors
    /// Never in practice: the claims are plain values.
    pub fn access_token(
        &self,
        user: UserId,
        session: Option<SessionId>,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<String, serde_json::Error> {
        token::sign(&self.0.seal, &Claims::new(user, session, now, ttl))
    }

    /// What the store keeps of an API key: of no use to whoever has the database without `keys`.
    pub(crate) fn hash_of_api_key(&self, secret: &str) -> [u8; 32] {
        let key = hmac(&self.0.seed, API_KEYS);
        hmac(&key, secret.as_bytes())
    }

    /// What shows that this server has made a cursor.
    pub(crate) fn seal_of_cursor(&self, sealed: &[u8]) -> [u8; 32] {
        hmac(&hmac(&self.0.seed, CURSORS), sealed)
    }

    /// Whether that is the beginning of the seal. In constant time.
    pub(crate) fn sealed_cursor(&self, sealed: &[u8], seal: &[u8]) -> bool {
        let key = hmac(&self.0.seed, CURSORS);
        let mac = token::mac(&token::block(&key), sealed);
        mac.verify_truncated_left(seal).is_ok()
    }

    /// What the chains of audit records are keyed with.
    pub fn audit_key(&self) -> AuditKey {
        AuditKey::new(hmac(&self.0.seed, AUDIT))
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.0.seal
    }
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mac = token::mac(&token::block(key), message);
    mac.finalize().into_bytes().into()
}

/// Writes the file under another name first and links it into place, so that nobody reads half of
/// it; when another process was faster, its key stands.
fn create(runtime: &Runtime, dir: &Path, path: &Path) -> std::io::Result<()> {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(runtime.secret_bytes());
    let suffix: [u8; 8] = runtime.secret_bytes();
    let temporary = dir.join(format!("keys.{:016x}", u64::from_be_bytes(suffix)));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let text = Zeroizing::new(STANDARD.encode(seed.as_slice()));
    writeln!(file, "{PREFIX}{}", *text)?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_folder_gives_the_same_key_and_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new();
        let first = Keys::load_or_create(&runtime, dir.path()).unwrap();
        let second = Keys::load_or_create(&runtime, dir.path()).unwrap();
        assert_eq!(first.hash_of_api_key("x"), second.hash_of_api_key("x"));
        let path = dir.path().join("keys");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Keys::load_or_create(&runtime, dir.path()).unwrap_err();
        assert!(matches!(error, Error::Exposed(_)));
    }

    #[test]
    fn who_only_reads_keys_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Keys::load(dir.path()), Err(Error::Io { .. })));
        assert!(!dir.path().join("keys").exists());
        let made = Keys::load_or_create(&Runtime::new(), dir.path()).unwrap();
        assert_eq!(
            Keys::load(dir.path()).unwrap().hash_of_api_key("x"),
            made.hash_of_api_key("x")
        );
    }

    #[test]
    fn an_hmac_is_that_of_the_standard() {
        // RFC 4231, test case 2 with its key filled up with zeros, which changes nothing.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let hex: String = hmac(&key, b"what do ya want for nothing?")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_hash_of_an_api_key_is_the_folders_own() {
        let runtime = Runtime::new();
        let (one, other) = (Keys::ephemeral(&runtime), Keys::ephemeral(&runtime));
        assert_eq!(one.hash_of_api_key("ntr_a"), one.hash_of_api_key("ntr_a"));
        assert_ne!(one.hash_of_api_key("ntr_a"), one.hash_of_api_key("ntr_b"));
        assert_ne!(one.hash_of_api_key("ntr_a"), other.hash_of_api_key("ntr_a"));
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        fs::write(&path, "ed25519:AAAA").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Keys::load_or_create(&Runtime::new(), dir.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "ed25519:AAAA");
    }
}
