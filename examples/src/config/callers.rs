//! `edgeTunnel.metaServer` of `edgecore.yaml`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::offline_writes;

/// `edgeTunnel.metaServer`: callers who show nothing, where callers must show who they are; what is spoken; and what may be written
/// without the cloud.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Callers {
    /// A loopback address for plain HTTP; empty for none.
    pub plain: String,
    /// A Unix socket; empty for none.
    pub socket: PathBuf,
    /// Who callers are by the user id that they run as; `others` for all others.
    pub callers: BTreeMap<String, String>,
    /// Whether who shows nothing is `system:anonymous`.
    pub anonymous: bool,
    /// How long after its end a token is taken while the cloud is away.
    pub expiry_grace: String,
    /// Whether the API speaks CBOR too.
    pub cbor: bool,
    /// What is taken for the cloud while it is away, and who wins: `[namespace/]resource[.version.group]` with `cloudWins` or
    /// `nodeWins`.
    pub offline_writes: BTreeMap<String, String>,
}

impl Callers {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let host = self
            .plain
            .rsplit_once(':')
            .map(|(host, _)| host.trim_matches(['[', ']']));
        let is_loopback = |host: &str| {
            let address = host.parse::<IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        };
        if host.is_some_and(|host| !is_loopback(host)) {
            let what = "expected an address of loopback: what is sent there is not encrypted, and callers from elsewhere are not known";
            mistakes.push(("edgeTunnel.metaServer.plain", what.into()));
        }
        let is_no_uid = |uid: &&String| *uid != "others" && uid.parse::<u32>().is_err();
        if let Some(uid) = self.callers.keys().find(is_no_uid) {
            let what = format!("expected user ids or `others`, not {uid:?}");
            mistakes.push(("edgeTunnel.metaServer.callers", what));
        }
        if let Err(error) = offline_writes::rules(&self.offline_writes) {
            mistakes.push(("edgeTunnel.metaServer.offlineWrites", error));
        }
        mistakes
    }
}
