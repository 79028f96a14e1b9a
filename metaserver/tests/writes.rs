//! Writes of a node: carried out in the cloud, in its versions, and seen here at once.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use serde_json::{Value, json};
use support::{Mood, Node, config_map};

const SHOP: &str = "/api/v1/namespaces/shop/configmaps";
const A: &str = "/api/v1/namespaces/shop/configmaps/a";
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

async fn node() -> Node {
    let node = Node::start().await;
    node.cloud.put("configmaps", config_map("shop", "a", "1"));
    node.get(SHOP).await;
    node
}

#[tokio::test]
async fn a_writer_reads_its_own_write_at_once_in_this_node_s_revisions() {
    let node = node().await;
    let created = node
        .ask("POST", SHOP, JSON, &config_map("shop", "b", "1").to_string())
        .await;
    assert_eq!(created.code, 201);
    let read = node.get(&format!("{SHOP}/b")).await;
    assert_eq!(read.json(), created.json());
    let mut object = read.json();
    object["data"]["v"] = "2".into();
    let updated = node
        .ask("PUT", &format!("{SHOP}/b"), JSON, &object.to_string())
        .await;
    assert_eq!(
        (updated.code.as_u16(), updated.json()["data"]["v"].as_str()),
        (200, Some("2"))
    );
    assert_eq!(node.get(&format!("{SHOP}/b")).await.json(), updated.json());
    let stale = node
        .ask("PUT", &format!("{SHOP}/b"), JSON, &object.to_string())
        .await;
    assert_eq!(
        (stale.code.as_u16(), stale.json()["reason"].as_str()),
        (409, Some("Conflict"))
    );
}

#[tokio::test]
async fn every_precondition_reaches_the_cloud_in_its_own_versions() {
    let node = node().await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let local = version(&node.get(A).await.json());
    let patch = json!({ "metadata": { "resourceVersion": local }, "data": { "v": "2" } });
    let patched = node.ask("PATCH", A, MERGE, &patch.to_string()).await;
    assert_eq!(
        (patched.code.as_u16(), patched.json()["data"]["v"].as_str()),
        (200, Some("2"))
    );
    let operations = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": version(&patched.json()) },
        { "op": "replace", "path": "/data/v", "value": "3" },
    ]);
    let media = [("content-type", "application/json-patch+json")];
    let patched = node.ask("PATCH", A, &media, &operations.to_string()).await;
    assert_eq!(
        (patched.code.as_u16(), patched.json()["data"]["v"].as_str()),
        (200, Some("3"))
    );
    let options = json!({ "preconditions": { "resourceVersion": version(&patched.json()) } });
    let deleted = node.ask("DELETE", A, JSON, &options.to_string()).await;
    assert_eq!(
        (deleted.code.as_u16(), deleted.json()["status"].as_str()),
        (200, Some("Success"))
    );
    assert_eq!(node.get(A).await.code, 404);
    let sent: Vec<String> = node
        .cloud
        .asked()
        .iter()
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect();
    let ours = format!(r#""resourceVersion":"{local}""#);
    assert!(sent.iter().all(|body| !body.contains(&ours)), "{sent:?}");
}

#[tokio::test]
async fn a_version_in_protobuf_reaches_the_cloud_as_the_cloud_s() {
    let node = node().await;
    let local = node.get(A).await.json()["metadata"]["resourceVersion"].clone();
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    let field = |number: u8, text: &str| {
        let head = [number << 3 | 2, text.len() as u8].map(char::from);
        format!("{}{}{text}", head[0], head[1])
    };
    let metadata = field(1, &(field(1, "a") + &field(6, local.as_str().unwrap())));
    let raw = metadata + &field(2, &(field(1, "v") + &field(2, "2")));
    let body = format!("k8s\0{}", field(2, &raw));
    let updated = node.ask("PUT", A, &protobuf, &body).await;
    assert_eq!(
        (updated.code.as_u16(), updated.json()["data"]["v"].as_str()),
        (200, Some("2"))
    );
    assert_ne!(updated.json()["metadata"]["resourceVersion"], local);
    let stale = node.ask("PUT", A, &protobuf, &body).await;
    assert_eq!(stale.code, 409);
}

