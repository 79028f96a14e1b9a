//! Your own group of messages, and your own layer around all of them: a thermometer on the node reports to the cloud.

use std::time::Duration;

use cloudhub::cluster::{EmbeddedCluster, EmbeddedConfig};
use cloudhub::{CloudHub, CloudHubConfig};
use edgehub::store::EdgeStore;
use edgehub::{EdgeHub, EdgeHubConfig};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::node::NodeId;
use hub_core::service::{Handler, Matcher, Reply, Request, Router};
use hub_core::session::Lane;
use hub_core::transport::{Endpoint, Listener, MemoryConfig, memory};
use tower::ServiceExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (listener, dialer) = memory(MemoryConfig::default());

    // A handler is a tower service. What it answers goes back to the node; an error is told to it.
    let thermometer = tower::service_fn(|request: Request| async move {
        let celsius: f64 = request.message.content.decode("a temperature")?;
        let advice = if celsius > 30.0 {
            "open a window"
        } else {
            "all is well"
        };
        Ok(Reply::Answer(
            request.message.response(Content::string(advice)),
            Lane::Urgent,
        ))
    });
    let routes = Router::new().route(Matcher::any().group("thermometer"), thermometer);

    // A layer sees every message of every node.
    let log = tower::layer::layer_fn(|inner: Handler| {
        tower::service_fn(move |request: Request| {
            println!("{} sends {:?}", request.node, request.message.route.resource);
            inner.clone().oneshot(request)
        })
    });

    let cluster = EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default())?;
    let cloud = CloudHub::new(CloudHubConfig::default(), cluster)?
        .with_routes(routes)
        .with_layer(log);
    let listener: Box<dyn Listener> = Box::new(listener);
    tokio::spawn(cloud.serve([listener]).into_future());

    let node = NodeId::new("edge-1")?;
    let store = EdgeStore::open(folder.path().join("edge.db"))?;
    let edge = EdgeHub::with_store(EdgeHubConfig::new(node.clone()), store)
        .with_dialer(
            dialer.with_common_name(&node.user_name()),
            Endpoint {
                host: "cloud".into(),
                port: 1,
            },
        )
        .build();
    let handle = edge.handle();
    tokio::spawn(edge.run());
    handle.link().wait_for(|link| link.is_up()).await?;

    for celsius in [21.5, 34.0] {
        let route = Route::new(
            "thermometer",
            "thermometer",
            Operation::Upload,
            "office/thermometer",
        );
        let report = Message::new(route, Content::encode(&celsius));
        let answer = handle
            .session()
            .call(report, Lane::Rest, Duration::from_secs(5))
            .await?;
        println!(
            "at {celsius} °C the cloud says: {}",
            answer.content.as_string().unwrap_or_default()
        );
    }
    Ok(())
}
