//! Both halves on loopback with real TLS, a small cluster, and a node's API that goes on answering while the link is cut.

mod outage;
mod parlour;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use edgehub::EdgeHandle;
use edgehub::store::EdgeStore;
use examples::api::{Api, manifests};
use examples::cloud::{Addresses, Cloud};
use examples::config::{CloudCore, EdgeCore, Listen};
use examples::edge::Edge;
use examples::logging;
use examples::show::Show;
use hub_core::store::{Coverage, ObjectStore};
use hub_core::testing::Wire;
use tokio_util::sync::CancellationToken;

use outage::Scene;

/// Starts a cloud half with an embedded cluster and an edge half that joins it, and shows what arrives.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What the tunnel runs over.
    #[arg(long, value_enum, default_value = "websocket")]
    transport: Transport,
    /// Cut the link for this long after the sync, such as 20s.
    #[arg(long, value_parser = duration)]
    outage: Option<Duration>,
    /// The port of the node's API.
    #[arg(long, default_value_t = 10550)]
    edge_port: u16,
    /// The port of the embedded cluster's API.
    #[arg(long, default_value_t = 10080)]
    cloud_port: u16,
    /// Keep certificates, cluster and store here. Without it they go when the program ends.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Say nothing but errors.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Websocket,
    Quic,
}

const NODE: &str = "edge-1";
/// What agents on a node usually want, beside what every node gets.
const PREFETCH: [&str; 7] = [
    "namespaces",
    "nodes",
    "pods",
    "services",
    "endpointslices.v1.discovery.k8s.io",
    "networkpolicies.v1.networking.k8s.io",
    "sensors.v1.factory.example.com",
];
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logging::init("error", logging::LogFormat::Text);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quickstart: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let show = Show::new(arguments.quiet);
    let temporary = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = arguments.data_dir.as_deref().unwrap_or(temporary.path());
    let stop = CancellationToken::new();

    show.heading("Cloud");
    let cloud = show
        .step("embedded cluster, tunnel", start_cloud(&arguments, folder))
        .await?;
    let (addresses, cluster, token) = (
        cloud.addresses.clone(),
        cloud
            .embedded
            .clone()
            .ok_or("the embedded cluster is not there")?,
        cloud.join_token()?,
    );
    let cloud_task = tokio::spawn(cloud.run(stop.clone()));
    let api = addresses
        .api
        .ok_or("the cluster's API has no address")?
        .to_string();
    show.step("manifests into the cluster", load(&api, &cluster))
        .await?;

    show.heading("Edge");
    let tunnel = match arguments.transport {
        Transport::Websocket => Wire::tcp(addresses.websocket.ok_or("no tunnel")?).await,
        Transport::Quic => Wire::udp(addresses.quic.ok_or("no tunnel")?).await,
    };
    let wire = tunnel.map_err(|error| error.to_string())?;
    let edge = Edge::bind(&edge_config(
        &arguments,
        folder,
        &addresses,
        wire.address(),
        token,
    ))
    .await?;
    let (store, handle) = (edge.store.clone(), edge.handle());
    let edge_api = edge.api_address()?;
    let twins = edge.twins().ok_or("the node keeps no twins")?;
    let edge_task = tokio::spawn(edge.run(stop.clone()));
    show.step("join token → certificate → link", link(&handle, true))
        .await?;
    show.step("everything it should hold", synced(&store, &cluster))
        .await?;

    show.heading(&format!("What {NODE} holds now"));
    show.table(&["RESOURCE", "HELD", "OBJECTS"], &holdings(&store));

    show.heading("A thermometer beside the node");
    let _mapper = parlour::furnish(&show, folder, &cluster, &api).await?;
    if let Some(outage) = arguments.outage {
        let scene = Scene {
            wire: &wire,
            handle: &handle,
            store: &store,
            twins: &twins,
            cluster: &cluster,
            api: &api,
            edge_api,
        };
        scene.play(&show, outage).await?;
    }

    show.heading("Try");
    show.line(format!("  curl http://{edge_api}/api/v1/namespaces/shop/pods"));
    show.line(format!("  kubectl --server http://{edge_api} get pods -A"));
    show.line(format!(
        "  kubectl --server http://{edge_api} get svc -n shop -w      # and in another terminal:"
    ));
    show.line(format!(
        "  kubectl --server http://{api} label svc web -n shop tier=front    # a change in the cloud"
    ));
    show.line(format!(
        "  kubectl --server http://{api} get devices,devicestatuses -n shop    # the thermometer in the cloud"
    ));
    show.line("\nCtrl-C ends both halves.");

    let interrupted = tokio::signal::ctrl_c();
    let result = tokio::select! {
        _ = interrupted => Ok(()),
        ended = cloud_task => Err(format!("the cloud half ended: {ended:?}")),
        ended = edge_task => Err(format!("the edge half ended: {ended:?}")),
    };
    stop.cancel();
    result
}

