//! Tokens: whose they are, found out here where that is possible, else asked of the cloud.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use hub_core::api::{ApiRequest, Status, User, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::service_account::Claims;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::json;

use super::bound::Life;
use super::cache::hash;
use super::keys::KeySet;
use super::refusal::{unauthorized, unknown};
use crate::api::Api;

/// Why a token is not taken. The reason is for a log, and never says what the token is.
pub(super) enum Refused {
    /// It is bad.
    Bad(&'static str),
    /// Whether it is good cannot be told from here.
    Unknown(&'static str),
}

/// What is known of a token that was checked before.
#[derive(Clone)]
pub(super) struct Verified {
    claims: Arc<Claims>,
    generation: u64,
}

impl Api {
    /// Who shows this token.
    pub(super) async fn user_of_token(&self, token: &str) -> Result<User, Status> {
        let guard = &self.guard;
        if token.len() > guard.config.token_bytes_max {
            return Err(unauthorized());
        }
        if let Some(user) = guard.config.tokens.get(&hash(token)) {
            return Ok(user.clone());
        }
        let refused = match self.check_token(token, &[]).await {
            Ok(claims) => return Ok(claims.user()),
            Err(refused) => refused,
        };
        match refused {
            Refused::Bad(why) => {
                tracing::debug!(why, "a token was refused");
                Err(unauthorized())
            }
            Refused::Unknown(why) => {
                let reviewed = self.review_token(token).await;
                let user = reviewed.map_err(|_| unknown(why))?.ok_or_else(unauthorized)?;
                // The cloud's word may be two minutes old; that a pod ended is known here at once.
                if let Err(why) = self.pod_of_reviewed(&user) {
                    tracing::debug!(why, "a token that the cloud believed was refused");
                    return Err(unauthorized());
                }
                Ok(user)
            }
        }
    }

    /// What a service account's token says, if it is good now and made for this server, or for one of `audiences` where some are
    /// named.
    pub(super) async fn check_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Arc<Claims>, Refused> {
        let guard = &self.guard;
        let verified = match guard.verified.get(&hash(token)) {
            Some(known) if known.generation == guard.keys.current().generation => known,
            _ => self.verify(token).await?,
        };
        let claims = verified.claims;
        let keys = guard.keys.current();
        let named = guard.config.issuers.iter();
        let issuers: Vec<&String> = named.chain(&keys.issuer).collect();
        if !issuers.contains(&&claims.iss) {
            return Err(Refused::Unknown("who made the token is not known here"));
        }
        let meant = match (audiences, &guard.config.audiences[..]) {
            ([], []) => issuers,
            ([], known) => known.iter().collect(),
            (asked, _) => asked.iter().collect(),
        };
        if !claims.aud.iter().any(|audience| meant.contains(&audience)) {
            return Err(Refused::Bad("another audience"));
        }
        if !claims.agree() {
            return Err(Refused::Bad("account and subject differ"));
        }
        self.check_time(&claims)?;
        match self.life(&claims) {
            Life::Lives => Ok(claims),
            Life::Ended(why) => Err(Refused::Bad(why)),
            Life::Unknown(why) => Err(Refused::Unknown(why)),
        }
    }

    async fn verify(&self, token: &str) -> Result<Verified, Refused> {
        let guard = &self.guard;
        let header = decode_header(token).map_err(|_| Refused::Unknown("no token of a service account"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Refused::Bad("an algorithm that proves nothing"));
        }
        let kid = header.kid.as_deref();
        let mut keys = guard.keys.current();
        // A cluster may know of others who make tokens, such as a company's own.
        let claimed = claimed_issuer(token);
        let is_foreign = |keys: &KeySet| {
            let known = guard.config.issuers.iter().chain(&keys.issuer);
            keys.issuer.is_some() && !known.into_iter().any(|known| Some(known) == claimed.as_ref())
        };
        if is_foreign(&keys) {
            return Err(Refused::Unknown("who made the token is not known here"));
        }
        if keys.candidates(kid).next().is_none() {
            let fresh = guard
                .keys
                .refresh(&self.cloud, &guard.config, guard.unix_s())
                .await;
            keys = guard.keys.current();
            if keys.candidates(kid).next().is_none() {
                return Err(match fresh {
                    true => Refused::Bad("a key that the cluster does not publish"),
                    false => Refused::Unknown("the key of the token is not known here"),
                });
            }
        }
        let mut validation = Validation::new(header.alg);
        // Times, issuer and audience are looked at with every use; a signature is remembered.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = keys
            .candidates(kid)
            .find_map(|key| decode::<Claims>(token, key, &validation).ok())
            .ok_or(Refused::Bad("no valid signature of a service account's token"))?
            .claims;
        let verified = Verified {
            claims: Arc::new(claims),
            generation: keys.generation,
        };
        guard.verified.put(hash(token), verified.clone(), VERIFIED_LIFE);
        Ok(verified)
    }

    /// A clock that stands before the keys were fetched is wrong. Then only the end of a token says something: it must lie after
    /// that moment.
    fn check_time(&self, claims: &Claims) -> Result<(), Refused> {
        let guard = &self.guard;
        let published = guard
            .keys
            .current()
            .published
            .as_ref()
            .map(|published| published.as_of);
        let (now, floor) = (guard.unix_s(), published.unwrap_or_default());
        let skew = seconds(guard.config.clock_skew);
        let grace = match self.cloud.away() {
            Some(_) => seconds(guard.config.expiry_grace),
            None => 0,
        };
        if now.max(floor) >= claims.exp.saturating_add(skew).saturating_add(grace) {
            return Err(Refused::Bad("expired"));
        }
        if now >= floor && now.saturating_add(skew) < claims.nbf {
            return Err(Refused::Bad("not valid yet"));
        }
        Ok(())
    }

    /// What the cloud says of a token. None: it is nobody's. An error: the cloud says nothing.
    async fn review_token(&self, token: &str) -> Result<Option<User>, ()> {
        let guard = &self.guard;
        let hash = hash(token);
        if let Some(known) = guard.reviewed.get(&hash) {
            return Ok(known);
        }
        if self.authoritative() {
            // Here is everything that could be asked.
            return Ok(None);
        }
        let mut spec = json!({ "token": token });
        if !guard.config.audiences.is_empty() {
            spec["audiences"] = guard.config.audiences.clone().into();
        }
        let review = json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": spec });
        let resource = GroupVersionResource::new("authentication.k8s.io", "v1", "tokenreviews");
        let request = ApiRequest::resource(Verb::Create, resource, None, None)
            .with_body("application/json", review.to_string());
        let answer = self.cloud.call(request).await.map_err(drop)?;
        if !answer.is_success() {
            tracing::warn!(
                code = answer.code,
                "the cloud does not review tokens for this node"
            );
            return Err(());
        }
        let user = reviewed(&answer.body);
        guard.reviewed.put(hash, user.clone(), guard.config.review_ttl);
        Ok(user)
    }
}

fn reviewed(body: &Bytes) -> Option<User> {
    #[derive(Deserialize)]
    struct Review {
        status: Answer,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        authenticated: bool,
        #[serde(default)]
        user: Info,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Info {
        username: String,
        uid: String,
        groups: Vec<String>,
        extra: std::collections::BTreeMap<String, Vec<String>>,
    }
    let answer = serde_json::from_slice::<Review>(body).ok()?.status;
    let info = answer.user;
    (answer.authenticated && !info.username.is_empty()).then_some(User {
        name: info.username,
        uid: info.uid,
        groups: info.groups,
        extra: info.extra,
    })
}

/// Who a token says made it. Not verified: it only decides whom to ask.
fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claimed {
        iss: String,
    }
    let payload = BASE64.decode(token.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Claimed>(&payload).ok()?.iss)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Signatures of who holds a secret key that nobody else has. No shared secrets, and never "none".
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::EdDSA,
];
/// How long a signature is remembered; whether the token is still good is looked at each time.
const VERIFIED_LIFE: Duration = Duration::from_secs(3600);
