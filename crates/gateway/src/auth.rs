//! Who asks: tokens, passwords, sessions, cookies, origins.

pub(crate) mod cookie;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod link;
pub(crate) mod origin;
pub(crate) mod passwords;
pub(crate) mod session;
pub(crate) mod setup;
pub(crate) mod token;
pub(crate) mod verified;
pub(crate) mod verifier;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// An opaque secret as text, for links, cookies and bodies.
pub(crate) fn secret_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What the store keeps of a secret. Secrets have 256 random bits, so a plain hash is enough.
pub(crate) fn secret_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Compares without telling by its duration where the texts differ.
pub(crate) fn same_secret(a: &str, b: &str) -> bool {
    let (a, b) = (secret_hash(a), secret_hash(b));
    a.iter()
        .zip(b)
        .fold(0, |differences, (x, y)| differences | (x ^ y))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_compare_by_content() {
        assert!(same_secret("abc", "abc"));
        assert!(!same_secret("abc", "abd"));
        assert!(!same_secret("abc", "abcd"));
    }
}
