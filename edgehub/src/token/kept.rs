//! A token as it stands in the node's store: a JSON array, in a collection that no client sees.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::store::{Change, NODE_ONLY};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use xxhash_rust::xxh3::xxh3_64;

use super::ask::{Ask, Bound, Spec, Wanted};
use super::{KeptToken, TokenConfig};

/// A token, and what it was asked with.
pub(super) struct Kept {
    pub(super) ask: Ask,
    /// The TokenRequest with its status.
    pub(super) answer: Value,
    /// What it is bound to, as the cloud says; nothing is an empty kind.
    pub(super) bound: Bound,
    /// The uid of its account, where the token is one that says so.
    pub(super) account_uid: Option<String>,
    /// Until when it is good, by this node's clock.
    pub(super) ends_ms: i64,
    /// When it was asked for, by this node's clock.
    asked_ms: i64,
    /// Which share of the jitter is its own, of 256.
    jitter: u8,
}

/// Form, when it was asked for, namespace, account, request, answer.
#[derive(Serialize, Deserialize)]
struct Record<T>(u8, i64, T, T, Value, Value);

/// The collection of tokens.
pub(super) fn tokens() -> &'static GroupVersionResource {
    static TOKENS: LazyLock<GroupVersionResource> =
        LazyLock::new(|| GroupVersionResource::new(NODE_ONLY, "v1", "serviceaccounttokens"));
    &TOKENS
}

/// The change that forgets a token.
pub(super) fn forget(key: ObjectKey) -> Change {
    Change::Delete {
        key,
        uid: None,
        version: None,
    }
}

impl Kept {
    /// None where the answer does not say how long the token is good.
    pub(super) fn new(ask: Ask, answer: Value, asked_ms: i64) -> Option<Self> {
        let Spec {
            expiration_seconds,
            bound_object_ref,
            ..
        } = Wanted::deserialize(&answer).ok()?.spec;
        let ends = answer["status"]["expirationTimestamp"].as_str()?;
        let ends = OffsetDateTime::parse(ends, &Rfc3339).ok()?;
        let ends_ms = i64::try_from(ends.unix_timestamp_nanos() / 1_000_000).ok()?;
        // The earlier of the two: this node's clock may be wrong, and may be put right later.
        let lived_ms =
            expiration_seconds.map(|seconds| asked_ms.saturating_add(seconds.saturating_mul(1000)));
        let token = answer["status"]["token"].as_str()?;
        Some(Self {
            bound: bound_object_ref.unwrap_or_default(),
            account_uid: account_uid(token),
            ends_ms: ends_ms.min(lived_ms.unwrap_or(i64::MAX)),
            jitter: xxh3_64(token.as_bytes()).to_le_bytes()[0],
            ask,
            asked_ms,
            answer,
        })
    }

    /// Whether it has not ended. A clock that went back behind the time when it was asked for says nothing about it.
    pub(super) fn is_good(&self, now_ms: i64) -> bool {
        now_ms < self.ends_ms && now_ms >= self.asked_ms.saturating_sub(CLOCK_STEP_MS)
    }

    /// Whether it should be renewed.
    pub(super) fn is_due(&self, config: &TokenConfig, now_ms: i64) -> bool {
        now_ms >= self.due_ms(config)
    }

    fn due_ms(&self, config: &TokenConfig) -> i64 {
        let life = self.ends_ms.saturating_sub(self.asked_ms).max(0);
        let share = life / 100 * i64::from(config.renew_percent.min(100));
        let jitter = ms(config.jitter_max).min(life / 20) / 256 * i64::from(self.jitter);
        self.asked_ms
            .saturating_add(share.min(ms(config.age_max)))
            .saturating_sub(jitter)
    }

    pub(super) fn put(&self) -> Change {
        let record = Record(
            FORM,
            self.asked_ms,
            &self.ask.namespace,
            &self.ask.account,
            self.ask.request.clone(),
            self.answer.clone(),
        );
        Change::Put(Object {
            key: self.ask.key(),
            uid: "".into(),
            version: "".into(),
            // Numbers, texts and JSON cannot fail.
            body: serde_json::to_vec(&record).unwrap_or_default().into(),
        })
    }

    /// Reads what [`put`](Self::put) kept. None where it is none that this program can read.
    pub(super) fn read(object: &Object) -> Option<Self> {
        let Record(form, asked_ms, namespace, account, request, answer) =
            serde_json::from_slice::<Record<String>>(&object.body).ok()?;
        let ask = Ask {
            namespace,
            account,
            request,
        };
        (form == FORM).then(|| Self::new(ask, answer, asked_ms))?
    }

    pub(super) fn shown(&self, config: &TokenConfig) -> KeptToken {
        let spec = Wanted::deserialize(&self.ask.request).unwrap_or_default().spec;
        let Bound { kind, name, .. } = &self.bound;
        KeptToken {
            namespace: self.ask.namespace.clone(),
            account: self.ask.account.clone(),
            audiences: spec.audiences.unwrap_or_default(),
            bound_to: format!("{kind} {name}").trim().to_owned(),
            ends_ms: self.ends_ms,
            due_ms: self.due_ms(config),
        }
    }
}

/// Tells no token.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("account", &format_args!("{}", self.ask))
            .field("ends_ms", &self.ends_ms)
            .finish_non_exhaustive()
    }
}

