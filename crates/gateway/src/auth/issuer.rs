//! Tokens of somebody else: JWTs that an issuer has signed, checked by the keys that it publishes, and whom they mean.

mod jwks;
mod published;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use netra_context::Runtime;
use netra_protocol::Timestamp;
use netra_protocol::account::{Plan, Role};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::published::{Keys, Place};
use super::token::Refused;
use crate::error::Error;

/// The longest token that is looked at.
const MAX_LEN: usize = 8 * 1024;
/// The longest id of a user at the issuer.
const MAX_SUBJECT_LEN: usize = 255;

/// Whose tokens are taken besides the server's own, and what they say of their users.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// What `iss` has to be, and where the issuer describes itself.
    pub url: String,
    /// What `aud` has to be, or to hold.
    pub audience: String,
    /// Where the keys are; where the issuer's description says, when absent.
    pub jwks_url: Option<String>,
    /// The claim that names the user.
    pub subject_claim: String,
    /// The claim that has the role; everybody is `user` when absent.
    pub role_claim: Option<String>,
    /// The claim that has the plan; everybody is on `free`, or what an admin sets, when absent.
    pub plan_claim: Option<String>,
    /// How far the clocks may be apart.
    pub skew: Duration,
}

impl IssuerConfig {
    /// What is wrong with it, if anything is.
    pub fn problem(&self) -> Option<String> {
        let places = [Some(&self.url), self.jwks_url.as_ref()];
        for place in places.into_iter().flatten() {
            if !published::is_safe(place) {
                return Some(format!(
                    "`{place}` is no https address (http only on this machine)"
                ));
            }
        }
        self.audience
            .is_empty()
            .then(|| "an audience is needed: tokens for others are not for this server".into())
    }
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood: none is.
    crit: Option<Value>,
}

/// What a token says of whoever has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) subject: String,
    pub(crate) role: Role,
    pub(crate) plan: Plan,
    /// When it was said, where the token tells; never later than now.
    pub(crate) issued_at: Option<Timestamp>,
    /// With the difference of clocks that is allowed.
    pub(crate) expires_at: Timestamp,
}

/// An issuer whose tokens are taken.
pub(crate) struct Issuer {
    pub(crate) config: IssuerConfig,
    keys: Keys,
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Seconds since 1970, with parts of a second where an issuer has them.
fn time(claims: &Map<String, Value>, name: &str) -> Option<i64> {
    let seconds = claims.get(name)?.as_f64()?;
    seconds.is_finite().then_some(seconds.floor() as i64)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds.saturating_mul(1_000_000))
}