#[tokio::test]
async fn a_watch_sees_a_write_no_later_than_its_writer() {
    let node = node().await;
    let mut watch = node.watch(&format!("{SHOP}?watch=true")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let patched = node.ask("PATCH", A, MERGE, r#"{"data":{"v":"2"}}"#).await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str(), &event["object"]),
        (Some("MODIFIED"), &patched.json())
    );
}

#[tokio::test]
async fn without_the_cloud_a_write_is_refused_and_changes_nothing() {
    let node = node().await;
    node.cloud.mood(Mood::Unreachable);
    for (method, path, headers, body) in [
        ("POST", SHOP, JSON, config_map("shop", "b", "1").to_string()),
        ("PATCH", A, MERGE, r#"{"data":{"v":"2"}}"#.into()),
        ("DELETE", A, JSON, String::new()),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            JSON,
            r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#.into(),
        ),
    ] {
        let refused = node.ask(method, path, headers, &body).await;
        assert_eq!(refused.code.as_u16(), 503, "{method} {path}");
        // client-go asks ten times more after such a pause before its caller hears of the refusal.
        assert_eq!(refused.header("retry-after"), "1", "{method} {path}");
    }
    assert_eq!(node.get(A).await.json()["data"]["v"], "1");
}

#[tokio::test]
async fn a_write_whose_answer_never_came_is_not_said_to_have_failed() {
    let config = metaserver::MetaConfig {
        cloud_timeout: std::time::Duration::from_millis(100),
        ..metaserver::MetaConfig::default()
    };
    let node = Node::with(config).await;
    node.cloud.mood(Mood::Silent);
    let answer = node
        .ask("POST", SHOP, JSON, &config_map("shop", "b", "1").to_string())
        .await;
    assert_eq!(
        (answer.code.as_u16(), answer.header("retry-after")),
        (504, ""),
        "so that no client tries again by itself"
    );
}

#[tokio::test]
async fn bodies_that_are_too_large_or_of_an_unknown_type_are_refused() {
    let node = node().await;
    let large = node.ask("POST", SHOP, JSON, &" ".repeat((3 << 20) + 1)).await;
    assert_eq!(
        (large.code.as_u16(), large.json()["reason"].as_str()),
        (413, Some("RequestEntityTooLarge"))
    );
    let text = node
        .ask("POST", SHOP, &[("content-type", "text/plain")], "x")
        .await;
    assert_eq!(
        (text.code.as_u16(), text.json()["reason"].as_str()),
        (415, Some("UnsupportedMediaType"))
    );
    let patch = node.ask("PATCH", A, JSON, "{}").await;
    assert_eq!(
        (patch.code.as_u16(), patch.json()["message"].as_str()),
        (415, Some("415: Unsupported Media Type"))
    );
}

#[tokio::test]
async fn a_dry_run_names_the_version_that_its_client_has_seen() {
    let node = node().await;
    let seen = node.get(A).await.json();
    let patch = r#"{"data":{"v":"2"}}"#;
    let tried = node
        .ask("PATCH", &format!("{A}?dryRun=All"), MERGE, patch)
        .await
        .json();
    assert_eq!(tried["data"]["v"], "2");
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&tried), version(&seen));
    assert_eq!(node.get(A).await.json(), seen);
}

#[tokio::test]
async fn what_is_deleted_of_a_collection_comes_as_a_table_or_as_metadata_where_that_is_wanted() {
    let node = node().await;
    let delete = async |accept: &str, query: &str| {
        let headers = [("accept", accept)];
        node.ask("DELETE", &format!("{SHOP}{query}"), &headers, "").await
    };
    let table = delete("application/json;as=Table;v=v1;g=meta.k8s.io", "")
        .await
        .json();
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&"Table".into(), &"a".into())
    );
    let only = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = delete(only, "").await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(
        (&list["items"][0]["metadata"]["name"], &list["items"][0]["data"]),
        (&"a".into(), &Value::Null)
    );
    let one = delete("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "").await;
    assert_eq!(one.code, 406);
    let sent = node.cloud.asked().len();
    for query in ["?continue=x", "?sendInitialEvents=true", "?limit=x"] {
        let refused = delete("application/json", query).await;
        assert!(
            (400..500).contains(&refused.code.as_u16()),
            "{query}: {}",
            refused.code
        );
    }
    assert_eq!(node.cloud.asked().len(), sent, "nothing was deleted");
}