async fn start_cloud(arguments: &Arguments, folder: &Path) -> Result<(Cloud, String), String> {
    let mut config = CloudCore::default();
    config.edge_tunnel.admin.socket = PathBuf::new();
    let here = |enable| Listen {
        enable,
        address: "127.0.0.1".into(),
        port: 0,
    };
    let hub = &mut config.modules.cloud_hub;
    hub.websocket = here(matches!(arguments.transport, Transport::Websocket));
    hub.quic = here(matches!(arguments.transport, Transport::Quic));
    hub.https = here(true);
    hub.advertise_address = vec!["127.0.0.1".into(), "localhost".into()];
    let cloud = folder.join("cloud");
    hub.tls_ca_file = cloud.join("ca.crt");
    hub.tls_ca_key_file = cloud.join("ca.key");
    hub.tls_cert_file = cloud.join("server.crt");
    hub.tls_private_key_file = cloud.join("server.key");
    config.common_config.monitor_server.bind_address = String::new();
    config.edge_tunnel.standalone.enable = true;
    config.edge_tunnel.standalone.data_dir = cloud.join("cluster");
    config.edge_tunnel.standalone.server = format!("127.0.0.1:{}", arguments.cloud_port);
    let cloud = Cloud::bind(&config).await?;
    let told = cloud.addresses.to_string();
    Ok((cloud, told))
}

async fn load(api: &str, cluster: &impl ObjectStore) -> Result<((), String), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let objects = manifests(&folder).map_err(|error| error.to_string())?;
    let mut api = Api::connect(api).await.map_err(|error| error.to_string())?;
    for object in &objects {
        api.create(cluster.registry(), object)
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(((), format!("{} objects from examples/manifests", objects.len())))
}

fn edge_config(
    arguments: &Arguments,
    folder: &Path,
    cloud: &Addresses,
    tunnel: SocketAddr,
    token: String,
) -> EdgeCore {
    let mut config = EdgeCore::default();
    let edge = folder.join("edge");
    config.database.data_source = edge.join("edgecore.db");
    config.edge_tunnel.admin.socket = edge.join("edgecore.sock");
    config.modules.device_twin.dmi_sock_path = edge.join("dmi.sock");
    config.modules.edged.hostname_override = NODE.into();
    let hub = &mut config.modules.edge_hub;
    // Quick signs of life, so that an outage is noticed while somebody watches.
    hub.heartbeat = 1;
    hub.token = token;
    hub.http_server = format!(
        "https://{}",
        cloud
            .https
            .map_or_else(String::new, |address| address.to_string())
    );
    hub.tls_ca_file = edge.join("ca.crt");
    hub.tls_cert_file = edge.join("node.crt");
    hub.tls_private_key_file = edge.join("node.key");
    hub.websocket.enable = matches!(arguments.transport, Transport::Websocket);
    hub.websocket.server = tunnel.to_string();
    hub.quic.enable = matches!(arguments.transport, Transport::Quic);
    hub.quic.server = tunnel.to_string();
    config.modules.meta_manager.meta_server.enable = true;
    config.modules.meta_manager.meta_server.server = format!("127.0.0.1:{}", arguments.edge_port);
    // There may be a broker on this machine, which is none of ours.
    config.modules.event_bus.enable = false;
    config.edge_tunnel.prefetch = PREFETCH.map(Into::into).into();
    config
}

/// Waits until the link is up, or down.
async fn link(handle: &EdgeHandle, up: bool) -> Result<((), String), String> {
    let mut link = handle.link();
    let reached = tokio::time::timeout(PATIENCE, link.wait_for(|link| link.is_up() == up)).await;
    match reached {
        Ok(Ok(_)) => Ok(((), if up { "connected".into() } else { "noticed".into() })),
        _ => Err("not within a minute; see the log with RUST_LOG=info".into()),
    }
}

/// Waits until the edge holds every wanted scope, in the versions that the cluster has.
async fn synced(store: &EdgeStore, cluster: &impl ObjectStore) -> Result<((), String), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let missing = missing(store, cluster);
        if missing.is_none() {
            let objects: usize = store
                .resources()
                .iter()
                .map(|r| store.list(r, None).objects.len())
                .sum();
            return Ok(((), format!("{objects} objects")));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{} is missing after a minute",
                missing.unwrap_or_default()
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Something that the edge should hold as the cluster has it, and does not.
fn missing(store: &EdgeStore, cluster: &impl ObjectStore) -> Option<String> {
    let scopes = store.scopes();
    if scopes.len() < PREFETCH.len() {
        return Some("the list of what is wanted".into());
    }
    for (scope, coverage) in scopes {
        if coverage != Coverage::Complete {
            return Some(scope.to_string());
        }
        let versions = |listing: hub_core::store::Listing| -> Vec<_> {
            let mine = listing
                .objects
                .iter()
                .filter(|stored| scope.contains_key(&stored.object.key));
            mine.map(|stored| (stored.object.key.clone(), stored.object.version.clone()))
                .collect()
        };
        let namespace = scope.namespace.as_deref();
        let whole = scope.labels.is_empty() && scope.fields.is_empty();
        let differ = whole
            && versions(cluster.list(&scope.resource, namespace))
                != versions(store.list(&scope.resource, namespace));
        // A node's own lease and status never stand still.
        if differ && &*scope.resource.resource != "nodes" {
            return Some(scope.to_string());
        }
    }
    None
}

fn holdings(store: &EdgeStore) -> Vec<Vec<String>> {
    let mut resources = store.resources();
    resources.sort();
    resources
        .iter()
        .map(|resource| {
            let objects = store.list(resource, None).objects;
            let names: Vec<_> = objects
                .iter()
                .take(4)
                .map(|stored| stored.object.key.name.to_string())
                .collect();
            let more = if objects.len() > names.len() { ", …" } else { "" };
            vec![
                resource.to_string(),
                objects.len().to_string(),
                format!("{}{more}", names.join(", ")),
            ]
        })
        .collect()
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a duration such as 20s"))?;
    match unit {
        "s" | "" => Ok(Duration::from_secs(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(format!("{text:?} is not a duration such as 20s")),
    }
}
