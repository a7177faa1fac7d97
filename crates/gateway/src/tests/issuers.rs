//! Tokens of an issuer, over a local one that publishes its keys as others do.

use std::time::Duration;

use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use netra_context::runtime::TaskKind;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::IssuerConfig;

/// A private key of the issuer.
enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    fn p256() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap())
    }

    fn ed25519() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    fn public(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
                       "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            }
        }
    }

    fn token(&self, kid: &str, claims: &Value) -> String {
        let alg = match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        };
        let header = json!({"alg": alg, "typ": "JWT", "kid": kid});
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(&header), text(claims));
        let signature = match self {
            Self::P256(pair) => {
                let made = pair.sign(&SystemRandom::new(), signed.as_bytes());
                made.unwrap().as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What the issuer publishes, and how often it was asked.
#[derive(Default)]
struct Desk {
    keys: Vec<Value>,
    is_down: bool,
    asked: u32,
}

struct Local {
    url: String,
    desk: Arc<Mutex<Desk>>,
}

impl Local {
    async fn start(runtime: &Runtime) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let desk = Arc::new(Mutex::new(Desk::default()));
        let (published, keys) = (desk.clone(), format!("{url}/keys"));
        let described = move || {
            let description = json!({"jwks_uri": keys});
            async move { axum::Json(description) }
        };
        let keys = move || {
            let mut desk = published.lock();
            desk.asked += 1;
            let answer = match desk.is_down {
                true => Err(StatusCode::BAD_GATEWAY),
                false => Ok(axum::Json(json!({"keys": desk.keys}))),
            };
            async move { answer }
        };
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(described))
            .route("/keys", get(keys));
        runtime.spawn(TaskKind::Listener, async move {
            axum::serve(listener, app).await.ok();
        });
        Self { url, desk }
    }

    fn config(&self) -> Config {
        Config {
            issuer: Some(IssuerConfig {
                url: self.url.clone(),
                audience: "netra".into(),
                jwks_url: None,
                subject_claim: "sub".into(),
                role_claim: Some("role".into()),
                plan_claim: Some("plan".into()),
                skew: Duration::from_secs(60),
            }),
            ..Config::default()
        }
    }

    fn claims(&self, edge: &Edge, subject: &str) -> Value {
        let now = edge.runtime.now().as_micros() / 1_000_000;
        json!({"iss": self.url, "aud": "netra", "sub": subject, "exp": now + 300})
    }

    fn publish(&self, keys: Vec<Value>) {
        self.desk.lock().keys = keys;
    }
}

async fn world() -> (Local, Edge, Pair) {
    let local = Local::start(&Runtime::new()).await;
    let edge = Edge::new(local.config());
    let pair = Pair::p256();
    local.publish(vec![pair.public("first")]);
    (local, edge, pair)
}

#[tokio::test]
async fn a_token_of_the_issuer_makes_its_user_with_role_and_plan_and_they_follow_it() {
    let (local, edge, pair) = world().await;
    let mut claims = local.claims(&edge, "anna@id");
    claims["role"] = json!(["user", "developer"]);
    claims["plan"] = json!("pro");
    let me = edge
        .get("/api/auth/me", &pair.token("first", &claims))
        .await;
    assert_eq!(me.status, 200, "{}", me.body);
    assert_eq!(
        (&me.body["role"], &me.body["plan"]),
        (&json!("developer"), &json!("pro"))
    );
    assert_eq!(
        me.body["identity"],
        json!({"issuer": local.url, "subject": "anna@id"})
    );
    claims["role"] = json!("user");
    claims["nonce"] = json!(2);
    let next = edge
        .get("/api/auth/me", &pair.token("first", &claims))
        .await;
    assert_eq!(
        (&next.body["id"], &next.body["role"]),
        (&me.body["id"], &json!("user"))
    );
    let other = local.claims(&edge, "bert@id");
    let other = edge.get("/api/auth/me", &pair.token("first", &other)).await;
    assert_ne!(other.body["id"], me.body["id"]);
    // The server's own tokens go on to be good.
    let (anna, token) = edge.user("anna", Role::User).await;
    assert_eq!(
        edge.get("/api/auth/me", &token).await.body["id"],
        json!(anna)
    );
}

#[tokio::test]
async fn an_older_token_does_not_bring_an_older_role_back() {
    let (local, edge, pair) = world().await;
    let mut claims = local.claims(&edge, "anna@id");
    let now = claims["exp"].as_i64().unwrap() - 300;
    let mut token = |role: &str, iat: i64| {
        claims["role"] = json!(role);
        claims["iat"] = json!(iat);
        pair.token("first", &claims)
    };
    let (older, newer) = (token("developer", now - 60), token("user", now));
    for (token, role) in [(&older, "developer"), (&newer, "user"), (&older, "user")] {
        let me = edge.get("/api/auth/me", token).await;
        assert_eq!(me.body["role"], json!(role), "{}", me.body);
    }
}

