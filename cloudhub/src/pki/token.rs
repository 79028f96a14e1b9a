//! Join tokens: `<lowercase hex SHA-256 of the CA certificate>.<JWT>`.
//!
//! The JWT is signed with HMAC, keyed with the bytes of the CA's private key as its PEM file holds them. KubeEdge does the same
//! (`pkg/security/token/token.go`), so that a Go cloudcore and ours which share a CA take each other's tokens.

use std::time::{Duration, SystemTime};

use hub_core::node::NodeId;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls_pki_types::PrivateKeyDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The secret that tokens are signed and checked with.
pub struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// A token is refused. The texts are those of a Go cloudcore where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not three parts of base64 with JSON in them.
    #[error("token is malformed: {0}")]
    Malformed(String),
    /// Its algorithm is not an HMAC.
    #[error("token is unverifiable: the signing method must be HMAC (HS256, HS384 or HS512)")]
    Algorithm,
    /// It was signed with another key: that of another CA, or it was altered.
    #[error("token signature is invalid: signature is invalid")]
    Signature,
    /// Its time is over.
    #[error("token has invalid claims: token is expired")]
    Expired,
    /// It is bound to another node.
    #[error("token has invalid claims: token is bound to another node")]
    OtherNode,
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// Seconds since 1970 after which it is refused.
    exp: u64,
    /// The only node that may use it; any, when absent. Ours; Go ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

impl TokenKey {
    /// The key that belongs to a CA.
    pub fn of_ca(key: &PrivateKeyDer<'_>) -> Self {
        Self::new(key.secret_der())
    }

    /// A key of its own, for a CA whose private key is elsewhere.
    pub fn new(secret: &[u8]) -> Self {
        install_provider();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }

    /// Makes the JWT part of a token that is good until `expires`, for `node` only or for any.
    pub fn issue(&self, expires: SystemTime, node: Option<&NodeId>) -> Result<String, TokenError> {
        let claims = Claims {
            exp: seconds(expires),
            node: node.map(|n| n.as_str().to_owned()),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| TokenError::Malformed(error.to_string()))
    }

    /// Checks a JWT that came with a request for `node`; `None` when the request names none.
    pub fn verify(&self, jwt: &str, node: Option<&NodeId>, now: SystemTime) -> Result<(), TokenError> {
        if jwt.split('.').count() != 3 {
            let text = "token contains an invalid number of segments";
            return Err(TokenError::Malformed(text.into()));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        // The clock is an argument here, so the library does not look at its own.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        // An algorithm that the library does not know, `none` first of all, does not decode.
        jsonwebtoken::decode_header(jwt).map_err(|_| TokenError::Algorithm)?;
        let claims = jsonwebtoken::decode::<Claims>(jwt, &self.decoding, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature => TokenError::Signature,
                ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
                _ => TokenError::Malformed(error.to_string()),
            })?
            .claims;
        if seconds(now) >= claims.exp {
            return Err(TokenError::Expired);
        }
        match claims.node {
            Some(bound) if node.is_none_or(|node| bound != node.as_str()) => Err(TokenError::OtherNode),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// The whole token: what an operator hands to an edge.
pub fn join_token(ca: &[u8], jwt: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(ca) {
        let _ = write!(text, "{byte:02x}");
    }
    text + "." + jwt
}

/// `tokenRefreshDuration` hours, twice, is how long a token is good.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(2 * 12 * 3600);

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A build that names both providers (documentation, lints) has no default one; aws-lc-rs wins, as in the transports.
pub(crate) fn install_provider() {
    #[cfg(feature = "aws-lc-rs")]
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let _ = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn check(token: &str, now: u64) -> Result<(), TokenError> {
        TokenKey::new(b"secret").verify(token, NodeId::new("a").ok().as_ref(), at(now))
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let jwt = TokenKey::new(b"secret").issue(at(100), None).unwrap();
        assert_eq!(check(&jwt, 99), Ok(()));
        assert_eq!(check(&jwt, 100), Err(TokenError::Expired));
        let other = TokenKey::new(b"other").issue(at(100), None).unwrap();
        assert_eq!(check(&other, 99), Err(TokenError::Signature));
    }

    #[test]
    fn a_token_may_be_bound_to_one_node() {
        let key = TokenKey::new(b"secret");
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        assert_eq!(check(&key.issue(at(100), Some(&a)).unwrap(), 1), Ok(()));
        let foreign = key.issue(at(100), Some(&b)).unwrap();
        assert_eq!(check(&foreign, 1), Err(TokenError::OtherNode));
    }

    #[test]
    fn anything_else_is_refused_without_a_panic() {
        for text in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            "eyJhbGciOiJIUzI1NiJ9..",
            "\u{fffd}.x.y",
        ] {
            assert!(check(text, 1).is_err(), "{text}");
        }
    }

    #[test]
    fn the_text_begins_with_the_hash_of_the_ca() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(join_token(b"abc", "x.y.z"), format!("{hash}.x.y.z"));
    }
}
