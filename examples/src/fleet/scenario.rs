//! What is measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;

use super::edge::node_name;
use super::{Arrival, Cloud, Fleet, Report};
use crate::api::Api;

type Result<T> = std::result::Result<T, String>;

/// Connects edges in two halves: handshakes a second, processor time and memory for each, by slope.
pub async fn connect(fleet: &mut Fleet, cloud: &Cloud, edges: usize, report: &mut Report) -> Result<()> {
    let empty = settled(cloud).await?;
    let (start, mut times) = (Instant::now(), Vec::new());
    times.extend(fleet.connect(0..edges / 2).await?);
    let first_half = start.elapsed();
    let half = settled(cloud).await?;
    let start = Instant::now();
    times.extend(fleet.connect(edges / 2..edges).await?);
    let wall = first_half + start.elapsed();
    let full = settled(cloud).await?;

    let each = edges as f64;
    report.add("edges connected", each, "");
    report.add(
        "connections per second, both processes on this machine",
        each / wall.as_secs_f64(),
        "1/s",
    );
    report.add(
        "cloud processor time per connection",
        (full.cpu - empty.cpu).as_secs_f64() * 1e6 / each,
        "µs",
    );
    report.add_latency("dial to caught up", &times);
    report.add(
        "cloud resident memory without edges",
        empty.resident as f64 / 1e6,
        "MB",
    );
    report.add(
        "cloud resident memory with all edges",
        full.resident as f64 / 1e6,
        "MB",
    );
    let second = (edges - edges / 2) as f64;
    let slope = (full.resident.saturating_sub(half.resident)) as f64 / second / 1024.0;
    report.add(
        "cloud resident memory per edge, slope of the second half",
        slope,
        "KiB",
    );
    Ok(())
}

/// Leaves everybody alone for a while: what heartbeats cost, and how much an API server is asked meanwhile.
pub async fn idle(
    cloud: &Cloud,
    metrics: Option<SocketAddr>,
    edges: usize,
    time: Duration,
    report: &mut Report,
) -> Result<()> {
    let asked = api_requests(metrics).await;
    let before = cloud.usage().map_err(|e| e.to_string())?;
    tokio::time::sleep(time).await;
    if let (Some(before), Some(after)) = (asked, api_requests(metrics).await) {
        let each_second = (after - before) / time.as_secs_f64();
        report.add("requests to the API server while idle", each_second, "1/s");
    }
    let after = cloud.usage().map_err(|e| e.to_string())?;
    let share = (after.cpu - before.cpu).as_secs_f64() / time.as_secs_f64();
    report.add("cloud processor share while idle", share * 100.0, "% of a core");
    report.add(
        "cloud resident memory after that, all in all",
        after.resident as f64 / 1e6,
        "MB",
    );
    let heartbeats = edges as f64 * time.as_secs_f64() / 15.0;
    report.add(
        "cloud processor time per 10,000 heartbeats",
        share * time.as_secs_f64() * 1e3 / heartbeats * 1e4,
        "ms",
    );
    Ok(())
}

/// Requests to an API server so far, by the cloud's own count. None where it has no such count.
async fn api_requests(metrics: Option<SocketAddr>) -> Option<f64> {
    let mut api = Api::connect(&metrics?.to_string()).await.ok()?;
    let (_, text) = api.send(Method::GET, "/metrics", "text/plain", "").await.ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let counts = text
        .lines()
        .filter(|line| line.starts_with("cluster_requests_total{"));
    let numbers: Vec<f64> = counts
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}

/// All edges come back at once to a cloud that is `what`: how long until the last is caught up, and what each cost.
pub async fn storm(
    fleet: &mut Fleet,
    cloud: &Cloud,
    what: &str,
    edges: usize,
    report: &mut Report,
) -> Result<()> {
    fleet.disconnect().await;
    let before = settled(cloud).await?;
    let start = Instant::now();
    let times = fleet.connect(0..edges).await?;
    let wall = start.elapsed();
    let after = cloud.usage().map_err(|e| e.to_string())?;
    report.add(
        format!("{edges} edges back to {what}, all caught up after"),
        wall.as_secs_f64(),
        "s",
    );
    report.add_latency(&format!("back to {what}, dial to caught up"), &times);
    let each = (after.cpu - before.cpu).as_secs_f64() * 1e6 / edges as f64;
    report.add(
        format!("back to {what}, cloud processor time per edge"),
        each,
        "µs",
    );
    Ok(())
}

