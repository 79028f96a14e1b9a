//! What only a clock of the test's own can show.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hub_core::api::{ApiRequest, ApiResponse, Target, Upstream, UpstreamError};
use hub_core::clock::Clock;
use hub_core::registry::Registry;
use hub_core::service_account::{About, Claims, Named};
use hub_core::store::{MemoryStore, StoreLimits};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::service_fn;

use super::keys::Published;
use super::token::Refused;
use super::{AuthConfig, Guard};
use crate::api::Api;
use crate::cloud::Cloud;
use crate::config::MetaConfig;

#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Clock for Hands {
    fn unix_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1000
    }
}

/// When the keys were fetched.
const FETCHED: i64 = 1_800_000_000;

fn jwks(key: &KeyPair) -> Value {
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": BASE64.encode(x), "y": BASE64.encode(y) }] })
}

fn world(now: i64) -> (Api, Hands, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let jwks = jwks(&key);
    let no_cloud = Upstream::new(service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable)));
    let config = MetaConfig::default();
    let cloud = Cloud::new(no_cloud, config.cloud_timeout, config.cloud_pause);
    let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
    let mut api = Api::new(Arc::new(store), cloud, config);
    let hands = Hands(Arc::new(AtomicI64::new(now)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let published = Published {
        jwks: jwks.to_string(),
        configuration: json!({ "issuer": "us" }).to_string(),
        as_of: FETCHED,
    };
    std::fs::write(&file, serde_json::to_vec(&published).unwrap()).unwrap();
    api.guard = Guard::new(AuthConfig {
        required: true,
        keys_file: Some(file),
        ..AuthConfig::default()
    });
    api.guard.clock = Box::new(hands.clone());
    (api, hands, key)
}

fn token(key: &KeyPair, nbf: i64, exp: i64) -> String {
    let claims = Claims {
        aud: vec!["us".into()],
        exp,
        nbf,
        iss: "us".into(),
        sub: "system:serviceaccount:shop:agent".into(),
        about: About {
            namespace: "shop".into(),
            serviceaccount: Named {
                name: "agent".into(),
                uid: "u".into(),
            },
            ..About::default()
        },
        ..Claims::default()
    };
    let header = Header {
        kid: Some("k".into()),
        ..Header::new(Algorithm::ES256)
    };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
}

/// Why it is refused; the account is not held here, which is what stops a token that is good otherwise.
async fn refused(api: &Api, token: &str) -> &'static str {
    match api.check_token(token, &[]).await {
        Ok(_) => "",
        Err(Refused::Bad(why) | Refused::Unknown(why)) => why,
    }
}

const GOOD: &str = "the account of the token is not held here";

#[tokio::test]
async fn t27_a_clock_that_fell_back_to_1970_counts_as_the_moment_when_the_keys_were_fetched() {
    let (api, hands, key) = world(0);
    let fresh = token(&key, FETCHED + 100, FETCHED + 200);
    let ended = token(&key, FETCHED - 200, FETCHED - 100);
    assert_eq!(
        refused(&api, &fresh).await,
        GOOD,
        "nobody can say that it is too early"
    );
    assert_eq!(refused(&api, &ended).await, "expired");
    hands.0.store(FETCHED + 50, Ordering::Relaxed);
    assert_eq!(refused(&api, &fresh).await, "not valid yet");
    hands.0.store(FETCHED + 95, Ordering::Relaxed);
    assert_eq!(refused(&api, &fresh).await, GOOD, "clocks differ a little");
    hands.0.store(FETCHED + 211, Ordering::Relaxed);
    assert_eq!(refused(&api, &fresh).await, "expired");
}

#[tokio::test(start_paused = true)]
async fn the_keys_are_fetched_with_the_first_connection_and_a_token_waits_for_them() {
    let key = KeyPair::generate().unwrap();
    let keys = jwks(&key).to_string();
    let upstream = Upstream::new(service_fn(move |request: ApiRequest| {
        let keys = keys.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match request.target {
                Target::Path(path) if &*path == "/openid/v1/jwks" => Ok(ApiResponse::json(200, keys)),
                Target::Path(_) => Ok(ApiResponse::json(200, json!({ "issuer": "us" }).to_string())),
                _ => panic!("nobody else is to be asked about a token"),
            }
        }
    }));
    let mut config = MetaConfig::default();
    config.auth.required = true;
    let mut cloud = Cloud::new(upstream, config.cloud_timeout, config.cloud_pause);
    let link = watch::Sender::new(false);
    cloud.with_link(link.subscribe());
    let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
    let mut api = Api::new(Arc::new(store), cloud, config);
    api.guard.clock = Box::new(Hands(Arc::new(AtomicI64::new(FETCHED))));
    let api = Arc::new(api);
    api.start_guard();

    // Nobody can be asked, which is no attempt, however often a token is shown.
    let good = token(&key, FETCHED - 10, FETCHED + 100);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(
            refused(&api, &good).await,
            "the key of the token is not known here"
        );
    }
    link.send_replace(true);
    let connected = Instant::now();
    tokio::task::yield_now().await;
    assert_eq!(
        refused(&api, &good).await,
        GOOD,
        "it waits for the keys on their way"
    );
    assert!(
        connected.elapsed() < Duration::from_secs(1),
        "{:?}",
        connected.elapsed()
    );
}
