//! The node half, ready to run, with a KubeEdge `edgecore.yaml`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use examples::admin::meta::Allowed;
use examples::admin::{Output, meta_table};
use examples::config::{self, Catalogue, EdgeCore, ExampleArguments, Loaded, LogArguments};
use examples::edge::Edge;
use examples::{admin, logging, signal};
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
    /// Ask a running edgecore what it holds, who watches, what waits for the cloud, and why it answers as it does.
    Meta {
        #[command(subcommand)]
        question: Question,
        /// Show it again every two seconds.
        #[arg(long, short, global = true)]
        watch: bool,
        /// How.
        #[arg(long, short, value_enum, default_value_t = Output::Table, global = true)]
        output: Output,
    },
    /// Ask a running edgecore for the devices beside the node: what each should be, what it is, and what the cloud has not heard.
    Twins {
        /// Show it again every two seconds.
        #[arg(long, short)]
        watch: bool,
        /// How.
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print the effective configuration.
    Config,
}

#[derive(Subcommand)]
enum Question {
    /// What of the cluster is held, how surely, and what of it is in doubt.
    Scopes,
    /// The open watches.
    Watchers,
    /// What is still to be told to the cloud, and what it did not take.
    Journal,
    /// The tokens of service accounts that are kept for the pods of the node; not the tokens themselves.
    Tokens,
    /// What a GET of a path of the API would be answered, from where, and why.
    Why {
        /// Such as /api/v1/namespaces/default/configmaps?labelSelector=app%3Dweb
        path: String,
        /// Whether this user may have it, such as system:serviceaccount:kube-system:flannel, or group:NAME for anybody in a group
        #[arg(long = "as", value_name = "USER")]
        asker: Option<String>,
    },
    /// Believe the cloud that the objects are gone whose deletion is held back.
    Allow {
        /// As `meta scopes` shows it.
        #[arg(required_unless_present = "all")]
        scope: Option<String>,
        /// In all scopes.
        #[arg(long, conflicts_with = "scope")]
        all: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(example) = arguments.example.wanted(Catalogue::edgecore()) {
        print!("{example}");
        return ExitCode::SUCCESS;
    }
    logging::init(arguments.log.filter(), arguments.log.format());
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
    let loaded = match arguments.command {
        Some(Command::Config) => {
            print!("{}", config::to_yaml(config)?);
            return Ok(());
        }
        Some(Command::Meta {
            question,
            watch,
            output,
        }) => {
            let socket = &config.edge_tunnel.admin.socket;
            return runtime()?.block_on(meta(socket, &question, watch, output));
        }
        Some(Command::Twins { watch, output }) => {
            return runtime()?.block_on(twins(&config.edge_tunnel.admin.socket, watch, output));
        }
        None => &loaded,
    };
    loaded.check().map_err(|error| error.to_string())?;
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        signal::stop_on_signal(stop.clone());
        let edge = Edge::bind(config).await?;
        tracing::info!("edgecore is ready: {}", edge.addresses());
        edge.run(stop).await?;
        tracing::info!("edgecore has stopped");
        Ok(())
    })
}

/// One thread: a node has better use for the others.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|error| error.to_string())
}

/// Asks a running edgecore, and prints what it says.
async fn meta(socket: &Path, question: &Question, watch: bool, output: Output) -> Result<(), String> {
    let query = |name: &str, value: &str| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(name, value).finish()
    };
    let path = match question {
        Question::Scopes => "/scopes".to_owned(),
        Question::Watchers => "/watchers".to_owned(),
        Question::Journal => "/journal".to_owned(),
        Question::Tokens => "/tokens".to_owned(),
        Question::Why { path, asker } => {
            let asker = asker.as_deref().map(|asker| format!("&{}", query("as", asker)));
            format!("/why?{}{}", query("path", path), asker.unwrap_or_default())
        }
        Question::Allow { scope, .. } => {
            let scope = scope.as_deref().unwrap_or_default();
            let answer =
                admin::tell("edgecore", socket, &format!("/allow?{}", query("scope", scope))).await?;
            let allowed: Allowed = read(&answer)?;
            println!("{} objects were deleted", allowed.deletions);
            return Ok(());
        }
    };
    admin::print(watch, output, async || {
        let answer = admin::ask("edgecore", socket, &path).await?;
        Ok(match (output, question) {
            (Output::Json, _) => String::from_utf8_lossy(&answer).into_owned() + "\n",
            (_, Question::Watchers) => meta_table::watchers(&read(&answer)?),
            (_, Question::Journal) => meta_table::journal(&read(&answer)?),
            (_, Question::Tokens) => meta_table::tokens(&read(&answer)?),
            (_, Question::Why { .. }) => meta_table::why(&read(&answer)?),
            (_, Question::Scopes | Question::Allow { .. }) => meta_table::scopes(&read(&answer)?),
        })
    })
    .await
}

async fn twins(socket: &Path, watch: bool, output: Output) -> Result<(), String> {
    admin::print(watch, output, async || {
        let answer = admin::ask("edgecore", socket, "/twins").await?;
        Ok(match output {
            Output::Json => String::from_utf8_lossy(&answer).into_owned() + "\n",
            Output::Table => admin::twins::table(&read(&answer)?),
        })
    })
    .await
}

fn read<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    serde_json::from_slice(answer)
        .map_err(|error| format!("the running edgecore is another release: {error}"))
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
        config.edge_tunnel.admin.socket = folder.join("edgecore.sock");
        config.modules.device_twin.dmi_sock_path = folder.join("dmi.sock");
    }
    Ok(loaded)
}

/// Where `keadm join` leaves the token, until the node has its certificate (KubeEdge: `constants.BootstrapFile`).
const BOOTSTRAP: &str = "/etc/kubeedge/bootstrap-edgecore.conf";
