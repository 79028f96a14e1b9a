//! What answers say beside their bodies, and what is about no object: against what a kube-apiserver 1.36 says.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hub_core::api::{ApiRequest, ApiResponse, UpstreamError};
use hub_core::registry::Registry;
use hub_core::store::{MemoryStore, StoreLimits};
use hub_core::testing::store::put_documents;
use metaserver::{MetaConfig, MetaServer, Revisions};
use serde_json::{Value, json};
use tower::{ServiceExt as _, service_fn};

/// A cluster with one custom kind, whose first version is outdated, and one object of it. Its scale is what the cloud would say.
async fn server() -> MetaServer {
    let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
    let definition = json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "gadgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [
                {"name": "v1alpha1", "served": true, "deprecated": true},
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {}}},
            ],
        },
    });
    let scaler = json!({
        "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1",
        "metadata": {"name": "web", "namespace": "a", "annotations": {
            "autoscaling.alpha.kubernetes.io/metrics": "[]", "note": "kept"}},
    });
    put_documents(&store, &[definition, scaler]).await;
    let config = MetaConfig {
        revisions: Revisions::Authoritative,
        ..MetaConfig::default()
    };
    let cloud = service_fn(async |request: ApiRequest| {
        if !format!("{:?}", request.target).contains("scale") {
            return Err(UpstreamError::Unreachable);
        }
        let scale = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": "g", "namespace": "a", "resourceVersion": "7"},
            "spec": {"replicas": 3}, "status": {"replicas": 2},
        });
        Ok(ApiResponse::json(200, scale.to_string()))
    });
    MetaServer::with_config(config, store, cloud)
}

async fn ask(server: &MetaServer, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Bytes) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let answer = server.service().oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    (
        head.status.as_u16(),
        head.headers,
        body.collect().await.unwrap().to_bytes(),
    )
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_answer_has_an_id_for_the_logs_and_a_client_may_choose_it() {
    let server = server().await;
    let mut made = Vec::new();
    for path in [
        "/api",
        "/healthz",
        "/api/v1/pods",
        "/nosuch",
        "/api/v1/namespaces/a/pods/b",
    ] {
        let (_, headers, _) = ask(&server, path, &[]).await;
        let [id] = &all(&headers, "audit-id")[..] else {
            panic!("{path}")
        };
        assert_eq!(id.len(), 36, "{path}");
        made.push(id.clone());
    }
    made.dedup();
    assert_eq!(made.len(), 5);
    let long = "x".repeat(100);
    for (given, kept) in [("mine", "mine"), (&long, &long[..64])] {
        let (_, headers, _) = ask(&server, "/api", &[("audit-id", given)]).await;
        assert_eq!(all(&headers, "audit-id"), [kept]);
    }
}

#[tokio::test]
async fn openapi_is_sent_as_a_file_that_a_client_may_have_already() {
    let server = server().await;
    for (path, varies) in [
        ("/openapi/v2", &["Accept-Encoding", "Accept"][..]),
        ("/openapi/v3", &[]),
        ("/openapi/v3/apis/batch/v1", &["Accept"]),
    ] {
        let (code, headers, _) = ask(&server, path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(
            (code, all(&headers, "vary")),
            (200, varies.iter().map(|&v| v.into()).collect())
        );
        assert_eq!(all(&headers, "accept-ranges"), ["bytes"]);
        assert_eq!(headers.contains_key("content-encoding"), path == "/openapi/v2");
        let [made] = &all(&headers, "last-modified")[..] else {
            panic!("{path}")
        };
        let since = |time: &str| [("if-modified-since", time.to_owned())];
        for (time, known) in [(&made[..], 304), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)] {
            let [(name, value)] = &since(time);
            let (code, ..) = ask(&server, path, &[(name, value)]).await;
            // The index is put together each time, so it may be new or not.
            if path != "/openapi/v3" {
                assert_eq!(code, known, "{path} {time}");
            }
        }
    }
}

