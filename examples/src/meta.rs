//! The node's API, as its file says: who is let in, where, and with which certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use edgehub::EdgeHandle;
use edgehub::store::EdgeStore;
use hub_core::credentials::CredentialFiles;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::socket::{Access, Socket};
use hub_core::store::ObjectStore;
use metaserver::{
    AuthConfig, CallerIs, Callers, Listen, LocalWrites, MetaConfig, MetaServer, Serving, ServingConfig,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{self, EdgeCore};
use crate::port::Port;

/// The server that answers. Without a port it is there for those who run the node.
pub(crate) fn server(config: &EdgeCore, store: EdgeStore, hub: EdgeHandle) -> MetaServer {
    let node = hub.node().to_string();
    let auth = if config.feature_gates.require_authorization {
        auth(config, &node)
    } else {
        AuthConfig {
            node: Some(node.clone()),
            ..AuthConfig::default()
        }
    };
    let mut local_writes = LocalWrites::of_node(node);
    match config::offline_rules(&config.edge_tunnel.meta_server.offline_writes) {
        Ok(rules) => local_writes.rules.extend(rules),
        // The file was checked before.
        Err(error) => tracing::error!("edgeTunnel.metaServer.offlineWrites: {error}"),
    }
    let meta_config = MetaConfig {
        local_writes,
        auth,
        cbor: config.edge_tunnel.meta_server.cbor,
        ..MetaConfig::default()
    };
    MetaServer::with_config(meta_config, store, hub)
}

/// The ways to the node's API.
pub(crate) struct NodeApi {
    first: Port,
    /// Plain HTTP without a certificate.
    serving: Option<ServingConfig>,
    /// Further ones with HTTPS.
    more: Vec<Port>,
    plain: Option<Port>,
    socket: Option<PathBuf>,
}

impl NodeApi {
    /// Binds what the file names, as far as it can be. None where it wants no API.
    pub(crate) async fn bind(config: &EdgeCore) -> Option<Self> {
        let manager = &config.modules.meta_manager;
        let (meta, ours) = (&manager.meta_server, &config.edge_tunnel.meta_server);
        if !manager.enable || !meta.enable {
            return None;
        }
        let mut api = Self {
            first: Port::at("the node's API", &meta.server).await,
            serving: None,
            more: Vec::new(),
            plain: None,
            socket: None,
        };
        if config.feature_gates.require_authorization {
            api.serving = Some(serving(config, api.first.address()));
            if !meta.dummy_server.is_empty() {
                api.more
                    .push(Port::at("the node's API for pods", &meta.dummy_server).await);
            }
            if !ours.plain.is_empty() {
                api.plain = Some(Port::at("the node's API for agents", &ours.plain).await);
            }
            api.socket = Some(ours.socket.clone()).filter(|path| !path.as_os_str().is_empty());
        }
        Some(api)
    }

    /// The first way.
    pub(crate) fn port(&self) -> &Port {
        &self.first
    }

    /// Serves until told to stop. What goes wrong here is no reason to leave the node without its agent.
    pub(crate) async fn run(self, server: &MetaServer, store: &EdgeStore, stop: &CancellationToken) {
        let serving = match self.serving {
            None => None,
            Some(config) => match stop.run_until_cancelled(certificate(config)).await {
                Some(serving) => Some(serving),
                None => return,
            },
        };
        let way = |listener| match &serving {
            Some(serving) => Listen::Tls(listener, serving.clone()),
            None => Listen::Plain(listener),
        };
        let ports = [self.first].into_iter().chain(self.more);
        let ports = ports.map(|port| attend(port, way, server, stop));
        let plain = self.plain.map(|port| attend(port, Listen::Plain, server, stop));
        let socket = async {
            let Some(path) = &self.socket else { return };
            match Socket::bind(path, Access::EVERYBODY).await {
                Ok(socket) => drop(server.serve_on(Listen::Unix(socket), stop.cancelled()).await),
                Err(error) => tracing::error!("the node's API is not served on a socket: {error}"),
            }
        };
        let all = async {
            tokio::join!(
                futures::future::join_all(ports),
                futures::future::join_all(plain),
                socket
            )
        };
        match &serving {
            None => drop(all.await),
            Some(serving) => tokio::select! {
                _ = all => {}
                () = serving.keep(|| cluster_addresses(store)) => {}
            },
        }
    }
}

async fn attend(
    mut port: Port,
    way: impl Fn(TcpListener) -> Listen,
    server: &MetaServer,
    stop: &CancellationToken,
) {
    while let Some(listener) = stop.run_until_cancelled(port.open()).await {
        match server.serve_on(way(listener), stop.cancelled()).await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "the node's API ended; it begins anew"),
        }
    }
}

