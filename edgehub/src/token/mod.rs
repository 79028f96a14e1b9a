//! Tokens of service accounts, kept as a kubelet keeps them (Kubernetes `pkg/kubelet/token`), and over outages and restarts.
//!
//! ```text
//!   request_token ──► kept, and not yet due ───────────────────────────► the kept one
//!        │            none, or due ──► cloud ── a token ──► store ─────► the new one
//!        │                               ├─ refuses ──► forgotten ─────► denied
//!        │                               └─ away, busy ── still good ──► the kept one
//!   every minute, on a new link: due tokens of the pods that are here are renewed though nobody asks
//! ```
//!
//! A token is known by all that it was asked with: namespace and account, audiences, how long it is to live, the object that it is bound
//! to with its uid, and the uid of the account where the request names one. It is kept in the node's store, where Secrets are too, and
//! **never given** once it has ended, once the pod that it is bound to is not here any more in that incarnation, once its account is
//! known to be gone or another one, or once the cloud refused to renew it.

mod ask;
mod kept;
mod renew;

use std::time::Duration;

use hub_core::message::{Content, Operation, Resource};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::store::{Change, Coverage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use renew::run;

use crate::handle::{EdgeHandle, Shared};
use crate::kubelet::AskError;
use crate::object_response;
use ask::Ask;
use kept::{Kept, tokens};

/// How tokens of service accounts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// Tokens that are kept. One more takes the place of the one that ends first.
    pub kept_max: usize,
    /// A token is renewed after this share of its life (Kubernetes: 80).
    pub renew_percent: u32,
    /// A token is renewed when it is this old, however long it lives (Kubernetes: 24 h).
    pub age_max: Duration,
    /// Renewals are earlier by up to this, and by a twentieth of the token's life at most, so that they do not come all at once.
    pub jitter_max: Duration,
    /// How often the kept ones are looked through: what is due is renewed, what has ended is forgotten.
    pub look_every: Duration,
    /// Renewals under way at once that nobody waits for.
    pub renewals_max: usize,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            kept_max: 1024,
            renew_percent: 80,
            age_max: Duration::from_secs(24 * 3600),
            jitter_max: Duration::from_secs(10),
            look_every: Duration::from_secs(60),
            renewals_max: 4,
        }
    }
}

/// A token that is kept, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptToken {
    /// Of the account.
    pub namespace: String,
    /// Whose it is.
    pub account: String,
    /// Who is to take it; empty for the API server.
    pub audiences: Vec<String>,
    /// What it is bound to, such as `Pod web`; empty for nothing.
    pub bound_to: String,
    /// Until when it is good, by this node's clock: Unix time in milliseconds.
    pub ends_ms: i64,
    /// When it will be renewed.
    pub due_ms: i64,
}

impl EdgeHandle {
    /// A token for a service account: the TokenRequest, with its status.
    ///
    /// What was asked before is answered from what is kept until it is due to be renewed, also when the cloud is away and after a
    /// restart; see [`TokenConfig`]. One that is due is renewed first; while the cloud cannot do that, the kept one is given as long as
    /// it is good. The request goes to the cloud as it is, in KubeEdge's shape, `query <ns>/serviceaccounttoken/<account>`.
    pub async fn request_token(
        &self,
        namespace: &str,
        account: &str,
        request: &Value,
    ) -> Result<Value, AskError> {
        let ask = Ask::new(namespace, account, request);
        let shared = &self.shared;
        let kept = shared.kept(&ask).await;
        let now = shared.clock.unix_ms();
        let kept = match kept {
            Some(kept) if !kept.is_due(&shared.config.tokens, now) => return Ok(kept.answer),
            kept => kept,
        };
        match shared.obtain(&ask).await {
            Ok(answer) => Ok(answer),
            Err(error) if is_refusal(&error) => Err(error),
            // It may have ended, or its pod, while the cloud was asked.
            Err(error) => match shared.kept(&ask).await {
                Some(kept) => {
                    tracing::warn!(account = %ask, %error, "a token could not be renewed; the one that is kept is still good");
                    Ok(kept.answer)
                }
                None if kept.is_some() => {
                    tracing::warn!(account = %ask, %error, "a token has ended and could not be renewed");
                    Err(error)
                }
                None => Err(error),
            },
        }
    }

    /// The tokens that are kept and good, those that end first in front.
    pub fn kept_tokens(&self) -> Vec<KeptToken> {
        let shared = &self.shared;
        let now = shared.clock.unix_ms();
        let kept = shared.all_kept().into_iter().filter_map(|(_, kept)| kept);
        let kept = kept.filter(|kept| kept.is_good(now) && shared.lives(kept).is_ok());
        let mut kept: Vec<_> = kept.map(|kept| kept.shown(&shared.config.tokens)).collect();
        kept.sort_by_key(|kept| kept.ends_ms);
        kept
    }
}

impl Shared {
    /// The token that is kept for this, while it may be given.
    async fn kept(&self, ask: &Ask) -> Option<Kept> {
        let key = ask.key();
        let kept = Kept::read(&self.store.get(&key)?.object)?;
        let now = self.clock.unix_ms();
        let why = match self.lives(&kept) {
            Ok(()) if kept.is_good(now) => return Some(kept),
            Ok(()) => "it has ended",
            Err(why) => why,
        };
        self.forget(ask, key, why).await;
        None
    }

