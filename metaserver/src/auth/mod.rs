//! Who asks, and whether they may: before anything is looked up.
//!
//! ```text
//!  request ─► authenticate ─► impersonate ─► authorize ─► the rest of the server
//!             certificate      as whom,       the cluster's roles,
//!             token            if allowed     as they are held here
//!             peer's uid
//!             nobody
//! ```
//!
//! All of it works without the cloud: keys, roles, accounts and pods are held here. What cannot be told from here is asked of the
//! cloud, and is a 503 where it is away; never a yes. What is denied here is not asked of the cloud, and what is allowed here the
//! cloud decides again.

mod attributes;
mod bound;
mod cache;
mod certificate;
mod config;
mod constrained;
mod impersonate;
mod keys;
mod peer;
mod refusal;
mod review;
mod rules;
mod token;
mod who_may;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::request::Parts;
use hub_core::api::{AUTHENTICATED, Status, User};
use hub_core::clock::{Clock, SystemClock};
use hub_core::node::NODES_GROUP;
use hub_core::rbac::{self, About, Attributes, Rbac};

pub(crate) use certificate::{AnyCertificate, PeerCertificates};
pub use config::{AuthConfig, CallerIs, Callers, StaticTokens};
pub(crate) use peer::Peer;

use crate::api::Api;
use crate::request::Route;
use attributes::Wanted;
use cache::Cache;
use certificate::Authorities;
use keys::Keys;
use refusal::{unauthorized, unknown};
use rules::Rules;
use token::Verified;

/// What deciding about callers needs to remember.
pub(crate) struct Guard {
    config: AuthConfig,
    clock: Box<dyn Clock>,
    keys: Keys,
    verified: Cache<Verified>,
    reviewed: Cache<Option<User>>,
    authorities: Option<Authorities>,
    rules: Rules,
    started: AtomicBool,
}

/// In whose name a request is carried on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The node's own, or an embedding program's; of the embedded cluster an administrator.
    #[default]
    Own,
    /// Somebody's who showed who they are.
    Of(Arc<User>),
}

impl Caller {
    /// Who is to be named to the cloud.
    pub(crate) fn user(&self) -> Option<User> {
        match self {
            Self::Own => None,
            Self::Of(user) => Some(User::clone(user)),
        }
    }
}

impl Guard {
    pub(crate) fn new(config: AuthConfig) -> Self {
        let authorities = config.client_ca.clone();
        Self {
            clock: Box::new(SystemClock),
            keys: Keys::open(&config),
            verified: Cache::new(config.tokens_max),
            reviewed: Cache::new(config.tokens_max),
            authorities: authorities.map(|file| Authorities::new(file, config.files_interval)),
            rules: Rules::default(),
            started: AtomicBool::new(false),
            config,
        }
    }

    fn unix_s(&self) -> i64 {
        self.clock.unix_ms() / 1000
    }
}

