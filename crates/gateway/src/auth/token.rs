//! Access tokens: JWTs signed with EdDSA, or with HS256 where the operator wants that. A server has one algorithm and one
//! header, so there is nothing for a token to choose: one with any other header is not one of ours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use hmac::{Hmac, Mac as _};
use netra_protocol::Timestamp;
use netra_protocol::id::{SessionId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const ISSUER: &str = "netra";
/// The longest token that is looked at.
const MAX_LEN: usize = 1024;

/// What signs tokens, and knows its own.
pub(crate) enum Seal {
    /// With the server's own key.
    EdDsa(SigningKey),
    /// With a secret that the operator shares with others (RFC 7518, 3.2), as long as a block of the hash.
    Hs256(Zeroizing<[u8; BLOCK]>),
}

/// A block of SHA-256, in bytes.
const BLOCK: usize = 64;

impl Seal {
    /// One of HS256.
    pub(crate) fn hs256(secret: &[u8]) -> Self {
        Self::Hs256(block(secret))
    }

    fn header(&self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Self::EdDsa(_) => r#"{"alg":"EdDSA","typ":"JWT"}"#,
            Self::Hs256(_) => r#"{"alg":"HS256","typ":"JWT"}"#,
        })
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        match self {
            Self::EdDsa(key) => key.sign(text.as_bytes()).to_vec(),
            Self::Hs256(secret) => mac(secret, text.as_bytes())
                .finalize()
                .into_bytes()
                .to_vec(),
        }
    }

    fn fits(&self, text: &str, signature: &[u8]) -> bool {
        match self {
            Self::EdDsa(key) => Signature::from_slice(signature).is_ok_and(|signature| {
                let key = key.verifying_key();
                key.verify_strict(text.as_bytes(), &signature).is_ok()
            }),
            // In constant time.
            Self::Hs256(secret) => mac(secret, text.as_bytes()).verify_slice(signature).is_ok(),
        }
    }

    /// Whether the token says of itself that it is one of ours.
    pub(crate) fn is_on(&self, text: &str) -> bool {
        text.split('.').next() == Some(&self.header())
    }
}

/// A key of HMAC: a longer one stands for its hash, a shorter one is filled up with zeros (RFC 2104).
pub(super) fn block(key: &[u8]) -> Zeroizing<[u8; BLOCK]> {
    let mut block = Zeroizing::new([0; BLOCK]);
    if key.len() > BLOCK {
        let digest = Sha256::digest(key);
        block[..digest.len()].copy_from_slice(&digest);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    block
}

/// HMAC with SHA-256 (RFC 2104).
pub(super) fn mac(block: &[u8; BLOCK], text: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new(block.into()).chain_update(text)
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    /// Who.
    pub(crate) sub: UserId,
    /// The sign-in; none for a token made at the server's command line.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sid: Option<SessionId>,
    /// When it was made, in seconds since 1970.
    iat: i64,
    /// When it ends, in seconds since 1970.
    pub(crate) exp: i64,
}

impl Claims {
    pub(crate) fn new(
        user: UserId,
        session: Option<SessionId>,
        now: Timestamp,
        ttl: std::time::Duration,
    ) -> Self {
        let iat = now.as_micros().div_euclid(1_000_000);
        let ttl_s = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        Self {
            iss: ISSUER.into(),
            sub: user,
            sid: session,
            iat,
            exp: iat.saturating_add(ttl_s),
        }
    }

    /// When it ends.
    pub(crate) fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros(self.exp.saturating_mul(1_000_000))
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not one of ours.
    Invalid,
    /// Ours, but past its time.
    Expired,
}

/// Signs the claims.
pub(crate) fn sign(seal: &Seal, claims: &Claims) -> Result<String, serde_json::Error> {
    let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?);
    let mut text = format!("{}.{body}", seal.header());
    let signature = seal.sign(&text);
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(text)
}

