//! Whatever anybody sends: no request panics, what goes wrong is a Status, and nobody is let in by garbage.

#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hub_core::api::{ApiRequest, UpstreamError};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{Change, LocalCopy, MemoryStore, NODE_ONLY, ObjectStore as _, StoreLimits};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use metaserver::{AuthConfig, LocalWrites, MetaConfig, MetaServer};
use proptest::prelude::*;
use proptest::string::string_regex;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tower::{ServiceExt as _, service_fn};

/// A node without a cloud that holds its own object, some ConfigMaps and all roles, which are none.
struct Node {
    server: MetaServer,
    store: MemoryStore,
}

impl Node {
    async fn new(auth: AuthConfig) -> Self {
        let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
        let put = |resource: &str, body: Value| {
            Change::Put(
                Object::from_body(GroupVersionResource::core(resource), body.to_string().into()).unwrap(),
            )
        };
        let mut changes = vec![put(
            "nodes",
            json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": "edge-1", "uid": "u", "resourceVersion": "5" },
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }),
        )];
        changes.extend((0..5).map(|n| {
            put(
                "configmaps",
                json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": format!("c{n}"), "namespace": "shop",
                    "uid": format!("u{n}"), "resourceVersion": "5", "labels": { "app": "web" } } }),
            )
        }));
        let rbac = |resource| GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource);
        let held = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"].map(rbac);
        let core = ["nodes", "configmaps"].map(GroupVersionResource::core);
        for resource in held.into_iter().chain(core) {
            let scope = Scope::all(resource);
            changes.extend([Change::Want(scope.clone()), Change::Complete(scope)]);
        }
        store.apply(changes).await.unwrap();
        let config = MetaConfig {
            local_writes: LocalWrites::of_node("edge-1"),
            cbor: true,
            auth,
            ..MetaConfig::default()
        };
        let no_cloud = service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable));
        Self {
            server: MetaServer::with_config(config, store.clone(), no_cloud),
            store,
        }
    }

    /// The answer to a request, if it can be sent at all. No handler may have panicked.
    async fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).ok()?;
        let answer = self.server.service().oneshot(request).await.unwrap();
        let status = answer.status();
        let is_watch = uri.contains("watch") && status.is_success();
        let body = match is_watch {
            true => Bytes::new(),
            false => answer.into_body().collect().await.unwrap().to_bytes(),
        };
        assert_eq!(self.panics(), 0, "{method} {uri} {headers:?}");
        Some((status, body))
    }

    fn panics(&self) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.server.register_metrics(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("metaserver_panics_total "));
        line.unwrap().parse().unwrap()
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

/// Bytes as they stand in a query: percent-encoded, whatever they are.
fn odd() -> impl Strategy<Value = String> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..24),
        string_regex("[a-z0-9=!<>(),. _/-]{0,24}")
            .unwrap()
            .prop_map(String::into_bytes),
    ];
    bytes.prop_map(|bytes| bytes.iter().map(|byte| format!("%{byte:02x}")).collect())
}

