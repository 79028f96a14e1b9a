//! Which kinds the cluster has, kept up to date: aggregated discovery where the server has it (1.26), the older documents elsewhere.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::core::discovery::v2::{
    ACCEPT_AGGREGATED_DISCOVERY_V2, APIGroupDiscoveryList, APIResourceDiscovery, GroupVersionKind,
};
use serde::de::DeserializeOwned;

use hub_core::object::GroupVersionResource;
use hub_core::registry::{Registry, ResourceKind, Subresource};
use hub_core::scope::Scope;

use super::collection::{Collection, Reading};
use super::documents::{Resources, Root, Version};
use super::door::{Door, Fault, get};
use super::reflect::Reflector;
use super::share::Shares;
use super::wire::Refusal;

/// Keeps a registry equal to what the API server serves.
pub(super) struct Discovery {
    pub(super) door: Arc<Door>,
    pub(super) registry: Registry,
    pub(super) streams: Arc<AtomicBool>,
    /// The definitions of custom kinds, by name only.
    pub(super) definitions: Arc<Collection>,
    /// APIs of other servers, behind the API server, that were away when looked for last.
    pub(super) away: Mutex<BTreeSet<String>>,
}

/// What is found in a look.
#[derive(Default)]
struct Found {
    kinds: Vec<ResourceKind>,
    away: BTreeSet<String>,
}

