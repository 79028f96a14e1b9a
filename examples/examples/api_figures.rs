//! What the node's API costs, beside a server that only returns bytes: `cargo run --release -p examples --example api_figures`.
//!
//! A node's disk with 10,000 ConfigMaps of about 950 bytes, 1,000 of them in one namespace, is opened by a process of its own, as `edgecore`
//! would after a crash with the cloud away. The same answers are then fetched by turns from it and from a bare hyper server in another
//! process, which has them in memory. Last, 500 clients watch, and one object changes.
#![allow(clippy::unwrap_used, reason = "a program for developers")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgehub::store::EdgeStore;
use http_body_util::{BodyExt, Empty, Full};
use hub_core::api::{ApiRequest, UpstreamError};
use hub_core::object::{GroupVersionResource, Object};
use hub_core::scope::Scope;
use hub_core::store::{Change, ObjectStore};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use metaserver::MetaServer;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

const OBJECTS: usize = 10_000;
const LISTED: usize = 1_000;
const WATCHERS: usize = 500;
const ONE: &str = "/api/v1/namespaces/shop/configmaps/settings-00007";
const LIST: &str = "/api/v1/namespaces/shop/configmaps";
const ALL: &str = "/api/v1/configmaps";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", disk] => node(Path::new(disk)).await,
        ["static", answers] => only_bytes(Path::new(answers)).await,
        _ => measure().await,
    }
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("edge.db");
    fill(&disk).await;

    let mut starts = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let server = Server::start("node", &disk);
        let mut client = server.connect().await;
        let first = fetch(&mut client, ONE).await;
        let answered = start.elapsed();
        let all = fetch(&mut client, ALL).await;
        starts.push((answered, start.elapsed()));
        assert!(all.len() > OBJECTS * first.len() / 2);
    }
    starts.sort_unstable();
    println!(
        "a process with {OBJECTS} objects on its disk: first answer after {:.1?}, a LIST of all after {:.1?}",
        starts[2].0, starts[2].1
    );

    let mut server = Server::start("node", &disk);
    let mut node = server.connect().await;
    fetch(&mut node, ONE).await;
    println!("resident with {OBJECTS} objects: {}", server.resident());
    fetch(&mut node, ALL).await;
    println!("resident after a LIST of all: {}", server.resident());

    let answers = folder.path().join("answers");
    std::fs::create_dir(&answers).unwrap();
    for path in [ONE, LIST] {
        std::fs::write(answers.join(path.replace('/', "+")), fetch(&mut node, path).await).unwrap();
    }
    let bare = Server::start("static", &answers);
    let mut bare = bare.connect().await;
    for (what, path, rounds) in [("GET of one", ONE, 20_000), ("LIST of 1,000", LIST, 2_000)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(timed(&mut node, path).await);
            theirs.push(timed(&mut bare, path).await);
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        println!(
            "{what}: p50 {ours:.1?}, the bare server {theirs:.1?}, {:.2} times as long",
            ours.as_secs_f64() / theirs.as_secs_f64()
        );
    }

    watch(&mut server).await;
}

/// Changes one object until each of many watchers has heard of it.
async fn watch(server: &mut Server) {
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let mut client = server.connect().await;
        let path = format!(
            "{LIST}?watch=1&resourceVersion=0&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        );
        let mut lines = Lines {
            body: send(&mut client, &path).await.into_body(),
            read: String::new(),
        };
        while !lines.next().await.contains("initial-events-end") {}
        watchers.push((client, lines));
    }
    let before = server.resident();
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        server.say("change");
        for (_, lines) in &mut watchers {
            let line = lines.next().await;
            assert!(line.contains("MODIFIED"), "{line}");
        }
        times.push(start.elapsed());
    }
    println!(
        "{WATCHERS} watchers: a durable change has reached the last one after {:.1?} (p50), resident {before}",
        median(&mut times)
    );
}