#[tokio::test]
async fn people_who_use_an_outdated_version_are_told_whatever_comes_of_it() {
    let server = server().await;
    let said = r#"299 - "example.org/v1alpha1 Gadget is deprecated; use example.org/v1 Gadget""#;
    for (path, warned) in [
        ("/apis/example.org/v1alpha1/gadgets", true),
        ("/apis/example.org/v1alpha1/namespaces/a/gadgets/b", true),
        ("/apis/example.org/v1alpha1/gadgets?limit=x", true),
        ("/apis/example.org/v1/gadgets", false),
    ] {
        let (_, headers, _) = ask(&server, path, &[]).await;
        let expected: &[&str] = if warned { &[said] } else { &[] };
        assert_eq!(all(&headers, "warning"), expected, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_compressed_and_checks_are_metrics_too() {
    let server = server().await;
    let (code, headers, body) = ask(&server, "/metrics/slis", &[]).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!((code, all(&headers, "content-encoding").len()), (200, 0));
    let passed = |check: &str| format!("kubernetes_healthcheck{{name=\"{check}\",type=\"livez\"}} 1\n");
    assert!(
        text.contains(&passed("etcd")) && text.contains(&passed("ping")),
        "{text}"
    );
    for path in ["/livez/etcd", "/livez/log", "/readyz/informer-sync"] {
        assert_eq!(ask(&server, path, &[]).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn who_cannot_be_answered_by_any_route_is_not_told_that_a_kind_is_outdated() {
    let server = server().await;
    let path = "/api/v1/namespaces/a/endpoints";
    for (accept, code, warnings) in [("text/html", 406, 0), ("application/json", 200, 1)] {
        let (given, headers, _) = ask(&server, path, &[("accept", accept)]).await;
        assert_eq!(
            (given, all(&headers, "warning").len()),
            (code, warnings),
            "{accept}"
        );
    }
}

#[tokio::test]
async fn a_scale_is_printed_and_shown_by_its_metadata() {
    let server = server().await;
    let path = "/apis/example.org/v1/namespaces/a/gadgets/g/scale";
    let get = async |accept: &str| {
        let (code, _, body) = ask(&server, path, &[("accept", accept)]).await;
        (code, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (_, table) = get("application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let names: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..3],
        [json!("g"), json!(3), json!(2)]
    );
    let (_, part) = get("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    assert_eq!(
        (&part["kind"], &part["spec"]),
        (&json!("PartialObjectMetadata"), &Value::Null)
    );
    let (code, refused) = get("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await;
    assert_eq!(code, 406, "{refused}");
}

#[tokio::test]
async fn metadata_is_of_the_form_that_no_version_has_put_annotations_into() {
    let server = server().await;
    let path = "/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers";
    for (kind, items) in [
        ("PartialObjectMetadataList", "/items/0"),
        ("Table", "/rows/0/object"),
    ] {
        let accept = format!("application/json;as={kind};v=v1;g=meta.k8s.io");
        let (_, _, body) = ask(&server, path, &[("accept", &accept)]).await;
        let list: Value = serde_json::from_slice(&body).unwrap();
        let shown = &list.pointer(items).unwrap()["metadata"]["annotations"];
        assert_eq!(*shown, json!({"note": "kept"}), "{kind}");
    }
    let (_, _, body) = ask(&server, path, &[]).await;
    assert!(String::from_utf8_lossy(&body).contains("autoscaling.alpha.kubernetes.io/metrics"));
}

#[tokio::test]
async fn checks_that_are_not_there_cannot_be_left_out_which_verbose_tells() {
    let server = server().await;
    let (code, _, body) = ask(
        &server,
        "/readyz?verbose&exclude=etcd&exclude=store&exclude=a",
        &[],
    )
    .await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    let last: Vec<&str> = text.trim_end().lines().rev().take(2).collect();
    assert_eq!(code, 200);
    assert_eq!(
        last,
        [
            "readyz check passed",
            r#"warn: some health checks cannot be excluded: no matches for "a","etcd","store""#
        ]
    );
}

#[tokio::test]
async fn metrics_are_shown_once_a_program_shows_them() {
    let server = server().await;
    assert_eq!(ask(&server, "/metrics", &[]).await.0, 404);
    let mut registry = prometheus_client::registry::Registry::default();
    server.register_metrics(&mut registry);
    server.show_metrics(Arc::new(registry));
    let (code, headers, body) = ask(&server, "/metrics", &[]).await;
    assert_eq!(code, 200);
    assert!(all(&headers, "content-type")[0].starts_with("text/plain; version=0.0.4"));
    assert!(String::from_utf8_lossy(&body).contains("# TYPE metaserver_"));
}
