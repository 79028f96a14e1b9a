//! The cloud half, ready to run: `cloudcore --standalone`, or with a KubeEdge `cloudcore.yaml`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use examples::admin::Output;
use examples::cloud::{self, Cloud};
use examples::config::{self, Catalogue, CloudCore, ExampleArguments, Loaded, LogArguments};
use examples::{admin, logging, signal};
use hub_core::node::NodeId;
use tokio_util::sync::CancellationToken;

/// Thousands of connections come and go: the heap must give back what they used.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The cloud half of the edge tunnel: certificates and sessions for nodes, and with --standalone a cluster of its own.
#[derive(Parser)]
#[command(
    version,
    after_help = "Every key of the file can be set by the environment too:\n  CLOUDCORE__MODULES__CLOUDHUB__NODELIMIT=1000\nThe log's level is set by RUST_LOG, such as RUST_LOG=debug."
)]
struct Arguments {
    /// KubeEdge's cloudcore.yaml. Without it the one in /etc/kubeedge/config; without that, KubeEdge's defaults.
    #[arg(long, env = "CLOUDCORE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Use the embedded cluster in place of a Kubernetes API server.
    #[arg(long, env = "CLOUDCORE_STANDALONE")]
    standalone: bool,
    /// Keep certificates and the embedded cluster in this folder (not where the file says).
    #[arg(long, env = "CLOUDCORE_DATA_DIR", global = true)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    example: ExampleArguments,
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print a token with which a node joins, good for twice modules.cloudHub.tokenRefreshDuration hours.
    Token {
        /// Only for this node.
        #[arg(long)]
        node: Option<NodeName>,
    },
    /// Show the nodes of a running cloudcore: who is connected, who hangs, and why. Those that want a look come first.
    Nodes {
        /// Only this one.
        #[arg(long)]
        node: Option<NodeName>,
        /// Show them again every two seconds.
        #[arg(long, short)]
        watch: bool,
        /// How.
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print the effective configuration.
    Config,
}

#[derive(Clone)]
struct NodeName(NodeId);

impl std::str::FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NodeId::new(text).map(Self).map_err(|error| error.to_string())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(example) = arguments.example.wanted(Catalogue::cloudcore()) {
        print!("{example}");
        return ExitCode::SUCCESS;
    }
    logging::init(arguments.log.filter(), arguments.log.format());
    arguments.log.tell();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                eprintln!("cloudcore: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let loaded = effective(&arguments)?;
    let config = &loaded.config;
    match arguments.command {
        Some(Command::Config) => {
            print!("{}", config::to_yaml(config)?);
            Ok(())
        }
        Some(Command::Token { node }) => {
            println!("{}", cloud::join_token(config, node.as_ref().map(|n| &n.0))?);
            Ok(())
        }
        Some(Command::Nodes { node, watch, output }) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| e.to_string())?;
            let node = node.as_ref().map(|node| &node.0);
            runtime.block_on(nodes(&config.edge_tunnel.admin.socket, node, watch, output))
        }
        None => {
            loaded.check().map_err(|error| error.to_string())?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|e| e.to_string())?;
            runtime.block_on(async {
                let stop = CancellationToken::new();
                signal::stop_on_signal(stop.clone());
                let cloud = Cloud::bind(config).await?;
                tracing::info!("cloudcore is ready: {}", cloud.addresses);
                cloud.run(stop).await?;
                tracing::info!("cloudcore has stopped");
                Ok(())
            })
        }
    }
}

/// Asks a running cloudcore for its nodes, and prints them.
async fn nodes(socket: &Path, node: Option<&NodeId>, watch: bool, output: Output) -> Result<(), String> {
    let query = node.map(|node| format!("?node={node}")).unwrap_or_default();
    admin::print(watch, output, async || {
        let answer = admin::ask("cloudcore", socket, &format!("/nodes{query}")).await?;
        Ok(match output {
            Output::Json => String::from_utf8_lossy(&answer).into_owned() + "\n",
            Output::Table => {
                let nodes = serde_json::from_slice(&answer)
                    .map_err(|error| format!("the running cloudcore is another release: {error}"))?;
                admin::table(&nodes)
            }
        })
    })
    .await
}

fn effective(arguments: &Arguments) -> Result<Loaded<CloudCore>, String> {
    let mut loaded: Loaded<CloudCore> = config::of_process(arguments.config.as_deref())?;
    let config = &mut loaded.config;
    let hub = &mut config.modules.cloud_hub;
    config.edge_tunnel.standalone.enable |= arguments.standalone;
    if let Some(folder) = &arguments.data_dir {
        hub.tls_ca_file = folder.join("ca/rootCA.crt");
        hub.tls_ca_key_file = folder.join("ca/rootCA.key");
        hub.tls_cert_file = folder.join("certs/server.crt");
        hub.tls_private_key_file = folder.join("certs/server.key");
        config.edge_tunnel.standalone.data_dir = folder.join("cluster");
        config.edge_tunnel.admin.socket = folder.join("cloudcore.sock");
    }
    if config.edge_tunnel.standalone.enable {
        // A first node is often on the same machine.
        for here in ["127.0.0.1", "localhost"] {
            if !hub.advertise_address.iter().any(|address| address == here) {
                hub.advertise_address.push(here.into());
            }
        }
    }
    Ok(loaded)
}
