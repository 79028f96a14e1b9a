//! The endpoints of this node's own pods, put right while the cloud is away (goal G.10).
//!
//! ```text
//!  a pod's status, written here ──► the slices that name it ──► a local copy with its new address and readiness
//!                                                                      │ the cloud is back and told of the pod
//!                              the cloud's own slice ◄── it agrees, or is newer, or has had its time
//! ```
//!
//! A pod that is started anew without the cloud has another address, and the cloud's controller is not there to say so: Services and
//! DNS of the node would lead nowhere until it is. Only endpoints of pods on this node are touched, and only while it is alone; the
//! cloud is never told of a correction, it finds the same out from the pods.

mod endpoints;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::store::{Change, Compacted, Event, EventKind, LocalCopy, Stored, Watch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::Api;
use endpoints::{LocalPod, LocalPods, corrected};

/// What is noted beside a corrected object: of which version of the cloud's it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    corrected: String,
}

/// A corrected object that is being served.
struct Correction {
    copy: LocalCopy,
    note: Note,
}

/// What the correcting task knows.
struct Node<'a> {
    api: &'a Api,
    name: &'a str,
    pods: LocalPods,
    /// Since when the cloud is there; none while it is away.
    back: Option<Instant>,
}

impl Api {
    /// Puts endpoints right until the server stops. Wants a runtime.
    pub(crate) fn start_correcting(self: &Arc<Self>) {
        let writes = &self.config.local_writes;
        if self.authoritative() || !writes.endpoints || writes.node.is_none() || self.local.corrects() {
            return;
        }
        let (api, stop) = (self.clone(), self.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(api.correct_for_ever()).await });
    }

    /// Whether an object is served with corrections of this node.
    pub(crate) fn is_corrected(&self, key: &ObjectKey) -> bool {
        !self.authoritative() && Correction::get(self, key).is_some()
    }

    async fn correct_for_ever(&self) {
        let Some(name) = self.config.local_writes.node.as_deref() else {
            return;
        };
        let mut link = self.cloud.link();
        let mut back = None;
        loop {
            let (pods, [slices, older]) = (GroupVersionResource::core("pods"), collections());
            let listing = self.store.list(&pods, None);
            let watch = |resource| self.store.watch(resource, listing.revision);
            let (Ok(mut pods), Ok(mut slices), Ok(mut older)) = (watch(&pods), watch(&slices), watch(&older))
            else {
                continue;
            };
            let mut node = Node {
                api: self,
                name,
                pods: HashMap::new(),
                back,
            };
            for stored in &listing.objects {
                node.learn(stored, false);
            }
            node.correct(None).await;
            // A watch that fell behind begins anew.
            while let Ok(changed) = changed(
                &mut pods,
                &mut slices,
                &mut older,
                link.as_mut(),
                node.is_at_work(),
            )
            .await
            {
                let places = match changed {
                    Changed::Pods(events) => Some(node.heard(&events)),
                    Changed::Endpoints(events) => Some(places(&events)),
                    Changed::Link => None,
                };
                node.correct(places).await;
            }
            back = node.back;
        }
    }
}

enum Changed {
    Pods(Vec<Arc<Event>>),
    Endpoints(Vec<Arc<Event>>),
    /// The cloud comes or goes, or time has passed.
    Link,
}