/// Writes the disk of a node.
async fn fill(disk: &Path) {
    let store = EdgeStore::open(disk).unwrap();
    let scope = Scope::all(config_maps());
    store.apply(vec![Change::Want(scope.clone())]).await.unwrap();
    for first in (0..OBJECTS).step_by(500) {
        let puts = (first..first + 500).map(|n| Change::Put(config_map(n, 1)));
        store.apply(puts.collect()).await.unwrap();
    }
    store.apply(vec![Change::Complete(scope)]).await.unwrap();
}

/// The API over a node's disk, without a cloud. A line on the standard input changes an object.
async fn node(disk: &Path) {
    let store = EdgeStore::open(disk).unwrap();
    let no_cloud = tower::service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable));
    let server = MetaServer::new(store.clone(), no_cloud);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    tokio::spawn(async move { server.serve_on(listener, std::future::pending()).await });
    let (said, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            said.blocking_send(line.unwrap()).unwrap();
        }
    });
    let mut version = 1;
    while lines.recv().await.is_some() {
        version += 1;
        store
            .apply(vec![Change::Put(config_map(7, version))])
            .await
            .unwrap();
    }
}

/// Nothing but the bytes of the answers.
async fn only_bytes(answers: &Path) {
    let files = std::fs::read_dir(answers).unwrap().map(|file| file.unwrap());
    let answers: HashMap<String, Bytes> = files
        .map(|file| {
            let path = file.file_name().into_string().unwrap().replace('+', "/");
            (path, std::fs::read(file.path()).unwrap().into())
        })
        .collect();
    let answers = Arc::new(answers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answers = answers.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let body = answers[request.uri().path()].clone();
            let answer = Response::builder().header("content-type", "application/json");
            std::future::ready(Ok::<_, Infallible>(answer.body(Full::new(body)).unwrap()))
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

/// This program in one of its other parts.
struct Server {
    child: Child,
    input: ChildStdin,
    _output: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(part: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(part)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut address = String::new();
        output.read_line(&mut address).unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            child,
            _output: output,
            address: address.trim().to_owned(),
        }
    }

    async fn connect(&self) -> SendRequest<Empty<Bytes>> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn resident(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_ascii_whitespace()
                .next()
                .unwrap()
                .parse::<f64>()
                .unwrap()
                / 1024.0
        };
        format!(
            "{:.1} MiB, {:.1} MiB of it anonymous",
            field("VmRSS:"),
            field("RssAnon:")
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events of a watch.
struct Lines {
    body: Incoming,
    read: String,
}

impl Lines {
    async fn next(&mut self) -> String {
        loop {
            if let Some((line, rest)) = self.read.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.read = rest;
                return line;
            }
            let frame = self.body.frame().await.unwrap().unwrap();
            self.read
                .push_str(str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

async fn send(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> Response<Incoming> {
    let request = Request::get(path)
        .header("host", "node")
        .header("accept", "application/json");
    client
        .send_request(request.body(Empty::new()).unwrap())
        .await
        .unwrap()
}

async fn fetch(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> Bytes {
    let response = send(client, path).await;
    assert!(response.status().is_success(), "{path}: {}", response.status());
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn timed(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> Duration {
    let start = Instant::now();
    let mut body = send(client, path).await.into_body();
    while body.frame().await.is_some() {}
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn config_maps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

/// About 950 bytes, a tenth of them in the namespace that is listed.
fn config_map(n: usize, version: usize) -> Object {
    let namespace = if n < LISTED { "shop" } else { "elsewhere" };
    let data: String = (0..21)
        .map(|line| {
            format!(
                "key-{line}: value-{:06} and more\n",
                (n * 131 + line * 7919 + version) % 999_983
            )
        })
        .collect();
    // In the order in which an API server writes.
    let body = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"settings-{n:05}","namespace":"{namespace}","uid":"uid-{n}","resourceVersion":"{}","creationTimestamp":"2026-11-01T00:00:00Z","labels":{{"app":"shop","tier":"front"}}}},"data":{{"settings":{}}}}}"#,
        n + version * OBJECTS,
        json!(data),
    );
    Object::from_body(config_maps(), body.into()).unwrap()
}
