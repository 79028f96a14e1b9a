//! A connection to port 10000 (`cloud/pkg/cloudhub/{handler,session,dispatcher}`).

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::api::part;
use super::wire::{self, Frame};
use super::{Heard, StockCloud, Upgrade, dynamic_controller, edge_controller, uid};

type Stream = TlsStream<TcpStream>;

/// TLS of a Go server: 1.2 and 1.3, a client certificate, and both protocols of HTTP by ALPN.
fn tls(cloud: &StockCloud) -> TlsAcceptor {
    let provider = hub_core::transport::provider();
    let mut roots = RootCertStore::empty();
    roots.add(cloud.ca.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let identity = cloud.ca.server(&cloud.config.names);
    let versions: &[&'static SupportedProtocolVersion] = if cloud.config.only_tls12 {
        &[&TLS12]
    } else {
        &[&TLS12, &TLS13]
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(identity.chain, identity.key)
        .unwrap();
    config.time_provider = Arc::new(Ahead(cloud.config.clock_ahead));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// The cloud's clock, for the lifetimes of certificates.
#[derive(Debug)]
struct Ahead(std::time::Duration);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now().as_secs() + self.0.as_secs();
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(now)))
    }
}

pub async fn accept(cloud: StockCloud, listener: TcpListener) {
    let tls = tls(&cloud);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (cloud, tls) = (cloud.clone(), tls.clone());
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let _ = serve(cloud, stream).await;
            }
        });
    }
}

async fn serve(cloud: StockCloud, mut stream: Stream) -> io::Result<()> {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        // SETTINGS and GOAWAY, to one who then speaks HTTP/1.1.
        return wire::write(&mut stream, &[0; 39]).await;
    }
    let (line, headers) = wire::read_head(&mut stream).await?;
    let header = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    };
    let certificates = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
    let key = header("Sec-WebSocket-Key").unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    // Who shows more than its own certificate is refused, after the upgrade and without a word.
    let (connection, rejected) = {
        let mut state = cloud.state();
        state.upgrades.push(Upgrade {
            line,
            headers: headers.clone(),
            certificates,
            at: Instant::now(),
        });
        state.connections += 1;
        let rejected = state.moods.rejecting || certificates != 1 || header("Node_id").is_none();
        if !rejected {
            // A fresh pool takes the place of the old one.
            state.session = Some(state.connections);
            state.pool.clear();
            state.stored.clear();
            state.plain.clear();
        }
        (state.connections, rejected)
    };
    wire::write(&mut stream, answer.as_bytes()).await?;
    cloud.tell();
    let (reader, writer) = tokio::io::split(stream);
    let (out, queue) = mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(write_all(writer, queue));
    if !rejected {
        tasks.spawn(send_acked(cloud.clone(), connection, out.clone()));
        tasks.spawn(send_plain(cloud.clone(), connection, out.clone()));
        tasks.spawn(ended(cloud.clone(), connection));
    }
    tasks.spawn(async move {
        let _ = read_all(cloud, connection, reader, out).await;
    });
    // Whoever ends first ends the connection: a bare end of the stream.
    if rejected {
        while tasks.join_next().await.is_some() && tasks.len() > 1 {}
    } else {
        tasks.join_next().await;
    }
    Ok(())
}

async fn write_all(mut writer: WriteHalf<Stream>, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        if wire::write(&mut writer, &bytes).await.is_err() {
            return;
        }
    }
}

/// Resolves when the session is over, or its keepalives stop.
async fn ended(cloud: StockCloud, connection: u64) {
    let began = Instant::now();
    let mut changed = cloud.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let last = {
            let state = cloud.state();
            if state.session != Some(connection) {
                return;
            }
            let alive = |heard: &&Heard| heard.connection == connection && heard.operation() == "keepalive";
            state
                .heard
                .iter()
                .rev()
                .find(alive)
                .map_or(began, |heard| heard.at)
        };
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until((last + cloud.config.keepalive).into()) => {
                cloud.state().session = None;
                return;
            }
        }
    }
}