/// Reads the claims of a token that carries this seal and has not ended.
pub(crate) fn verify(seal: &Seal, text: &str, now: Timestamp) -> Result<Claims, Refused> {
    if text.len() > MAX_LEN || !seal.is_on(text) {
        return Err(Refused::Invalid);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(Refused::Invalid)?;
    let (_, body) = signed.split_once('.').ok_or(Refused::Invalid)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| Refused::Invalid)?;
    if !seal.fits(signed, &signature) {
        return Err(Refused::Invalid);
    }
    let body = URL_SAFE_NO_PAD.decode(body).map_err(|_| Refused::Invalid)?;
    let claims: Claims = serde_json::from_slice(&body).map_err(|_| Refused::Invalid)?;
    if claims.iss != ISSUER {
        return Err(Refused::Invalid);
    }
    if claims.expires_at() <= now {
        Err(Refused::Expired)
    } else {
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_763_834_400_000_000);

    fn own() -> [Seal; 2] {
        [
            Seal::EdDsa(SigningKey::from_bytes(&[7; 32])),
            Seal::hs256(&[7; 32]),
        ]
    }

    fn token(seal: &Seal) -> String {
        let user = UserId::from_parts(1, 2);
        let claims = Claims::new(user, None, NOW, Duration::from_secs(60));
        sign(seal, &claims).unwrap()
    }

    #[test]
    fn a_token_is_good_until_its_end_and_not_at_it() {
        for seal in own() {
            let token = token(&seal);
            let claims = verify(&seal, &token, NOW.plus_millis(59_999)).unwrap();
            assert_eq!(claims.sub, UserId::from_parts(1, 2));
            let ended = verify(&seal, &token, NOW.plus_millis(60_000));
            assert_eq!(ended, Err(Refused::Expired));
        }
    }

    #[test]
    fn another_key_or_another_algorithm_is_refused() {
        let others = [
            Seal::EdDsa(SigningKey::from_bytes(&[8; 32])),
            Seal::hs256(&[8; 32]),
            // What a public key as the secret of HS256 would be: the classic confusion.
            Seal::hs256(&SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()),
        ];
        for seal in own() {
            for other in &others {
                assert_eq!(verify(&seal, &token(other), NOW), Err(Refused::Invalid));
            }
            let own = token(&seal);
            let (_, rest) = own.split_once('.').unwrap();
            for header in [
                r#"{"alg":"none"}"#,
                r#"{"alg":"HS256"}"#,
                r#"{"typ":"JWT","alg":"EdDSA"}"#,
            ] {
                let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
                assert_eq!(verify(&seal, &forged, NOW), Err(Refused::Invalid));
            }
            let unsigned = format!("{}.", own.rsplit_once('.').unwrap().0);
            assert_eq!(verify(&seal, &unsigned, NOW), Err(Refused::Invalid));
        }
        let [eddsa, hs256] = own();
        assert_eq!(verify(&eddsa, &token(&hs256), NOW), Err(Refused::Invalid));
        assert_eq!(verify(&hs256, &token(&eddsa), NOW), Err(Refused::Invalid));
    }

    #[test]
    fn the_mac_is_that_of_the_rfc() {
        // RFC 7515, appendix A.1.
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let seal = Seal::hs256(&URL_SAFE_NO_PAD.decode(secret).unwrap());
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = URL_SAFE_NO_PAD.encode(seal.sign(signed));
        assert_eq!(signature, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    proptest! {
        #[test]
        fn no_changed_character_passes(
            which in 0_usize..2, place in 0_usize..200, letter in "[A-Za-z0-9_.-]",
        ) {
            let seal = &own()[which];
            let own = token(seal);
            let place = place % own.len();
            let mut changed = own.clone();
            changed.replace_range(place..=place, &letter);
            prop_assume!(changed != own);
            prop_assert!(verify(seal, &changed, NOW).is_err());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(which in 0_usize..2, text in ".{0,300}") {
            prop_assert_eq!(verify(&own()[which], &text, NOW), Err(Refused::Invalid));
        }

        #[test]
        fn garbage_behind_an_own_header_is_refused_too(which in 0_usize..2, text in "[A-Za-z0-9_.-]{0,300}") {
            let seal = &own()[which];
            let text = format!("{}.{text}", seal.header());
            prop_assert_eq!(verify(seal, &text, NOW), Err(Refused::Invalid));
        }
    }
}
