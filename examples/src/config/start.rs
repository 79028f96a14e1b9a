//! What both programs take from the command line as KubeEdge's do, and print of their configuration.

use std::path::Path;

use clap::{ArgAction, Args};

use super::catalogue::Catalogue;
use super::load::{Configuration, Loaded, load};
use crate::logging::LogFormat;

/// An example of a configuration in place of a start.
#[derive(Debug, Args)]
pub struct ExampleArguments {
    /// Print KubeEdge's whole default configuration, for reference.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
        action = ArgAction::Set)]
    defaultconfig: bool,
    /// Print KubeEdge's smallest configuration, for reference.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
        action = ArgAction::Set)]
    minconfig: bool,
}

/// The flags of klog, Go's logger, as units and scripts of KubeEdge give them.
#[derive(Debug, Args)]
pub struct LogArguments {
    /// How much is logged, as KubeEdge counts: 4 for debugging. RUST_LOG wins.
    #[arg(
        short = 'v',
        long = "v",
        value_name = "LEVEL",
        default_value_t = 0,
        global = true
    )]
    verbosity: i32,
    /// How a line of the log looks.
    #[arg(
        long = "logging-format",
        alias = "log-format",
        value_enum,
        default_value_t,
        global = true
    )]
    format: LogFormat,
    /// Flags without effect here: the log goes to standard error.
    #[command(flatten)]
    klog: KlogArguments,
}

/// Accepted for the sake of existing units. Go's flags take `_` for `-`.
#[derive(Debug, Args)]
struct KlogArguments {
    #[arg(long, hide = true, value_name = "PATTERN")]
    vmodule: Option<String>,
    #[arg(long, hide = true, alias = "log_dir")]
    log_dir: Option<String>,
    #[arg(long, hide = true, alias = "log_file")]
    log_file: Option<String>,
    #[arg(long, hide = true, alias = "log_file_max_size")]
    log_file_max_size: Option<String>,
    #[arg(long, hide = true, alias = "log_flush_frequency")]
    log_flush_frequency: Option<String>,
    #[arg(long, hide = true, alias = "log_backtrace_at")]
    log_backtrace_at: Option<String>,
    #[arg(long, hide = true)]
    stderrthreshold: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    logtostderr: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    alsologtostderr: Option<String>,
    #[arg(long, hide = true, alias = "one_output", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    one_output: Option<String>,
    #[arg(long, hide = true, alias = "add_dir_header", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    add_dir_header: Option<String>,
    #[arg(long, hide = true, alias = "skip_headers", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_headers: Option<String>,
    #[arg(long, hide = true, alias = "skip_log_headers", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_log_headers: Option<String>,
}

impl ExampleArguments {
    /// The example that is wanted, as KubeEdge's program prints it.
    pub fn wanted(&self, catalogue: &Catalogue) -> Option<String> {
        if self.minconfig {
            Some(catalogue.min_config())
        } else {
            self.defaultconfig.then(|| catalogue.default_config())
        }
    }
}

impl LogArguments {
    /// What is logged where RUST_LOG says nothing.
    pub fn filter(&self) -> &'static str {
        match self.verbosity {
            ..=3 => "info",
            _ => "debug",
        }
    }

    /// How a line of the log looks.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Says once which flags have no effect.
    pub fn tell(&self) {
        let klog = &self.klog;
        let files = [&klog.log_dir, &klog.log_file, &klog.log_file_max_size];
        if files.into_iter().any(Option::is_some) {
            tracing::warn!("--log-dir and --log-file have no effect here: the log goes to standard error");
        }
        let parts = [&klog.vmodule, &klog.log_backtrace_at, &klog.stderrthreshold];
        if parts.into_iter().any(Option::is_some) {
            tracing::warn!(
                "--vmodule, --stderrthreshold and --log-backtrace-at have no effect here: RUST_LOG says what is logged"
            );
        }
        let always = [
            &klog.logtostderr,
            &klog.alsologtostderr,
            &klog.log_flush_frequency,
        ];
        let form = [
            &klog.one_output,
            &klog.add_dir_header,
            &klog.skip_headers,
            &klog.skip_log_headers,
        ];
        if always.into_iter().chain(form).any(Option::is_some) {
            tracing::debug!(
                "klog's flags of form have no effect here: events go to standard error at once, one a line"
            );
        }
    }
}

/// The configuration of this process: the file, or the one at KubeEdge's place for it, and the environment. Keys without effect
/// are named in the log, once.
pub fn of_process<T: Configuration>(file: Option<&Path>) -> Result<Loaded<T>, String> {
    let usual = Path::new("/etc/kubeedge/config").join(format!("{}.yaml", T::catalogue().program));
    let file = file.or_else(|| usual.exists().then_some(usual.as_path()));
    let loaded = load::<T>(file, std::env::vars()).map_err(|error| error.to_string())?;
    match file {
        Some(file) => tracing::info!("the configuration is {}", file.display()),
        None => tracing::info!("there is no configuration file: KubeEdge's defaults are in effect"),
    }
    for word in &loaded.words {
        tracing::warn!("configuration: {word}");
    }
    Ok(loaded)
}

/// The token in the file that `keadm join` leaves until the node has its certificate, if there is one.
pub fn bootstrap_token(file: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(file) {
        Ok(token) => Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

/// The effective configuration as a file, its keys in KubeEdge's order.
pub fn to_yaml<T: Configuration>(config: &T) -> Result<String, String> {
    let tree = serde_json::to_value(config).map_err(|error| error.to_string())?;
    serde_saphyr::to_string(&tree).map_err(|error| error.to_string())
}
