//! The public keys of an issuer (JWKS, RFC 7517), and what they have signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

/// Keys of one issuer that are looked at; more is no key set of an issuer.
const MOST: usize = 100;

/// A key set as it is published. Keys of kinds that are not known here are left out.
#[derive(Debug, Deserialize)]
struct Published {
    keys: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A public key of the issuer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    kid: Option<String>,
    /// The only algorithm that it is for, where it says so.
    alg: Option<String>,
    material: Material,
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

/// A point of a curve whose coordinates have so many bytes.
fn point(jwk: &Jwk, size: usize) -> Option<Vec<u8>> {
    let (x, y) = (bytes(jwk.x.as_ref())?, bytes(jwk.y.as_ref())?);
    (x.len() == size && y.len() == size).then(|| [&[4], &x[..], &y[..]].concat())
}

fn key(jwk: Jwk) -> Option<Key> {
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Material::Rsa {
            n: bytes(jwk.n.as_ref())?,
            e: bytes(jwk.e.as_ref())?,
        },
        ("EC", Some("P-256")) => Material::P256(point(&jwk, 32)?),
        ("EC", Some("P-384")) => Material::P384(point(&jwk, 48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(jwk.x.as_ref())?),
        _ => return None,
    };
    Some(Key {
        kid: jwk.kid,
        alg: jwk.alg,
        material,
    })
}

/// Reads a key set.
pub(super) fn read(text: &[u8]) -> Result<Vec<Key>, serde_json::Error> {
    let published: Published = serde_json::from_slice(text)?;
    let keys = published.keys.into_iter().take(MOST);
    Ok(keys
        .filter_map(|value| serde_json::from_value(value).ok().and_then(key))
        .collect())
}

impl Key {
    /// Whether a token that names this key, or none, may be this one's.
    pub(super) fn is_named(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.kid.as_deref() == kid
    }

    /// Whether the key has signed this by this algorithm. The key says which algorithms there are, not the token: one
    /// that does not belong to the key's kind is none.
    pub(super) fn has_signed(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        if self.alg.as_deref().is_some_and(|only| only != alg) {
            return false;
        }
        let rsa = |parameters, n: &[u8], e: &[u8]| {
            let key = RsaPublicKeyComponents { n, e };
            key.verify(parameters, message, signature).is_ok()
        };
        let other = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            let key = UnparsedPublicKey::new(algorithm, key);
            key.verify(message, signature).is_ok()
        };
        match (&self.material, alg) {
            (Material::Rsa { n, e }, "RS256") => rsa(&signature::RSA_PKCS1_2048_8192_SHA256, n, e),
            (Material::Rsa { n, e }, "RS384") => rsa(&signature::RSA_PKCS1_2048_8192_SHA384, n, e),
            (Material::Rsa { n, e }, "RS512") => rsa(&signature::RSA_PKCS1_2048_8192_SHA512, n, e),
            (Material::Rsa { n, e }, "PS256") => rsa(&signature::RSA_PSS_2048_8192_SHA256, n, e),
            (Material::Rsa { n, e }, "PS384") => rsa(&signature::RSA_PSS_2048_8192_SHA384, n, e),
            (Material::Rsa { n, e }, "PS512") => rsa(&signature::RSA_PSS_2048_8192_SHA512, n, e),
            (Material::P256(key), "ES256") => other(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Material::P384(key), "ES384") => other(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Material::Ed25519(key), "EdDSA" | "Ed25519") => other(&signature::ED25519, key),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.3: ES256.
    const ES256: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "a", "use": "sig",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog\
                          Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA\
                             pmWQxfKTUJqPP3-Kg6NU1Q";

    #[test]
    fn a_signature_of_the_standard_is_good_for_its_key_and_its_algorithm() {
        let keys = read(ES256.as_bytes()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap();
        assert!(keys[0].has_signed("ES256", SIGNED.as_bytes(), &signature));
        for alg in ["ES384", "RS256", "HS256", "none", "EdDSA", ""] {
            assert!(
                !keys[0].has_signed(alg, SIGNED.as_bytes(), &signature),
                "{alg}"
            );
        }
        let mut other = signature.clone();
        other[7] ^= 1;
        assert!(!keys[0].has_signed("ES256", SIGNED.as_bytes(), &other));
        assert!(!keys[0].has_signed("ES256", b"something else", &signature));
        assert!(keys[0].is_named(Some("a")) && keys[0].is_named(None));
        assert!(!keys[0].is_named(Some("b")));
    }

    #[test]
    fn what_is_no_key_for_signatures_is_left_out() {
        let text = r#"{"keys": [
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
            {"kty": "RSA", "n": "!", "e": "AQAB"},
            {"kty": 5}, 7,
            {"kty": "RSA", "kid": "good", "n": "AQAB", "e": "AQAB", "alg": "RS256"}]}"#;
        let keys = read(text.as_bytes()).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys[0].is_named(Some("good")));
        assert!(!keys[0].has_signed("RS512", b"", b""));
        assert!(read(b"{}").is_err() && read(b"<html>").is_err());
    }
}
