//! The public keys of service account tokens, as the cluster publishes them (Kubernetes, "ServiceAccount issuer discovery"): fetched
//! while the cloud is there, kept on the disk for when it is not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hub_core::api::{ApiRequest, ApiResponse, Target, UpstreamError, Verb};
use hub_core::credentials::write_private;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::config::AuthConfig;
use crate::cloud::Cloud;

/// What the cluster published.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Published {
    /// `/openid/v1/jwks`.
    pub(super) jwks: String,
    /// `/.well-known/openid-configuration`; empty where the cluster does not say.
    pub(super) configuration: String,
    /// When it was fetched, in seconds since 1970: earlier than this it cannot be.
    pub(super) as_of: i64,
}

/// Keys of one moment.
pub(super) struct KeySet {
    keys: Vec<(Option<String>, DecodingKey)>,
    /// Who the cluster says makes tokens.
    pub(super) issuer: Option<String>,
    /// None until they were fetched once.
    pub(super) published: Option<Published>,
    /// Differs from that of every other set.
    pub(super) generation: u64,
}

/// The keys that are known, and how they come to be known.
pub(super) struct Keys {
    current: ArcSwap<KeySet>,
    own: Vec<DecodingKey>,
    /// When the cluster was asked last. Held while it is asked: who comes meanwhile waits for that answer.
    tried: Mutex<Option<Instant>>,
    pause: Duration,
}

impl Keys {
    /// What is on the disk. Files that cannot be read are complained of and left out.
    pub(super) fn open(config: &AuthConfig) -> Self {
        install_provider();
        let mut own = Vec::new();
        for path in &config.key_files {
            match key_file(path) {
                Ok(keys) => own.extend(keys),
                Err(error) => {
                    tracing::error!(file = %path.display(), error, "no public keys of tokens could be read");
                }
            }
        }
        let kept = config.keys_file.as_deref().and_then(|path| {
            let bytes = std::fs::read(path).ok()?;
            let kept = serde_json::from_slice(&bytes);
            kept.inspect_err(
                |error| tracing::warn!(file = %path.display(), %error, "the kept keys of tokens are damaged"),
            )
            .ok()
        });
        let keys = Self {
            current: ArcSwap::from_pointee(KeySet::new(None, &own, 0)),
            own,
            tried: Mutex::default(),
            pause: config.keys_pause,
        };
        if let Some(published) = kept {
            keys.take(published);
        }
        keys
    }

    pub(super) fn current(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// Fetches the keys, unless that was tried a moment ago: then what is known must do. Says whether they are as new as that.
    pub(super) async fn refresh(&self, cloud: &Cloud, config: &AuthConfig, now: i64) -> bool {
        let mut tried = self.tried.lock().await;
        if tried.is_some_and(|tried| tried.elapsed() < self.pause) {
            return cloud.away().is_none() && self.current.load().published.is_some();
        }
        let jwks = cloud.call(request("/openid/v1/jwks")).await;
        // What was not sent protects nobody by waiting: the cloud is asked as soon as it is there.
        if !matches!(jwks, Err(UpstreamError::Unreachable)) {
            *tried = Some(Instant::now());
        }
        let Some(jwks) = text(jwks) else {
            return false;
        };
        let configuration = cloud.call(request("/.well-known/openid-configuration")).await;
        let published = Published {
            jwks,
            configuration: text(configuration).unwrap_or_default(),
            as_of: now,
        };
        if let Some(path) = config.keys_file.clone() {
            let bytes = serde_json::to_vec(&published).unwrap_or_default();
            let written = tokio::task::spawn_blocking(move || write_private(&path, &bytes)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "the keys of tokens could not be kept");
            }
        }
        self.take(published);
        true
    }

    /// A published document, for those on the node who check tokens themselves.
    pub(super) fn document(&self, path: &str) -> Option<ApiResponse> {
        let current = self.current.load();
        let published = current.published.as_ref()?;
        let (text, content_type) = match path {
            "/openid/v1/jwks" => (&published.jwks, "application/jwk-set+json"),
            "/.well-known/openid-configuration" => (&published.configuration, "application/json"),
            _ => return None,
        };
        (!text.is_empty()).then(|| ApiResponse {
            content_type: content_type.into(),
            ..ApiResponse::json(200, Bytes::from(text.clone()))
        })
    }

    fn take(&self, published: Published) {
        self.current.rcu(|current| {
            let same = current
                .published
                .as_ref()
                .is_some_and(|known| known.jwks == published.jwks);
            let generation = current.generation + u64::from(!same);
            KeySet::new(Some(published.clone()), &self.own, generation)
        });
    }
}

impl KeySet {
    fn new(published: Option<Published>, own: &[DecodingKey], generation: u64) -> Self {
        let set = published
            .as_ref()
            .and_then(|published| serde_json::from_str::<Jwks>(&published.jwks).ok());
        let keys = set.into_iter().flat_map(|set| set.keys).filter_map(key);
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
        }
        let configuration = published.as_ref().map(|published| &*published.configuration);
        let issuer = configuration.and_then(|text| serde_json::from_str::<Configuration>(text).ok());
        Self {
            keys: keys.chain(own.iter().map(|key| (None, key.clone()))).collect(),
            issuer: issuer.map(|configuration| configuration.issuer),
            published,
            generation,
        }
    }

    /// The keys that may have signed a token whose header names this key, if it names one.
    pub(super) fn candidates<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a DecodingKey> {
        let fits = move |known: &Option<String>| match (known.as_deref(), kid) {
            (Some(known), Some(kid)) => known == kid,
            _ => true,
        };
        self.keys
            .iter()
            .filter(move |(known, _)| fits(known))
            .map(|(_, key)| key)
    }
}

/// Each key by itself, so that one of a kind that nobody here knows does not cost the others.
#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

fn key(value: serde_json::Value) -> Option<(Option<String>, DecodingKey)> {
    let set = serde_json::json!({ "keys": [value] });
    let jwk = serde_json::from_value::<JwkSet>(set).ok()?.keys.pop()?;
    // A shared secret is no public key, whoever publishes it.
    if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((jwk.common.key_id, key))
}

fn key_file(path: &Path) -> Result<Vec<DecodingKey>, String> {
    let keys = SubjectPublicKeyInfoDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    keys.map(|key| public_key(&key.map_err(|error| error.to_string())?))
        .collect()
}

fn public_key(der: &[u8]) -> Result<DecodingKey, String> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|error| error.to_string())?;
    match info.parsed().map_err(|error| error.to_string())? {
        PublicKey::RSA(key) => {
            let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
            Ok(DecodingKey::from_rsa_raw_components(modulus, key.exponent))
        }
        PublicKey::EC(point) => Ok(DecodingKey::from_ec_der(point.data())),
        _ => Err("neither RSA nor ECDSA".into()),
    }
}

fn request(path: &str) -> ApiRequest {
    ApiRequest::new(Verb::Get, Target::Path(path.into()))
}

fn text(answer: Result<ApiResponse, UpstreamError>) -> Option<String> {
    match answer {
        Ok(response) if response.is_success() => String::from_utf8(response.body.to_vec()).ok(),
        Ok(response) => {
            tracing::debug!(
                code = response.code,
                "the cloud does not publish the keys of tokens"
            );
            None
        }
        Err(error) => {
            tracing::debug!(%error, "the keys of tokens could not be fetched");
            None
        }
    }
}

/// A build that names both providers (documentation, lints) has no default one; aws-lc-rs wins, as in the transports.
fn install_provider() {
    #[cfg(feature = "aws-lc-rs")]
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let _ = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
}
