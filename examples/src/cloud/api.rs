//! The embedded cluster's API, as the file of `cloudcore` says: for everybody who can connect, or for those who may.

use std::net::SocketAddr;
use std::time::SystemTime;

use cloudhub::cluster::EmbeddedCluster;
use metaserver::{
    AuthConfig, Listen, MetaConfig, MetaServer, Revisions, Serving, ServingConfig, StaticTokens,
};
use tokio_util::sync::CancellationToken;

use crate::config::CloudCore;
use crate::port::listen;

/// The API, bound.
pub(crate) struct ClusterApi {
    pub(crate) server: MetaServer,
    pub(crate) address: Option<SocketAddr>,
    way: Listen,
    serving: Option<Serving>,
}

impl ClusterApi {
    pub(crate) async fn bind(config: &CloudCore, cluster: &EmbeddedCluster) -> Result<Self, String> {
        let standalone = &config.edge_tunnel.standalone;
        let meta_config = MetaConfig {
            revisions: Revisions::Authoritative,
            cbor: standalone.cbor,
            auth: auth(config)?,
            ..MetaConfig::default()
        };
        let listener = listen(&standalone.server).await?;
        let address = listener.local_addr().ok();
        let serving = if standalone.authorize {
            let files = ServingConfig {
                addresses: address.map(|address| address.ip()).into_iter().collect(),
                ..ServingConfig::new(standalone.data_dir.join("api"))
            };
            let serving = Serving::open(files, SystemTime::now()).map_err(|error| error.to_string())?;
            tracing::info!(authority = %serving.authority_file().display(), "the cluster's API speaks HTTPS");
            Some(serving)
        } else {
            None
        };
        Ok(Self {
            server: MetaServer::with_config(meta_config, cluster.clone(), cluster.upstream()),
            address,
            way: match &serving {
                Some(serving) => Listen::Tls(listener, serving.clone()),
                None => Listen::Plain(listener),
            },
            serving,
        })
    }

    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let keep = async {
            match &self.serving {
                Some(serving) => serving.keep(std::collections::BTreeSet::new).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            served = self.server.serve_on(self.way, stop.cancelled_owned()) => served.map_err(|error| error.to_string()),
            () = keep => Ok(()),
        }
    }
}

fn auth(config: &CloudCore) -> Result<AuthConfig, String> {
    let standalone = &config.edge_tunnel.standalone;
    if !standalone.authorize {
        return Ok(AuthConfig::default());
    }
    let file = &standalone.tokens;
    let tokens = if file.as_os_str().is_empty() {
        StaticTokens::default()
    } else {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        text.and_then(|text| StaticTokens::parse(&text))
            .map_err(|why| format!("edgeTunnel.standalone.tokens: {}: {why}", file.display()))?
    };
    Ok(AuthConfig {
        required: true,
        tokens,
        client_ca: Some(config.modules.cloud_hub.tls_ca_file.clone()),
        ..AuthConfig::default()
    })
}
