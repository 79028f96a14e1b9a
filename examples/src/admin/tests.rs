use std::os::unix::fs::PermissionsExt;

use futures::FutureExt;

use super::nodes::{LastError, Node};
use super::*;

const NOW: u64 = 1_800_000_000_000;

#[test]
fn the_table_says_which_node_hangs_and_why() {
    let ok = Node {
        node: "edge-1".into(),
        state: "ok".into(),
        connected: true,
        since_ms: NOW - 90_061_000,
        transport: Some("websocket".into()),
        peer: Some("ack, resume".into()),
        version: Some("edgehub-v0.1.0".into()),
        silence_ms: Some(3_200),
        round_trip_us: Some(4_250),
        ..Node::default()
    };
    let stuck = Node {
        node: "kiosk-with-a-long-name".into(),
        state: "takes nothing".into(),
        since_ms: NOW - 754_000,
        transport: Some("quic".into()),
        stuck_ms: Some(12_000),
        silence_ms: Some(13_000),
        round_trip_us: Some(812_000),
        lag_ms: Some(131_000),
        queued: 412,
        unacknowledged: 64,
        resent: 7,
        version: None,
        ..ok.clone()
    };
    let away = Node {
        node: "lorry-9".into(),
        state: "away".into(),
        since_ms: NOW - 41_000,
        last_error: Some(LastError {
            at_ms: NOW - 41_000,
            what: "nothing heard for too long".into(),
        }),
        ..Node::default()
    };
    let nodes = Nodes {
        at_ms: NOW,
        nodes: vec![stuck, away, ok],
    };
    let wanted = "\
NODE                    STATE                  SINCE   TRANSPORT  PEER            HEARD  ROUND-TRIP  LAG    QUEUED  UNACKED  RESENT  LAST ERROR
kiosk-with-a-long-name  takes nothing for 12s  12m34s  quic       edgecore        13s    812ms       2m11s  412     64       7       -
lorry-9                 away                   41s     -          -               -      -           -      0       0        0       nothing heard for too long (41s ago)
edge-1                  ok                     25h01m  websocket  edgehub-v0.1.0  3.2s   4.2ms       -      0       0        0       -
2 connected, 1 away; 2 of 3 want a look
";
    assert_eq!(table(&nodes), wanted, "\n{}", table(&nodes));
}

fn echo() -> Handler {
    Arc::new(|_, path| async move { json(&path) }.boxed())
}

#[tokio::test]
async fn only_the_owner_may_ask_and_a_dead_programs_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/admin.sock");
    std::fs::create_dir(folder.path().join("run")).unwrap();
    // Dropped without a word: its file stays.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(
        ask("echo", &path, "/")
            .await
            .unwrap_err()
            .contains("is it running")
    );

    let socket = AdminSocket::bind(&path).await.unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(socket, echo(), stop.clone()));
    assert_eq!(ask("echo", &path, "/a?b=c").await.unwrap(), "\"/a?b=c\"");

    let busy = AdminSocket::bind(&path).await.unwrap_err();
    assert!(busy.contains("another program answers there"), "{busy}");
    assert_eq!(ask("echo", &path, "/still").await.unwrap(), "\"/still\"");

    stop.cancel();
    serving.await.unwrap();
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let refused = AdminSocket::bind(&path).await.unwrap_err();
    assert!(refused.contains("no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}
