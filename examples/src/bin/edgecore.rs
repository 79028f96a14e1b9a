//! The node half, ready to run, with a KubeEdge `edgecore.yaml`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use examples::config::{self, Catalogue, EdgeCore, ExampleArguments, Loaded, LogArguments};
use examples::edge::Edge;
use examples::{logging, signal};
use tokio_util::sync::CancellationToken;

/// The node half of the edge tunnel: joins the cloud, keeps what the node needs, and serves it on the node's own Kubernetes API.
#[derive(Parser)]
#[command(
    version,
    after_help = "Every key of the file can be set by the environment too:\n  EDGECORE__MODULES__EDGEHUB__TOKEN=…\nThe log's level is set by RUST_LOG, such as RUST_LOG=debug."
)]
struct Arguments {
    /// KubeEdge's edgecore.yaml. Without it the one in /etc/kubeedge/config; without that, KubeEdge's defaults.
    #[arg(long, env = "EDGECORE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Keep certificates and the store in this folder (not where the file says).
    #[arg(long, env = "EDGECORE_DATA_DIR", global = true)]
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
    /// Print the effective configuration.
    Config,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(example) = arguments.example.wanted(Catalogue::edgecore()) {
        print!("{example}");
        return ExitCode::SUCCESS;
    }
    logging::init(arguments.log.filter());
    arguments.log.tell();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                eprintln!("edgecore: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let loaded = effective(&arguments)?;
    let config = &loaded.config;
    if let Some(Command::Config) = arguments.command {
        print!("{}", config::to_yaml(config)?);
        return Ok(());
    }
    loaded.check().map_err(|error| error.to_string())?;
    // One thread: a node has better use for the others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        signal::stop_on_signal(stop.clone());
        let edge = Edge::bind(config).await?;
        tracing::info!("edgecore is ready: {}", edge.addresses());
        edge.run(stop).await?;
        tracing::info!("edgecore has stopped");
        Ok(())
    })
}

fn effective(arguments: &Arguments) -> Result<Loaded<EdgeCore>, String> {
    let mut loaded: Loaded<EdgeCore> = config::of_process(arguments.config.as_deref())?;
    let config = &mut loaded.config;
    let hub = &mut config.modules.edge_hub;
    if let Some(token) = config::bootstrap_token(Path::new(BOOTSTRAP))? {
        hub.token = token;
    }
    if let Some(folder) = &arguments.data_dir {
        hub.tls_ca_file = folder.join("ca/rootCA.crt");
        hub.tls_cert_file = folder.join("certs/server.crt");
        hub.tls_private_key_file = folder.join("certs/server.key");
        config.database.data_source = folder.join("edgecore.db");
    }
    Ok(loaded)
}

/// Where `keadm join` leaves the token, until the node has its certificate (KubeEdge: `constants.BootstrapFile`).
const BOOTSTRAP: &str = "/etc/kubeedge/bootstrap-edgecore.conf";