/// The certificate to show, as soon as there is one.
async fn certificate(config: ServingConfig) -> Serving {
    loop {
        match Serving::open(config.clone(), SystemTime::now()) {
            Ok(made) => {
                tracing::info!(authority = %made.authority_file().display(), "the node's API speaks HTTPS");
                return made;
            }
            Err(error) => {
                tracing::error!("the node's API is not served yet, it will be tried again: {error}")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn auth(config: &EdgeCore, node: &str) -> AuthConfig {
    let (meta, ours) = (
        &config.modules.meta_manager.meta_server,
        &config.edge_tunnel.meta_server,
    );
    let who = |text: &String| CallerIs::parse(text);
    let by_uid: BTreeMap<u32, CallerIs> = ours
        .callers
        .iter()
        .filter_map(|(uid, text)| Some((uid.parse().ok()?, who(text))))
        .collect();
    AuthConfig {
        required: true,
        node: Some(node.to_owned()),
        anonymous: ours.anonymous,
        callers: Callers {
            by_uid,
            others: ours.callers.get("others").map_or(CallerIs::Anonymous, who),
        },
        issuers: meta.service_account_issuers.clone(),
        audiences: meta.api_audiences.clone(),
        key_files: meta.service_account_key_files.clone(),
        keys_file: Some(folder(config).join("token-keys.json")),
        client_ca: Some(meta.tls_ca_file.clone()),
        expiry_grace: config::duration(&ours.expiry_grace).unwrap_or_default(),
        ..AuthConfig::default()
    }
}

fn serving(config: &EdgeCore, address: Option<SocketAddr>) -> ServingConfig {
    let meta = &config.modules.meta_manager.meta_server;
    let own = meta.tls_cert_file != config.modules.edge_hub.tls_cert_file;
    let named = [&meta.server, &meta.dummy_server].map(|text| text.parse::<SocketAddr>().ok());
    let addresses = named.into_iter().chain([address]).flatten();
    ServingConfig {
        files: own.then(|| CredentialFiles::new(&meta.tls_cert_file, &meta.tls_private_key_file)),
        addresses: addresses
            .map(|address| address.ip())
            .filter(|ip| !ip.is_unspecified())
            .collect(),
        names: vec![config.modules.edged.hostname_override.clone()],
        ..ServingConfig::new(folder(config))
    }
}

/// The addresses of the Service `kubernetes`, under which pods reach an API server.
fn cluster_addresses(store: &EdgeStore) -> BTreeSet<IpAddr> {
    let key = ObjectKey::new(
        GroupVersionResource::core("services"),
        Some("default"),
        "kubernetes",
    );
    let Some(service) = ObjectStore::get(store, &key) else {
        return BTreeSet::new();
    };
    let service: Value = serde_json::from_slice(&service.object.body).unwrap_or_default();
    let all = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    all.filter_map(Value::as_str)
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// Where keys and certificates of the API are kept: beside the store.
fn folder(config: &EdgeCore) -> PathBuf {
    config.store().with_file_name("metaserver")
}

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(10);