#[tokio::test]
async fn forged_foreign_and_old_tokens_are_refused() {
    let (local, edge, pair) = world().await;
    let good = local.claims(&edge, "anna");
    let seconds = edge.runtime.now().as_micros() / 1_000_000;
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        pair.token("first", &claims)
    };
    let whole = pair.token("first", &good);
    let (signed, signature) = whole.rsplit_once('.').unwrap();
    let (_, body) = signed.split_once('.').unwrap();
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let hmac = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"first"}"#);
    for bad in [
        with("aud", json!("another")),
        with("iss", json!("https://other.example")),
        with("sub", json!("")),
        with("nbf", json!(seconds + 600)),
        Pair::p256().token("first", &good),
        pair.token("unknown", &good),
        format!("{signed}."),
        format!("{unsigned}.{body}."),
        format!("{hmac}.{body}.{signature}"),
        "a.b.c".into(),
    ] {
        let refused = edge.get("/api/auth/me", &bad).await;
        assert_eq!(refused.refused(), (401, "unauthenticated"), "{bad}");
    }
    let old = edge
        .get("/api/auth/me", &with("exp", json!(seconds - 61)))
        .await;
    assert_eq!(old.refused(), (401, "token_expired"));
    // Nobody acts for others by it.
    let asked = request(Method::GET, "/api/auth/me", Some(&whole), None);
    let refused = edge.send(super::with(asked, "x-netra-user", "first")).await;
    assert_eq!(refused.refused(), (403, "forbidden"));
    assert_eq!(edge.get("/api/auth/me", &whole).await.status, 200);
}

#[tokio::test]
async fn keys_rotate_and_are_not_read_for_every_token() {
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let local = Local::start(&Runtime::new()).await;
    let edge = Edge::with_clock(local.config(), clock.clone());
    let (old, new) = (Pair::p256(), Pair::ed25519());
    local.publish(vec![old.public("old")]);
    let of = |pair: &Pair, kid: &str, name: &str| pair.token(kid, &local.claims(&edge, name));
    for name in ["anna", "bert", "carl"] {
        let me = edge.get("/api/auth/me", &of(&old, "old", name)).await;
        assert_eq!(me.status, 200);
    }
    assert_eq!(local.desk.lock().asked, 1);
    local.publish(vec![new.public("new")]);
    // Whoever invents names of keys does not make the server ask again and again.
    for name in ["anna", "bert"] {
        let refused = edge.get("/api/auth/me", &of(&new, "new", name)).await;
        assert_eq!(refused.refused(), (401, "unauthenticated"));
    }
    assert_eq!(local.desk.lock().asked, 1);
    let pass = |seconds: i64| clock.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    pass(6);
    assert_eq!(
        edge.get("/api/auth/me", &of(&new, "new", "dora"))
            .await
            .status,
        200
    );
    assert_eq!(local.desk.lock().asked, 2);
    let gone = edge.get("/api/auth/me", &of(&old, "old", "emil")).await;
    assert_eq!(gone.refused(), (401, "unauthenticated"));
    // Where the issuer is away, the keys of before serve for a day, and then nobody is let in.
    local.desk.lock().is_down = true;
    pass(3_600);
    assert_eq!(
        edge.get("/api/auth/me", &of(&new, "new", "fritz"))
            .await
            .status,
        200
    );
    pass(24 * 3_600);
    let away = edge.get("/api/auth/me", &of(&new, "new", "gerd")).await;
    assert_eq!(away.refused(), (503, "store_unavailable"));
    assert!(away.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_disabled_user_of_the_issuer_is_refused_at_once() {
    let (local, edge, pair) = world().await;
    let (_, admin) = edge.user("root", Role::Admin).await;
    let token = pair.token("first", &local.claims(&edge, "anna"));
    let me = edge.get("/api/auth/me", &token).await;
    let path = format!("/api/admin/users/{}", me.body["id"].as_str().unwrap());
    let disable = Some(json!({"disabled": true}));
    let disabled = edge
        .send(request(Method::PATCH, &path, Some(&admin), disable))
        .await;
    assert_eq!(disabled.status, 200);
    assert_eq!(
        edge.get("/api/auth/me", &token).await.refused(),
        (401, "unauthenticated")
    );
}
