//! Token, CA, signing request, certificate; and what the upgrade says.

use std::time::{Duration, SystemTime};

use edgehub::RunError;
use hub_core::credentials::certificate_pem;
use hub_core::transport::Endpoint;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::peer::ca::Ca;
use crate::peer::{PeerConfig, StockCloud};
use crate::world::{Edge, HOUR, NODE, config, fresh, within};

#[tokio::test]
async fn a_token_is_all_that_a_new_node_needs() {
    let cloud = StockCloud::start().await;
    let (config, directory) = fresh(&cloud);
    let edge = Edge::start(config, directory);
    edge.up().await;
    cloud.hear("keepalive", "node").await;
    let asked = cloud.state().asked.clone();
    assert_eq!(
        asked.iter().map(|asked| &*asked.line).collect::<Vec<_>>(),
        ["GET /ca.crt", "GET /edge.crt"]
    );
    let header = |name: &str| {
        let found = asked[1]
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(header("NodeName"), NODE);
    // The JWT only: with the hash of the CA before it a stock cloud refuses it.
    assert_eq!(
        header("Authorization"),
        format!("Bearer {}", cloud.token().split_once('.').unwrap().1)
    );
    assert!(!asked[1].certificate);
    let (_, request) = X509CertificationRequest::from_der(&asked[1].body).unwrap();
    request.verify_signature().unwrap();
    let subject = &request.certification_request_info.subject;
    assert_eq!(
        subject.to_string(),
        "C=CN, ST=Zhejiang, L=Hangzhou, O=system:nodes, CN=system:node:edge-1"
    );
}

#[tokio::test]
async fn s10_the_key_and_the_certificate_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let cloud = StockCloud::start().await;
    let (config, directory) = fresh(&cloud);
    let files = ["ca.crt", "node.crt", "node.key"].map(|name| directory.path().join(name));
    let edge = Edge::start(config, directory);
    edge.up().await;
    for file in files {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{mode:o} {}", file.display());
    }
}

#[tokio::test]
async fn p4_what_no_retry_can_mend_ends_the_program_with_a_sentence() {
    let cloud = StockCloud::start().await;
    let token = cloud.token();
    let (hash, jwt) = token.split_once('.').unwrap();
    let zeros = "0".repeat(64);
    for (token, said) in [
        ("nonsense".to_owned(), "malformed"),
        (jwt.to_owned(), "malformed"),
        (format!("{hash}.{jwt}.x"), "malformed"),
        (format!("{zeros}.{jwt}"), "another cloud"),
        (format!("{hash}.a.b.c"), "401"),
        (String::new(), "keadm gettoken"),
    ] {
        let (mut config, directory) = fresh(&cloud);
        config.enroll.token = Some(token.clone());
        let edge = Edge::start(config, directory);
        let ended = within("the end", edge.run).await.unwrap();
        let Err(error @ RunError::Enroll(_)) = ended else {
            panic!("{token:?}: {ended:?}");
        };
        assert!(error.to_string().contains(said), "{token:?}: {error}");
    }
    let asked = &cloud.state().asked;
    let secret =
        |asked: &&crate::peer::https::Asked| asked.headers.iter().any(|(_, value)| value.contains(jwt));
    assert_eq!(
        asked.iter().filter(secret).count(),
        0,
        "nothing secret went to a cloud whose CA is another"
    );
}

#[tokio::test]
async fn a_token_may_be_in_capitals_and_have_space_around_it() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = fresh(&cloud);
    let token = cloud.token();
    let (hash, jwt) = token.split_once('.').unwrap();
    config.enroll.token = Some(format!("  {}.{jwt}\n", hash.to_uppercase()));
    Edge::start(config, directory).up().await;
}

#[tokio::test]
async fn s11_a_certificate_that_ended_while_the_node_was_off_is_replaced_with_a_token() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    let ended = cloud.ca.node(NODE, SystemTime::now() - 2 * HOUR, HOUR);
    config.enroll.files.store(&ended).unwrap();
    config.enroll.token = Some(cloud.token());
    Edge::start(config, directory).up().await;
    assert_eq!(cloud.state().issued, 1);
}

