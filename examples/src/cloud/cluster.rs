//! The cluster behind a cloud half: the embedded one, or how an API server is reached.

use std::path::Path;

use cloudhub::cluster::{Credentials, EmbeddedCluster, EmbeddedConfig, KubeClusterConfig};

use crate::config::CloudCore;

pub(super) fn embedded(folder: &Path) -> Result<EmbeddedCluster, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    EmbeddedCluster::open(&folder.join("cluster.db"), EmbeddedConfig::default())
        .map_err(|error| error.to_string())
}

pub(super) fn kube_config(config: &CloudCore) -> KubeClusterConfig {
    KubeClusterConfig {
        queries_per_second: config.kube_api_config.qps,
        burst: config.kube_api_config.burst,
        ..KubeClusterConfig::default()
    }
}

/// As KubeEdge reads its `kubeAPIConfig`: the file, the address in its place or alone, or else the pod's own account. Without a
/// pod, what `kubectl` would use.
pub(super) fn credentials(config: &CloudCore) -> Credentials {
    let api = &config.kube_api_config;
    let server = Some(api.master.clone()).filter(|master| !master.is_empty());
    match (api.kube_config.is_empty(), server) {
        (false, server) => Credentials::File {
            path: api.kube_config.clone().into(),
            server,
        },
        (true, Some(server)) => Credentials::Anonymous { server },
        (true, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Credentials::InCluster,
        (true, None) => Credentials::Inferred,
    }
}
