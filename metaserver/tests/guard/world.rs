//! A node that asks everybody who they are, in a cluster that has roles and makes tokens.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::service_account::{About, Claims, Named};
use hub_core::store::{Change, ObjectStore as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use metaserver::{AuthConfig, CallerIs, Callers, LocalWrites, MetaConfig};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::support::{Answer, Mood, Node, config_map, soon};

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(crate) const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Who makes tokens.
pub(crate) struct Issuer {
    key: KeyPair,
    kid: String,
}

impl Issuer {
    pub(crate) fn new(kid: &str) -> Self {
        Self {
            key: KeyPair::generate().unwrap(),
            kid: kid.into(),
        }
    }

    /// The public half.
    pub(crate) fn jwks(&self) -> Value {
        let (x, y) = self.key.public_key_raw()[1..].split_at(32);
        json!({ "keys": [
            { "use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256", "x": BASE64.encode(x), "y": BASE64.encode(y) },
            { "kty": "unheard of", "kid": "new" },
        ] })
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }

    pub(crate) fn public_pem(&self) -> String {
        self.key.public_key_pem()
    }
}

pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().try_into().unwrap()
}

/// What the token of the agent in pod `agent-1` says.
pub(crate) fn claims() -> Claims {
    let named = |name: &str, uid: &str| Named {
        name: name.into(),
        uid: uid.into(),
    };
    Claims {
        aud: vec![ISSUER.into()],
        exp: now() + 3600,
        iat: now(),
        nbf: now(),
        iss: ISSUER.into(),
        jti: "j".into(),
        sub: "system:serviceaccount:shop:agent".into(),
        about: About {
            namespace: "shop".into(),
            pod: Some(named("agent-1", "uid-agent-1")),
            node: Some(named("edge-1", "")),
            secret: None,
            serviceaccount: named("agent", "uid-agent"),
        },
    }
}

pub(crate) fn auth() -> AuthConfig {
    AuthConfig {
        required: true,
        node: Some("edge-1".into()),
        keys_pause: Duration::from_millis(50),
        // Tests run as anybody, and only some ask as who they are.
        callers: Callers {
            by_uid: [].into(),
            others: CallerIs::Anonymous,
        },
        ..AuthConfig::default()
    }
}

/// A node where the agent may read ConfigMaps of its namespace, and nothing else.
pub(crate) async fn node(auth: AuthConfig, issuer: &Issuer) -> Node {
    let foreign = !auth.required || !auth.key_files.is_empty();
    let node = Node::with(MetaConfig {
        cloud_pause: Duration::from_millis(50),
        auth,
        local_writes: LocalWrites {
            retry_pause: Duration::from_millis(10),
            ..LocalWrites::of_node("edge-1")
        },
        ..MetaConfig::default()
    })
    .await;
    let cloud = &node.cloud;
    cloud.publish("/openid/v1/jwks", issuer.jwks());
    cloud.publish("/.well-known/openid-configuration", json!({ "issuer": ISSUER }));
    cloud.put("roles", role("shop", &["get", "list", "watch"]));
    cloud.put("rolebindings", binding("shop", "ServiceAccount", "agent"));
    for object in hub_core::rbac::bootstrap() {
        let body: Value = serde_json::from_slice(&object.body).unwrap();
        cloud.put(&object.key.resource.resource, body);
    }
    cloud.put(
        "serviceaccounts",
        json!({ "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": "agent", "namespace": "shop" } }),
    );
    node.hold("pods", pod("edge-1")).await;
    // As after the first token of it.
    let account = ObjectKey::new(
        GroupVersionResource::core("serviceaccounts"),
        Some("shop"),
        "agent",
    );
    let wanted = Change::Want(Scope::object(&account));
    node.store.apply(vec![wanted]).await.unwrap();
    node.hold("configmaps", config_map("shop", "settings", "x")).await;
    node.hold("configmaps", config_map("other", "settings", "x"))
        .await;
    node.settled().await;
    // The keys come at their own time.
    if !foreign {
        soon(async { while code(&node, &issuer.sign(&claims()), "/version").await != 200 {} }).await;
    }
    node
}

pub(crate) fn pod(node: &str) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "agent-1", "namespace": "shop" },
        "spec": { "nodeName": node, "serviceAccountName": "agent", "containers": [] } })
}

pub(crate) fn role(namespace: &str, verbs: &[&str]) -> Value {
    json!({ "kind": "Role", "apiVersion": RBAC, "metadata": { "name": "reader", "namespace": namespace },
        "rules": [{ "verbs": verbs, "apiGroups": [""], "resources": ["configmaps"] }] })
}

pub(crate) fn binding(namespace: &str, kind: &str, name: &str) -> Value {
    let mut subject = json!({ "kind": kind, "name": name });
    if kind == "ServiceAccount" {
        subject["namespace"] = "shop".into();
    }
    json!({ "kind": "RoleBinding", "apiVersion": RBAC, "metadata": { "name": format!("{name}-reads"), "namespace": namespace },
        "roleRef": { "kind": "Role", "name": "reader" }, "subjects": [subject] })
}

pub(crate) fn rbac(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource)
}

/// The answer to a request with a token.
pub(crate) async fn ask(node: &Node, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    node.ask(method, path, &headers, body).await
}

/// Its code.
pub(crate) async fn code(node: &Node, token: &str, path: &str) -> u16 {
    ask(node, token, "GET", path, "").await.code.as_u16()
}

/// The link breaks, and the node knows.
pub(crate) async fn cut(node: &Node) {
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(code(node, "nobody knows", "/version").await, 503);
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

pub(crate) const MINE: &str = "/api/v1/namespaces/shop/configmaps/settings";
pub(crate) const OTHERS: &str = "/api/v1/namespaces/other/configmaps/settings";