/// JSON of any shape, with the names that matter here among its members.
fn document() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "metadata",
        "status",
        "spec",
        "conditions",
        "type",
        "name",
        "annotations",
        "labels",
        "finalizers",
        "resourceVersion",
        "uid",
        "managedFields",
        "kind",
        "apiVersion",
        "$patch",
        "$retainKeys",
        "$setElementOrder/conditions",
        "op",
        "path",
        "value",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "Node",
            "v1",
            "edge-1",
            "u",
            "5",
            "delete",
            "replace",
            "merge",
            "add",
            "remove",
            "test",
            "/status",
            "/metadata/annotations",
            "/status/conditions/0",
            "/status/conditions/-",
            "~2",
            ""
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..5).prop_map(|map| map
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "BREW",
];
const PATHS: &[&str] = &[
    "/api/v1/namespaces/shop/configmaps",
    "/api/v1/configmaps",
    "/api/v1/nodes/edge-1",
    "/api/v1/nodes/edge-1/status",
    "/api/v1/nodes",
    "/api/v1/namespaces/shop/configmaps/c1",
    "/api/v1/namespaces/shop/events",
    "/apis/apps/v1/deployments",
    "/openapi/v2",
    "/readyz",
    "/apis",
    "/api/v1/namespaces/shop/pods/p/exec",
    "/api/v1/watch/configmaps",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
];
const MEDIA: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/cbor",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "text/plain",
    "",
];
const PARAMETERS: &[&str] = &[
    "labelSelector",
    "fieldSelector",
    "continue",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
    "watch",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "fieldManager",
    "force",
    "dryRun",
    "pretty",
    "propagationPolicy",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_request_panics_and_what_goes_wrong_is_a_status(
        method in prop::sample::select(METHODS),
        path in prop_oneof![3 => prop::sample::select(PATHS).prop_map(str::to_owned), 1 => string_regex("(/[a-z0-9%.~]{0,8}){0,7}").unwrap()],
        query in prop::collection::vec((prop::sample::select(PARAMETERS), odd()), 0..4),
        media in prop::sample::select(MEDIA),
        accept in prop::sample::select(MEDIA),
        body in prop_oneof![document().prop_map(|body| body.to_string().into_bytes()), prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        run(async {
            let node = Node::new(AuthConfig::default()).await;
            let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let uri = format!("{path}?{}", query.join("&"));
            let headers = [("content-type", media), ("accept", accept)];
            let Some((status, body)) = node.ask(method, &uri, &headers, body).await else { return };
            let is_json = matches!(accept, "" | "application/json");
            let is_object = status.is_client_error() && is_json && body.first() == Some(&b'{');
            if is_object {
                let said: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(said["kind"], "Status", "{method} {uri}: {said}");
                assert_eq!(said["code"], status.as_u16(), "{method} {uri}: {said}");
            }
        });
    }

    #[test]
    fn no_write_panics_and_none_makes_another_object_of_a_node(
        status in any::<bool>(),
        media in prop::sample::select(&MEDIA[4..8]),
        bodies in prop::collection::vec(document(), 1..6),
    ) {
        run(async {
            let node = Node::new(AuthConfig::default()).await;
            let below = if status { "/status" } else { "" };
            let uri = format!("/api/v1/nodes/edge-1{below}?fieldManager=m&force=true");
            let key = ObjectKey::new(GroupVersionResource::core("nodes"), None, "edge-1");
            for mut body in bodies {
                if media.contains("apply") && body.is_object() {
                    (body["apiVersion"], body["kind"]) = ("v1".into(), "Node".into());
                }
                node.ask("PATCH", &uri, &[("content-type", media)], body.to_string().into_bytes()).await.unwrap();
                let held = node.store.get(&key).unwrap();
                let held: Value = serde_json::from_slice(&held.served).unwrap();
                for (field, expected) in [("/kind", "Node"), ("/apiVersion", "v1"), ("/metadata/name", "edge-1"), ("/metadata/uid", "u")] {
                    assert_eq!(held.pointer(field).unwrap(), expected, "after {body}");
                }
                assert!(held["spec"].is_null(), "only the cloud may change the spec: {held}");
            }
        });
    }

    #[test]
    fn garbage_for_a_token_lets_nobody_in(
        parts in prop::collection::vec(prop_oneof![
            "[A-Za-z0-9_.=-]{0,20}",
            document().prop_map(|part| BASE64.encode(part.to_string())),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|part| BASE64.encode(part)),
            Just(BASE64.encode(r#"{"alg":"ES256","kid":"k"}"#)),
            Just(BASE64.encode(r#"{"alg":"none"}"#)),
            Just(BASE64.encode(r#"{"alg":"HS256","kid":"k"}"#)),
        ], 1..5),
        at in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let key = KeyPair::generate().unwrap();
            let file = folder.path().join("sa.pub");
            std::fs::write(&file, key.public_key_pem()).unwrap();
            let node = Node::new(AuthConfig {
                required: true,
                node: Some("edge-1".into()),
                key_files: vec![file],
                issuers: vec!["us".into()],
                ..AuthConfig::default()
            }).await;
            let claims = json!({ "iss": "us", "aud": ["us"], "sub": "system:serviceaccount:shop:agent", "exp": u32::MAX,
                "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "agent", "uid": "a" } } });
            let signer = EncodingKey::from_ec_der(&key.serialize_der());
            let good = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &signer).unwrap();
            let mut changed = good.clone().into_bytes();
            let at = at.index(changed.len());
            changed[at] ^= flip;
            let mut tokens = vec![parts.join(".")];
            // The last bits of a signature's last letter mean nothing.
            if at + 1 < good.len() {
                tokens.extend(String::from_utf8(changed).ok());
            }
            for token in tokens {
                let bearer = format!("Bearer {token}");
                let answer = node.ask("GET", "/api/v1/namespaces/shop/configmaps", &[("authorization", &bearer)], Vec::new()).await;
                if let Some((status, _)) = answer {
                    assert!(matches!(status.as_u16(), 401 | 403 | 503), "{status}: {token}");
                }
            }
        });
    }

    #[test]
    fn roles_of_any_shape_neither_panic_nor_let_anybody_do_everything(
        roles in prop::collection::vec(document(), 0..4),
        bindings in prop::collection::vec(document(), 0..4),
    ) {
        run(async {
            let node = Node::new(AuthConfig { required: true, ..AuthConfig::default() }).await;
            for (resource, bodies) in [("clusterroles", roles), ("clusterrolebindings", bindings)] {
                for (n, body) in bodies.iter().enumerate() {
                    let mut object = json!({ "kind": "x", "apiVersion": "rbac.authorization.k8s.io/v1", "rules": body, "roleRef": body,
                        "subjects": body, "aggregationRule": body });
                    object["metadata"] = json!({ "name": format!("r{n}"), "uid": "u", "resourceVersion": "9" });
                    let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource);
                    let object = Object::from_body(resource, object.to_string().into()).unwrap();
                    node.store.apply(vec![Change::Put(object)]).await.unwrap();
                }
            }
            let (status, _) = node.ask("GET", "/api/v1/nodes", &[], Vec::new()).await.unwrap();
            assert_eq!(status, 403, "nobody in particular");
            node.server.why_for("/api/v1/nodes", "ann");
            node.server.why("/api/v1/nodes");
        });
    }

    #[test]
    fn what_is_kept_of_local_writes_may_be_damaged_and_the_node_serves(
        damage in prop::collection::vec((any::<bool>(), document(), document()), 1..4),
    ) {
        run(async {
            let node = Node::new(AuthConfig::default()).await;
            for (n, (whole, body, note)) in damage.iter().enumerate() {
                let key = ObjectKey::new(GroupVersionResource::core("nodes"), None, if n == 0 { "edge-1" } else { "other" });
                let change = if *whole {
                    let (body, note) = (body.to_string().into(), note.to_string().into());
                    LocalCopy { key, body, note }.put().unwrap()
                } else {
                    Change::Put(Object {
                        key: ObjectKey::new(GroupVersionResource::new(NODE_ONLY, "v1", "localcopies"), None, "damaged"),
                        uid: "".into(),
                        version: "".into(),
                        body: body.to_string().into(),
                    })
                };
                node.store.apply(vec![change]).await.unwrap();
            }
            for path in ["/api/v1/nodes", "/api/v1/nodes/edge-1", "/api/v1/configmaps", "/readyz?verbose"] {
                node.ask("GET", path, &[], Vec::new()).await.unwrap();
            }
            let patch = br#"{"metadata":{"annotations":{"a":"b"}}}"#.to_vec();
            node.ask("PATCH", "/api/v1/nodes/edge-1", &[("content-type", "application/merge-patch+json")], patch).await.unwrap();
            node.server.local_journal();
            node.server.scopes();
            node.server.sample();
        });
    }
}
