//! A mapper of simulated thermometers for an `edgecore`, by KubeEdge's device mapper interface.
//!
//! `cargo run --bin thermometer -- --node /etc/kubeedge/dmi.sock`, and devices as in `examples/thermometer.yaml`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::signal::stop_on_signal;
use examples::thermometer::{ThermometerConfig, run};
use tokio_util::sync::CancellationToken;

/// Simulated thermometers with a setpoint.
#[derive(Parser)]
struct Options {
    /// The node's socket: modules.deviceTwin.dmiSockPath of its edgecore.yaml.
    #[arg(long, default_value = "/etc/kubeedge/dmi.sock")]
    node: PathBuf,
    /// Where the node finds this mapper.
    #[arg(long, default_value = "/tmp/thermometer.sock")]
    socket: PathBuf,
    /// Devices with this protocol are served.
    #[arg(long, default_value = "thermometer")]
    protocol: String,
    /// Milliseconds between two reports.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    every_ms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    examples::logging::init("info", examples::logging::LogFormat::Text);
    let options = Options::parse();
    let config = ThermometerConfig {
        node: options.node,
        socket: options.socket,
        protocol: options.protocol,
        every: Duration::from_millis(options.every_ms),
    };
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone());
    let ended = stop
        .run_until_cancelled(run(config.clone()))
        .await
        .unwrap_or(Ok(()));
    let _ = std::fs::remove_file(&config.socket);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thermometer: {error}");
            ExitCode::FAILURE
        }
    }
}
