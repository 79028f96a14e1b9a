//! What a request would be answered, and why: the same questions that a read asks, without asking the cloud.

use hub_core::api::{Status, Verb};
use hub_core::object::ObjectKey;
use hub_core::scope::Scope;
use serde::{Deserialize, Serialize};

use super::{CloudReport, HeldBackReport, state};
use crate::api::{Api, definitions};
use crate::fit::wants_watch;
use crate::options::ListOptions;
use crate::request::{ResourceRoute, Route};
use crate::write::local::{LocalClass, LocalRule, Winner};

/// The answer to a GET of a path, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The path that was asked about.
    pub path: String,
    /// `get`, `list`, `watch`, or `other` for what is about no object.
    pub request: String,
    /// `store`, `cloud`, or `own` where the server itself answers.
    pub source: String,
    /// The status. None where the cloud decides it.
    pub code: Option<u16>,
    /// A sentence.
    pub because: String,
    /// The way to the cloud.
    pub cloud: CloudReport,
    /// Which objects it is about.
    pub scope: Option<String>,
    /// How surely they are held: `live`, `stale`, `loading`, `held back` or `absent`.
    pub state: Option<String>,
    /// The scopes that are held and cover it.
    pub covered_by: Vec<String>,
    /// Deletions among them that are not believed yet.
    pub held_back: Option<HeldBackReport>,
    /// Of one object: what is done with writes to it while the cloud is away.
    pub writes: Vec<LocalAnswer>,
    /// Whether a write to it is still to be told to the cloud.
    pub pending: bool,
    /// Who may have the answer, and by which roles and bindings; of one user whether, and why.
    pub authorization: String,
}

/// What is done with a write while the cloud is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalAnswer {
    /// The verb.
    pub verb: String,
    /// The row of the policy that takes it; none refuses it with 503.
    pub rule: Option<String>,
}

impl Api {
    pub(crate) fn why(&self, path: &str, asker: Option<&str>) -> Why {
        let (bare, query) = path.split_once('?').unwrap_or((path, ""));
        let mut why = Why {
            path: path.into(),
            request: "other".into(),
            source: "own".into(),
            code: None,
            because: String::new(),
            cloud: self.cloud_report(),
            scope: None,
            state: None,
            covered_by: Vec::new(),
            held_back: None,
            writes: Vec::new(),
            pending: false,
            authorization: self.who_may(path, asker),
        };
        match Route::parse(bare) {
            Route::Nowhere | Route::Malformed => why.own(404, "no API server has such a path"),
            Route::Other(path) => self.why_other(&path, &mut why),
            Route::Resource(route) => self.why_resource(&route, query, &mut why),
        }
        why
    }

    fn why_other(&self, path: &str, why: &mut Why) {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match first {
            "healthz" | "livez" => why.own(200, "health is this server's own, whatever the cloud's is"),
            "readyz" => match self.store.trouble() {
                None => why.own(200, "the store takes changes"),
                Some(trouble) => why.own(500, &trouble),
            },
            "" | "version" | "api" | "apis" => {
                why.own(200, "the kinds that are known here answer it, on or off line");
            }
            "openapi" if self.authoritative() => why.own(200, "the kinds that are known here answer it"),
            "openapi" if why.cloud.reachable => {
                why.cloud("the cloud's document comes first, this server's own is the fallback");
            }
            "openapi" => why.own(200, "the cloud is away, so this server's own document must do"),
            "openid" | ".well-known" if why.cloud.reachable => why.cloud("it is the cloud's document"),
            "openid" | ".well-known" => why.own(503, "it is the cloud's document, and the cloud is away"),
            _ => why.own(404, "no API server has such a path"),
        }
    }