/// Stop and wait: one message of the acknowledged class is under way.
async fn send_acked(cloud: StockCloud, connection: u64, out: mpsc::UnboundedSender<Vec<u8>>) {
    let mut changed = cloud.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let next = {
            let state = cloud.state();
            if state.session != Some(connection) {
                return;
            }
            // It stays in the pool until it is acknowledged.
            let key = state.pool.front().cloned();
            key.map(|key| (state.stored[&key].clone(), key))
        };
        let Some((message, key)) = next else {
            let _ = changed.changed().await;
            continue;
        };
        let id = message["header"]["msg_id"].as_str().unwrap().to_owned();
        let mut acknowledged = false;
        for _ in 0..cloud.config.sends {
            cloud.state().sent.push(id.clone());
            cloud.tell();
            let mut frames = wire::frames(&message);
            let breaks = std::mem::take(&mut cloud.state().moods.breaks);
            if breaks {
                frames.truncate(frames.len() / 2);
            }
            if out.send(frames).is_err() {
                return;
            }
            let again = tokio::time::sleep(cloud.config.resend);
            tokio::pin!(again);
            acknowledged = loop {
                changed.mark_unchanged();
                if cloud.state().acknowledged.contains(&id) {
                    break true;
                }
                tokio::select! {
                    _ = changed.changed() => {}
                    () = &mut again => break false,
                }
            };
            if breaks {
                cloud.cut();
                return;
            }
            if acknowledged {
                break;
            }
        }
        let mut state = cloud.state();
        if state.session != Some(connection) {
            return;
        }
        state.pool.retain(|queued| *queued != key);
        if acknowledged {
            save_success_point(&mut state, &key, &message);
        } else {
            state.given_up.push(id);
            state.pool.push_back(key.clone());
        }
        // A newer version came meanwhile.
        if state
            .stored
            .get(&key)
            .is_some_and(|stored| stored["header"]["msg_id"] != message["header"]["msg_id"])
            && !state.pool.contains(&key)
        {
            state.pool.push_back(key);
        }
        drop(state);
        cloud.tell();
    }
}

fn save_success_point(state: &mut super::State, key: &str, message: &Value) {
    if message["route"]["operation"] == "delete" {
        state.records.remove(key);
        state.stored.remove(key);
    } else if let Some((_, version)) = state.records.get_mut(key) {
        *version = message["header"]["resourceversion"].as_str().unwrap().to_owned();
    }
}

async fn send_plain(cloud: StockCloud, connection: u64, out: mpsc::UnboundedSender<Vec<u8>>) {
    let mut changed = cloud.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let next = {
            let mut state = cloud.state();
            if state.session != Some(connection) {
                return;
            }
            state.plain.pop_front()
        };
        match next {
            Some(message) => {
                let id = message["header"]["msg_id"].as_str().unwrap_or_default();
                cloud.state().sent.push(id.to_owned());
                if out.send(wire::frames(&message)).is_err() {
                    return;
                }
                cloud.tell();
            }
            None => drop(changed.changed().await),
        }
    }
}

async fn read_all(
    cloud: StockCloud,
    connection: u64,
    mut reader: ReadHalf<Stream>,
    out: mpsc::UnboundedSender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let frame = read(&cloud, &mut reader).await?;
        match frame {
            Frame::Close => return Ok(()),
            Frame::Ping(payload) => {
                cloud.state().pings += 1;
                if !cloud.state().moods.no_pongs {
                    let _ = out.send(wire::pong(&payload));
                }
                cloud.tell();
            }
            Frame::Text(text) => {
                // A message that is none ends the read loop, and the connection.
                let Ok(message) = serde_json::from_slice::<Value>(&text) else {
                    return Ok(());
                };
                assert_eq!(text.last(), Some(&b'\n'), "documents end with a newline");
                hear(&cloud, connection, message);
            }
        }
    }
}

/// A cloud that is stuck does not read.
async fn read(cloud: &StockCloud, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    cloud
        .until("a cloud that is not stuck", |state| {
            (!state.moods.stuck).then_some(())
        })
        .await;
    wire::read_frame(reader).await
}

