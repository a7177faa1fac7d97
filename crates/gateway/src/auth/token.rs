//! Access tokens: JWTs signed with EdDSA. One algorithm, one header, so there is nothing to choose
//! wrongly: a token with any other header is not one of ours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use netra_protocol::Timestamp;
use netra_protocol::id::{SessionId, UserId};
use serde::{Deserialize, Serialize};

const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT"}"#;
const ISSUER: &str = "netra";
/// The longest token that is looked at.
const MAX_LEN: usize = 1024;

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
pub(crate) fn sign(key: &SigningKey, claims: &Claims) -> Result<String, serde_json::Error> {
    let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?);
    let mut text = format!("{}.{body}", URL_SAFE_NO_PAD.encode(HEADER));
    let signature = key.sign(text.as_bytes());
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature.to_bytes()));
    Ok(text)
}

/// Whether the token says of itself that it is one of ours.
pub(crate) fn is_own(text: &str) -> bool {
    let header = text.split('.').next().unwrap_or_default();
    header == URL_SAFE_NO_PAD.encode(HEADER)
}

/// Reads the claims of a token that this key has signed and that has not ended.
pub(crate) fn verify(key: &VerifyingKey, text: &str, now: Timestamp) -> Result<Claims, Refused> {
    if text.len() > MAX_LEN {
        return Err(Refused::Invalid);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(Refused::Invalid)?;
    let (header, body) = signed.split_once('.').ok_or(Refused::Invalid)?;
    if header != URL_SAFE_NO_PAD.encode(HEADER) {
        return Err(Refused::Invalid);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| Refused::Invalid)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| Refused::Invalid)?;
    key.verify_strict(signed.as_bytes(), &signature)
        .map_err(|_| Refused::Invalid)?;
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

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn token() -> String {
        let user = UserId::from_parts(1, 2);
        sign(
            &key(),
            &Claims::new(user, None, NOW, Duration::from_secs(60)),
        )
        .unwrap()
    }

    #[test]
    fn a_token_is_good_until_its_end_and_not_at_it() {
        let key = key().verifying_key();
        let claims = verify(&key, &token(), NOW.plus_millis(59_999)).unwrap();
        assert_eq!(claims.sub, UserId::from_parts(1, 2));
        assert_eq!(
            verify(&key, &token(), NOW.plus_millis(60_000)),
            Err(Refused::Expired)
        );
    }

    #[test]
    fn another_key_or_another_algorithm_is_refused() {
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(verify(&other, &token(), NOW), Err(Refused::Invalid));
        let own = token();
        let (_, rest) = own.split_once('.').unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256","typ":"JWT"}"#] {
            let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(
                verify(&key().verifying_key(), &forged, NOW),
                Err(Refused::Invalid)
            );
        }
        let unsigned = format!("{}.", own.rsplit_once('.').unwrap().0);
        assert_eq!(
            verify(&key().verifying_key(), &unsigned, NOW),
            Err(Refused::Invalid)
        );
    }

    proptest! {
        #[test]
        fn no_changed_character_passes(place in 0_usize..200, letter in "[A-Za-z0-9_.-]") {
            let own = token();
            let place = place % own.len();
            let mut changed = own.clone();
            changed.replace_range(place..=place, &letter);
            prop_assume!(changed != own);
            prop_assert!(verify(&key().verifying_key(), &changed, NOW).is_err());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(text in ".{0,300}") {
            prop_assert_eq!(verify(&key().verifying_key(), &text, NOW), Err(Refused::Invalid));
        }
    }
}
