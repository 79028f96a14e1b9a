//! The hub of a cloud half: what KubeEdge's file and ours say of it.

use std::sync::Arc;
use std::time::Duration;

use cloudhub::cluster::Cluster;
use cloudhub::pki::Authority;
use cloudhub::records::{FileRecords, ObjectSyncRecords, RecordsConfig};
use cloudhub::{CloudHub, CloudHubConfig};
use hub_core::credentials::certificate_pem;
use hub_core::message::MessageId;
use hub_core::session::KeepaliveConfig;

use crate::config::{CloudCore, EdgeTunnel, SyncRecordsMode};

pub(super) fn config(config: &CloudCore, authority: &Authority) -> CloudHubConfig {
    let module = &config.modules.cloud_hub;
    let standalone = config.edge_tunnel.standalone.enable;
    let mut hub = CloudHubConfig {
        node_limit: module.node_limit,
        ..CloudHubConfig::default()
    };
    if !standalone {
        hub.drain_notice = DRAIN_NOTICE;
        hub.instance = Some(instance().into());
    }
    if module.write_timeout > 0 {
        hub.driver.write_deadline = Duration::from_secs(module.write_timeout);
    }
    let silence_max = Duration::from_secs(module.keepalive_interval);
    Arc::make_mut(&mut hub.driver.session).keepalive = KeepaliveConfig::Expect { silence_max };
    let rights = &config.edge_tunnel.authorization;
    hub.downstream.policy = config.feature_gates.require_authorization;
    let instance = module
        .advertise_address
        .iter()
        .find(|address| !address.is_empty());
    hub.instance_address = instance.map(|address| address.as_str().into());
    if standalone {
        // No controller of Kubernetes's writes it into the cluster.
        hub.cluster_ca = Some(certificate_pem(authority.certificate()).into());
    }
    hub.authorization.read_all_configs = rights.read_all_configs;
    hub.authorization.read_all_pods = rights.read_all_pods;
    hub.authorization.unrestricted_requests = rights.unrestricted_requests;
    hub
}

/// The hub with the sync records that the configuration names.
pub(super) fn with_records(
    hub: CloudHub,
    config: &EdgeTunnel,
    cluster: Arc<dyn Cluster>,
) -> Result<CloudHub, String> {
    let limits = RecordsConfig::default();
    Ok(match config.sync_records.mode {
        SyncRecordsMode::File => {
            let mut file = config.sync_records.file.clone();
            if file.as_os_str().is_empty() {
                file = config.standalone.data_dir.join("sync-records.db");
            }
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)
                    .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
            }
            hub.with_records(FileRecords::open(&file, limits).map_err(|error| error.to_string())?)
        }
        SyncRecordsMode::ObjectSync => hub.with_records(ObjectSyncRecords::new(cluster, limits)),
        SyncRecordsMode::Memory => hub,
    })
}

/// A name for this process that no other has, and by which people find it.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = MessageId::random().to_string();
    let random = random.split('-').next().unwrap_or_default();
    format!("{}-{random}", host.trim())
}

/// Twice the period of the readiness probe in the manifests: then nobody new is sent here.
const DRAIN_NOTICE: Duration = Duration::from_secs(4);
