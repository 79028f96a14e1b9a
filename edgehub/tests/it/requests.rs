//! A client's requests to the cloud's API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use edgehub::EdgeHubConfig;
use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, Upstream, UpstreamError, Verb};
use hub_core::application::Application;
use hub_core::service::Reply;
use hub_core::session::Lane;
use hub_core::transport::Capabilities;
use tower::ServiceExt;

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, CutDialer, Script};
use crate::world::{Edge, config, config_maps, node};

/// Answers requests about an object by its name: `found`, `denied`; others never.
fn api(capabilities: Capabilities) -> Script {
    let rest = nothing_differs();
    Arc::new(move |message| {
        if &*message.route.source != "metaserver" {
            return rest(message);
        }
        let application = Application::from_content(&message.content).unwrap();
        assert_eq!(application.tunnel.is_some(), capabilities == Capabilities::ALL);
        let answer = match application.key.rsplit('/').next().unwrap() {
            "found" => ApiResponse::json(200, r#"{"kind":"ConfigMap"}"#),
            "denied" => Status::failure(Reason::Forbidden, "not yours").into(),
            _ => return None,
        };
        let answer = application.answered(&answer).to_answer(message);
        Some(Reply::Answer(answer, Lane::Urgent))
    })
}

fn get(name: &str) -> ApiRequest {
    ApiRequest::resource(Verb::Get, config_maps(), Some("shop"), Some(name))
}

fn put(name: &str) -> ApiRequest {
    ApiRequest::resource(Verb::Update, config_maps(), Some("shop"), Some(name))
        .with_body("application/json", "{}")
}

async fn connected(capabilities: Capabilities, config: EdgeHubConfig) -> (Cloud, CutDialer, Edge) {
    let (cloud, dialer) = Cloud::start(&node(), capabilities, api(capabilities));
    let edge = Edge::start(config, dialer.clone());
    edge.up().await;
    (cloud, dialer, edge)
}

#[tokio::test]
async fn answers_and_denials_come_back_from_either_cloud() {
    for capabilities in [Capabilities::ALL, Capabilities::NONE] {
        let (_cloud, _, edge) = connected(capabilities, config()).await;
        let upstream: Upstream = edge.handle.clone().into();
        let found = upstream.clone().oneshot(get("found")).await.unwrap();
        assert_eq!(
            (found.code, found.body.as_ref()),
            (200, br#"{"kind":"ConfigMap"}"#.as_ref())
        );
        let denied = upstream.oneshot(get("denied")).await.unwrap();
        assert_eq!(denied.code, 403);
    }
}

#[tokio::test]
async fn without_a_link_requests_fail_at_once() {
    let (_cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, nothing_differs());
    let hub = edgehub::EdgeHub::builder(
        config(),
        crate::world::TestStore::new(),
        Arc::new(crate::world::journal()),
    )
    .with_dialer(dialer, hub_core::transport::Endpoint::parse("cloud:1").unwrap())
    .build();
    let begin = Instant::now();
    assert_eq!(
        hub.handle().request(get("found")).await,
        Err(UpstreamError::Unreachable)
    );
    assert!(begin.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn a_cloud_that_does_not_answer_costs_a_read_its_time_and_no_more() {
    let mut config = config();
    config.read_timeout = Duration::from_millis(50);
    let (_cloud, _, edge) = connected(Capabilities::ALL, config).await;
    assert_eq!(
        edge.handle.request(get("silence")).await,
        Err(UpstreamError::Timeout)
    );
}

#[tokio::test]
async fn a_read_ends_with_its_link() {
    let (mut cloud, dialer, edge) = connected(Capabilities::ALL, config()).await;
    let handle = edge.handle.clone();
    let read = tokio::spawn(async move { handle.request(get("silence")).await });
    cloud.wait_for("null").await;
    dialer.cut();
    assert_eq!(read.await.unwrap(), Err(UpstreamError::Unreachable));
}

#[tokio::test]
async fn a_write_may_be_answered_over_the_next_connection() {
    let (mut cloud, dialer, edge) = connected(Capabilities::ALL, config()).await;
    let handle = edge.handle.clone();
    let write = tokio::spawn(async move { handle.request(put("later")).await });
    let request = cloud.wait_for("null").await;
    dialer.cut();
    cloud.wait_for("sync/have").await;
    let application = Application::from_content(&request.content).unwrap();
    let answer = application
        .answered(&ApiResponse::json(200, "{}"))
        .to_answer(&request);
    cloud
        .send(
            "late",
            None,
            hub_core::session::Delivery::Once(Duration::from_secs(10)),
            answer,
            None,
        )
        .await;
    assert_eq!(write.await.unwrap().unwrap().code, 200);
}

#[tokio::test]
async fn too_many_requests_are_refused_and_not_queued() {
    let mut config = config();
    config.requests_max = 2;
    let (mut cloud, _, edge) = connected(Capabilities::ALL, config).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let handle = edge.handle.clone();
            tokio::spawn(async move { handle.request(put("silence")).await })
        })
        .collect();
    cloud.wait_for("null").await;
    cloud.wait_for("null").await;
    assert_eq!(
        edge.handle.request(get("found")).await,
        Err(UpstreamError::Overloaded)
    );
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_watch_is_no_request() {
    let (_cloud, _, edge) = connected(Capabilities::ALL, config()).await;
    let watch = ApiRequest::resource(Verb::Watch, config_maps(), None, None);
    assert!(matches!(
        edge.handle.request(watch).await,
        Err(UpstreamError::Protocol(_))
    ));
}