/// The account's uid that a token says. Nothing is believed because of it: the cloud gave the token to this node.
fn account_uid(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let claims = BASE64.decode(payload).ok()?;
    let claims: hub_core::service_account::Claims = serde_json::from_slice(&claims).ok()?;
    Some(claims.about.serviceaccount.uid).filter(|uid| !uid.is_empty())
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The form of the records of this program.
const FORM: u8 = 1;
/// By how much a clock is put back while it is being kept right.
const CLOCK_STEP_MS: i64 = 60_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY_S: i64 = 24 * 3600;

    /// Asked for at 2026-11-22T00:00:00Z.
    const ASKED_MS: i64 = 1_795_305_600_000;

    fn kept(seconds: i64, ends: &str) -> Kept {
        let answer = json!({ "spec": { "expirationSeconds": seconds }, "status": { "token": "a.b.c", "expirationTimestamp": ends } });
        Kept::new(Ask::new("shop", "web", &json!({})), answer, ASKED_MS).unwrap()
    }

    /// Seconds after it was asked for at which it is due, and at which it has ended.
    fn times(kept: &Kept, jitter_max: Duration) -> (i64, i64) {
        let config = TokenConfig {
            jitter_max,
            ..TokenConfig::default()
        };
        let first = |holds: &dyn Fn(i64) -> bool| {
            let (mut no, mut yes) = (-1, 400 * DAY_S * 1000);
            while yes - no > 1 {
                let middle = i64::midpoint(no, yes);
                if holds(ASKED_MS + middle) {
                    yes = middle;
                } else {
                    no = middle;
                }
            }
            yes / 1000
        };
        (
            first(&|now| kept.is_due(&config, now)),
            first(&|now| !kept.is_good(now)),
        )
    }

    #[test]
    fn a_token_is_due_after_four_fifths_of_its_life_or_a_day() {
        let hour = kept(3600, "2026-11-22T01:00:00Z");
        assert_eq!(times(&hour, Duration::ZERO), (2880, 3600));
        let month = kept(30 * DAY_S, "2026-12-22T00:00:00Z");
        assert_eq!(times(&month, Duration::ZERO), (DAY_S, 30 * DAY_S));
    }

    #[test]
    fn it_is_due_a_little_earlier_each_by_its_own_share() {
        let mut hour = kept(3600, "2026-11-22T01:00:00Z");
        hour.jitter = 255;
        let (due, ends) = times(&hour, Duration::from_secs(10));
        assert!((2870..2880).contains(&due), "{due}");
        assert_eq!(ends, 3600);
        let mut short = kept(20, "2026-11-22T00:00:20Z");
        short.jitter = 255;
        let (due, _) = times(&short, Duration::from_secs(10));
        assert!((15..=16).contains(&due), "a twentieth of its life at most: {due}");
    }

    #[test]
    fn it_ends_at_the_earlier_of_the_two_times_that_are_known() {
        let clock_behind = kept(600, "2026-11-22T07:00:00Z");
        assert_eq!(times(&clock_behind, Duration::ZERO).1, 600);
        let sooner = kept(600, "2026-11-22T00:01:00Z");
        assert_eq!(times(&sooner, Duration::ZERO).1, 60);
    }

    #[test]
    fn a_clock_that_went_far_back_tells_of_no_token_that_it_is_good() {
        let hour = kept(3600, "2026-11-22T01:00:00Z");
        assert!(hour.is_good(ASKED_MS - 1000), "a clock that is being kept right");
        assert!(!hour.is_good(ASKED_MS - 3_600_000));
        assert!(!hour.is_good(0));
    }

    #[test]
    fn what_is_kept_is_read_again_and_shows_its_token_to_nobody() {
        let claims = json!({ "exp": 1, "iss": "x", "sub": "s", "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "web", "uid": "sa-1" } } });
        let token = format!("h.{}.s", BASE64.encode(claims.to_string()));
        let answer = json!({ "spec": { "expirationSeconds": 600, "boundObjectRef": { "kind": "Pod", "name": "p", "uid": "u" } },
            "status": { "token": token, "expirationTimestamp": "2026-11-22T00:10:00Z" } });
        let kept = Kept::new(Ask::new("shop", "web", &json!({})), answer, ASKED_MS).unwrap();
        let Change::Put(object) = kept.put() else { panic!() };
        let read = Kept::read(&object).unwrap();
        assert_eq!(
            (&read.answer, read.ends_ms, read.asked_ms),
            (&kept.answer, kept.ends_ms, ASKED_MS)
        );
        assert_eq!(
            (read.account_uid.as_deref(), read.bound.uid.as_str()),
            (Some("sa-1"), "u")
        );
        let config = TokenConfig::default();
        for shown in [
            format!("{read:?} {object:?} {}", object.key),
            format!("{:?}", read.shown(&config)),
        ] {
            assert!(!shown.contains(&token) && shown.contains("web"), "{shown}");
        }
        let mut other = object.clone();
        other.body = "[2,0,\"a\",\"b\",{},{}]".into();
        assert!(Kept::read(&other).is_none());
        other.body = "{}".into();
        assert!(Kept::read(&other).is_none());
    }

    #[test]
    fn an_answer_that_does_not_say_until_when_is_not_kept() {
        let ask = || Ask::new("shop", "web", &json!({}));
        for status in [
            json!({ "token": "a.b.c" }),
            json!({ "token": "a.b.c", "expirationTimestamp": "soon" }),
            json!({ "expirationTimestamp": "2026-11-22T00:10:00Z" }),
        ] {
            assert!(Kept::new(ask(), json!({ "status": status }), ASKED_MS).is_none());
        }
    }
}
