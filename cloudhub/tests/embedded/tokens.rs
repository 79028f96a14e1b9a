//! Tokens of service accounts: signed, bound, reviewed, and checked by others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use cloudhub::cluster::{Cluster, EmbeddedCluster, EmbeddedConfig};
use hub_core::api::{ApiRequest, Target, User, Verb};
use hub_core::object::GroupVersionResource;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::{World, parse};

const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";
const REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

fn pod(name: &str, node: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "pause:1" }] } })
}

fn bound(pod: &Value) -> Value {
    json!({ "spec": { "expirationSeconds": 3607, "boundObjectRef": {
        "kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"] } } })
}

async fn path(cluster: &EmbeddedCluster, path: &str) -> (String, Value) {
    let answer = cluster
        .execute(ApiRequest::new(Verb::Get, Target::Path(path.into())))
        .await
        .unwrap();
    (answer.content_type.clone(), parse(&answer))
}

/// As somebody who has only the published keys.
fn claims(token: &str, keys: &Value) -> Value {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = &keys["keys"][0];
    assert_eq!(header.kid.as_deref(), key["kid"].as_str());
    let text = |field: &str| key[field].as_str().unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_aud = false;
    let decoding = DecodingKey::from_ec_components(text("x"), text("y")).unwrap();
    jsonwebtoken::decode::<Value>(token, &decoding, &validation)
        .unwrap()
        .claims
}

#[tokio::test]
async fn a_token_says_whose_it_is_and_lives_as_long_as_its_pod() {
    let world = World::new();
    let node = world
        .ok(
            "POST",
            "/api/v1/nodes",
            json!({ "metadata": { "name": "edge-1" } }),
        )
        .await;
    let pod = world
        .ok("POST", "/api/v1/namespaces/default/pods", pod("web", "edge-1"))
        .await;
    let request = world.ok("POST", TOKEN, bound(&pod)).await;
    assert_eq!(
        (request["kind"].as_str(), request["spec"]["audiences"][0].as_str()),
        (
            Some("TokenRequest"),
            Some("https://kubernetes.default.svc.cluster.local")
        )
    );
    let token = request["status"]["token"].as_str().unwrap();

    let (content_type, keys) = path(&world.cluster, "/openid/v1/jwks").await;
    assert_eq!(content_type, "application/jwk-set+json");
    let claims = claims(token, &keys);
    let (_, configuration) = path(&world.cluster, "/.well-known/openid-configuration").await;
    assert_eq!(claims["iss"], configuration["issuer"]);
    assert_eq!(claims["sub"], "system:serviceaccount:default:default");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        3607
    );
    let about = &claims["kubernetes.io"];
    assert_eq!(
        about["pod"],
        json!({ "name": "web", "uid": pod["metadata"]["uid"] })
    );
    assert_eq!(
        about["node"],
        json!({ "name": "edge-1", "uid": node["metadata"]["uid"] })
    );

    let review = json!({ "spec": { "token": token } });
    let reviewed = world.ok("POST", REVIEW, review.clone()).await;
    let status = &reviewed["status"];
    assert_eq!(status["authenticated"], true, "{reviewed}");
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:default"
    );
    assert_eq!(
        status["user"]["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["web"])
    );
    assert_eq!(
        status["audiences"],
        json!(["https://kubernetes.default.svc.cluster.local"])
    );

    let gone = json!({ "gracePeriodSeconds": 0 });
    world
        .ok("DELETE", "/api/v1/namespaces/default/pods/web", gone)
        .await;
    let reviewed = world.ok("POST", REVIEW, review).await;
    assert_ne!(reviewed["status"]["authenticated"], true, "its pod is gone");
}