/// The words of a claim: one, or a list of them. A dot leads into an object.
fn words<'a>(claims: &'a Map<String, Value>, claim: &str) -> Vec<&'a str> {
    let found = claims.get(claim).or_else(|| {
        let mut steps = claim.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    });
    match found {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The most that the words of a claim give; what is not known gives nothing.
fn most<T: std::str::FromStr + Ord>(claims: &Map<String, Value>, claim: Option<&str>) -> Option<T> {
    let words = words(claims, claim?).into_iter();
    words.filter_map(|word| word.parse().ok()).max()
}

impl Issuer {
    pub(crate) fn new(runtime: Runtime, config: IssuerConfig) -> Self {
        let place = match &config.jwks_url {
            Some(url) => Place::Keys(url.clone()),
            None => Place::Description(format!(
                "{}/.well-known/openid-configuration",
                config.url.trim_end_matches('/')
            )),
        };
        Self {
            keys: Keys::new(runtime, place),
            config,
        }
    }

    /// What a token says, once it is known to be this issuer's and for this server.
    pub(crate) async fn verify(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<Result<Told, Refused>, Error> {
        let Some((header, claims, signed, signature)) = taken_apart(text) else {
            return Ok(Err(Refused::Invalid));
        };
        if header.crit.is_some() {
            return Ok(Err(Refused::Invalid));
        }
        let kid = header.kid.as_deref();
        let keys = self.keys.now(|key| key.is_named(kid)).await?;
        let is_signed = keys
            .iter()
            .filter(|key| key.is_named(kid))
            .any(|key| key.has_signed(&header.alg, signed.as_bytes(), &signature));
        Ok(if is_signed {
            self.read(&claims, now)
        } else {
            Err(Refused::Invalid)
        })
    }

    /// What claims say that are the issuer's own.
    fn read(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Told, Refused> {
        let is_for_us = words(claims, "aud").contains(&self.config.audience.as_str());
        let is_of_issuer = claims.get("iss").and_then(Value::as_str) == Some(&self.config.url);
        if !is_for_us || !is_of_issuer {
            return Err(Refused::Invalid);
        }
        let skew = i64::try_from(self.config.skew.as_secs()).unwrap_or(i64::MAX);
        let seconds = now.as_micros().div_euclid(1_000_000);
        let end = time(claims, "exp").ok_or(Refused::Invalid)?;
        let end = end.saturating_add(skew);
        let begin = time(claims, "nbf").unwrap_or(i64::MIN);
        if begin.saturating_sub(skew) > seconds {
            return Err(Refused::Invalid);
        }
        if end <= seconds {
            return Err(Refused::Expired);
        }
        let subject = words(claims, &self.config.subject_claim).first().copied();
        let subject = subject.filter(|subject| {
            (1..=MAX_SUBJECT_LEN).contains(&subject.len()) && !subject.chars().any(char::is_control)
        });
        Ok(Told {
            subject: subject.ok_or(Refused::Invalid)?.to_owned(),
            role: most(claims, self.config.role_claim.as_deref()).unwrap_or(Role::User),
            plan: most(claims, self.config.plan_claim.as_deref()).unwrap_or(Plan::Free),
            // A clock that is ahead must not outlast the tokens that come after it.
            issued_at: time(claims, "iat").map(|issued| at(issued.min(seconds))),
            expires_at: at(end),
        })
    }
}

type Parts<'a> = (Header, Map<String, Value>, &'a str, Vec<u8>);

fn taken_apart(text: &str) -> Option<Parts<'_>> {
    if text.len() > MAX_LEN {
        return None;
    }
    let (signed, signature) = text.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    Some((part(header)?, part(claims)?, signed, signature))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn issuer() -> Issuer {
        let config = IssuerConfig {
            url: "https://id.example".into(),
            audience: "netra".into(),
            jwks_url: None,
            subject_claim: "sub".into(),
            role_claim: Some("realm.roles".into()),
            plan_claim: Some("plan".into()),
            skew: Duration::from_secs(60),
        };
        assert_eq!(config.problem(), None);
        Issuer::new(Runtime::new(), config)
    }

    fn read(changes: Value) -> Result<Told, Refused> {
        let mut claims = json!({
            "iss": "https://id.example", "aud": ["other", "netra"], "sub": "u-1", "exp": NOW + 100,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let now = Timestamp::from_micros(NOW * 1_000_000);
        issuer().read(claims.as_object().unwrap(), now)
    }

    #[test]
    fn claims_become_a_user_a_role_and_a_plan() {
        let told = read(json!({})).unwrap();
        assert_eq!(
            (told.subject.as_str(), told.role, told.plan),
            ("u-1", Role::User, Plan::Free)
        );
        let roles = json!({"realm": {"roles": ["user", "developer", "offline"]}, "plan": "pro"});
        let told = read(roles).unwrap();
        assert_eq!((told.role, told.plan), (Role::Developer, Plan::Pro));
        // What is not known gives nothing.
        let told = read(json!({"realm": {"roles": "root"}, "plan": 7})).unwrap();
        assert_eq!((told.role, told.plan), (Role::User, Plan::Free));
        assert_eq!(read(json!({"aud": "netra"})).unwrap().subject, "u-1");
        // Said now at the latest, whatever the issuer's clock shows.
        for (iat, issued) in [(json!(NOW - 5), NOW - 5), (json!(NOW + 50), NOW)] {
            let told = read(json!({ "iat": iat })).unwrap();
            assert_eq!(told.issued_at, Some(at(issued)));
        }
        assert_eq!(read(json!({"iat": "now"})).unwrap().issued_at, None);
    }

    #[test]
    fn tokens_of_others_for_others_or_of_another_time_are_refused() {
        for bad in [
            json!({"iss": "https://id.example/"}),
            json!({"iss": null}),
            json!({"aud": "other"}),
            json!({"aud": null}),
            json!({"exp": null}),
            json!({"exp": "soon"}),
            json!({"sub": ""}),
            json!({"sub": "a\nb"}),
            json!({"sub": 7}),
            json!({"nbf": NOW + 61}),
        ] {
            assert_eq!(read(bad.clone()), Err(Refused::Invalid), "{bad}");
        }
        assert_eq!(read(json!({"exp": NOW - 60})), Err(Refused::Expired));
        // Clocks may be a minute apart.
        assert!(read(json!({"exp": NOW - 59, "nbf": NOW + 60})).is_ok());
        assert!(read(json!({"exp": f64::from(i32::MAX) + 0.5})).is_ok());
    }

    proptest! {
        #[test]
        fn garbage_is_taken_apart_without_a_panic(text in ".{0,300}") {
            taken_apart(&text);
        }
    }
}
