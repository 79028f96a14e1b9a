//! Many simulated edges against one cloud process: what holding and feeding them costs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::cloud::Addresses;
use examples::fleet::{Cloud, Fleet, FleetConfig, Report, backlog, connect, fan_out, idle, live, storm};
use hub_core::transport::Endpoint;

/// Simulated edges over real sockets: connections, memory of the cloud process, messages a second, delivery latency.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Edges to connect.
    #[arg(long, default_value_t = 1000)]
    edges: usize,
    /// Over QUIC in place of WebSocket.
    #[arg(long)]
    quic: bool,
    /// Pods bound to one edge that is away; 0 leaves this out.
    #[arg(long, default_value_t = 10_000)]
    backlog: usize,
    /// Pods created one after another for a connected edge; 0 leaves this out.
    #[arg(long, default_value_t = 500)]
    live: usize,
    /// Seconds to leave everybody alone; 0 leaves this out.
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// Each edge registers its Node, renews its lease and reports its status, as kubelets do.
    #[arg(long)]
    nodes: bool,
    /// Have all edges come back at once: to the living cloud, and to one that was killed.
    #[arg(long)]
    storm: bool,
    /// Handshakes at once.
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// The cloudcore program; by default the one beside this program.
    #[arg(long)]
    cloudcore: Option<PathBuf>,
    /// In front of the API server that this file names, in place of the embedded cluster.
    #[arg(long, requires = "api")]
    kubeconfig: Option<PathBuf>,
    /// That server's API over plain HTTP, as `kubectl proxy` offers it: HOST:PORT.
    #[arg(long, requires = "kubeconfig")]
    api: Option<String>,
    /// Print JSON only.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fleet: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&arguments)) {
        Ok(report) if arguments.json => println!("{:#}", report.json()),
        Ok(report) => print!("{}", report.table()),
        Err(error) => {
            eprintln!("fleet: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What begins now: the figures come at the end, which may be minutes away.
fn say(what: &str) {
    eprintln!("fleet: {what} …");
}

async fn run(arguments: &Arguments) -> Result<Report, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (cloud, addresses, token) = start_cloud(arguments, folder.path()).await?;
    let endpoint = |address: Option<SocketAddr>| {
        address
            .and_then(|address| Endpoint::parse(&address.to_string()))
            .ok_or("the cloud did not say where it listens")
    };
    let embedded = addresses.api.map(|api| api.to_string());
    let api = arguments.api.clone().or(embedded).ok_or("the cloud has no API")?;
    let config = FleetConfig {
        tunnel: endpoint(if arguments.quic {
            addresses.quic
        } else {
            addresses.websocket
        })?,
        https: endpoint(addresses.https)?,
        token,
        quic: arguments.quic,
        concurrency: arguments.concurrency,
        nodes: arguments.nodes,
        folder: folder.path().join("edges"),
    };

    let mut report = Report::default();
    // One edge more than is connected at first: the one that is away.
    say(&format!("{} edges join", arguments.edges));
    let mut fleet = Fleet::enroll(config, arguments.edges + 1).await?;
    connect(&mut fleet, &cloud, arguments.edges, &mut report).await?;
    if arguments.idle > 0 {
        say(&format!("{} s of rest", arguments.idle));
        idle(
            &cloud,
            addresses.metrics,
            arguments.edges,
            Duration::from_secs(arguments.idle),
            &mut report,
        )
        .await?;
    }
    if arguments.live > 0 {
        say(&format!(
            "{} pods for one edge, one after another",
            arguments.live
        ));
        live(&mut fleet, &api, 0, arguments.live, &mut report).await?;
    }
    say("a ConfigMap that all edges need");
    fan_out(&mut fleet, &cloud, &api, arguments.edges, &mut report).await?;
    if arguments.backlog > 0 {
        say(&format!("{} pods for an edge that is away", arguments.backlog));
        backlog(
            &mut fleet,
            &cloud,
            &api,
            arguments.edges,
            arguments.backlog,
            &mut report,
        )
        .await?;
    }
    if arguments.storm {
        say("all edges come back at once");
        storm(&mut fleet, &cloud, "the same cloud", arguments.edges, &mut report).await?;
        cloud.kill().await.map_err(|error| error.to_string())?;
        let (cloud, addresses, _) = start_cloud(arguments, folder.path()).await?;
        fleet.follow(endpoint(if arguments.quic {
            addresses.quic
        } else {
            addresses.websocket
        })?);
        storm(
            &mut fleet,
            &cloud,
            "a cloud after kill -9",
            arguments.edges,
            &mut report,
        )
        .await?;
    }
    Ok(report)
}

async fn start_cloud(
    arguments: &Arguments,
    folder: &std::path::Path,
) -> Result<(Cloud, Addresses, String), String> {
    let program = match &arguments.cloudcore {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|e| e.to_string())?
            .with_file_name("cloudcore"),
    };
    if !program.exists() {
        return Err(format!(
            "{} is missing: cargo build --release --bins",
            program.display()
        ));
    }
    let config = folder.join("cloudcore.yaml");
    let cluster = match &arguments.kubeconfig {
        Some(file) => format!(
            "kubeAPIConfig: {{kubeConfig: {:?}}}\nedgeTunnel: {{certificates: {{shared: false}}}}\n",
            std::path::absolute(file).map_err(|error| error.to_string())?
        ),
        None => "edgeTunnel: {standalone: {server: '127.0.0.1:0'}}\n".to_owned(),
    };
    let yaml = "modules:\n  cloudHub:\n    nodeLimit: 200000\n    advertiseAddress: [127.0.0.1]\n    \
         websocket: {address: 127.0.0.1, port: 0}\n    quic: {enable: true, address: 127.0.0.1, port: 0}\n    \
         https: {address: 127.0.0.1, port: 0}\ncommonConfig: {monitorServer: {bindAddress: '127.0.0.1:0'}}\n";
    std::fs::write(&config, format!("{yaml}{cluster}")).map_err(|error| error.to_string())?;
    let data = folder.join("cloud");
    let text = |path: &std::path::Path| path.display().to_string();
    let mut options = vec!["--config".into(), text(&config), "--data-dir".into(), text(&data)];
    if arguments.kubeconfig.is_none() {
        options.push("--standalone".into());
    }
    let (cloud, line) = Cloud::start(program.clone(), &options, "is ready")
        .await
        .map_err(|e| e.to_string())?;

    let token = tokio::process::Command::new(program)
        .args(options.iter().map(String::as_str).chain(["token"]))
        .output()
        .await
        .map_err(|error| error.to_string())?;
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    Ok((cloud, Addresses::parse(&line), token))
}