/// Binds `pods` to an edge that is away, then connects it: messages a second until it has them all.
pub async fn backlog(
    fleet: &mut Fleet,
    cloud: &Cloud,
    api: &str,
    edge: usize,
    pods: usize,
    report: &mut Report,
) -> Result<()> {
    let start = Instant::now();
    create_pods(api, edge, "backlog", 0..pods).await?;
    report.add(
        "pods created a second through the cluster's API",
        pods as f64 / start.elapsed().as_secs_f64(),
        "1/s",
    );

    fleet.drain();
    let before = cloud.usage().map_err(|e| e.to_string())?;
    let start = Instant::now();
    fleet.connect(edge..edge + 1).await?;
    await_pods(fleet, edge, "backlog", pods).await?;
    let time = start.elapsed();
    let after = cloud.usage().map_err(|e| e.to_string())?;
    report.add(
        format!("backlog of {pods} pods to one edge, dial to last arrival"),
        time.as_secs_f64(),
        "s",
    );
    report.add(
        "backlog, messages per second",
        pods as f64 / time.as_secs_f64(),
        "1/s",
    );
    report.add(
        "backlog, cloud processor time per message",
        (after.cpu - before.cpu).as_secs_f64() * 1e6 / pods as f64,
        "µs",
    );
    Ok(())
}

/// Creates pods for a connected edge: from the answer of the cluster's API to the arrival.
pub async fn live(fleet: &mut Fleet, api: &str, edge: usize, pods: usize, report: &mut Report) -> Result<()> {
    fleet.drain();
    let mut api = Api::connect(api).await.map_err(|e| e.to_string())?;
    let mut latencies = Vec::with_capacity(pods);
    for pod in 0..pods {
        let name = format!("live-{pod}");
        let start = Instant::now();
        create_pod(&mut api, edge, &name).await?;
        let is_it = |arrival: &Arrival| arrival.edge == edge && arrival.resource.ends_with(&name);
        let arrival = wanted(fleet, is_it).await;
        let arrival = arrival.ok_or_else(|| format!("{name} did not arrive at edge {edge}"))?;
        latencies.push(arrival.at.saturating_duration_since(start));
    }
    report.add_latency("pod, before the API call to the edge's handler", &latencies);
    Ok(())
}

/// Changes one ConfigMap that pods on all of `edges` edges use: how long until each has it.
pub async fn fan_out(
    fleet: &mut Fleet,
    cloud: &Cloud,
    api: &str,
    edges: usize,
    report: &mut Report,
) -> Result<()> {
    let mut api_client = Api::connect(api).await.map_err(|e| e.to_string())?;
    let configmap = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"text": text}});
    let path = "/api/v1/namespaces/default/configmaps";
    send(
        &mut api_client,
        Method::POST,
        path,
        &configmap(&"lorem ipsum ".repeat(80)),
    )
    .await?;
    for edge in 0..edges {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("user-{edge}")},
            "spec": {"nodeName": node_name(edge), "containers": [{"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": "shared"}}]}]}});
        send(
            &mut api_client,
            Method::POST,
            "/api/v1/namespaces/default/pods",
            &pod,
        )
        .await?;
    }
    let mut waiting = edges * 2;
    let is_one = |arrival: &Arrival| arrival.resource.contains("/pod/user-") || is_shared(arrival);
    while waiting > 0 {
        let arrival = wanted(fleet, is_one).await;
        arrival.ok_or_else(|| format!("{waiting} arrivals are missing"))?;
        waiting -= 1;
    }

    let before = cloud.usage().map_err(|e| e.to_string())?;
    let start = Instant::now();
    send(
        &mut api_client,
        Method::PUT,
        &format!("{path}/shared"),
        &configmap(&"dolor sit amet ".repeat(70)),
    )
    .await?;
    let mut latencies = Vec::with_capacity(edges);
    while latencies.len() < edges {
        let arrival = wanted(fleet, is_shared).await;
        let arrival = arrival.ok_or("an edge did not get the change")?;
        latencies.push(arrival.at.saturating_duration_since(start));
    }
    let after = cloud.usage().map_err(|e| e.to_string())?;
    report.add_latency(&format!("one ConfigMap to {edges} edges"), &latencies);
    report.add(
        "fan-out, cloud processor time per edge",
        (after.cpu - before.cpu).as_secs_f64() * 1e6 / edges as f64,
        "µs",
    );
    Ok(())
}

