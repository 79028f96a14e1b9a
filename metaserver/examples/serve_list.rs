//! Serves the objects of a file as a Kubernetes API that can only be read:
//!
//! ```text
//! kubectl get all -A -o json > cluster.json
//! cargo run -p metaserver --example serve_list -- cluster.json 127.0.0.1:8080
//! kubectl --server http://127.0.0.1:8080 get pods -A
//! ```

use std::error::Error;

use bytes::Bytes;
use hub_core::api::{ApiRequest, UpstreamError};
use hub_core::object::Object;
use hub_core::registry::Registry;
use hub_core::store::{Change, MemoryStore, ObjectStore, StoreLimits};
use metaserver::{MetaConfig, MetaServer, Revisions};
use serde_json::Value;
use tower::service_fn;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("the file of a List is missing")?;
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    let list: Value = serde_json::from_slice(&std::fs::read(file)?)?;

    let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
    let items: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    // Definitions first: they say where the objects of custom kinds live.
    let (definitions, others): (Vec<&Value>, Vec<&Value>) = items
        .into_iter()
        .partition(|item| item["kind"] == "CustomResourceDefinition");
    for item in definitions.into_iter().chain(others) {
        let (version, kind) = (text(item, "apiVersion"), text(item, "kind"));
        let Some(kind) = store.registry().by_kind(&version, &kind) else {
            eprintln!("no such kind: {version} {kind}");
            continue;
        };
        let body = Bytes::from(serde_json::to_vec(item)?);
        store
            .apply(vec![Change::Put(Object::from_body(kind.resource.clone(), body)?)])
            .await?;
    }
    // There is nothing else: what is not here does not exist, and nothing can be written.
    let config = MetaConfig {
        revisions: Revisions::Authoritative,
        ..MetaConfig::default()
    };
    let no_cloud = service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable));
    eprintln!("serving on {address}");
    MetaServer::with_config(config, store, no_cloud)
        .serve(address)
        .await?;
    Ok(())
}