    fn why_resource(&self, route: &ResourceRoute, query: &str, why: &mut Why) {
        let Some(kind) = self.store.registry().by_resource(&route.resource) else {
            let all = self.store.registry().all();
            let is_built_in = all
                .iter()
                .any(|kind| !kind.custom && kind.resource.group == route.resource.group);
            let defined = Scope::all(definitions(self).resource.clone());
            return if is_built_in {
                why.own(404, "a group of Kubernetes' own has no such resource");
            } else if self.holds(&defined) {
                why.own(
                    404,
                    "all definitions of custom kinds are held, and there is none of this one",
                );
            } else {
                self.ask_cloud(why, "the definitions of custom kinds are not all held here");
            };
        };
        let namespace = route.namespace.as_deref().filter(|_| kind.namespaced);
        if route
            .subresource
            .as_deref()
            .is_some_and(|below| below != "status")
        {
            why.request = "get".into();
            return self.ask_cloud(why, "subresources but status are the cloud's");
        }
        let watch = route.watch || wants_watch(query);
        if let (Some(name), false) = (&route.name, watch) {
            why.request = "get".into();
            let key = ObjectKey::new(kind.resource.clone(), namespace, name);
            self.cover(&Scope::object(&key), why);
            self.writes(&key, why);
            return if self.store.get(&key).is_some() {
                why.stored(200, "the object is held here");
            } else if self.holds(&Scope::object(&key)) {
                why.stored(404, "all of the scope is held here, and the object is not in it");
            } else {
                let unsure = "the object is not held here, and it is not known that there is none";
                self.ask_cloud(why, unsure);
            };
        }
        why.request = if watch { "watch" } else { "list" }.into();
        let options = ListOptions::parse(query, &kind, namespace, route.name.as_deref(), watch);
        let options = match options {
            Ok(options) => options,
            Err(Status { code, message, .. }) => return why.own(code, &message),
        };
        let scope = options.select.scope(&kind);
        self.cover(&scope, why);
        if self.holds(&scope) {
            why.stored(200, "all of the scope is held here");
        } else {
            self.ask_cloud(why, "the scope is not held here as a whole");
        }
    }

    /// What the cloud would be asked for.
    fn ask_cloud(&self, why: &mut Why, because: &str) {
        if why.cloud.reachable {
            why.cloud(because);
        } else {
            why.own(503, &format!("{because}, and the cloud is away"));
        }
    }

    fn cover(&self, scope: &Scope, why: &mut Why) {
        let doubt = self.cloud.doubt(scope);
        let coverage = self.store.coverage(scope);
        why.scope = Some(scope.to_string());
        why.state = Some(state(coverage, doubt.is_some(), why.cloud).into());
        why.held_back = doubt.as_ref().map(HeldBackReport::from);
        let scopes = self.store.scopes().into_iter();
        let covering = scopes.filter(|(held, at)| *at == coverage && held.covers(scope));
        why.covered_by = covering.map(|(held, _)| held.to_string()).collect();
    }

    fn writes(&self, key: &ObjectKey, why: &mut Why) {
        if self.authoritative() {
            return;
        }
        why.pending = self.is_pending(key);
        why.writes = [Verb::Create, Verb::Update, Verb::Patch, Verb::Delete]
            .into_iter()
            .map(|verb| LocalAnswer {
                verb: verb.as_str().into(),
                rule: self.local_rule(key, verb).map(told),
            })
            .collect();
    }
}

impl Why {
    fn own(&mut self, code: u16, because: &str) {
        self.source = "own".into();
        self.code = Some(code);
        self.because = because.into();
    }

    fn stored(&mut self, code: u16, because: &str) {
        self.source = "store".into();
        self.code = Some(code);
        self.because = because.into();
    }

    fn cloud(&mut self, because: &str) {
        self.source = "cloud".into();
        self.because = because.into();
    }
}

fn told(rule: &LocalRule) -> String {
    let class = match rule.class {
        LocalClass::Lease => "lease",
        LocalClass::Own => "own",
        LocalClass::Queued => "queued",
        LocalClass::Event => "event",
    };
    let wins = match rule.wins {
        Winner::Cloud => "the cloud wins",
        Winner::Local => "this node wins",
    };
    let fields = match &*rule.fields {
        [] => String::new(),
        fields => format!(", only {}", fields.join(" ")),
    };
    format!("{class}, {wins}{fields}")
}
