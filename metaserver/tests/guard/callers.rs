//! Callers of the same machine, who show nothing: they are known by the user that they run as.

use std::os::unix::fs::MetadataExt as _;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hub_core::socket::{Access, Socket};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use metaserver::{AuthConfig, CallerIs, Callers, Listen};
use tokio::net::{TcpStream, UnixStream};

use crate::support::Node;
use crate::world::{Issuer, MINE, OTHERS, auth, node};

fn me() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn known_as(who: CallerIs) -> AuthConfig {
    AuthConfig {
        callers: Callers {
            by_uid: [(me(), who)].into(),
            others: CallerIs::Anonymous,
        },
        ..auth()
    }
}

#[tokio::test]
async fn a_caller_over_loopback_is_who_the_policy_says() {
    let issuer = Issuer::new("k1");
    let agent = CallerIs::parse("system:serviceaccount:shop:agent");
    for (who, mine, others) in [
        (CallerIs::Node, 200, 200),
        (agent, 200, 403),
        (CallerIs::Anonymous, 403, 403),
    ] {
        let node = node(known_as(who.clone()), &issuer).await;
        assert_eq!(node.get(MINE).await.code, mine, "{who:?}");
        assert_eq!(node.get(OTHERS).await.code, others, "{who:?}");
        let bad = node
            .ask("GET", MINE, &[("authorization", "Bearer x.y.z")], "")
            .await;
        assert_ne!(
            bad.code, 200,
            "who shows a bad token is not helped by who they run as"
        );
    }
}

#[tokio::test]
async fn nobody_is_let_in_unknown_where_the_operator_says_so() {
    let issuer = Issuer::new("k1");
    let auth = AuthConfig {
        anonymous: false,
        ..auth()
    };
    let node = node(auth, &issuer).await;
    assert_eq!(node.get(MINE).await.code, 401);
    assert_eq!(node.get("/healthz").await.code, 401, "as a kube-apiserver");
}

#[tokio::test]
async fn a_node_that_asks_nobody_who_they_are_serves_everybody_as_itself() {
    let issuer = Issuer::new("k1");
    let node = node(AuthConfig::default(), &issuer).await;
    assert_eq!(node.get(OTHERS).await.code, 200);
    let headers = [("authorization", "Bearer nonsense")];
    assert_eq!(
        node.ask("GET", OTHERS, &headers, "").await.code,
        200,
        "tokens are not looked at"
    );
    let headers = [("impersonate-user", "admin")];
    assert_eq!(
        node.ask("GET", OTHERS, &headers, "").await.code,
        403,
        "a node is nobody else"
    );
    node.get("/api/v1/namespaces/shop/configmaps/not-here").await;
    assert_eq!(
        node.cloud.asked().last().unwrap().user,
        None,
        "the cloud knows who the node is"
    );
}

#[tokio::test]
async fn a_unix_socket_tells_who_calls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let issuer = Issuer::new("k1");
    let node = node(
        known_as(CallerIs::parse("system:serviceaccount:shop:agent")),
        &issuer,
    )
    .await;
    let listener = Listen::Unix(Socket::bind(&path, Access::OWNER).await.unwrap());
    let meta = node.meta.clone();
    tokio::spawn(async move { meta.serve_on(listener, std::future::pending()).await });
    for (uri, expected) in [(MINE, 200), (OTHERS, 403)] {
        assert_eq!(over(&path, uri).await, expected, "{uri}");
    }
    let _: &Node = &node;
}

async fn over(path: &std::path::Path, uri: &str) -> u16 {
    let stream = UnixStream::connect(path).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(uri)
        .header("host", "node")
        .body(Full::<bytes::Bytes>::default());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    code
}

#[tokio::test]
async fn who_is_not_let_in_may_ask_again_on_the_same_connection_whatever_was_sent() {
    let issuer = Issuer::new("k1");
    let node = node(auth(), &issuer).await;
    let stream = TcpStream::connect(&node.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        sender.ready().await.unwrap();
        let request = Request::post(MINE)
            .header("host", "node")
            .header("authorization", "Bearer nonsense");
        let body = Full::new(Bytes::from(vec![b' '; 200 << 10]));
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 401);
        answer.into_body().collect().await.unwrap();
    }
}
