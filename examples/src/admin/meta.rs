//! What an operator asks a node: `edgecore meta scopes | watchers | journal | tokens | why | allow`.

use std::borrow::Cow;

use bytes::Bytes;
use edgehub::store::EdgeStore;
use edgehub::{EdgeHandle, KeptToken};
use http_body_util::Full;
use hub_core::clock::{Clock, SystemClock};
use hub_core::store::{Journal as _, ObjectStore as _};
use hyper::{Method, Response, StatusCode};
use metaserver::{MetaServer, Scopes, WatchReport, WriteConflict};
use serde::{Deserialize, Serialize};

use super::{json, refuse};
use crate::port::Trouble;

/// Everything that can be asked.
#[derive(Clone)]
pub struct Meta {
    /// The node's API, served or not.
    pub server: MetaServer,
    /// The way to the cloud.
    pub handle: EdgeHandle,
    /// What is held.
    pub store: EdgeStore,
    /// Why the API does not listen, where it should.
    pub api_trouble: Trouble,
}

/// `/scopes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaScopes {
    /// The scopes.
    #[serde(flatten)]
    pub held: Scopes,
    /// Why the node's API does not listen; none while it does, or should not.
    pub api_trouble: Option<String>,
    /// Why changes are refused; none while the disk takes them.
    pub store_trouble: Option<String>,
    /// What should be known of the store though it works.
    pub store_notice: Option<String>,
}

/// `/watchers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Watchers {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// One each.
    pub watchers: Vec<WatchReport>,
}

/// `/journal`: what is still to be told to the cloud.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalReport {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Messages that wait.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Events that made room for newer ones since the start.
    pub dropped: u64,
    /// The first of them, in the order in which they will be told.
    pub first: Vec<Waiting>,
    /// Objects written here while the cloud was away, in the order in which they will be told.
    pub writes: Vec<Waiting>,
    /// What the cloud did not take.
    pub conflicts: Vec<WriteConflict>,
}

/// Something that waits for the cloud.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// What it is about.
    pub about: String,
    /// Its lane, or its class.
    pub lane: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// How many writes are in it.
    pub writes: u64,
}

/// `/tokens`: the tokens of service accounts that the node keeps for its pods, without the tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptTokens {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Those that end first in front.
    pub tokens: Vec<KeptToken>,
}

/// `/allow`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowed {
    /// Objects that were deleted.
    pub deletions: usize,
}

/// Answers `GET /scopes`, `/watchers`, `/journal`, `/tokens`, `/why?path=…&as=…` and `POST /allow?scope=…`, with all scopes where none is named.
pub async fn answer_meta(meta: Meta, method: Method, path: String) -> Response<Full<Bytes>> {
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let value = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value)
    };
    match (method, path) {
        (Method::GET, "/scopes") => json(&MetaScopes {
            held: meta.server.scopes(),
            api_trouble: meta.api_trouble.get(),
            store_trouble: meta.store.trouble(),
            store_notice: meta.store.notice(),
        }),
        (Method::GET, "/watchers") => json(&Watchers {
            at_ms: SystemClock.unix_ms(),
            watchers: meta.server.watchers(),
        }),
        (Method::GET, "/journal") => json(&journal(&meta)),
        (Method::GET, "/tokens") => json(&KeptTokens {
            at_ms: SystemClock.unix_ms(),
            tokens: meta.handle.kept_tokens(),
        }),
        (Method::GET, "/why") => match value("path") {
            Some(path) if path.starts_with('/') => json(&match value("as") {
                Some(asker) => meta.server.why_for(&path, &asker),
                None => meta.server.why(&path),
            }),
            _ => refuse(
                StatusCode::BAD_REQUEST,
                "the query is path=/api/…, and as=USER where it is about one",
            ),
        },
        (Method::POST, "/allow") => {
            let scope = value("scope").unwrap_or(Cow::Borrowed(""));
            match meta.handle.allow_deletions(&scope).await {
                Ok(0) => refuse(
                    StatusCode::NOT_FOUND,
                    "nothing is held back there: see edgecore meta scopes",
                ),
                Ok(deletions) => json(&Allowed { deletions }),
                Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            }
        }
        _ => refuse(
            StatusCode::NOT_FOUND,
            "there is GET /scopes, /watchers, /journal, /tokens, /why?path=…&as=… and POST /allow?scope=…",
        ),
    }
}

fn journal(meta: &Meta) -> JournalReport {
    let depth = meta.store.depth();
    let first = meta.store.first(SHOWN_MAX).into_iter().map(|entry| Waiting {
        about: entry.draft.key.to_string(),
        lane: entry.draft.lane.as_str().into(),
        since_ms: entry.draft.created_ms,
        writes: 1,
    });
    let first = first.collect();
    let local = meta.server.local_journal();
    let writes = local.pending.into_iter().map(|pending| Waiting {
        about: pending.path,
        lane: format!("{:?}", pending.class).to_lowercase(),
        since_ms: pending.since_ms,
        writes: pending.writes,
    });
    JournalReport {
        at_ms: SystemClock.unix_ms(),
        messages: depth.entries,
        bytes: depth.bytes,
        dropped: depth.dropped,
        first,
        writes: writes.collect(),
        conflicts: local.conflicts,
    }
}

/// Messages of the journal that are shown; their number is told in any case.
const SHOWN_MAX: usize = 100;