async fn changed(
    pods: &mut Watch,
    slices: &mut Watch,
    older: &mut Watch,
    link: Option<&mut watch::Receiver<bool>>,
    at_work: bool,
) -> Result<Changed, Compacted> {
    let link = async {
        if let Some(link) = link
            && link.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    };
    let look = async {
        match at_work {
            true => tokio::time::sleep(LOOK_INTERVAL).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        events = pods.next_batch(BATCH_MAX) => events.map(Changed::Pods),
        events = slices.next_batch(BATCH_MAX) => events.map(Changed::Endpoints),
        events = older.next_batch(BATCH_MAX) => events.map(Changed::Endpoints),
        () = link => Ok(Changed::Link),
        () = look => Ok(Changed::Link),
    }
}

impl Node<'_> {
    fn learn(&mut self, stored: &Stored, gone: bool) -> bool {
        let key = &stored.object.key;
        let name = (key.namespace.clone().unwrap_or_default(), key.name.clone());
        let pod = LocalPod::parse(&stored.served, self.name).filter(|_| !gone);
        match pod {
            Some(pod) => self.pods.insert(name, pod.clone()) != Some(pod),
            None => self.pods.remove(&name).is_some(),
        }
    }

    /// The namespaces of pods of this node that changed.
    fn heard(&mut self, events: &[Arc<Event>]) -> BTreeSet<Arc<str>> {
        let changed = events
            .iter()
            .filter(|event| self.learn(&event.stored, event.kind == EventKind::Deleted));
        changed
            .filter_map(|event| event.stored.object.key.namespace.clone())
            .collect()
    }

    /// Whether something is served corrected.
    fn is_at_work(&self) -> bool {
        !Correction::all(self.api).is_empty()
    }

    /// Looks at the endpoints of some namespaces, or of all.
    async fn correct(&mut self, places: Option<BTreeSet<Arc<str>>>) {
        let now = Instant::now();
        self.back = match self.api.cloud.away() {
            Some(_) => None,
            None => self.back.or(Some(now)),
        };
        let corrected = Correction::all(self.api);
        if self.back.is_some() && corrected.is_empty() {
            return;
        }
        let places = places.unwrap_or_else(|| {
            let of_pods = self.pods.keys().map(|(namespace, _)| namespace.clone());
            let of_copies = corrected
                .iter()
                .filter_map(|known| known.copy.key.namespace.clone());
            of_pods.chain(of_copies).collect()
        });
        let mut changes = Vec::new();
        for namespace in &places {
            for resource in collections() {
                for stored in self.api.store.list(&resource, Some(namespace)).objects {
                    changes.extend(self.change(&stored, namespace, now));
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.api.store.apply(changes).await {
            tracing::warn!(%error, "endpoints of this node's pods could not be corrected");
        }
    }

    fn change(&self, stored: &Stored, namespace: &Arc<str>, now: Instant) -> Option<Change> {
        let (object, key) = (&stored.object, &stored.object.key);
        let known = Correction::get(self.api, key);
        let names_pods = memchr::memmem::find(&object.body, b"\"targetRef\"").is_some();
        if known.is_none() && !names_pods || self.api.is_pending(key) {
            return None;
        }
        let forget = known.is_some().then(|| LocalCopy::forget(key));
        let version = object.version.as_str();
        // The cloud has it no more, or it is not the work of a Service's controller.
        let Some(cloud) = Some(version)
            .filter(|version| !version.is_empty())
            .and_then(|_| serde_json::from_slice::<Value>(&object.body).ok())
            .filter(is_a_service_s)
        else {
            return forget;
        };
        let (new, about) = corrected(&cloud, namespace, &self.pods, self.publishes_all(&cloud, key));
        if new == cloud {
            return forget;
        }
        let made_of = match (&known, self.back) {
            (None, Some(_)) => return None,
            (_, None) => version,
            (Some(known), Some(back)) => {
                let pods = GroupVersionResource::core("pods");
                let key = |name: &Arc<str>| ObjectKey::new(pods.clone(), Some(namespace), name);
                let untold = about.iter().any(|(_, name)| self.api.is_pending(&key(name)));
                let had_its_time = now >= back + GRACE;
                if !untold && (known.note.corrected != version || had_its_time) {
                    return forget;
                }
                // Of the version that is here now: of another one it stays only while the cloud does not know of the pod.
                version
            }
        };
        let note = Note {
            corrected: made_of.to_owned(),
        };
        let copy = LocalCopy {
            key: key.clone(),
            body: new.to_string().into(),
            note: serde_json::to_vec(&note).ok()?.into(),
        };
        match known {
            Some(known) if known.copy.body == copy.body && known.note == note => None,
            _ => copy.put().ok(),
        }
    }

    /// Whether the Service wants pods that are not ready published too.
    fn publishes_all(&self, endpoints: &Value, key: &ObjectKey) -> bool {
        let label = endpoints["metadata"]["labels"]["kubernetes.io/service-name"].as_str();
        let services = GroupVersionResource::core("services");
        let service = ObjectKey::new(services, key.namespace.as_deref(), label.unwrap_or(&key.name));
        let service = self.api.store.get(&service);
        let service = service.and_then(|service| serde_json::from_slice::<Value>(&service.served).ok());
        service.is_some_and(|service| service["spec"]["publishNotReadyAddresses"] == true)
    }
}

impl Correction {
    fn of(stored: &Stored) -> Option<Self> {
        let copy = LocalCopy::of(&stored.object)?;
        let note = serde_json::from_slice(&copy.note).ok()?;
        Some(Self { copy, note })
    }

    fn get(api: &Api, key: &ObjectKey) -> Option<Self> {
        Self::of(&*api.store.get(&LocalCopy::key_of(key))?)
    }

    fn all(api: &Api) -> Vec<Self> {
        let copies = api.store.list(LocalCopy::resource(), None).objects;
        copies.iter().filter_map(|stored| Self::of(stored)).collect()
    }
}

fn places(events: &[Arc<Event>]) -> BTreeSet<Arc<str>> {
    let keys = events.iter().map(|event| &event.stored.object.key);
    keys.filter_map(|key| key.namespace.clone()).collect()
}

/// Slices that somebody else keeps may name pods for reasons of their own.
fn is_a_service_s(endpoints: &Value) -> bool {
    let keeper = &endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
    keeper.is_null() || keeper == "endpointslice-controller.k8s.io"
}

fn collections() -> [GroupVersionResource; 2] {
    [
        GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"),
        GroupVersionResource::core("endpoints"),
    ]
}

/// Events taken at a time.
const BATCH_MAX: usize = 256;
/// How often what is corrected is looked at though nothing is heard.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long the cloud's controller may take once the cloud is back. Then its word stands, whatever it is.
const GRACE: Duration = Duration::from_secs(60);