    /// All that is kept; what this program cannot read is None.
    fn all_kept(&self) -> Vec<(ObjectKey, Option<Kept>)> {
        let listing = self.store.list(tokens(), None);
        let all = listing.objects.into_iter();
        all.map(|stored| (stored.object.key.clone(), Kept::read(&stored.object)))
            .collect()
    }

    /// Asks the cloud, and keeps what it answers. What it refuses is not kept any longer.
    async fn obtain(&self, ask: &Ask) -> Result<Value, AskError> {
        let asked_ms = self.clock.unix_ms();
        let answer = self.ask_token(ask).await;
        match &answer {
            Ok(answer) => {
                if let Some(kept) = Kept::new(ask.clone(), answer.clone(), asked_ms) {
                    self.keep_token(kept).await;
                }
            }
            Err(error) if is_refusal(error) => {
                let key = ask.key();
                if self.store.get(&key).is_some() {
                    tracing::warn!(account = %ask, %error, "the cloud refuses to renew a token; it is not given any more");
                    self.forget(ask, key, "the cloud refuses it").await;
                }
            }
            Err(_) => {}
        }
        answer
    }

    async fn ask_token(&self, ask: &Ask) -> Result<Value, AskError> {
        let resource = Resource::object(Some(&ask.namespace), "serviceaccounttoken", &ask.account);
        let content = Content::encode(&ask.request);
        let answer = self.ask(Operation::Query, resource, content).await?;
        let answered: Value = serde_json::from_slice(&object_response::document(&answer)?)
            .map_err(|error| AskError::Answer(error.to_string()))?;
        match answered["status"]["token"].as_str() {
            Some(token) if !token.is_empty() => Ok(answered),
            _ => Err(AskError::Answer("there is no token in it".into())),
        }
    }

    async fn keep_token(&self, kept: Kept) {
        if !kept.is_good(self.clock.unix_ms()) || self.lives(&kept).is_err() {
            return;
        }
        let key = kept.ask.key();
        let mut changes = self.room_for(&key);
        changes.push(kept.put());
        changes.extend(self.follow_account(&kept.ask).map(Change::Want));
        if let Err(error) = self.store.apply(changes).await {
            tracing::warn!(account = %kept.ask, %error, "a token could not be kept for an outage");
        }
        let count = self.store.list(tokens(), None).objects.len();
        self.board
            .metrics
            .tokens_kept
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Forgets what ends first, where there is no room.
    fn room_for(&self, key: &ObjectKey) -> Vec<Change> {
        let mut all = self.all_kept();
        all.retain(|(held, _)| held != key);
        let too_many = (all.len() + 1).saturating_sub(self.config.tokens.kept_max.max(1));
        all.sort_by_key(|(_, kept)| kept.as_ref().map_or(i64::MIN, |kept| kept.ends_ms));
        let gone = all.into_iter().take(too_many);
        gone.map(|(key, _)| kept::forget(key)).collect()
    }

    async fn forget(&self, ask: &Ask, key: ObjectKey, why: &str) {
        tracing::debug!(account = %ask, why, "a token is not kept any longer");
        if let Err(error) = self.store.apply(vec![kept::forget(key)]).await {
            // It is looked at again before it is given.
            tracing::warn!(account = %ask, %error, "a token that is over could not be forgotten");
        }
    }

    /// Whether pod, secret and account of a token are those that it was made for.
    fn lives(&self, kept: &Kept) -> Result<(), &'static str> {
        let namespace = Some(kept.ask.namespace.as_str());
        let of = |resource: &str, name: &str| {
            ObjectKey::new(GroupVersionResource::core(resource), namespace, name)
        };
        let bound = &kept.bound;
        match bound.kind.as_str() {
            // All pods of this node are here.
            "Pod" => match self.store.get(&of("pods", &bound.name)) {
                Some(pod) if *pod.object.uid == *bound.uid => {}
                _ => return Err("its pod is gone"),
            },
            "Secret" => match self.store.get(&of("secrets", &bound.name)) {
                Some(secret) if *secret.object.uid != *bound.uid => return Err("its secret is gone"),
                _ => {}
            },
            _ => {}
        }
        let key = of("serviceaccounts", &kept.ask.account);
        match (self.store.get(&key), &kept.account_uid) {
            (Some(account), Some(uid)) if *account.object.uid != **uid => Err("its account is another one"),
            (None, _) if self.store.coverage(&Scope::object(&key)) == Coverage::Complete => {
                Err("its account is gone")
            }
            _ => Ok(()),
        }
    }

    /// The account, so that its end is heard of. A stock cloud may not let nodes see accounts: there it is heard of by a refusal.
    fn follow_account(&self, ask: &Ask) -> Option<Scope> {
        let ours = self.board.connections().borrow().current;
        if !ours.is_some_and(|capabilities| capabilities.resume) {
            return None;
        }
        let accounts = GroupVersionResource::core("serviceaccounts");
        let scope = Scope::object(&ObjectKey::new(accounts, Some(&ask.namespace), &ask.account));
        (self.store.coverage(&scope) == Coverage::Absent).then_some(scope)
    }
}

/// Whether the cluster decided that there is no such token: not that it is away or busy, or that the cloud has no right to ask it.
fn is_refusal(error: &AskError) -> bool {
    let AskError::Denied(denied) = error else {
        return false;
    };
    (400..500).contains(&denied.code) && !matches!(denied.code, 401 | 408 | 429)
}