/// What CloudHub does with a message that came (`message_dispatcher.go`, `DispatchUpstream`).
fn hear(cloud: &StockCloud, connection: u64, message: Value) {
    let heard = Heard {
        connection,
        message: message.clone(),
        at: Instant::now(),
    };
    let (operation, resource) = (heard.operation().to_owned(), heard.resource().to_owned());
    let source = message["route"]["source"].as_str().unwrap_or_default();
    cloud.state().heard.push(heard);
    cloud.tell();
    match &*operation {
        "keepalive" | "upload" | "error" => {}
        "response" => {
            let parent = message["header"]["parent_msg_id"].as_str().unwrap_or_default();
            cloud.state().acknowledged.push(parent.to_owned());
        }
        _ if source == "metaserver" => drop(cloud.applications.send((connection, message))),
        _ if source == "twin" => {}
        _ => {
            let moods = cloud.state().moods;
            let outcome = edge_controller::handle(&mut cloud.state().api, moods, &message);
            if let Some((source, content, version)) = outcome.answer {
                let mut answer = cloud.message(source, "response", &resource, content);
                answer["header"]["parent_msg_id"] = message["header"]["msg_id"].clone();
                if let Some(version) = version {
                    answer["header"]["resourceversion"] = version.into();
                }
                give(cloud, connection, answer);
            }
            for (operation, route, object) in outcome.pushes {
                cloud.push(operation, &route, &object);
            }
        }
    }
    cloud.tell();
}

/// Without a session nothing is sent. Answers with an object go the way of what is acknowledged.
fn give(cloud: &StockCloud, connection: u64, answer: Value) {
    let state = cloud.state();
    if state.session != Some(connection) || state.moods.mute {
        return;
    }
    let slow = state.moods.slow_answers;
    drop(state);
    let kind = part(answer["route"]["resource"].as_str().unwrap(), 1).to_owned();
    let acked = ["configmap", "secret"].contains(&&*kind) && !uid(&answer["content"]).is_empty();
    let cloud = cloud.clone();
    let give = move || {
        if acked {
            let mut state = cloud.state();
            let key = uid(&answer["content"]).to_owned();
            state.stored.insert(key.clone(), answer);
            if !state.pool.contains(&key) {
                state.pool.push_back(key);
            }
            drop(state);
            cloud.tell();
        } else {
            cloud.send(answer);
        }
    };
    match slow {
        None => give(),
        Some(pause) => drop(tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            give();
        })),
    }
}

/// DynamicController: one application after the other.
pub async fn applications(cloud: StockCloud, mut queue: mpsc::UnboundedReceiver<(u64, Value)>) {
    while let Some((connection, message)) = queue.recv().await {
        if cloud.state().moods.no_applications {
            continue;
        }
        let resource = message["route"]["resource"].as_str().unwrap();
        let (resource, content) = if resource == "watchapp/sync" {
            let wanted = message["content"].as_object().unwrap();
            let wanted = wanted
                .iter()
                .map(|(id, application)| (id.clone(), application.clone()));
            cloud.state().listeners = wanted.collect();
            ("watchapp/sync", json!({}))
        } else {
            let application = &message["content"];
            let before = cloud.state().api.objects.clone();
            let moods = cloud.state().moods;
            let answer = dynamic_controller::execute(&mut cloud.state().api, moods, application);
            if application["Verb"] == "watch" && answer["Status"] == "Approved" {
                let id = application["ID"].as_str().unwrap().to_owned();
                cloud.state().listeners.insert(id, application.clone());
            }
            tell_watches(&cloud, &before);
            ("ignore/Application/ignore", answer)
        };
        let mut answer = cloud.message("dynamiccontroller", "applicationResponse", resource, content);
        answer["header"]["parent_msg_id"] = message["header"]["msg_id"].clone();
        give(&cloud, connection, answer);
        cloud.tell();
    }
}

/// What an application changed is told to those who watch.
fn tell_watches(cloud: &StockCloud, before: &std::collections::BTreeMap<String, Value>) {
    let now = cloud.state().api.objects.clone();
    for (route, object) in &now {
        match before.get(route) {
            Some(old) if old == object => {}
            Some(_) => cloud.event("update", route, object),
            None => cloud.event("insert", route, object),
        }
    }
    for (route, object) in before {
        if !now.contains_key(route) {
            cloud.event("delete", route, object);
        }
    }
}