impl Api {
    /// Whether callers must show who they are.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guard.config.required
    }

    /// In whose name the request is carried on, if it may be at all.
    pub(crate) async fn admit(&self, head: &Parts, peer: &Peer, route: &Route) -> Result<Caller, Status> {
        let caller = if self.guard.config.required {
            self.authenticate(head, peer).await?
        } else {
            Caller::Own
        };
        let wanted = Wanted::of(head, route);
        let wanted = wanted.attributes();
        let caller = self.impersonate(head, caller, &wanted)?;
        if let Caller::Of(user) = &caller {
            self.authorize(user, &wanted)?;
        }
        Ok(caller)
    }

    /// Who asks; how that was found out is counted.
    async fn authenticate(&self, head: &Parts, peer: &Peer) -> Result<Caller, Status> {
        let (means, found) = self.shown(head, peer).await;
        let result = match &found {
            Ok(_) => "success",
            Err(status) if status.code == 401 => "failure",
            Err(_) => "unknown",
        };
        self.metrics.authenticated(means, result);
        found
    }

    async fn shown(&self, head: &Parts, peer: &Peer) -> (&'static str, Result<Caller, Status>) {
        let guard = &self.guard;
        let mut failed = false;
        if let (Peer::Tls(Some(shown)), Some(authorities)) = (peer, &guard.authorities) {
            match authorities.user(shown, SystemTime::now()) {
                Ok(user) => return ("certificate", Ok(self.caller(user))),
                Err(why) => {
                    tracing::debug!(why, "a client certificate was refused");
                    failed = true;
                }
            }
        }
        match bearer(head) {
            Some(Ok(token)) => {
                let user = self.user_of_token(&token).await;
                return ("token", user.map(|user| self.caller(user)));
            }
            Some(Err(why)) => {
                tracing::debug!(why, "a WebSocket was refused");
                return ("token", Err(unauthorized()));
            }
            None => {}
        }
        if failed {
            return ("certificate", Err(unauthorized()));
        }
        if let Peer::Local(uid) = peer {
            match guard.config.callers.of(*uid) {
                CallerIs::Node => return ("peer", Ok(Caller::Own)),
                CallerIs::User(user) => return ("peer", Ok(self.caller(user.clone()))),
                CallerIs::Anonymous => {}
            }
        }
        let nobody = match guard.config.anonymous {
            true => Ok(Caller::Of(Arc::new(User::anonymous()))),
            false => Err(unauthorized()),
        };
        ("anonymous", nobody)
    }

    /// Whoever shows the node's certificate is the node.
    fn caller(&self, user: User) -> Caller {
        let node = self.guard.config.node.as_deref();
        let is_node = node.is_some()
            && user.name.strip_prefix("system:node:") == node
            && user.groups.iter().any(|group| group == NODES_GROUP)
            && user.groups.iter().any(|group| group == AUTHENTICATED);
        if is_node {
            Caller::Own
        } else {
            Caller::Of(Arc::new(user))
        }
    }

    fn authorize(&self, user: &User, wanted: &Attributes<'_>) -> Result<(), Status> {
        let allows = self.allows(user, wanted);
        self.metrics.authorized(match allows {
            Ok(true) => "allowed",
            Ok(false) => "denied",
            Err(_) => "unknown",
        });
        if allows? {
            Ok(())
        } else {
            Err(rbac::denial(user, wanted, ""))
        }
    }

    /// What the roles say. An error where they are not here.
    fn allows(&self, user: &User, wanted: &Attributes<'_>) -> Result<bool, Status> {
        if rbac::is_administrator(user) {
            return Ok(true);
        }
        match self.roles_for(wanted) {
            Some(roles) => Ok(roles.allows(user, wanted)),
            None => Err(unknown("the roles of the cluster are not known on this node yet")),
        }
    }

    /// The roles that decide about a wish.
    fn roles_for(&self, wanted: &Attributes<'_>) -> Option<Arc<Rbac>> {
        match (self.roles(), wanted.object) {
            (Some(roles), _) => Some(roles),
            // What every cluster begins with, so that health can be asked for from the first moment on.
            (None, About::Path(_)) => Some(Arc::new(Rbac::new(rbac::bootstrap()))),
            (None, _) => None,
        }
    }

    /// The cluster's roles, if all of them are here.
    fn roles(&self) -> Option<Arc<Rbac>> {
        let known = rules::scopes().all(|scope| self.holds(&scope));
        known.then(|| self.guard.rules.of(&*self.store))
    }

    /// Fetches and follows what deciding needs, until the server stops. Once.
    pub(crate) fn start_guard(self: &Arc<Self>) {
        if !self.guard.config.required || self.guard.started.swap(true, Ordering::Relaxed) {
            return;
        }
        for scope in rules::scopes() {
            self.want(scope);
        }
        let (api, stop) = (self.clone(), self.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(api.follow_keys()).await });
    }

    async fn follow_keys(&self) {
        let config = &self.guard.config;
        let mut link = self.cloud.link();
        let mut pause = config.keys_pause;
        loop {
            if let Some(connected) = &mut link
                && connected.wait_for(|connected| *connected).await.is_err()
            {
                link = None;
            }
            let now = self.guard.unix_s();
            if self.guard.keys.refresh(&self.cloud, config, now).await {
                pause = config.keys_pause;
                tokio::time::sleep(config.keys_refresh).await;
                continue;
            }
            // A stock cloud never has them. A new connection, and who shows a token, make it be tried sooner.
            let again = async {
                match &mut link {
                    Some(link) => drop(link.changed().await),
                    None => std::future::pending().await,
                }
            };
            match tokio::time::timeout(pause, again).await {
                Ok(()) => pause = config.keys_pause,
                Err(_) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    /// One of the documents with which tokens are checked, as it was fetched last.
    pub(crate) fn kept_document(&self, path: &str) -> Option<hub_core::api::ApiResponse> {
        self.guard.keys.document(path)
    }
}

/// Between two attempts to fetch keys that nobody asked for.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The token of a request, if it has one.
fn bearer(head: &Parts) -> Option<Result<Cow<'_, str>, &'static str>> {
    let Some(value) = head.headers.get(AUTHORIZATION) else {
        return Some(crate::websocket::token(&head.headers)?.map(Cow::Owned));
    };
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(Ok(Cow::Borrowed(token)))
}

#[cfg(test)]
mod tests;
