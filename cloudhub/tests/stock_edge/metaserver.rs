//! What a Go edge's metaServer does with the objects that come down (`edge/pkg/metamanager/metaserver/kubernetes/storage/sqlite`): its
//! own table, and the events that a client hears who watches through it.

use std::collections::BTreeMap;

use serde_json::Value;

/// The table, and one client that may watch all of it.
#[derive(Debug, Default)]
pub(crate) struct MetaServer {
    /// The newest version that was ever stored.
    revision: u64,
    /// Objects by `<kind>/<namespace>/<name>`.
    pub(crate) table: BTreeMap<String, Value>,
    /// From which version on the client hears of changes.
    listens: Option<u64>,
    /// What it heard: the operation and whose it was.
    pub(crate) heard: Vec<(String, String)>,
}

impl MetaServer {
    /// A client watches: it hears of what is there, and from now on of what changes (`watcher.go`).
    pub(crate) fn listen(&mut self) {
        let there = self.table.keys().map(|key| ("insert".into(), key.clone()));
        self.heard.extend(there);
        self.listens = Some(self.revision + 1);
    }

    /// A message came down (`imitator.Inject`).
    pub(crate) fn inject(&mut self, message: &Value) {
        let object = &message["content"];
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let (kind, operation) = (text(&object["kind"]), text(&message["route"]["operation"]));
        // What does not say what it is cannot be decoded, and is passed over.
        if kind.is_empty() || message["header"].get("parent_msg_id").is_some() {
            return;
        }
        let key = format!(
            "{kind}/{}/{}",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        let version = text(&metadata["resourceVersion"]).parse().unwrap_or(0);
        match &*operation {
            "insert" | "update" => {
                self.revision = self.revision.max(version);
                self.table.insert(key.clone(), object.clone());
            }
            "delete" => drop(self.table.remove(&key)),
            _ => return,
        }
        if self.listens.is_some_and(|after| after < version) {
            self.heard.push((operation, key));
        }
    }
}
