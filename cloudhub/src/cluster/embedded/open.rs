//! A cluster from its file, and what every cluster has from its first moment.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hub_core::api::{ApiRequest, Target, Verb};
use hub_core::discovery::Discovery;
use hub_core::object::{GroupVersionResource, Object, Revision};
use hub_core::rbac;
use hub_core::registry::Registry;
use hub_core::store::{LogLimits, MemoryStore, ObjectStore, Restored, RevisionSource, StoreLimits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::admission::priority;
use super::controllers::flow;
use super::identity::issuer::{self, Issuer};
use super::kinds::versions;
use super::state::State;
use super::writer::{Trouble, Writer};
use super::{EmbeddedCluster, EmbeddedConfig, Inner, decide, log};

/// The cluster could not be opened. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read or written, is no database, or is held by another process.
    #[error("cannot open the cluster's file {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// The key of service account tokens in the file is none.
    #[error("cannot use the cluster's file {path}: {why}")]
    Key {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The operating system gives no thread.
    #[error("cannot start the cluster's writer: {0}")]
    Thread(#[from] std::io::Error),
}

impl EmbeddedCluster {
    /// Opens the cluster that is kept in a file, or makes a new one there with the namespaces every cluster has.
    ///
    /// Reads the whole file, so it blocks for a moment. One process at a time may have it open.
    pub fn open(path: &Path, config: EmbeddedConfig) -> Result<Self, OpenError> {
        let failed = |source| OpenError::File {
            path: path.display().to_string(),
            source,
        };
        let unusable = |error: issuer::KeyError| OpenError::Key {
            path: path.display().to_string(),
            why: error.to_string(),
        };
        let (mut log, contents) = log::Log::open(path).map_err(failed)?;
        let key = match contents.token_key {
            Some(key) => key,
            None => {
                let key = issuer::new_key().map_err(unusable)?;
                log.keep_token_key(&key).map_err(failed)?;
                key
            }
        };
        let issuer = Arc::new(Issuer::new(&key).map_err(unusable)?);
        let revisions = contents.objects.iter().map(|object| {
            let revision = Revision(object.version.number().unwrap_or_default());
            (object.clone(), revision)
        });
        let memory = MemoryStore::restore(
            memory_limits(config.history),
            Registry::builtin(),
            RevisionSource::Version,
            Restored {
                revision: Revision(contents.revision),
                // A watch that has seen the last change of its collection goes on.
                begin: Revision(contents.begin),
                deletions: contents.deletions,
                objects: revisions.collect(),
                scopes: Vec::new(),
                tombstones: Vec::new(),
            },
        );
        let state = State::new(
            memory.registry().clone(),
            contents.objects,
            memory.revision().0,
            &config,
        );
        let rules = Arc::new(ArcSwap::from_pointee(state.rules()));
        let trouble = Trouble::default();
        let mut writer = Writer {
            state,
            rules: rules.clone(),
            trouble: trouble.clone(),
            log,
            issuer: issuer.clone(),
            memory: memory.clone(),
            group_max: config.group_max,
        };
        if contents.revision == 0 {
            for namespace in FIRST_NAMESPACES {
                decide::decide(&mut writer.state, &issuer, &new_namespace(namespace), None);
            }
            writer.commit().map_err(failed)?;
        }
        // What a kube-apiserver puts right at each start (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`).
        let absent = |object: &&Object| memory.get(&object.key).is_none();
        let mut lacking: Vec<ApiRequest> = rbac::bootstrap().iter().filter(absent).map(new_object).collect();
        let classes = priority::bootstrap().chain(flow::bootstrap());
        let classes = classes.filter(|(key, _)| memory.get(key).is_none());
        lacking.extend(classes.map(|(key, body)| {
            ApiRequest::resource(Verb::Create, key.resource, None, None)
                .with_body("application/json", body.to_string())
        }));
        if !lacking.is_empty() {
            for request in &lacking {
                decide::decide(&mut writer.state, &issuer, request, None);
            }
            writer.commit().map_err(failed)?;
        }
        versions::agree_all(&mut writer.state);
        writer.commit().map_err(failed)?;
        let (jobs, queue) = mpsc::channel(config.queue_max.max(1));
        let writer = std::thread::Builder::new()
            .name("embedded-cluster".into())
            .spawn(move || writer.run(queue))?;
        let inner = Inner {
            memory,
            rules,
            trouble,
            discovery: Discovery::default(),
            issuer,
            config,
            jobs: Some(jobs),
            writer: Some(writer),
            closed: CancellationToken::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

/// The cluster's own limits are checked before a write; the memory in front of it takes what is durable.
fn memory_limits(log: LogLimits) -> StoreLimits {
    StoreLimits {
        objects_max: usize::MAX >> 1,
        bytes_max: usize::MAX >> 1,
        log,
        ..StoreLimits::default()
    }
}

pub(super) fn new_namespace(name: &str) -> ApiRequest {
    let target = Target::Resource {
        resource: GroupVersionResource::core("namespaces"),
        namespace: None,
        name: None,
        subresource: None,
    };
    let body = serde_json::json!({"metadata": {"name": name}}).to_string();
    ApiRequest::new(Verb::Create, target).with_body("application/json", body)
}

fn new_object(object: &Object) -> ApiRequest {
    ApiRequest::resource(Verb::Create, object.key.resource.clone(), None, None)
        .with_body("application/json", object.body.clone())
}

const FIRST_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