#[tokio::test]
async fn the_key_stays_with_the_cluster_and_another_cluster_has_another() {
    let world = World::new();
    let request = world
        .ok("POST", TOKEN, json!({ "spec": { "audiences": ["vault"] } }))
        .await;
    let token = request["status"]["token"].clone();
    let review = |token: &Value| json!({ "spec": { "token": token, "audiences": ["vault", "other"] } });
    let World { cluster, folder } = world;
    drop(cluster);
    let cluster =
        EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
    let world = World { cluster, folder };
    let reviewed = world.ok("POST", REVIEW, review(&token)).await;
    assert_eq!(reviewed["status"]["audiences"], json!(["vault"]), "{reviewed}");
    let unasked = world
        .ok("POST", REVIEW, json!({ "spec": { "token": token } }))
        .await;
    assert_ne!(
        unasked["status"]["authenticated"], true,
        "it is for another audience"
    );

    let other = World::new();
    let reviewed = other.ok("POST", REVIEW, review(&token)).await;
    assert_ne!(reviewed["status"]["authenticated"], true);
    let text = token.as_str().unwrap();
    let (head, signature) = text.rsplit_once('.').unwrap();
    let mut bytes = BASE64.decode(signature).unwrap();
    bytes[7] ^= 1;
    for forged in [
        format!("{head}.{}", BASE64.encode(bytes)),
        format!("{head}."),
        "a.b.c".into(),
    ] {
        let reviewed = world.ok("POST", REVIEW, review(&forged.into())).await;
        assert_ne!(reviewed["status"]["authenticated"], true);
        assert!(reviewed["status"]["error"].is_string());
    }
    let (code, refused) = world.call("POST", REVIEW, review(&String::new().into())).await;
    assert_eq!(code, 400, "{refused}");
}

#[tokio::test]
async fn what_a_token_may_not_be_bound_to_is_refused_in_kubernetes_words() {
    let world = World::new();
    let web = world
        .ok("POST", "/api/v1/namespaces/default/pods", pod("web", "edge-1"))
        .await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    world
        .ok("POST", accounts, json!({ "metadata": { "name": "robot" } }))
        .await;
    let mut other = pod("other", "edge-1");
    other["spec"]["serviceAccountName"] = "robot".into();
    let other = world.ok("POST", "/api/v1/namespaces/default/pods", other).await;
    let mut successor = bound(&web);
    successor["spec"]["boundObjectRef"]["uid"] = "another".into();
    let mut absent = bound(&web);
    absent["spec"]["boundObjectRef"]["name"] = "absent".into();
    for (body, code, said) in [
        (
            json!({ "spec": { "expirationSeconds": 599 } }),
            422,
            "may not specify a duration less than 10 minutes",
        ),
        (successor, 409, "does not match the UID in record"),
        (absent, 404, "pods \"absent\" not found"),
        (bound(&other), 400, "different serviceaccount name"),
    ] {
        let (got, status) = world.call("POST", TOKEN, body).await;
        assert_eq!(got, code, "{status}");
        assert!(status["message"].as_str().unwrap().contains(said), "{status}");
    }
    let (code, status) = world
        .call(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/absent/token",
            json!({}),
        )
        .await;
    assert_eq!(
        (code, status["message"].as_str()),
        (404, Some("serviceaccounts \"absent\" not found"))
    );
}

#[tokio::test]
async fn a_node_gets_tokens_for_pods_that_it_runs_only() {
    let world = World::new();
    let web = world
        .ok("POST", "/api/v1/namespaces/default/pods", pod("web", "edge-1"))
        .await;
    for (node, body, code) in [
        ("edge-1", bound(&web), 201),
        ("edge-2", bound(&web), 403),
        ("edge-1", json!({ "spec": {} }), 403),
    ] {
        let accounts = GroupVersionResource::core("serviceaccounts");
        let mut request = ApiRequest::resource(Verb::Create, accounts, Some("default"), Some("default"))
            .with_subresource("token")
            .with_body("application/json", body.to_string());
        request.user = Some(User {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            ..User::default()
        });
        let answer = world.cluster.execute(request).await.unwrap();
        assert_eq!(answer.code, code, "{node}: {:?}", answer.body);
    }
}
