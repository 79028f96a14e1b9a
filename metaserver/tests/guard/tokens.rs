//! Tokens of service accounts.

use std::time::Duration;

use hub_core::object::GroupVersionResource;
use hub_core::store::ObjectStore as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use metaserver::{AuthConfig, StaticTokens};
use serde_json::json;

use crate::support::{Mood, Node, soon};
use crate::world::{ISSUER, Issuer, MINE, OTHERS, ask, auth, claims, code, node, now, pod, write};

async fn world() -> (Node, Issuer) {
    let issuer = Issuer::new("k1");
    (node(auth(), &issuer).await, issuer)
}

#[tokio::test]
async fn t16_who_may_not_is_told_so_with_the_cloud_and_without_it_though_the_object_is_here() {
    let (node, issuer) = world().await;
    let token = issuer.sign(&claims());
    for mood in [Mood::Up, Mood::Unreachable] {
        node.cloud.mood(mood);
        assert_eq!(code(&node, &token, MINE).await, 200, "{mood:?}");
        let refused = ask(&node, &token, "GET", OTHERS, "").await;
        assert_eq!(refused.code, 403, "{mood:?}");
        assert_eq!(
            refused.json(),
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
                "message": "configmaps \"settings\" is forbidden: User \"system:serviceaccount:shop:agent\" cannot get resource \
                            \"configmaps\" in API group \"\" in the namespace \"other\"",
                "details": { "name": "settings", "kind": "configmaps" } })
        );
        assert_eq!(refused.header("x-content-type-options"), "nosniff");
        // Nothing is learnt of which kinds there are.
        assert_eq!(
            code(&node, &token, "/apis/no.such/v1/things").await,
            403,
            "{mood:?}"
        );
    }
}

#[tokio::test]
async fn t17_k26_a_token_is_good_only_while_all_that_it_says_is_so() {
    let (node, issuer) = world().await;
    let mut cases = vec![("expired", claims()); 8];
    cases[0].1.exp = now() - 11;
    cases[1] = ("not yet valid", claims());
    cases[1].1.nbf = now() + 60;
    cases[2] = ("another audience", claims());
    cases[2].1.aud = vec!["vault".into()];
    cases[3] = ("another issuer", claims());
    cases[3].1.iss = "https://elsewhere".into();
    cases[4] = ("another pod of the name", claims());
    cases[4].1.about.pod.as_mut().unwrap().uid = "uid-before".into();
    cases[5] = ("a pod of another node", claims());
    cases[5].1.about.pod.as_mut().unwrap().name = "agent-2".into();
    cases[6] = ("another account of the name", claims());
    cases[6].1.about.serviceaccount.uid = "uid-before".into();
    cases[7] = ("another subject", claims());
    cases[7].1.sub = "system:serviceaccount:shop:admin".into();
    let good = issuer.sign(&claims());
    for mood in [Mood::Up, Mood::Unreachable] {
        node.cloud.mood(mood);
        assert_eq!(code(&node, &good, MINE).await, 200, "{mood:?}");
        for (why, claims) in &cases {
            let answer = ask(&node, &issuer.sign(claims), "GET", MINE, "").await;
            if *why == "another issuer" && mood == Mood::Unreachable {
                // The cluster may know of others who make tokens.
                assert_eq!(answer.code, 503);
                continue;
            }
            assert_eq!(answer.code, 401, "{why}, {mood:?}: {:?}", answer.body);
            assert_eq!(
                answer.json(),
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "Unauthorized",
                    "reason": "Unauthorized", "code": 401 })
            );
            assert_eq!(
                answer.header("www-authenticate"),
                "",
                "a kube-apiserver sends none"
            );
        }
    }
    // A clock may be a little wrong.
    let mut late = claims();
    late.exp = now() - 5;
    assert_eq!(code(&node, &issuer.sign(&late), MINE).await, 200);
}

