//! Answers of a real kube-apiserver 1.36, recorded, against ours.

#![allow(clippy::unwrap_used, reason = "a test may")]

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hub_core::api::{ApiRequest, UpstreamError};
use hub_core::registry::Registry;
use hub_core::store::{MemoryStore, StoreLimits};
use hub_core::testing::store::put_documents;
use metaserver::{MetaConfig, MetaServer, Revisions};
use serde_json::Value;
use tower::{ServiceExt as _, service_fn};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

async fn server(objects: &[Value]) -> MetaServer {
    let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
    let definitions: Vec<Value> = serde_json::from_str(include_str!("golden/definitions.json")).unwrap();
    put_documents(&store, definitions.iter().chain(objects)).await;
    let config = MetaConfig {
        revisions: Revisions::Authoritative,
        version_timeout: std::time::Duration::from_millis(50),
        ..MetaConfig::default()
    };
    MetaServer::with_config(
        config,
        store,
        service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable)),
    )
}

/// Those that a cluster was recorded with, and those that were put to a kube-apiserver because ours differed.
fn cases(files: &[&str]) -> Vec<Value> {
    let read = |file: &&str| serde_json::from_str::<Vec<Value>>(file).unwrap();
    files.iter().flat_map(read).collect()
}

async fn ask(server: &MetaServer, method: &str, path: &str, accept: &str) -> (u16, String, Bytes) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", accept)
        .header("user-agent", "kubectl/v1.32.4")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let answer = server.service().oneshot(request).await.unwrap();
    let content_type = answer
        .headers()
        .get("content-type")
        .map_or("", |value| value.to_str().unwrap());
    let (code, content_type) = (answer.status().as_u16(), content_type.to_owned());
    (
        code,
        content_type,
        answer.into_body().collect().await.unwrap().to_bytes(),
    )
}

#[tokio::test]
async fn what_is_refused_or_answered_is_so_in_the_recorded_words() {
    let cases = cases(&[
        include_str!("golden/refusals.json"),
        include_str!("golden/answers.json"),
    ]);
    let server = server(&[]).await;
    let mut faults = Vec::new();
    for case in &cases {
        let text = |field: &str| case[field].as_str().unwrap_or_default();
        let (code, content_type, body) = ask(&server, text("method"), text("path"), text("accept")).await;
        let shown = format!("{} {}", text("method"), text("path"));
        if code != case["code"] || content_type != text("contentType") {
            faults.push(format!("{shown}: {code} {content_type}"));
            continue;
        }
        let Some(message) = case["message"].as_str().filter(|_| text("method") != "HEAD") else {
            continue;
        };
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (ours, reason) = match &status {
            Value::Null => (String::from_utf8_lossy(&body).into_owned(), &Value::Null),
            status => (
                status["message"].as_str().unwrap_or_default().to_owned(),
                &status["reason"],
            ),
        };
        // The one number in these texts that is not the same everywhere: the server's newest revision.
        let cut = |text: &str| text.split("current: ").next().unwrap_or_default().to_owned();
        if cut(&ours) != cut(message) || *reason != case["reason"] {
            faults.push(format!("{shown}: {ours}"));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

#[tokio::test]
async fn tables_have_the_recorded_columns_and_cells() {
    let cases = cases(&[
        include_str!("golden/tables.json"),
        include_str!("golden/cells.json"),
    ]);
    let objects: Vec<Value> = cases.iter().map(|case| case["object"].clone()).collect();
    let server = server(&objects).await;
    let mut faults = Vec::new();
    for case in &cases {
        let name = case["object"]["metadata"]["name"].as_str().unwrap();
        let path = format!("{}/{name}", case["path"].as_str().unwrap());
        let namespace = case["object"]["metadata"]["namespace"].as_str();
        let path = match (namespace, path.contains("/namespaces/")) {
            (Some(namespace), false) => {
                let (front, resource) = case["path"].as_str().unwrap().rsplit_once('/').unwrap();
                format!("{front}/namespaces/{namespace}/{resource}/{name}")
            }
            _ => path,
        };
        let (code, _, body) = ask(&server, "GET", &path, TABLE).await;
        let table: Value = serde_json::from_slice(&body).unwrap();
        let columns: Vec<&Value> = table["columnDefinitions"]
            .as_array()
            .map_or(vec![], |all| all.iter().map(|c| &c["name"]).collect());
        let cells = &table["rows"][0]["cells"];
        let same = code == 200
            && columns == case["columns"].as_array().unwrap().iter().collect::<Vec<_>>()
            && alike(cells, &case["cells"]);
        if !same {
            faults.push(format!("{path}\n  {code} {cells}\n  {}", case["cells"]));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

/// Equal but for ages, which go on.
fn alike(ours: &Value, recorded: &Value) -> bool {
    let (Some(ours), Some(recorded)) = (ours.as_array(), recorded.as_array()) else {
        return false;
    };
    ours.len() == recorded.len()
        && ours
            .iter()
            .zip(recorded)
            .all(|(ours, recorded)| match (ours.as_str(), recorded.as_str()) {
                (Some(ours), Some("<age>")) => {
                    ours.ends_with(['s', 'm', 'h', 'd', 'y']) || ours.starts_with('<')
                }
                (Some(ours), Some(recorded)) if recorded.contains("<age>") => {
                    ours.split('(').next() == recorded.split('(').next()
                }
                _ => ours == recorded,
            })
}
