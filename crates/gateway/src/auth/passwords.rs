//! Passwords: argon2id, on blocking threads, few at once.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use netra_context::Runtime;
use netra_protocol::ErrorCode;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::error::Error;

/// Shortest and longest password, in characters.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=128;
const LENGTH_WORDS: &str = "A password has 12 to 128 characters.";
/// Checks that may wait for their turn, for each that runs; more are refused.
const WAITING_PER_TURN: usize = 32;

/// The password is not one that the contract allows.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too short.
    #[error("a password has 12 to 128 characters")]
    Short,
    /// Too long.
    #[error("a password has 12 to 128 characters")]
    Long,
    /// Among the first that anybody would try.
    #[error(
        "this password is too common, or too much like the name: take a longer or less usual one"
    )]
    Common,
    /// The hash could not be made.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
fn argon2() -> Result<Argon2<'static>, Refused> {
    let params = Params::new(19 * 1024, 2, 1, None);
    let params = params.map_err(|error| Refused::Hash(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Whether the password is among the first million that somebody would try who knows lists of common passwords, words
/// and names, keyboards, dates, and how people change them.
fn is_common(password: &str, name: &str) -> bool {
    zxcvbn::zxcvbn(password, &[name, "netra"]).score() < zxcvbn::Score::Two
}

/// Hashes a password for the store. Takes tens of milliseconds and 19 MiB: not for async threads.
///
/// # Errors
/// When the password is shorter or longer than allowed, or one of the common ones.
pub fn hash_password(runtime: &Runtime, password: &str, name: &str) -> Result<String, Refused> {
    match password.chars().count() {
        short if short < *LENGTH.start() => return Err(Refused::Short),
        long if long > *LENGTH.end() => return Err(Refused::Long),
        _ => {}
    }
    if is_common(password, name) {
        return Err(Refused::Common);
    }
    hash(runtime, password)
}

fn hash(runtime: &Runtime, password: &str) -> Result<String, Refused> {
    let salt: [u8; 16] = runtime.secret_bytes();
    let salt = SaltString::encode_b64(&salt);
    let salt = salt.map_err(|error| Refused::Hash(error.to_string()))?;
    let hash = argon2()?.hash_password(password.as_bytes(), &salt);
    Ok(hash
        .map_err(|error| Refused::Hash(error.to_string()))?
        .to_string())
}

fn matches(password: &str, hash: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else {
        return false;
    };
    let Ok(argon2) = argon2() else { return false };
    argon2.verify_password(password.as_bytes(), &parsed).is_ok()
}

/// Hashes and checks passwords, at most so many at once: each takes a core and 19 MiB.
pub(crate) struct Passwords {
    runtime: Runtime,
    turns: Semaphore,
    waiting: Semaphore,
    /// Checked where an account is missing or has no password, so that both take as long.
    decoy: std::sync::OnceLock<String>,
}

impl Passwords {
    pub(crate) fn new(runtime: Runtime, at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self {
            runtime,
            turns: Semaphore::new(at_once),
            waiting: Semaphore::new(at_once * (WAITING_PER_TURN + 1)),
            decoy: std::sync::OnceLock::new(),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let _place = self.waiting.try_acquire().map_err(|_| {
            Error::new(
                ErrorCode::Overloaded,
                "Too many people sign in at once; try again.",
            )
        })?;
        let _turn = self.turns.acquire().await.map_err(Error::internal)?;
        self.runtime
            .spawn_blocking(work)
            .await
            .map_err(Error::internal)
    }

    /// Hashes a new password of an account of this name, and wipes it.
    pub(crate) async fn hash(&self, password: String, name: &str) -> Result<String, Error> {
        let (runtime, password) = (self.runtime.clone(), Zeroizing::new(password));
        let name = name.to_owned();
        let hashed = self
            .blocking(move || hash_password(&runtime, &password, &name))
            .await?;
        let refused =
            |message: &'static str, rule: &str| Error::invalid(message).breaks("password", rule);
        hashed.map_err(|error| match error {
            Refused::Short => refused(LENGTH_WORDS, "minLength 12"),
            Refused::Long => refused(LENGTH_WORDS, "maxLength 128"),
            Refused::Common => refused(
                "This password is too common, or too much like the name; take another.",
                "common",
            ),
            Refused::Hash(_) => Error::internal(error),
        })
    }

    /// Whether the password fits, and wipes it; false after the same time where there is no hash.
    pub(crate) async fn check(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Error> {
        let password = Zeroizing::new(password);
        let known = hash.is_some();
        let hash = match hash {
            Some(hash) => hash,
            None => self.decoy().await?,
        };
        // A longer one can belong to nobody; it is cut so that it costs no more than others.
        let password: String = password.chars().take(*LENGTH.end() + 1).collect();
        let password = Zeroizing::new(password);
        Ok(self.blocking(move || matches(&password, &hash)).await? && known)
    }

    async fn decoy(&self) -> Result<String, Error> {
        if let Some(decoy) = self.decoy.get() {
            return Ok(decoy.clone());
        }
        let nobody = super::secret_text(&self.runtime.secret_bytes::<32>());
        let made = self.hash(nobody, "").await?;
        Ok(self.decoy.get_or_init(|| made).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new(Runtime::new(), 1);
        let hash = passwords
            .hash("correct horse battery".into(), "anna")
            .await
            .unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let right = passwords
            .check("correct horse battery".into(), Some(hash.clone()))
            .await;
        assert!(right.unwrap());
        assert!(
            !passwords
                .check("correct horse batterx".into(), Some(hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .check("correct horse battery".into(), None)
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn length_counts_characters() {
        let passwords = Passwords::new(Runtime::new(), 1);
        for bad in ["elevenchars".to_owned(), "x".repeat(129)] {
            let error = passwords.hash(bad, "anna").await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest);
            assert_eq!(error.to_string(), "A password has 12 to 128 characters.");
        }
        let letter = |place: u32| char::from_u32(0xe0 + place * place * 7 % 97).unwrap();
        let long: String = (0..128).map(letter).collect();
        assert_eq!(long.chars().count(), 128);
        assert!(passwords.hash(long, "anna").await.is_ok());
    }

    #[test]
    fn what_everybody_would_try_first_is_refused() {
        for common in [
            "password1234",
            "123456789012",
            "qwertyuiop123",
            "aaaaaaaaaaaa",
            "passwordpassword",
            "anna-maria.b1",
            "abcabcabcabc",
        ] {
            assert!(is_common(common, "anna-maria.b"), "{common}");
        }
        for good in [
            "correct horse battery",
            "test-password-7",
            "Tr0ub4dor&3 again",
            "mein Hund bellt laut",
        ] {
            assert!(!is_common(good, "anna"), "{good}");
        }
    }
}