#[tokio::test]
async fn a_node_whose_clock_is_behind_takes_the_certificate_that_it_is_given() {
    // Not the authority's own, or TLS would end it: as with KubeEdge's edges.
    let cloud = StockCloud::with(PeerConfig {
        clock_ahead: Duration::from_secs(300),
        ..PeerConfig::default()
    })
    .await;
    let (config, directory) = fresh(&cloud);
    let edge = Edge::start(config.clone(), directory);
    edge.up().await;
    assert_eq!(cloud.state().issued, 1);
    // And at the next start, when the token is long used up.
    let directory = edge.stop().await;
    let mut config = config;
    config.enroll.token = None;
    Edge::start(config, directory).up().await;
    assert_eq!(cloud.state().issued, 1);
}

#[tokio::test]
async fn the_names_of_a_stock_server_may_have_empty_ones_among_them() {
    for (names, host) in [
        (vec!["", "127.0.0.1"], "127.0.0.1"),
        (vec!["", "localhost"], "localhost"),
    ] {
        let cloud = StockCloud::with(PeerConfig {
            names,
            ..PeerConfig::default()
        })
        .await;
        let (mut config, directory) = fresh(&cloud);
        let to = |endpoint: &Endpoint| Endpoint::parse(&format!("{host}:{}", endpoint.port)).unwrap();
        config.websocket = vec![to(&cloud.tunnel)];
        config.enroll.http_servers = vec![to(&cloud.https)];
        Edge::start(config, directory).up().await;
    }
}

#[tokio::test]
async fn an_address_of_no_length_among_the_names_is_stepped_over() {
    // What cloudcore makes of a name in `advertiseAddress`.
    let cloud = StockCloud::with(PeerConfig {
        names: vec![Ca::NO_ADDRESS, "127.0.0.1"],
        ..PeerConfig::default()
    })
    .await;
    let (config, directory) = fresh(&cloud);
    Edge::start(config, directory).up().await;
}

#[tokio::test]
async fn an_old_cloud_that_speaks_tls_1_2_only_is_spoken_to() {
    let cloud = StockCloud::with(PeerConfig {
        only_tls12: true,
        ..PeerConfig::default()
    })
    .await;
    let edge = Edge::join(&cloud).await;
    cloud.hear("keepalive", "node").await;
    assert!(edge.handle.link().borrow().is_up());
}

#[tokio::test]
async fn the_upgrade_is_that_of_a_go_edge_and_shows_one_certificate() {
    let cloud = StockCloud::start().await;
    let (config, directory) = config(&cloud);
    // Some tools write the authority behind the certificate. A stock cloud that authorizes takes no second one.
    let file = directory.path().join("node.crt");
    let chain = std::fs::read_to_string(&file).unwrap() + &certificate_pem(&cloud.ca.certificate);
    std::fs::write(&file, chain).unwrap();
    let edge = Edge::start(config, directory);
    edge.up().await;
    cloud.cut();
    cloud
        .until("a second connection", |state| {
            (state.upgrades.len() == 2).then_some(())
        })
        .await;
    for upgrade in &cloud.state().upgrades {
        assert_eq!(
            upgrade.line,
            "GET /e632aba927ea4ac2b575ec1603d56f10/edge-1/events HTTP/1.1"
        );
        assert_eq!(upgrade.certificates, 1);
        // A Go edge adds one more `Connectionuse` with every attempt; the first counts.
        let names: Vec<_> = upgrade.headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            names,
            [
                "Host",
                "User-Agent",
                "Connection",
                "Connectionuse",
                "Node_id",
                "Project_id",
                "Sec-WebSocket-Key",
                "Sec-WebSocket-Version",
                "Upgrade",
                "Edge-Tunnel"
            ],
            "those of a stock edge in their order and spelling, and ours"
        );
        let header = |name: &str| &*upgrade.headers.iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!((header("Connectionuse"), header("Node_id")), ("msg", NODE));
        assert_eq!(header("Project_id"), "e632aba927ea4ac2b575ec1603d56f10");
    }
}
