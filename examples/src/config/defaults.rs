//! KubeEdge's defaults, from what its programs print, and ours.

use std::net::IpAddr;

use serde_json::Value;

use super::catalogue::{Catalogue, Fate};
use super::given::Given;
use super::host::Host;
use super::kind::Kind;

impl Catalogue {
    /// What KubeEdge's program prints for `--defaultconfig` on this host.
    pub fn default_config(&self) -> String {
        fill(self.default, &Host::this())
    }

    /// What KubeEdge's program prints for `--minconfig` on this host.
    pub fn min_config(&self) -> String {
        fill(self.min, &Host::this())
    }

    /// The defaults of all keys that have one: KubeEdge's, and ours.
    pub(super) fn defaults(&self, host: &Host) -> Value {
        let parse = |text: &str| Given::parse(text).map_or(Value::Null, |given| given.to_json());
        let mut defaults = parse(&fill(self.default, host));
        merge(&mut defaults, parse(self.ours));
        defaults
    }

    /// The defaults of the keys that have an effect here.
    pub(super) fn honoured(&self, defaults: &Value) -> Value {
        let mut tree = Value::Null;
        for key in self.keys() {
            if let (Fate::Honoured(_), Some(value)) = (key.run.fate, at(defaults, &key.path())) {
                let mut value = value.clone();
                if let (Kind::Texts, Some(items)) = (key.kind, value.as_array_mut()) {
                    // `dnsNames: [""]` is KubeEdge's way to say that there are none.
                    items.retain(|item| item != "");
                }
                set(&mut tree, &key.path(), value);
            }
        }
        tree
    }
}

/// The value of a key.
pub(super) fn at<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |tree, name| tree.get(name))
}

/// Sets the value of a key.
pub(super) fn set(tree: &mut Value, path: &str, value: Value) {
    let place = path.split('.').fold(tree, |tree, name| {
        if !tree.is_object() {
            *tree = Value::Object(serde_json::Map::new());
        }
        &mut tree[name]
    });
    *place = value;
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn fill(recorded: &str, host: &Host) -> String {
    let before_port = match host.address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    recorded
        .replace("{{address}}:", &format!("{before_port}:"))
        .replace("{{address}}", &host.address.to_string())
        .replace("{{host}}", &host.name)
}
