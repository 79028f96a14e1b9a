//! How much memory an idle connection takes at the cloud's end, and how fast connections come up.
//!
//! ```text
//! cargo run --release -p hub-core --features test-util --example idle_connections -- websocket 2000
//! ```
//!
//! The listening end runs in this process, the dialing end in a child. Memory is told as a slope between the first and the second
//! half of the connections, so that what is there once does not count; handshakes are told in CPU time of this process.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use hub_core::node::NodeId;
use hub_core::testing::TestCa;
use hub_core::transport::{
    Capabilities, ConnectRequest, Dialer, Endpoint, Identity, Listener, QuicConfig, QuicDialer, QuicListener,
    TlsClient, TlsServer, TlsVersions, TransportError, WebSocketConfig, WebSocketDialer, WebSocketListener,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match words[..] {
        ["dial", transport, port] => runtime.block_on(dial(transport, port.parse()?)),
        [transport, count] => runtime.block_on(listen(transport, count.parse()?)),
        _ => Err("usage: idle_connections websocket|quic <connections>".into()),
    }
}

async fn listen(transport: &str, count: usize) -> Result<()> {
    let ca = TestCa::new();
    let tls = TlsServer::mutual(ca.server(&["127.0.0.1"]), ca.certificate(), TlsVersions::Only13)?;
    let mut listener: Box<dyn Listener> = match transport {
        "quic" => Box::new(QuicListener::bind(
            "127.0.0.1:0".parse()?,
            tls,
            QuicConfig::default(),
        )?),
        _ => Box::new(WebSocketListener::bind("127.0.0.1:0", tls, WebSocketConfig::default()).await?),
    };
    let port = listener.local_addr().ok_or("no address")?.port();
    let mut child = Dialing::start(transport, port, &ca)?;
    let (up, mut established) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            let up = up.clone();
            tokio::spawn(async move {
                let upgrade = incoming.handshake().await?;
                let mut transport = upgrade.accept(Capabilities::ALL).await?;
                let _ = up.send(());
                while let Some(Ok(_)) = transport.next().await {}
                Ok::<_, TransportError>(())
            });
        }
    });

    // A few first, so that pools and tables have their size.
    let mut marks = Vec::new();
    for batch in [count / 4, count / 2, count / 2] {
        child.more(batch)?;
        let cpu = cpu_seconds()?;
        for _ in 0..batch {
            established.recv().await.ok_or("listener ended")?;
        }
        let cpu = cpu_seconds()? - cpu;
        tokio::time::sleep(Duration::from_secs(2)).await;
        marks.push((batch, rss_bytes()?, cpu));
    }
    let [_, (_, before, _), (batch, after, cpu)] = marks[..] else {
        return Err("no marks".into());
    };
    println!(
        "{transport}: {} bytes of RSS a connection, {:.0} µs of CPU a handshake ({:.0}/s a core)",
        (after - before) / batch as i64,
        cpu / batch as f64 * 1e6,
        batch as f64 / cpu,
    );
    Ok(())
}

async fn dial(transport: &str, port: u16) -> Result<()> {
    let mut lines = std::io::stdin().lines();
    let mut der = || -> Result<Vec<u8>> { from_hex(&lines.next().ok_or("no certificate")??) };
    let ca = CertificateDer::from(der()?);
    let identity = Identity {
        chain: vec![der()?.into()],
        key: PrivateKeyDer::Pkcs8(der()?.into()),
    };
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port,
    };
    let mut connections = Vec::new();
    let mut dialers: Vec<Box<dyn Dialer>> = Vec::new();
    println!("ready");
    for batch in lines {
        for _ in 0..batch?.parse::<usize>()? {
            // Each is a node of its own: nothing to resume.
            let tls = TlsClient::new(&ca, Some(identity.clone()))?;
            let dialer: Box<dyn Dialer> = match transport {
                "quic" if dialers.is_empty() => Box::new(QuicDialer::new(tls, QuicConfig::default())),
                "quic" => dialers.pop().ok_or("no dialer")?,
                _ => Box::new(WebSocketDialer::new(tls, WebSocketConfig::default())),
            };
            let node = NodeId::new("edge-1")?;
            let request = ConnectRequest::tunnel(&node, ConnectRequest::DEFAULT_PROJECT, Capabilities::ALL);
            connections.push(dialer.dial(&endpoint, request).await?);
            dialers = vec![dialer];
        }
    }
    Ok(())
}

/// The other process.
struct Dialing(Child);

impl Dialing {
    fn start(transport: &str, port: u16, ca: &TestCa) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["dial", transport, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let identity = ca.node("edge-1");
        let input = child.stdin.as_mut().ok_or("no pipe")?;
        for der in [
            ca.certificate(),
            &identity.chain[0][..],
            identity.key.secret_der(),
        ] {
            writeln!(input, "{}", to_hex(der))?;
        }
        input.flush()?;
        let output = child.stdout.as_mut().ok_or("no pipe")?;
        BufReader::new(output).read_line(&mut String::new())?;
        Ok(Self(child))
    }

    fn more(&mut self, count: usize) -> Result<()> {
        let input = self.0.stdin.as_mut().ok_or("no pipe")?;
        writeln!(input, "{count}")?;
        Ok(input.flush()?)
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rss_bytes() -> Result<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: i64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

/// User and system time of this process, in the kernel's ticks of 10 ms.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(text.get(at..at + 2).ok_or("odd")?, 16)?))
        .collect()
}
