//! What is wrong with a configuration, in the words in which an operator is told.

use std::fmt;

use super::given::Place;

/// The configuration cannot be used. The operator's move.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Read(String, std::io::Error),
    /// It has mistakes, one a line.
    Mistakes(Vec<String>),
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(file, error) => write!(f, "cannot read {file}: {error}"),
            Self::Mistakes(mistakes) => f.write_str(&mistakes.join("\n")),
        }
    }
}

/// One mistake: `edgecore.yaml:12:5: modules.edgeHub.heartbeat: expected a number of seconds, got "fifteen"`.
pub(super) fn line(file: &str, place: Option<&Place>, key: &str, what: &str) -> String {
    match place {
        Some(Place::File(line, column)) => format!("{file}:{line}:{column}: {key}: {what}"),
        Some(Place::Variable(name)) => format!("{name}: {what}"),
        None => format!("{key}: {what}"),
    }
}
