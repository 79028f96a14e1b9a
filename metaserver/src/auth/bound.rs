//! What a token lives and dies with: its account, pod, secret and node (Kubernetes `pkg/serviceaccount/claims.go`, Validate).

use std::sync::Arc;

use hub_core::api::User;
use hub_core::object::{GroupVersionResource, Metadata, ObjectKey};
use hub_core::scope::Scope;
use hub_core::service_account::{Claims, Named};
use hub_core::store::{Change, Stored};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::Api;

/// Whether a token's objects are there.
pub(super) enum Life {
    /// As far as this node must know.
    Lives,
    /// It died with one of them.
    Ended(&'static str),
    /// This node does not hold what would tell.
    Unknown(&'static str),
}

enum Known {
    Held(Arc<Stored>),
    Gone,
    Unknown,
}

impl Api {
    /// A token made for a pod lives while the pod is on this node. Its account is looked at where it is held, and subscribed to
    /// where it is not, so that it is known the next time.
    pub(super) fn life(&self, claims: &Claims) -> Life {
        let about = &claims.about;
        let of = |resource: &str, named: &Named| {
            let key = ObjectKey::new(
                GroupVersionResource::core(resource),
                Some(&about.namespace),
                &named.name,
            );
            (self.known(&key), key)
        };
        if let Some(pod) = &about.pod
            && let Err(why) = self.pod_lives(&about.namespace, pod)
        {
            return Life::Ended(why);
        }
        if let Some(secret) = &about.secret {
            match of("secrets", secret).0 {
                Known::Held(held) if *held.object.uid == *secret.uid => {}
                Known::Unknown => return Life::Unknown("the secret of the token is not held here"),
                _ => return Life::Ended("its secret is gone"),
            }
        }
        let node = self.guard.config.node.as_deref();
        if let (Some(named), None, Some(me)) = (&about.node, &about.pod, node)
            && named.name != me
        {
            return Life::Ended("it is another node's");
        }
        let (account, key) = of("serviceaccounts", &about.serviceaccount);
        match account {
            Known::Held(held) if *held.object.uid == *about.serviceaccount.uid => Life::Lives,
            Known::Held(_) | Known::Gone => Life::Ended("its account is gone"),
            Known::Unknown => {
                self.want(Scope::object(&key));
                match (&about.pod, self.cloud.away()) {
                    // The pod, which is here, ran as it.
                    (Some(_), Some(_)) => Life::Lives,
                    _ => Life::Unknown("the account of the token is not held here"),
                }
            }
        }
    }

    /// Whether the pod that a token was made for still lives here, where the cloud said whose token it is.
    pub(super) fn pod_of_reviewed(&self, user: &User) -> Result<(), &'static str> {
        let said = |what: &str| {
            let key = format!("authentication.kubernetes.io/pod-{what}");
            user.extra.get(&key).and_then(|values| values.first()).cloned()
        };
        let (Some((namespace, _)), Some(name)) = (user.service_account(), said("name")) else {
            return Ok(());
        };
        let uid = said("uid").unwrap_or_default();
        self.pod_lives(namespace, &Named { name, uid })
    }

    fn pod_lives(&self, namespace: &str, pod: &Named) -> Result<(), &'static str> {
        let key = ObjectKey::new(GroupVersionResource::core("pods"), Some(namespace), &pod.name);
        match self.store.get(&key) {
            Some(held) if *held.object.uid == *pod.uid && self.runs_here(&held) => {
                if self.deleted_long_ago(&held) {
                    return Err("its pod was deleted");
                }
                Ok(())
            }
            // All pods of this node are here, before they run.
            _ => Err("its pod is not on this node"),
        }
    }

    /// Subscribes to a scope, once.
    pub(super) fn want(&self, scope: Scope) {
        if self.authoritative() || self.store.scopes().iter().any(|(known, _)| *known == scope) {
            return;
        }
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.apply(vec![Change::Want(scope)]).await {
                tracing::warn!(%error, "what decides about callers could not be subscribed to");
            }
        });
    }

    fn known(&self, key: &ObjectKey) -> Known {
        match self.store.get(key) {
            Some(held) => Known::Held(held),
            None if self.holds(&Scope::object(key)) => Known::Gone,
            None => Known::Unknown,
        }
    }

    /// Others' pods may be held too, by who lists them.
    fn runs_here(&self, pod: &Stored) -> bool {
        #[derive(Deserialize)]
        struct Pod {
            spec: Bound,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Bound {
            #[serde(default)]
            node_name: String,
        }
        let Some(me) = &self.guard.config.node else {
            return true;
        };
        serde_json::from_slice::<Pod>(&pod.object.body).is_ok_and(|pod| pod.spec.node_name == *me)
    }

    /// A pod that is ending may use its token a little longer, to say goodbye.
    fn deleted_long_ago(&self, pod: &Stored) -> bool {
        let metadata = Metadata::parse(&pod.served).ok();
        let deleted = metadata.and_then(|metadata| metadata.deletion_timestamp);
        let at = deleted.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
        at.is_some_and(|at| self.guard.unix_s() > at.unix_timestamp() + GOODBYE_S)
    }
}

/// As a kube-apiserver has it.
const GOODBYE_S: i64 = 60;
