//! What is told of who may what: to an operator, in numbers, and to the pages of a browser.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};

use crate::support::{Mood, Node};
use crate::world::{Issuer, MINE, OTHERS, auth, claims, code, node};

const AGENT: &str = "system:serviceaccount:shop:agent";

#[tokio::test]
async fn why_names_the_roles_that_allow_and_whether_one_user_may() {
    let node = node(auth(), &Issuer::new("k1")).await;
    let all = node.meta().why(MINE).authorization;
    assert!(
        all.contains(r#"ServiceAccount "agent/shop" by RoleBinding "agent-reads/shop" of Role "reader""#),
        "{all}"
    );
    assert!(all.starts_with("this node; "), "{all}");
    for mood in [Mood::Up, Mood::Unreachable] {
        node.cloud.mood(mood);
        let one = |path, asker| node.meta().why_for(path, asker).authorization;
        let agent = one(MINE, AGENT);
        assert!(
            agent.starts_with(AGENT) && agent.contains("RBAC: allowed by RoleBinding"),
            "{agent}"
        );
        let denied = one(OTHERS, AGENT);
        assert!(
            denied.starts_with("not ")
                && denied.contains(r#"cannot get resource "configmaps""#)
                && denied.contains("no role"),
            "{denied}"
        );
        assert!(one(MINE, "ann").starts_with("not ann"), "no account of the name");
        assert!(one(OTHERS, "group:system:masters").contains("as an administrator"));
        assert!(one("/version", "system:anonymous").contains("system:public-info-viewer"));
    }
    let open = Node::start().await;
    assert_eq!(
        open.meta().why(MINE).authorization,
        "everybody who can connect to this server"
    );
}

#[tokio::test]
async fn who_was_let_in_by_what_and_who_was_not_is_counted() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let count = |series: &str| {
        let mut registry = Registry::default();
        node.meta().register_metrics(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = text.lines().find(|line| line.starts_with(series));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
    };
    let series = [
        r#"metaserver_authentications_total{means="token",result="success"}"#,
        r#"metaserver_authentications_total{means="token",result="failure"}"#,
        r#"metaserver_authentications_total{means="token",result="unknown"}"#,
        r#"metaserver_authentications_total{means="anonymous",result="success"}"#,
        r#"metaserver_authorizations_total{decision="allowed"}"#,
        r#"metaserver_authorizations_total{decision="denied"}"#,
    ];
    let before = series.map(count);
    let token = issuer.sign(&claims());
    assert_eq!(code(&node, &token, MINE).await, 200);
    assert_eq!(code(&node, &token, OTHERS).await, 403);
    assert_eq!(code(&node, &Issuer::new("k1").sign(&claims()), MINE).await, 401);
    node.cloud.mood(Mood::Unreachable);
    assert_eq!(code(&node, "unheard of", MINE).await, 503);
    assert_eq!(node.get(MINE).await.code, 403, "nobody in particular");
    let after = series.map(count);
    let grown: Vec<_> = before
        .iter()
        .zip(after)
        .map(|(before, after)| after - before)
        .collect();
    assert_eq!(grown, [2, 1, 1, 1, 1, 2]);
}

/// The code of an answer to a page that wants to watch ConfigMaps.
async fn socket(node: &Node, path: &str, protocols: &str) -> u16 {
    let request = Request::get(format!("ws://{}{path}?watch=true", node.address))
        .header("host", &node.address)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("sec-websocket-protocol", protocols);
    let tcp = TcpStream::connect(&node.address).await.unwrap();
    match client_async(request.body(()).unwrap(), tcp).await {
        Ok((_, answer)) => {
            let chosen = answer.headers().get("sec-websocket-protocol");
            assert_eq!(chosen.unwrap(), "binary.k8s.io", "a token is never said back");
            answer.status().as_u16()
        }
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_page_shows_its_token_as_a_subprotocol() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let named = |token: &str| format!("base64url.bearer.authorization.k8s.io.{}", BASE64.encode(token));
    let good = named(&issuer.sign(&claims()));
    let (mine, others) = (
        "/api/v1/namespaces/shop/configmaps",
        "/api/v1/namespaces/other/configmaps",
    );
    for mood in [Mood::Up, Mood::Unreachable] {
        node.cloud.mood(mood);
        let both = format!("{good}, binary.k8s.io");
        assert_eq!(socket(&node, mine, &both).await, 101, "{mood:?}");
        assert_eq!(socket(&node, others, &both).await, 403, "{mood:?}");
        let forged = named(&Issuer::new("k1").sign(&claims()));
        for (why, protocols, expected) in [
            ("forged", format!("{forged}, binary.k8s.io"), 401),
            ("alone", good.clone(), 401),
            ("two", format!("{good}, {good}, binary.k8s.io"), 401),
            (
                "no base64",
                "base64url.bearer.authorization.k8s.io.%%, binary.k8s.io".into(),
                401,
            ),
            ("none", "binary.k8s.io".into(), 403),
        ] {
            assert_eq!(socket(&node, mine, &protocols).await, expected, "{why}, {mood:?}");
        }
    }
    // Without an upgrade it is a header like any other.
    let headers = [("sec-websocket-protocol", &*good)];
    assert_eq!(node.ask("GET", MINE, &headers, "").await.code, 403);
}
