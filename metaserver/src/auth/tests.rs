//! What only a clock of the test's own can show.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hub_core::api::{ApiRequest, Upstream, UpstreamError};
use hub_core::clock::Clock;
use hub_core::registry::Registry;
use hub_core::service_account::{About, Claims, Named};
use hub_core::store::{MemoryStore, StoreLimits};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::json;
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

fn world(now: i64) -> (Api, Hands, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    let jwks = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": BASE64.encode(x), "y": BASE64.encode(y) }] });
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
