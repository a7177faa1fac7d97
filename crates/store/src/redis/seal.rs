//! What is given to Redis is sealed with a key that only the database of the installation has.
//!
//! So whoever can read or write Redis, another installation for one, learns nothing of anybody's content and can make up
//! nothing: what does not open is not there.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use netra_context::Runtime;
use sha2::Sha256;
use zeroize::Zeroizing;

const NONCE: usize = 24;

/// Seals and names what an installation has in Redis.
pub(crate) struct Seal {
    runtime: Runtime,
    cipher: XChaCha20Poly1305,
    naming: Zeroizing<[u8; 32]>,
}

impl Seal {
    /// With the secret of the installation.
    pub(crate) fn new(runtime: &Runtime, secret: &[u8; 32]) -> Self {
        let content = derived(secret, b"content");
        Self {
            runtime: runtime.clone(),
            cipher: XChaCha20Poly1305::new((&*content).into()),
            naming: derived(secret, b"names"),
        }
    }

    /// What only this opens, and only beside the same plain text.
    pub(crate) fn seal(&self, beside: &[u8], content: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE] = self.runtime.secret_bytes();
        let payload = Payload {
            msg: content,
            aad: beside,
        };
        let sealed = self.cipher.encrypt(&nonce.into(), payload);
        let mut whole = nonce.to_vec();
        whole.extend_from_slice(&sealed.ok()?);
        Some(whole)
    }

    /// The content, where it was sealed here and beside this.
    pub(crate) fn open(&self, beside: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, content) = sealed.split_at_checked(NONCE)?;
        let payload = Payload {
            msg: content,
            aad: beside,
        };
        let nonce: XNonce = <[u8; NONCE]>::try_from(nonce).ok()?.into();
        self.cipher.decrypt(&nonce, payload).ok()
    }

    /// A name that says nothing of what it is made of.
    pub(crate) fn name(&self, of: &[u8]) -> String {
        let digest = mac(&self.naming, of);
        digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn derived(secret: &[u8; 32], what: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(mac(secret, what))
}

fn mac(key: &[u8; 32], of: &[u8]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("a key");
    mac.update(of);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_installation_opens_what_was_sealed_and_only_in_its_place() {
        let runtime = Runtime::new();
        let (ours, theirs) = (Seal::new(&runtime, &[1; 32]), Seal::new(&runtime, &[2; 32]));
        let sealed = ours.seal(b"place", b"content").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"content"));
        assert_eq!(ours.open(b"place", &sealed).unwrap(), b"content");
        assert_eq!(ours.open(b"elsewhere", &sealed), None);
        assert_eq!(theirs.open(b"place", &sealed), None);
        assert_eq!(ours.open(b"place", &sealed[..10]), None);
        assert_ne!(ours.seal(b"place", b"content").unwrap(), sealed);
        assert_eq!(ours.name(b"ada"), ours.name(b"ada"));
        assert_ne!(ours.name(b"ada"), theirs.name(b"ada"));
    }
}
