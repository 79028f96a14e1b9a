//! A bad wire: a proxy within the process for TCP and UDP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// What the wire does to what passes, from now on and in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireConditions {
    /// Each byte or datagram arrives this much later.
    pub delay: Duration,
    /// Bytes a second in each direction; none for no limit. TCP only.
    pub bytes_per_second: Option<u32>,
    /// Nothing passes, and nobody is told: a half-open link. What is sent meanwhile waits in TCP, and is lost in UDP.
    pub stalled: bool,
}

/// A proxy in front of a server. Dropping it cuts everything.
///
/// ```text
///   client ──► wire.address() ──► server
/// ```
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    control: Arc<watch::Sender<Control>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Control {
    conditions: WireConditions,
    /// Counts cuts: a connection that sees it change ends.
    cuts: u64,
    /// Whether cut connections are reset, or end as if both had closed.
    reset: bool,
}

impl Wire {
    /// Passes TCP connections on to `server`.
    pub async fn tcp(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let control = Arc::new(watch::Sender::new(Control::default()));
        let task = tokio::spawn(accept(listener, server, control.clone()));
        Ok(Self {
            address,
            control,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Passes the datagrams of one client on to `server`, and the answers back.
    pub async fn udp(server: SocketAddr) -> io::Result<Self> {
        let front = UdpSocket::bind("127.0.0.1:0").await?;
        let back = UdpSocket::bind("127.0.0.1:0").await?;
        back.connect(server).await?;
        let address = front.local_addr()?;
        let control = Arc::new(watch::Sender::new(Control::default()));
        let task = tokio::spawn(forward(front, back, control.subscribe()));
        Ok(Self {
            address,
            control,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Where clients dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather.
    pub fn set(&self, conditions: WireConditions) {
        self.control
            .send_modify(|control| control.conditions = conditions);
    }

    /// Nothing passes any more, and nobody is told.
    pub fn stall(&self) {
        self.control
            .send_modify(|control| control.conditions.stalled = true);
    }

    /// Ends the TCP connections of this moment in good order; new ones are welcome.
    pub fn cut(&self) {
        self.end(false);
    }

    /// Resets the TCP connections of this moment; new ones are welcome.
    pub fn reset(&self) {
        self.end(true);
    }

    fn end(&self, reset: bool) {
        self.control.send_modify(|control| {
            control.cuts += 1;
            control.reset = reset;
        });
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, control: Arc<watch::Sender<Control>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                connections.spawn(connection(client, server, control.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut client: TcpStream, server: SocketAddr, mut control: watch::Receiver<Control>) {
    let cuts = control.borrow_and_update().cuts;
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let reset = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let up = pump(client_read, server_write, control.clone());
        let down = pump(server_read, client_write, control.clone());
        let cut = async {
            let changed = control.wait_for(|control| control.cuts != cuts).await;
            changed.is_ok_and(|control| control.reset)
        };
        tokio::select! {
            reset = cut => reset,
            _ = async { tokio::join!(up, down) } => false,
        }
    };
    if reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Passes bytes on in one direction until their end, and then passes on the end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    control: watch::Receiver<Control>,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let mut reading = control.clone();
    let read = async move {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            match from.read_buf(&mut chunk).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let Some(conditions) = flowing(&mut reading).await else {
                return;
            };
            let due = Instant::now() + conditions.delay;
            if sender.send((due, chunk.freeze())).await.is_err() {
                return;
            }
        }
    };
    let mut writing = control;
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            let Some(conditions) = flowing(&mut writing).await else {
                return;
            };
            if let Some(rate) = conditions.bytes_per_second {
                sleep(Duration::from_secs_f64(
                    chunk.len() as f64 / f64::from(rate.max(1)),
                ))
                .await;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

/// Passes datagrams on. The client is whoever sent last, so that an edge may change its port.
async fn forward(front: UdpSocket, back: UdpSocket, control: watch::Receiver<Control>) {
    let (front, back) = (Arc::new(front), Arc::new(back));
    let mut client = None;
    let mut late = JoinSet::new();
    let (mut up, mut down) = (vec![0; DATAGRAM_BYTES], vec![0; DATAGRAM_BYTES]);
    loop {
        tokio::select! {
            Ok((n, from)) = front.recv_from(&mut up) => {
                client = Some(from);
                let conditions = control.borrow().conditions;
                if conditions.stalled || late.len() >= DATAGRAMS_MAX {
                    continue;
                }
                let (back, datagram) = (back.clone(), up[..n].to_vec());
                late.spawn(async move {
                    sleep(conditions.delay).await;
                    let _ = back.send(&datagram).await;
                });
            }
            Ok(n) = back.recv(&mut down) => {
                let conditions = control.borrow().conditions;
                let Some(client) = client else { continue };
                if conditions.stalled || late.len() >= DATAGRAMS_MAX {
                    continue;
                }
                let (front, datagram) = (front.clone(), down[..n].to_vec());
                late.spawn(async move {
                    sleep(conditions.delay).await;
                    let _ = front.send_to(&datagram, client).await;
                });
            }
            Some(_) = late.join_next() => {}
        }
    }
}

/// Waits out a stall. `None` when the wire is gone.
async fn flowing(control: &mut watch::Receiver<Control>) -> Option<WireConditions> {
    control
        .wait_for(|control| !control.conditions.stalled)
        .await
        .ok()
        .map(|control| control.conditions)
}

const CHUNK_BYTES: usize = 4 << 10;
/// How much is on its way in one direction at most.
const CHUNKS_MAX: usize = 64;
const DATAGRAM_BYTES: usize = 65_536;
const DATAGRAMS_MAX: usize = 1024;
