//! KubeEdge's YAML files, over KubeEdge's defaults.
//!
//! A file is laid over the tree of defaults, keys in any case, as KubeEdge reads it. Unlike KubeEdge we say which keys we do not
//! know, and refuse a value of the wrong type by its key. Environment variables come last:
//! `CLOUDCORE__MODULES__CLOUDHUB__NODELIMIT=1000` sets `modules.cloudHub.nodeLimit`.

mod cloudcore;
mod edgecore;

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use cloudcore::{Authorization, CloudCore, CloudHubModule, Listen, Standalone};
pub use edgecore::{EdgeCore, EdgeHubModule, Endpoints, MetaServerModule};

/// The file cannot be used. The operator's move.
#[derive(Debug)]
pub enum ConfigError {
    /// It cannot be read.
    Read(String, std::io::Error),
    /// It is not YAML.
    Yaml(String, String),
    /// A key has a value that does not fit.
    Value(String),
}

impl std::error::Error for ConfigError {}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(file, error) => write!(f, "cannot read {file}: {error}"),
            Self::Yaml(file, error) => write!(f, "{file} is not YAML: {error}"),
            Self::Value(text) => f.write_str(text),
        }
    }
}

/// A configuration, and the keys that were given but are not known here.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The effective configuration.
    pub config: T,
    /// Full paths of keys without effect.
    pub unknown: Vec<String>,
}

/// As [`load`], with the environment of this process; keys without effect are named in the log, once.
pub fn effective<T>(file: Option<&Path>, prefix: &str) -> Result<T, String>
where
    T: Default + Serialize + DeserializeOwned,
{
    let loaded = load::<T>(file, prefix, std::env::vars()).map_err(|error| error.to_string())?;
    for key in &loaded.unknown {
        tracing::warn!(
            "configuration key {key} has no effect here; see docs/operations.md for the keys that have"
        );
    }
    Ok(loaded.config)
}

/// Reads `file`, if there is one, over the defaults of `T`, then the variables of `environment` that begin with `prefix`.
pub fn load<T>(
    file: Option<&Path>,
    prefix: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded<T>, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let mut tree = serde_json::to_value(T::default()).map_err(|e| ConfigError::Value(e.to_string()))?;
    let mut unknown = Vec::new();
    if let Some(path) = file {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(name.clone(), e))?;
        let given: Value =
            serde_saphyr::from_str(&text).map_err(|e| ConfigError::Yaml(name, e.to_string()))?;
        overlay(&mut tree, given, "", &mut unknown);
    }
    let start = format!("{prefix}__");
    for (name, value) in environment {
        if let Some(path) = name.strip_prefix(&start) {
            // Numbers, booleans and lists as YAML reads them, anything else as text.
            let value = serde_saphyr::from_str(&value).unwrap_or(Value::String(value));
            let nested = path.split("__").collect::<Vec<_>>().into_iter().rev().fold(
                value,
                |inner, key| serde_json::json!({ key.to_lowercase(): inner }),
            );
            overlay(&mut tree, nested, "", &mut unknown);
        }
    }
    unknown.retain(|key| !matches!(key.as_str(), "apiVersion" | "kind"));
    let config = serde_path_to_error::deserialize(tree)
        .map_err(|e| ConfigError::Value(format!("key {}: {}", e.path(), e.inner())))?;
    Ok(Loaded { config, unknown })
}

/// Lays `given` over `base`. A key matches in any case; an object is laid over key by key, anything else replaces.
fn overlay(base: &mut Value, given: Value, path: &str, unknown: &mut Vec<String>) {
    match (base, given) {
        (Value::Object(base), Value::Object(given)) => {
            for (key, value) in given {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match base
                    .iter_mut()
                    .find(|(known, _)| known.eq_ignore_ascii_case(&key))
                {
                    Some((_, known)) => overlay(known, value, &path, unknown),
                    None => unknown.push(path),
                }
            }
        }
        // `key:` with nothing behind it leaves the default, as in Go.
        (_, Value::Null) => {}
        (base, given) => *base = given,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check<T: Default + Serialize + DeserializeOwned>(
        yaml: &str,
        env: &[(&str, &str)],
    ) -> Result<Loaded<T>, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(yaml.as_bytes()).unwrap();
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        load(Some(file.path()), "CLOUDCORE", env)
    }

    #[test]
    fn a_kubeedge_file_is_laid_over_kubeedge_s_defaults() {
        let loaded = check::<CloudCore>(
            "apiVersion: cloudcore.config.kubeedge.io/v1alpha1\nkind: CloudCore\nmodules:\n  cloudhub:\n    NODELIMIT: 1000\n    advertiseAddress: [192.0.2.10]\n    quic: {enable: true}\n    https:\n",
            &[],
        )
        .unwrap();
        let hub = &loaded.config.modules.cloud_hub;
        assert_eq!(
            (hub.node_limit, hub.quic.enable, hub.quic.port, hub.https.port),
            (1000, true, 10001, 10002)
        );
        assert_eq!(hub.advertise_address, ["192.0.2.10"]);
        assert!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
    }

    #[test]
    fn keys_without_effect_are_named() {
        let loaded = check::<CloudCore>(
            "modules: {router: {enable: true}, cloudHub: {nodelimits: 3}}\n",
            &[],
        )
        .unwrap();
        assert_eq!(loaded.unknown, ["modules.cloudHub.nodelimits", "modules.router"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_by_its_key() {
        let error = check::<CloudCore>("modules: {cloudHub: {nodeLimit: many}}\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("modules.cloudHub.nodeLimit") && error.contains("many"),
            "{error}"
        );
        assert!(check::<CloudCore>("modules: [\n", &[]).is_err());
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let env = [("CLOUDCORE__MODULES__CLOUDHUB__NODELIMIT", "7"), ("OTHER", "x")];
        let loaded = check::<CloudCore>("modules: {cloudHub: {nodeLimit: 3}}\n", &env).unwrap();
        assert_eq!(loaded.config.modules.cloud_hub.node_limit, 7);
    }

    #[test]
    fn an_edge_s_file_is_read_alike() {
        let yaml = "modules:\n  edged: {hostnameOverride: edge-1}\n  edgeHub:\n    httpServer: https://192.0.2.10:10002\n    token: a.b.c.d\n    websocket: {enable: true, server: \"192.0.2.10:10000\"}\n  metaManager: {metaServer: {enable: true}}\n";
        let edge = check::<EdgeCore>(yaml, &[]).unwrap().config;
        assert_eq!(edge.modules.edged.hostname_override, "edge-1");
        assert_eq!(edge.modules.edge_hub.heartbeat, 15);
        assert_eq!(edge.modules.meta_manager.meta_server.server, "127.0.0.1:10550");
        assert_eq!(
            edge.modules.edge_hub.tls_ca_file.to_str(),
            Some("/etc/kubeedge/ca/rootCA.crt")
        );
    }
}
