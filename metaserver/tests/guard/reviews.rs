//! `kubectl auth can-i` and `kubectl auth whoami`.

use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};

use crate::support::{Mood, Node};
use crate::world::{ISSUER, Issuer, ask, auth, claims, cut, node};

async fn review(node: &Node, token: &str, group: &str, resource: &str, spec: Value) -> (u16, Value) {
    let path = format!("/apis/{group}/v1/{resource}");
    let kind = node
        .meta_kind(&GroupVersionResource::new(
            group,
            "v1",
            resource.rsplit('/').next().unwrap(),
        ))
        .to_string();
    let body = json!({ "kind": kind, "apiVersion": format!("{group}/v1"), "spec": spec }).to_string();
    let answer = ask(node, token, "POST", &path, &body).await;
    (answer.code.as_u16(), answer.json())
}

fn wish(verb: &str, namespace: &str) -> Value {
    json!({ "resourceAttributes": { "verb": verb, "resource": "configmaps", "namespace": namespace } })
}

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

#[tokio::test]
async fn without_the_cloud_roles_and_keys_here_answer_and_nothing_is_stored() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = issuer.sign(&claims());
    // The account is looked at once.
    ask(&node, &token, "GET", "/api", "").await;
    cut(&node).await;

    let (code, answer) = review(
        &node,
        &token,
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        wish("get", "shop"),
    )
    .await;
    assert_eq!(
        (code, &answer["status"]["allowed"]),
        (201, &json!(true)),
        "{answer}"
    );
    assert_eq!(
        answer["status"]["reason"],
        "RBAC: allowed by RoleBinding \"agent-reads/shop\" of Role \"reader\" to ServiceAccount \"agent/shop\""
    );
    let (_, answer) = review(
        &node,
        &token,
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        wish("get", "other"),
    )
    .await;
    assert_eq!(answer["status"], json!({ "allowed": false }));
    let (code, answer) = review(
        &node,
        &token,
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        json!({}),
    )
    .await;
    assert_eq!(
        (code, &answer["message"]),
        (
            422,
            &json!(
                ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of \
                 nonResourceAttributes or resourceAttributes must be specified"
            )
        )
    );
    let (_, answer) = review(
        &node,
        &token,
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        json!({ "namespace": "shop" }),
    )
    .await;
    let rules = answer["status"]["resourceRules"].as_array().unwrap();
    assert!(
        rules.contains(
            &json!({ "verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"] })
        ),
        "{answer}"
    );
    assert_eq!(
        answer["status"]["incomplete"], true,
        "a node does not know of everything"
    );
    let (_, answer) = review(&node, &token, AUTHENTICATION, "selfsubjectreviews", json!({})).await;
    let info = &answer["status"]["userInfo"];
    assert_eq!(
        (&info["username"], &info["uid"]),
        (&json!("system:serviceaccount:shop:agent"), &json!("uid-agent"))
    );
    assert_eq!(
        info["extra"]["authentication.kubernetes.io/credential-id"],
        json!(["JTI=j"])
    );

    // About others one must be allowed to ask.
    let mut about = wish("get", "shop");
    about["user"] = "system:serviceaccount:shop:agent".into();
    let (code, _) = review(&node, &token, AUTHORIZATION, "subjectaccessreviews", about).await;
    assert_eq!(code, 403);
    let stored = hub_core::store::ObjectStore::resources(&node.store);
    assert!(
        stored
            .iter()
            .all(|resource| !resource.group.ends_with("ation.k8s.io") || resource.group.starts_with("rbac"))
    );
}

#[tokio::test]
async fn an_administrator_asks_about_others_and_their_tokens_without_the_cloud() {
    let issuer = Issuer::new("k1");
    let tokens = metaserver::StaticTokens::parse("t0k,ann,1,system:masters").unwrap();
    let node = node(metaserver::AuthConfig { tokens, ..auth() }, &issuer).await;
    let token = issuer.sign(&claims());
    ask(&node, &token, "GET", "/api", "").await;
    cut(&node).await;
    let mut about = wish("get", "shop");
    about["user"] = "system:serviceaccount:shop:agent".into();
    let (_, answer) = review(&node, "t0k", AUTHORIZATION, "subjectaccessreviews", about.clone()).await;
    assert_eq!(answer["status"]["allowed"], true, "{answer}");
    let local = "namespaces/shop/localsubjectaccessreviews";
    let (_, answer) = review(&node, "t0k", AUTHORIZATION, local, about.clone()).await;
    assert_eq!(answer["status"]["allowed"], true, "{answer}");
    let local = "namespaces/other/localsubjectaccessreviews";
    let (code, _) = review(&node, "t0k", AUTHORIZATION, local, about.clone()).await;
    assert_eq!(code, 400, "another namespace than the path's");
    about["groups"] = json!(["system:nodes"]);
    about["resourceAttributes"]["verb"] = "delete".into();
    let (code, _) = review(&node, "t0k", AUTHORIZATION, "subjectaccessreviews", about).await;
    assert_eq!(
        code, 503,
        "what nodes may beyond their roles only the cloud knows"
    );

    let (_, answer) = review(
        &node,
        "t0k",
        AUTHENTICATION,
        "tokenreviews",
        json!({ "token": token }),
    )
    .await;
    assert_eq!(answer["status"]["authenticated"], true, "{answer}");
    assert_eq!(answer["status"]["audiences"], json!([ISSUER]));
    let elsewhere = json!({ "token": token, "audiences": ["vault"] });
    let (_, answer) = review(&node, "t0k", AUTHENTICATION, "tokenreviews", elsewhere).await;
    assert_ne!(answer["status"]["authenticated"], true, "{answer}");
    let (code, _) = review(&node, "t0k", AUTHENTICATION, "tokenreviews", json!({})).await;
    assert_eq!(code, 400);
    let (code, _) = review(
        &node,
        "t0k",
        AUTHENTICATION,
        "tokenreviews",
        json!({ "token": "opaque" }),
    )
    .await;
    assert_eq!(code, 503);
}

#[tokio::test]
async fn with_the_cloud_it_is_the_cloud_that_answers_about_the_caller_and_not_about_the_node() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let token = issuer.sign(&claims());
    node.cloud.reviews(|request| {
        let mut review: Value = serde_json::from_slice(&request.body).unwrap();
        let user = review["spec"]["user"].clone();
        review["status"] =
            json!({ "allowed": user == "system:serviceaccount:shop:agent", "reason": "a webhook" });
        review
    });
    node.cloud.mood(Mood::Up);
    let (_, answer) = review(
        &node,
        &token,
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        wish("get", "other"),
    )
    .await;
    assert_eq!(answer["kind"], "SelfSubjectAccessReview");
    assert_eq!(
        answer["status"],
        json!({ "allowed": true, "reason": "a webhook" })
    );
}
