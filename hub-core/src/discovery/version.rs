//! `/version`: which Kubernetes a server is like.

use bytes::Bytes;

/// The release of Kubernetes that the built-in kinds are those of.
pub const KUBERNETES: &str = "v1.36.2";

/// The document. `emulationMajor` and the like say the same release: there is no other behind it.
pub fn document(git_version: &str) -> Bytes {
    let mut numbers = git_version.trim_start_matches('v').split('.');
    let mut next = || numbers.next().unwrap_or_default();
    let (major, minor) = (next(), next());
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let info = format!(
        r#"{{"major":"{major}","minor":"{minor}","emulationMajor":"{major}","emulationMinor":"{minor}","minCompatibilityMajor":"{major}","minCompatibilityMinor":"{minor}","gitVersion":"{git_version}","gitCommit":"unknown","gitTreeState":"clean","buildDate":"1970-01-01T00:00:00Z","goVersion":"none","compiler":"rustc","platform":"linux/{architecture}"}}"#
    );
    info.into()
}
