//! What is known of the client that asks, beside its request's path.

use http::HeaderMap;
use http::header::{ACCEPT, HeaderName, USER_AGENT};

use crate::request::query;

/// One request's client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// The forms it accepts.
    pub(crate) accept: String,
    /// Whether it wants JSON laid out for people.
    pub(crate) pretty: bool,
    /// Whether a person reads warnings there.
    pub(crate) person: bool,
}

impl Client {
    pub(crate) fn new(headers: &HeaderMap, query_text: &str) -> Self {
        let text = |name: HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let agent = text(USER_AGENT);
        let all: Vec<&str> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let asked = query(query_text)
            .find(|(key, _)| key == "pretty")
            .map(|(_, value)| value);
        Self {
            accept: all.join(","),
            pretty: match asked.as_deref() {
                Some(value) => !matches!(value, "0" | "false"),
                None => ["curl", "Wget", "Mozilla/5.0"]
                    .iter()
                    .any(|browser| agent.starts_with(browser)),
            },
            person: agent.starts_with("kubectl"),
        }
    }
}
