//! The server explains itself: which scopes it holds and how surely, who watches, and what it would answer and why.
//!
//! Nothing here asks the cloud or changes anything. The reports are data for an admin socket; they are not part of the API.

mod watchers;
mod why;

use std::sync::Arc;
use std::time::Duration;

use hub_core::clock::{Clock as _, SystemClock};
use hub_core::object::{Metadata, ObjectKey};
use hub_core::scope::{HeldBack, Scope};
use hub_core::selector::{FieldSelector, LabelSelector};
use hub_core::store::{Coverage, Stored};
use serde::{Deserialize, Serialize};

pub use watchers::WatchReport;
pub(crate) use watchers::{OpenWatch, OpenWatches};
pub use why::{LocalAnswer, Why};

use crate::api::Api;
use crate::metrics::Sample;

/// What of the cluster is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scopes {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The way to the cloud.
    pub cloud: CloudReport,
    /// The newest revision of the store.
    pub revision: u64,
    /// One each.
    pub scopes: Vec<ScopeReport>,
}

/// Whether the cloud is there, as far as this server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudReport {
    /// False while it is known to be away.
    pub reachable: bool,
    /// For how long it has been known to be away.
    pub away_ms: Option<u64>,
    /// For how long the cluster behind it has been silent, where the cloud is there and says so.
    #[serde(default)]
    pub silent_ms: Option<u64>,
}

/// One scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeReport {
    /// Its text; that which `meta allow` takes.
    pub scope: String,
    /// `live`, `stale`, `loading` or `held back`.
    pub state: String,
    /// Objects that are held of it.
    pub objects: usize,
    /// Their bytes, as they came.
    pub bytes: usize,
    /// Deletions that the cloud asks for and that are not believed yet.
    pub held_back: Option<HeldBackReport>,
}

/// Deletions that are not believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldBackReport {
    /// How many objects would go.
    pub deletions: usize,
    /// Of how many.
    pub held: usize,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// From when on they are believed if the cloud still says so; none where only an operator may confirm them.
    pub second_look_ms: Option<i64>,
}

impl Api {
    pub(crate) fn scopes(&self) -> Scopes {
        let cloud = self.cloud_report();
        let doubts = self.cloud.held_back();
        let mut reports: Vec<_> = self
            .store
            .scopes()
            .iter()
            .map(|(scope, coverage)| {
                let doubt = doubts.iter().find(|doubt| doubt.scope == *scope);
                self.scope_report(scope, *coverage, doubt, cloud)
            })
            .collect();
        // What is in doubt may be no scope that anybody asked for: what pods need comes unasked.
        let unasked = doubts
            .iter()
            .filter(|doubt| {
                !reports
                    .iter()
                    .any(|report| report.scope == doubt.scope.to_string())
            })
            .map(|doubt| self.scope_report(&doubt.scope, Coverage::Complete, Some(doubt), cloud));
        let unasked: Vec<_> = unasked.collect();
        reports.extend(unasked);
        reports.sort_by(|a, b| {
            let order = |report: &ScopeReport| (report.held_back.is_none(), report.scope.clone());
            order(a).cmp(&order(b))
        });
        Scopes {
            at_ms: SystemClock.unix_ms(),
            cloud,
            revision: self.store.revision().0,
            scopes: reports,
        }
    }

    /// Counts what is only counted when somebody asks.
    pub(crate) fn sample(&self) {
        let now = SystemClock.unix_ms();
        let local = self.local_journal();
        let oldest = local.pending.iter().map(|pending| pending.since_ms).min();
        let mut sample = Sample {
            states: self.states(),
            away_seconds: self.cloud.away().map_or(0, |away| away.as_secs()),
            local_oldest_seconds: oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0) / 1000),
            ..Sample::default()
        };
        for resource in self.store.resources() {
            for stored in self.store.list(&resource, None).objects {
                sample.objects += 1;
                sample.bytes += stored.object.body.len() + stored.served.len();
            }
        }
        self.metrics.sample(&sample);
    }

    fn states(&self) -> Vec<String> {
        let (cloud, doubts) = (self.cloud_report(), self.cloud.held_back());
        let scopes = self.store.scopes().into_iter();
        scopes
            .map(|(scope, coverage)| {
                let doubted = doubts.iter().any(|doubt| doubt.scope == scope);
                state(coverage, doubted, cloud).into()
            })
            .collect()
    }

    fn cloud_report(&self) -> CloudReport {
        let away = self.cloud.away();
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        CloudReport {
            reachable: away.is_none(),
            away_ms: away.map(ms),
            silent_ms: self.cloud.silent().map(ms),
        }
    }

    /// The objects of a scope that are here.
    fn held(&self, scope: &Scope) -> Vec<Arc<Stored>> {
        if let (Some(name), "", "") = (&scope.name, &*scope.labels, &*scope.fields) {
            let key = ObjectKey::new(scope.resource.clone(), scope.namespace.as_deref(), name);
            return self.store.get(&key).into_iter().collect();
        }
        let (labels, fields) = (
            LabelSelector::parse(&scope.labels),
            FieldSelector::parse(&scope.fields),
        );
        let (Ok(labels), Ok(fields)) = (labels, fields) else {
            return Vec::new();
        };
        let mut held = self
            .store
            .list(&scope.resource, scope.namespace.as_deref())
            .objects;
        held.retain(|stored| {
            let object = &stored.object;
            let labelled =
                || Metadata::parse(&object.body).is_ok_and(|metadata| labels.matches(&metadata.labels));
            scope.contains_key(&object.key)
                && (scope.labels.is_empty() || labelled())
                && (scope.fields.is_empty() || fields.matches(&object.body))
        });
        held
    }

    fn scope_report(
        &self,
        scope: &Scope,
        coverage: Coverage,
        doubt: Option<&HeldBack>,
        cloud: CloudReport,
    ) -> ScopeReport {
        let held = self.held(scope);
        let bytes = held.iter().map(|stored| stored.object.body.len()).sum();
        ScopeReport {
            scope: scope.to_string(),
            state: state(coverage, doubt.is_some(), cloud).into(),
            objects: held.len(),
            bytes,
            held_back: doubt.map(HeldBackReport::from),
        }
    }
}

impl From<&HeldBack> for HeldBackReport {
    fn from(doubt: &HeldBack) -> Self {
        Self {
            deletions: doubt.deletions,
            held: doubt.held,
            since_ms: doubt.since_ms,
            second_look_ms: doubt.second_look_ms,
        }
    }
}

/// One word for how surely a scope is held.
fn state(coverage: Coverage, doubted: bool, cloud: CloudReport) -> &'static str {
    match coverage {
        _ if doubted => "held back",
        Coverage::Absent => "absent",
        Coverage::Loading => "loading",
        Coverage::Complete if cloud.reachable && cloud.silent_ms.is_none() => "live",
        Coverage::Complete => "stale",
    }
}