/// The next arrival that is one of those; None where there is none in time, whatever else arrives meanwhile.
async fn wanted(fleet: &mut Fleet, is_one: impl Fn(&Arrival) -> bool) -> Option<Arrival> {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let arrival = fleet.arrival(left).await?;
        if is_one(&arrival) {
            return Some(arrival);
        }
    }
}

fn is_shared(arrival: &Arrival) -> bool {
    arrival.resource.ends_with("/configmap/shared")
}

async fn await_pods(fleet: &mut Fleet, edge: usize, prefix: &str, count: usize) -> Result<()> {
    let pods = format!("/pod/{prefix}-");
    let is_one = |arrival: &Arrival| arrival.edge == edge && arrival.resource.contains(&pods);
    let mut arrived = std::collections::HashSet::with_capacity(count);
    while arrived.len() < count {
        let arrival = wanted(fleet, is_one).await;
        let arrival = arrival.ok_or_else(|| format!("{} of {count} pods arrived", arrived.len()))?;
        arrived.insert(arrival.resource);
    }
    Ok(())
}

async fn create_pods(
    api: &str,
    edge: usize,
    prefix: &'static str,
    pods: std::ops::Range<usize>,
) -> Result<()> {
    const WRITERS: usize = 32;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (api, pods) = (api.to_owned(), pods.clone());
            tokio::spawn(async move {
                let mut api = Api::connect(&api).await.map_err(|e| e.to_string())?;
                for pod in pods.skip(writer).step_by(WRITERS) {
                    create_pod(&mut api, edge, &format!("{prefix}-{pod}")).await?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|e| e.to_string())??;
    }
    Ok(())
}

/// A pod of about the size that KubeEdge's baseline used (4 kB with its status).
async fn create_pod(api: &mut Api, edge: usize, name: &str) -> Result<()> {
    let env: Vec<_> = (0..40)
        .map(|i| json!({"name": format!("VARIABLE_{i}"), "value": format!("value number {i} of {name}")}))
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "fleet"}},
        "spec": {"nodeName": node_name(edge), "containers": [{"name": "main", "image": "registry.example.com/app:1", "env": env}]}});
    send(api, Method::POST, "/api/v1/namespaces/default/pods", &pod).await
}

async fn send(api: &mut Api, method: Method, path: &str, body: &serde_json::Value) -> Result<()> {
    let sent = api.send(method, path, "application/json", body.to_string());
    let answer = tokio::time::timeout(PATIENCE, sent).await;
    let answer = answer.map_err(|_| format!("{path}: no answer within {PATIENCE:?}"))?;
    let (status, answer) = answer.map_err(|e| e.to_string())?;
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&answer)))
    }
}

/// Waits until the cloud's processor is quiet, then reads its usage.
async fn settled(cloud: &Cloud) -> Result<super::Usage> {
    let mut last = cloud.usage().map_err(|e| e.to_string())?;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = cloud.usage().map_err(|e| e.to_string())?;
        if now.cpu - last.cpu <= Duration::from_millis(10) {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

const PATIENCE: Duration = Duration::from_secs(60);