#[tokio::test]
async fn k26_a_signature_is_always_checked_and_never_one_that_proves_nothing() {
    let (node, issuer) = world().await;
    let good = issuer.sign(&claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged = Issuer::new("k1").sign(&claims());
    // The public key as a shared secret, and no signature at all.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".into());
    let secret = EncodingKey::from_secret(issuer.public_pem().as_bytes());
    let symmetric = jsonwebtoken::encode(&header, &claims(), &secret).unwrap();
    let payload = good.split('.').nth(1).unwrap();
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.{payload}.");
    let changed = format!("{head}A.{signature}");
    node.cloud.mood(Mood::Up);
    for (why, token) in [
        ("another key", &forged),
        ("a shared secret", &symmetric),
        ("changed", &changed),
        (
            "another's signature",
            &format!("{head}.{}", forged.rsplit_once('.').unwrap().1),
        ),
    ] {
        assert_eq!(code(&node, token, MINE).await, 401, "{why}");
    }
    assert_ne!(code(&node, &none, MINE).await, 200, "alg none");
    node.cloud.mood(Mood::Unreachable);
    assert_ne!(code(&node, &none, MINE).await, 200, "alg none");
    let long = format!("{good}{}", "A".repeat(20_000));
    assert_eq!(code(&node, &long, MINE).await, 401);
}

#[tokio::test]
async fn a_pod_that_is_gone_takes_its_token_along_though_the_cloud_is_away() {
    let (node, issuer) = world().await;
    let token = issuer.sign(&claims());
    assert_eq!(code(&node, &token, MINE).await, 200);
    node.cloud.mood(Mood::Unreachable);
    let pods = GroupVersionResource::core("pods");
    let gone = hub_core::store::Change::Delete {
        key: hub_core::object::ObjectKey::new(pods, Some("shop"), "agent-1"),
        uid: None,
        version: None,
    };
    node.store.apply(vec![gone]).await.unwrap();
    assert_eq!(code(&node, &token, MINE).await, 401);

    // One of another node is held here by chance, and helps nobody.
    node.cloud.mood(Mood::Up);
    node.hold("pods", pod("edge-2")).await;
    assert_eq!(code(&node, &token, MINE).await, 401);
    node.hold("pods", pod("edge-1")).await;
    assert_eq!(code(&node, &token, MINE).await, 200);
}

#[tokio::test]
async fn keys_are_kept_for_a_start_without_the_cloud_and_fetched_when_a_new_one_appears() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let auth = AuthConfig {
        keys_file: Some(file.clone()),
        ..auth()
    };
    let issuer = Issuer::new("k1");
    let node = node(auth.clone(), &issuer).await;
    let token = issuer.sign(&claims());
    assert_eq!(code(&node, &token, MINE).await, 200);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    // The cluster changes its key. A rate limit keeps callers from asking it all the time.
    let next = Issuer::new("k2");
    let changed = next.sign(&claims());
    node.cloud.publish("/openid/v1/jwks", next.jwks());
    soon(async {
        while code(&node, &changed, MINE).await != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(
        code(&node, &token, MINE).await,
        401,
        "the old key is not published any more"
    );

    node.cloud.mood(Mood::Unreachable);
    let config = metaserver::MetaConfig {
        auth,
        ..metaserver::MetaConfig::default()
    };
    let node = node.restart(config).await;
    assert_eq!(code(&node, &changed, MINE).await, 200, "from the disk");
    let unknown = Issuer::new("k3").sign(&claims());
    assert_eq!(code(&node, &unknown, MINE).await, 503, "nobody can say yet");
    let jwks = node.get("/openid/v1/jwks").await;
    assert_eq!(jwks.code, 403, "for service accounts, as on a kube-apiserver");
    let jwks = ask(&node, &changed, "GET", "/openid/v1/jwks", "").await;
    assert_eq!((jwks.code.as_u16(), jwks.json()), (200, next.jwks()));
}

#[tokio::test]
async fn unknown_keys_do_not_make_the_node_a_nuisance_to_the_cloud() {
    let issuer = Issuer::new("k1");
    let node = node(
        AuthConfig {
            keys_pause: Duration::from_secs(3600),
            ..auth()
        },
        &issuer,
    )
    .await;
    for _ in 0..20 {
        let stranger = Issuer::new("stranger").sign(&claims());
        assert_eq!(code(&node, &stranger, MINE).await, 401);
    }
    let asked = node.cloud.asked();
    let fetched = asked
        .iter()
        .filter(|request| format!("{:?}", request.target).contains("jwks"));
    assert!(fetched.count() <= 2);
}

#[tokio::test]
async fn tokens_that_only_the_cloud_knows_are_reviewed_by_it_and_remembered_for_a_while() {
    let (node, _) = world().await;
    node.cloud.reviews(|request| {
        let review: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let known = review["spec"]["token"] == "opaque";
        json!({ "kind": "TokenReview", "status": { "authenticated": known,
            "user": { "username": "system:serviceaccount:shop:agent", "groups": ["system:authenticated"] } } })
    });
    assert_eq!(code(&node, "opaque", MINE).await, 200);
    assert_eq!(code(&node, "wrong", MINE).await, 401);
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(code(&node, "opaque", MINE).await, 200, "a moment ago it was good");
    assert_eq!(code(&node, "wrong", MINE).await, 401);
    assert_eq!(code(&node, "unheard", MINE).await, 503, "nobody can say");
}

#[tokio::test]
async fn a_pod_that_ends_takes_along_a_token_of_which_only_the_cloud_knew() {
    let (node, _) = world().await;
    node.cloud.reviews(|_| {
        json!({ "kind": "TokenReview", "status": { "authenticated": true, "user": {
            "username": "system:serviceaccount:shop:agent", "groups": ["system:authenticated"],
            "extra": { "authentication.kubernetes.io/pod-name": ["agent-1"],
                "authentication.kubernetes.io/pod-uid": ["uid-agent-1"] } } } })
    });
    assert_eq!(code(&node, "opaque", MINE).await, 200);
    let gone = hub_core::store::Change::Delete {
        key: hub_core::object::ObjectKey::new(GroupVersionResource::core("pods"), Some("shop"), "agent-1"),
        uid: None,
        version: None,
    };
    node.store.apply(vec![gone]).await.unwrap();
    assert_eq!(
        code(&node, "opaque", MINE).await,
        401,
        "whatever the cloud said a moment ago"
    );
    assert_eq!(code(&node, "another", MINE).await, 401, "and says now");
}

#[tokio::test]
async fn keys_and_tokens_may_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new("k1");
    let file = folder.path().join("sa.pub");
    write(&file, &issuer.public_pem());
    let tokens = StaticTokens::parse("t0k,ann,1,system:masters").unwrap();
    let node = node(
        AuthConfig {
            key_files: vec![file],
            issuers: vec![ISSUER.into()],
            tokens,
            ..auth()
        },
        // Whoever publishes keys publishes others.
        &Issuer::new("other"),
    )
    .await;
    assert_eq!(code(&node, &issuer.sign(&claims()), MINE).await, 200);
    assert_eq!(code(&node, "t0k", OTHERS).await, 200);
}

#[tokio::test]
async fn a_token_may_outlive_its_end_where_nobody_can_renew_it_if_the_operator_says_so() {
    let issuer = Issuer::new("k1");
    let node = node(
        AuthConfig {
            expiry_grace: Duration::from_secs(3600),
            ..auth()
        },
        &issuer,
    )
    .await;
    let mut claims = claims();
    claims.exp = now() - 60;
    let token = issuer.sign(&claims);
    assert_eq!(code(&node, &token, MINE).await, 401);
    crate::world::cut(&node).await;
    assert_eq!(code(&node, &token, MINE).await, 200);
    claims.exp = now() - 3700;
    assert_eq!(code(&node, &issuer.sign(&claims), MINE).await, 401);
}

#[tokio::test]
async fn a_local_write_is_told_in_the_name_of_who_wrote_and_a_denial_is_final() {
    let issuer = Issuer::new("k1");
    let token = issuer.sign(&claims());
    let tokens = StaticTokens::parse("t0k,ann,1,system:masters").unwrap();
    let node = node(AuthConfig { tokens, ..auth() }, &issuer).await;
    node.cloud.put(
        "roles",
        json!({ "kind": "Role", "apiVersion": crate::world::RBAC,
        "metadata": { "name": "reader", "namespace": "shop" },
        "rules": [{ "verbs": ["*"], "apiGroups": [""], "resources": ["pods/status"] }] }),
    );
    node.settled().await;
    let status = "/api/v1/namespaces/shop/pods/agent-1/status";
    let patch = async |token: &str, address: &str| {
        let body = json!({ "status": { "podIP": address } }).to_string();
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", &*bearer),
            ("content-type", "application/merge-patch+json"),
        ];
        let answer = node.ask("PATCH", status, &headers, &body).await;
        assert_eq!(answer.code, 200, "{:?}", answer.body);
    };
    soon(async {
        while code(&node, &token, status).await != 200 {
            tokio::task::yield_now().await
        }
    })
    .await;
    // Whom the cloud was told of, of the writes since then.
    let told = async |since: usize| {
        soon(async {
            while !node.journal().pending.is_empty() {
                tokio::task::yield_now().await
            }
        })
        .await;
        let asked = node.cloud.asked().split_off(since);
        let writes = asked
            .into_iter()
            .filter(|asked| asked.verb == hub_core::api::Verb::Patch);
        writes
            .map(|asked| asked.user.map(|user| user.name))
            .collect::<Vec<_>>()
    };
    node.cloud.mood(Mood::Unreachable);
    patch(&token, "10.0.0.1").await;
    patch(&token, "10.0.0.2").await;
    let since = node.cloud.asked().len();
    node.cloud.mood(Mood::Up);
    assert_eq!(
        told(since).await,
        [Some("system:serviceaccount:shop:agent".to_owned())]
    );

    // Several wrote: the node tells what is its own.
    node.cloud.mood(Mood::Unreachable);
    patch(&token, "10.0.0.3").await;
    patch("t0k", "10.0.0.4").await;
    let since = node.cloud.asked().len();
    node.cloud.mood(Mood::Up);
    assert_eq!(told(since).await, [None]);

    node.cloud.mood(Mood::Unreachable);
    patch(&token, "10.0.0.5").await;
    node.cloud.mood(Mood::Denies);
    assert_eq!(
        told(0).await.len(),
        node.cloud
            .asked()
            .iter()
            .filter(|asked| asked.verb == hub_core::api::Verb::Patch)
            .count()
    );
    let conflict = &node.journal().conflicts[0];
    assert_eq!((&*conflict.reason, &*conflict.message), ("Refused", "403: no"));
}
