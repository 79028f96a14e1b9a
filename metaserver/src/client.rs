//! What is known of the client that asks, beside its request's path.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName, USER_AGENT};

use crate::accept::Form;
use crate::auth::Caller;
use crate::request::query;

/// One request's client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// The forms it accepts.
    pub(crate) accept: String,
    /// Whether it reads answers that are compressed.
    pub(crate) gzip: bool,
    /// Whether CBOR is among the forms that there are.
    pub(crate) cbor: bool,
    /// Whether it wants JSON laid out for people.
    pub(crate) pretty: bool,
    /// Whether a person reads warnings there.
    pub(crate) person: bool,
    /// What it calls itself.
    pub(crate) agent: String,
    /// Who owns what it writes, unless it names somebody.
    pub(crate) manager: String,
    /// In whose name its request is carried on.
    pub(crate) caller: Caller,
}

impl Client {
    pub(crate) fn new(headers: &HeaderMap, query_text: &str, cbor: bool) -> Self {
        // Of several headers a real server reads the first.
        let text = |name: HeaderName| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default()
        };
        let agent = text(USER_AGENT);
        let asked = query(query_text).find(|(key, value)| key == "pretty" && !value.is_empty());
        Self {
            accept: text(ACCEPT).to_owned(),
            gzip: text(ACCEPT_ENCODING)
                .split(',')
                .any(|coding| coding.trim() == "gzip"),
            cbor,
            pretty: match asked {
                Some((_, value)) => matches!(&*value, "1" | "t" | "T" | "TRUE" | "true" | "True"),
                None => ["curl", "Wget", "Mozilla/5.0"]
                    .iter()
                    .any(|browser| agent.starts_with(browser)),
            },
            person: agent.starts_with("kubectl"),
            agent: agent.chars().take(AGENT_MAX).collect(),
            manager: manager(agent),
            caller: Caller::Own,
        }
    }

    /// The form in which it is told what went wrong.
    pub(crate) fn status_form(&self) -> Form {
        Form::of_status(&self.accept, self.cbor, self.pretty)
    }
}

/// Characters of a client's name that are kept.
const AGENT_MAX: usize = 120;

/// The program of a User-Agent, as a kube-apiserver names managers of fields by it.
fn manager(agent: &str) -> String {
    let program = agent.split('/').next().unwrap_or_default();
    let shown: String = program
        .chars()
        .filter(|letter| !letter.is_control())
        .take(MANAGER_BYTES_MAX)
        .collect();
    if shown.is_empty() { "unknown".into() } else { shown }
}

/// Kubernetes `apimachinery/pkg/apis/meta/v1/validation`. A header that is text is ASCII.
const MANAGER_BYTES_MAX: usize = 128;
