//! The table of list and map types is what a kube-apiserver says of its types. Needs such a document, so it runs when it is asked to:
//!
//! ```text
//! kubectl get --raw /openapi/v2 > openapi.json
//! kubectl get --raw /openapi/v3/api/v1 > core.json
//! OPENAPI=openapi.json CORE=core.json cargo test -p hub-core --test list_types -- --ignored          compares
//! OPENAPI=openapi.json CORE=core.json WRITE=1 cargo test -p hub-core --test list_types -- --ignored  writes the table anew
//! ```

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/apply/list_types.txt");

#[test]
#[ignore = "needs OpenAPI documents of a kube-apiserver, in the files that OPENAPI and CORE name"]
fn the_table_says_what_the_documents_say() {
    let document = document("OPENAPI");
    // Only the newer form tells of defaults. The keys of lists that have one are all in the core.
    let core = self::document("CORE");
    let types = document["definitions"].as_object().unwrap();
    // The keys of lists: only their defaults matter.
    let mut keys: BTreeSet<(String, String)> = BTreeSet::new();
    for field in types.values().flat_map(fields) {
        if let Some(element) = field.1["items"]["$ref"].as_str() {
            let element = element.rsplit('/').next().unwrap().to_owned();
            keys.extend(list_keys(field.1).map(|key| (element.clone(), key.to_owned())));
        }
    }
    let mut sections: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
    for (name, schema) in types {
        let Some((group_version, message)) = place(name) else {
            continue;
        };
        let mut line = String::new();
        if schema["x-kubernetes-map-type"] == "atomic" {
            line.push_str(" @atomic");
        }
        for (field, of) in fields(schema) {
            match of["x-kubernetes-list-type"].as_str() {
                Some("set") => write!(line, " {field}@set").unwrap(),
                Some("map") => {
                    write!(line, " {field}@{}", list_keys(of).collect::<Vec<_>>().join(",")).unwrap();
                }
                _ => {}
            }
            if let Some(map) = of["x-kubernetes-map-type"].as_str() {
                write!(line, " {field}@{map}").unwrap();
            }
            let default = &core["components"]["schemas"][name]["properties"][field]["default"];
            if keys.contains(&(name.clone(), field.clone())) && default.is_string() && default != "" {
                write!(line, " {field}={default}").unwrap();
            }
        }
        if !line.is_empty() {
            sections.entry(group_version).or_default().insert(message, line);
        }
    }
    let mut table = HEAD.to_owned();
    for (group_version, messages) in sections {
        writeln!(table, "[{group_version}]").unwrap();
        for (message, line) in messages {
            writeln!(table, "{message}{line}").unwrap();
        }
    }
    if std::env::var_os("WRITE").is_some() {
        fs::write(TABLE, &table).unwrap();
    }
    assert_eq!(fs::read_to_string(TABLE).unwrap(), table);
}

fn document(named: &str) -> Value {
    let document = fs::read(std::env::var(named).unwrap()).unwrap();
    serde_json::from_slice(&document).unwrap()
}

fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn list_keys(field: &Value) -> impl Iterator<Item = &str> {
    let keys = field["x-kubernetes-list-map-keys"].as_array();
    keys.into_iter().flatten().filter_map(Value::as_str)
}

/// `io.k8s.api.apps.v1.Deployment` is `apps/v1` and `Deployment`.
fn place(name: &str) -> Option<(String, &str)> {
    let mut parts = name.strip_prefix("io.k8s.")?.rsplitn(4, '.');
    let (message, version, package) = (parts.next()?, parts.next()?, parts.next()?);
    let group = match package {
        "core" => return Some((version.to_owned(), message)),
        "meta"
        | "admissionregistration"
        | "apiextensions"
        | "apiregistration"
        | "authentication"
        | "authorization"
        | "certificates"
        | "coordination"
        | "discovery"
        | "events"
        | "networking"
        | "node"
        | "resource"
        | "scheduling"
        | "storage" => format!("{package}.k8s.io"),
        "flowcontrol" => "flowcontrol.apiserver.k8s.io".to_owned(),
        "rbac" => "rbac.authorization.k8s.io".to_owned(),
        package => package.to_owned(),
    };
    Some((format!("{group}/{version}"), message))
}

const HEAD: &str = "\
# How the lists and maps of the built-in kinds are merged when they are applied, where that is not as it is anywhere else: lists are
# atomic, maps and structs are granular. Facts from the OpenAPI documents of a kube-apiserver 1.36, written by tests/list_types.rs.
#
# [group/version], then a line a message: its name, `@atomic` for one that is owned as a whole, and of its fields
#   field@set   field@key,key   for lists       field@atomic   field@granular   for maps       field=default   for keys of lists
";
