//! The socket of mappers, which is tried again for as long as something is in its way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgehub::dmi::{Dmi, DmiConfig, DmiMetrics};
use edgehub::store::EdgeStore;
use edgehub::twin::Twins;
use hub_core::socket::BindError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Serves the mappers of a node until told to stop, if it keeps twins. A node without this socket is still a node.
pub async fn serve(
    socket: PathBuf,
    twins: Option<Twins>,
    store: EdgeStore,
    metrics: DmiMetrics,
    stop: CancellationToken,
) {
    let Some(twins) = twins else { return };
    let (node, store) = (twins.node().clone(), Arc::new(store));
    let mut said = String::new();
    let bound = async {
        loop {
            let config = DmiConfig {
                metrics: metrics.clone(),
                ..DmiConfig::new(&socket)
            };
            match Dmi::bind(config, node.clone(), store.clone(), Arc::new(twins.clone())).await {
                Ok(dmi) => return dmi,
                Err(error) => {
                    let hint = match error {
                        BindError::InUse(_) => "; does a KubeEdge edgecore run on this node?",
                        _ => "",
                    };
                    let why = format!("mappers cannot be heard on {error}{hint}");
                    if why != said {
                        tracing::warn!("{why}; it is tried again");
                        said = why;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    };
    if let Some(dmi) = stop.run_until_cancelled(bound).await {
        dmi.run(stop).await;
    }
}

const PAUSE: Duration = Duration::from_secs(10);
