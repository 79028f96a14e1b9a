//! The key of service account tokens: signs them, checks them, and publishes the half that others check them with.
//!
//! One ECDSA P-256 key, made with the cluster and kept in its file. Tokens are those of a kube-apiserver
//! (`pkg/serviceaccount/claims.go`), signed with ES256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hub_core::api::ApiResponse;
use hub_core::service_account::Claims;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::pki::install_provider;

/// Who vouches for tokens.
pub(in crate::cluster::embedded) struct Issuer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    key_id: String,
    /// The public point.
    x: String,
    y: String,
}

/// The bytes that are kept are no key, or none could be made.
#[derive(Debug, thiserror::Error)]
#[error("the key of service account tokens: {0}")]
pub(in crate::cluster::embedded) struct KeyError(#[from] rcgen::Error);

/// A new key, PKCS#8.
pub(in crate::cluster::embedded) fn new_key() -> Result<Vec<u8>, KeyError> {
    Ok(KeyPair::generate()?.serialize_der())
}

impl Issuer {
    pub(in crate::cluster::embedded) fn new(key: &[u8]) -> Result<Self, KeyError> {
        install_provider();
        let pair = KeyPair::try_from(key)?;
        // An uncompressed point: 4, x, y.
        let point = pair.public_key_raw();
        let (x, y) = match point {
            [4, coordinates @ ..] if coordinates.len() == 64 => coordinates.split_at(32),
            _ => return Err(rcgen::Error::UnsupportedSignatureAlgorithm.into()),
        };
        Ok(Self {
            encoding: EncodingKey::from_ec_der(key),
            decoding: DecodingKey::from_ec_der(point),
            key_id: BASE64.encode(Sha256::digest(point)),
            x: BASE64.encode(x),
            y: BASE64.encode(y),
        })
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding)
    }

    /// What a token says that this issuer signed and whose time is now (seconds since 1970). The reason of a refusal is for a log.
    pub(super) fn verify(&self, token: &str, now: i64) -> Result<Claims, String> {
        let mut validation = Validation::new(Algorithm::ES256);
        // The clock is an argument here, so the library does not look at its own; audiences are the asker's.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation);
        let claims = decoded.map_err(|_| "invalid bearer token".to_owned())?.claims;
        if claims.iss != ISSUER {
            return Err("invalid bearer token".into());
        }
        if now >= claims.exp {
            return Err("invalid bearer token, service account token has expired".into());
        }
        if now < claims.nbf {
            return Err("invalid bearer token, service account token is not valid yet".into());
        }
        Ok(claims)
    }

    /// The documents that others check tokens with (Kubernetes, "ServiceAccount token issuer discovery").
    pub(in crate::cluster::embedded) fn document(&self, path: &str) -> Option<ApiResponse> {
        let (content_type, document) = match path.trim_end_matches('/') {
            "/openid/v1/jwks" => (
                "application/jwk-set+json",
                json!({ "keys": [{
                    "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": self.x, "y": self.y,
                }] }),
            ),
            "/.well-known/openid-configuration" => (
                "application/json",
                json!({
                    "issuer": ISSUER,
                    "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                }),
            ),
            _ => return None,
        };
        Some(ApiResponse {
            content_type: content_type.into(),
            ..ApiResponse::json(200, document.to_string())
        })
    }
}

/// Who the tokens say made them, and the audience of those that name none. It is what KubeEdge's metaServer expects by default
/// (`modules.metaManager.metaServer.serviceAccountIssuers`).
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
