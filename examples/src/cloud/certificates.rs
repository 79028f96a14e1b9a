//! The CA and the certificates of a cloud half, as its configuration names them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudhub::cluster::Cluster;
use cloudhub::pki::{self, Authority, AuthorityConfig, SharedSecrets, TokenKey};
use hub_core::credentials::CredentialFiles;
use hub_core::node::NodeId;

use crate::config::CloudCore;

/// The CA and the server's certificate, as a configuration names them.
pub(super) async fn authority(config: &CloudCore, cluster: Arc<dyn Cluster>) -> Result<Authority, String> {
    let module = &config.modules.cloud_hub;
    let (addresses, mut names): (Vec<_>, Vec<_>) = (
        module
            .advertise_address
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .collect(),
        module
            .advertise_address
            .iter()
            .filter(|text| text.parse::<IpAddr>().is_err())
            .cloned()
            .collect(),
    );
    names.extend(module.dns_names.iter().filter(|name| !name.is_empty()).cloned());
    let files = AuthorityConfig {
        ca: CredentialFiles::new(&module.tls_ca_file, &module.tls_ca_key_file),
        server: CredentialFiles::new(&module.tls_cert_file, &module.tls_private_key_file),
        addresses,
        names,
        node_validity: Duration::from_secs(u64::from(module.edge_cert_signing_duration) * 86_400),
        token_lifetime: Duration::from_secs(u64::from(module.token_refresh_duration) * 2 * 3_600),
    };
    let authority = if config.edge_tunnel.certificates.shared {
        let secrets = SharedSecrets::new(cluster, SharedSecrets::NAMESPACE);
        Authority::shared(&files, secrets, SystemTime::now()).await
    } else {
        Authority::open(&files, SystemTime::now())
    };
    authority.map_err(|error| error.to_string())
}

/// A token with which a node joins, made with the CA that a cloud half keeps. Touches nothing else of it.
pub fn join_token(config: &CloudCore, node: Option<&NodeId>) -> Result<String, String> {
    let module = &config.modules.cloud_hub;
    let files = CredentialFiles::new(&module.tls_ca_file, &module.tls_ca_key_file);
    if config.edge_tunnel.certificates.shared && !module.tls_ca_file.exists() {
        return Err(
            "the CA is in the cluster; so is a token: `keadm gettoken`, or Secret kubeedge/tokensecret"
                .into(),
        );
    }
    let missing = |why: String| {
        format!(
            "{}: {why}; cloudcore makes the CA when it starts",
            module.tls_ca_file.display()
        )
    };
    let ca = files
        .load()
        .map_err(|error| missing(error.to_string()))?
        .ok_or_else(|| missing("is not there".into()))?;
    let certificate = ca.chain.first().ok_or_else(|| missing("no certificate".into()))?;
    let lifetime = Duration::from_secs(u64::from(module.token_refresh_duration) * 2 * 3_600);
    let jwt = TokenKey::of_ca(&ca.key)
        .issue(SystemTime::now() + lifetime, node)
        .map_err(|error| error.to_string())?;
    Ok(pki::join_token(certificate, &jwt))
}