/// Why there are no news.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("{} {}", .0.code, .0.message)]
    Refused(Refusal),
    #[error("the document makes no sense: {0}")]
    Garbage(#[from] serde_json::Error),
    #[error(transparent)]
    Http(#[from] http::Error),
}

impl Discovery {
    /// Looks at the start, when a definition changes, and from time to time.
    pub(super) async fn run(self, definitions: Reflector) {
        let looks = async {
            let mut changed = self.definitions.changed();
            let mut failures = 0;
            loop {
                changed.mark_unchanged();
                let pause = match self.look().await {
                    Ok(any_away) => {
                        failures = 0;
                        let interval = self.door.config.discovery_interval;
                        if any_away {
                            interval.min(LOOK_AGAIN)
                        } else {
                            interval
                        }
                    }
                    Err(error) => {
                        if failures == FAILURES_QUIET {
                            tracing::warn!(%error, "the kinds of the cluster cannot be looked up; those known before are used");
                        }
                        failures = failures.saturating_add(1);
                        self.door.pause(failures, None)
                    }
                };
                if tokio::time::timeout(pause, changed.changed()).await.is_ok() {
                    // A definition is served a moment after it was accepted. Many come together.
                    for pause in SETTLING {
                        tokio::time::sleep(pause).await;
                        if let Err(error) = self.look().await {
                            tracing::debug!(%error, "the kinds of the cluster cannot be looked up");
                        }
                    }
                }
            }
        };
        let follows = async {
            // Without the right to read definitions the clock has to do; it may come later.
            let mut definitions = definitions;
            loop {
                let (next, scope) = (definitions.again(), definitions.scope.clone());
                let status = definitions.run().await;
                tracing::debug!(%scope, status.message, "definitions of custom kinds are not watched");
                tokio::time::sleep(self.door.config.discovery_interval).await;
                definitions = next;
            }
        };
        tokio::join!(looks, follows);
    }

    /// Whether a part could not be looked at.
    async fn look(&self) -> Result<bool, Unknown> {
        let version: Version = self.document("/version", JSON).await?;
        self.streams.store(version.streams_lists(), Ordering::Relaxed);
        let custom = self.custom();
        let mut found = Found::default();
        for root in ["/api", "/apis"] {
            match self.document(root, ACCEPT_AGGREGATED_DISCOVERY_V2).await? {
                Root::Aggregated(list) => self.aggregated(list, &custom, &mut found),
                Root::Groups { groups } => {
                    let versions = groups.into_iter().flat_map(|group| {
                        let preferred = group.preferred_version.group_version;
                        let mut versions: Vec<_> = group
                            .versions
                            .into_iter()
                            .map(|version| version.group_version)
                            .collect();
                        versions.sort_by_key(|version| *version != preferred);
                        versions
                    });
                    self.legacy(versions.collect(), &custom, &mut found).await?;
                }
                Root::Core { versions } => self.legacy(versions, &custom, &mut found).await?,
            }
        }
        let before = self.registry.generation();
        self.registry.replace(found.kinds);
        if self.registry.generation() != before {
            tracing::info!(
                kinds = self.registry.all().len(),
                server = version.git_version,
                "the kinds of the cluster are known"
            );
        }
        let any_away = !found.away.is_empty();
        self.tell(found.away);
        Ok(any_away)
    }

    /// Names those that went, and those that came back.
    fn tell(&self, away: BTreeSet<String>) {
        let mut before = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        for api in away.difference(&before) {
            tracing::warn!(
                api,
                "the server of an API that the API server passes on to is away; its kinds are kept as they were known"
            );
        }
        for api in before.difference(&away) {
            tracing::info!(api, "an API that was away is there again, or not wanted any more");
        }
        *before = away;
    }

    /// Names of definitions, `plural.group`. Where they are not known, a group with a dot that is not Kubernetes' own is custom.
    fn custom(&self) -> Option<HashSet<String>> {
        match self.definitions.read(None, 0) {
            Reading::All { objects: all, .. } => Some(
                all.into_iter()
                    .map(|object| object.key.name.to_string())
                    .collect(),
            ),
            _ => None,
        }
    }

    fn aggregated(&self, list: APIGroupDiscoveryList, custom: &Option<HashSet<String>>, found: &mut Found) {
        for group in list.items {
            let name = group
                .metadata
                .and_then(|metadata| metadata.name)
                .unwrap_or_default();
            for version in group.versions {
                let Some(number) = version.version else { continue };
                if version.freshness.as_deref() == Some("Stale") && version.resources.is_empty() {
                    self.keep(&name, &number, found);
                    continue;
                }
                let resources = version.resources.into_iter();
                let kinds = resources.filter_map(|resource| kind(&name, &number, resource, custom));
                found.kinds.extend(kinds);
            }
        }
    }

    async fn legacy(
        &self,
        versions: Vec<String>,
        custom: &Option<HashSet<String>>,
        found: &mut Found,
    ) -> Result<(), Unknown> {
        let documents = futures::stream::iter(versions.into_iter().map(|version| async move {
            let root = if version.contains('/') { "apis" } else { "api" };
            let resources = match self
                .document::<Resources>(&format!("/{root}/{version}"), JSON)
                .await
            {
                Ok(resources) => Some(resources),
                // An API of somebody else's server that is away, or hangs. Those that are known are kept.
                Err(error @ (Unknown::Refused(_) | Unknown::Garbage(_) | Unknown::Fault(Fault::Timeout))) => {
                    tracing::debug!(version, %error, "an API cannot be looked at");
                    None
                }
                Err(error) => return Err(error),
            };
            Ok((version, resources))
        }))
        .buffered(DOCUMENTS_AT_ONCE);
        let documents: Vec<_> = documents.try_collect().await?;
        for (version, resources) in documents {
            let (group, number) = version.split_once('/').unwrap_or(("", &version));
            match resources {
                Some(resources) => {
                    let resources = resources.join().into_iter();
                    let kinds = resources.filter_map(|resource| kind(group, number, resource, custom));
                    found.kinds.extend(kinds);
                }
                None => self.keep(group, number, found),
            }
        }
        Ok(())
    }

    fn keep(&self, group: &str, version: &str, found: &mut Found) {
        found.away.insert(format!("{group}/{version}"));
        let known = self.registry.all().into_iter();
        let same = known.filter(|kind| &*kind.resource.group == group && &*kind.resource.version == version);
        found.kinds.extend(same.map(|kind| (*kind).clone()));
    }

    async fn document<T: DeserializeOwned>(&self, path: &str, accept: &'static str) -> Result<T, Unknown> {
        let answer = self.door.fetch(get(path, accept)?, DOCUMENT_MAX).await?;
        if !answer.is_success() {
            return Err(Unknown::Refused(answer.refusal()));
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

/// What keeps the names of definitions up to date.
pub(super) fn definitions(shares: &Shares, collection: Arc<Collection>) -> Reflector {
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    shares.reflector(Scope::all(definitions), collection, true)
}

/// A kind as the registry has it. None where the document says too little.
fn kind(
    group: &str,
    version: &str,
    found: APIResourceDiscovery,
    custom: &Option<HashSet<String>>,
) -> Option<ResourceKind> {
    let name = found.resource.filter(|name| !name.is_empty())?;
    let shown = found.response_kind?.kind?;
    let resource = GroupVersionResource::new(group, version, &*name);
    let builtin = BUILTIN.with(|builtin| builtin.by_resource(&resource));
    let texts = |texts: Vec<String>| texts.into_iter().map(Into::into).collect();
    let subresources = found.subresources.into_iter().filter_map(|found| {
        let GroupVersionKind {
            group: g,
            version: v,
            kind,
        } = found.response_kind.unwrap_or_default();
        let (g, v) = (g.unwrap_or_default(), v.unwrap_or_default());
        Some(Subresource {
            name: found.subresource?.into(),
            kind: kind.unwrap_or_default().into(),
            group_version: (!v.is_empty() && (g != group || v != version)).then(|| (g.into(), v.into())),
            verbs: texts(found.verbs),
        })
    });
    Some(ResourceKind {
        list_kind: builtin.as_ref().map_or_else(
            || format!("{shown}List").into(),
            |builtin| builtin.list_kind.clone(),
        ),
        singular: found
            .singular_resource
            .filter(|singular| !singular.is_empty())
            .unwrap_or_else(|| shown.to_lowercase())
            .into(),
        kind: shown.into(),
        namespaced: found.scope.as_deref() == Some("Namespaced"),
        short_names: texts(found.short_names),
        categories: texts(found.categories),
        verbs: texts(found.verbs),
        subresources: subresources.collect(),
        custom: match custom {
            Some(custom) => custom.contains(&format!("{name}.{group}")),
            None => builtin.is_none() && group.contains('.') && !group.ends_with(".k8s.io"),
        },
        selectable_fields: builtin
            .map(|builtin| builtin.selectable_fields.clone())
            .unwrap_or_default(),
        columns: None,
        schema: None,
        storage_version: None,
        deprecation: None,
        resource,
    })
}

thread_local! {
    static BUILTIN: Registry = Registry::builtin();
}

const JSON: &str = "application/json";
/// When to look again where a part was away.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Bytes of one document.
const DOCUMENT_MAX: usize = 64 << 20;
/// Documents read at once.
const DOCUMENTS_AT_ONCE: usize = 8;
/// Failures in a row that nobody needs to hear of.
const FAILURES_QUIET: u32 = 3;
/// When to look after a definition changed.
const SETTLING: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
];
