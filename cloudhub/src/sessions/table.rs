//! NodeId → session, as a plain value: who holds which node, and whose word about it still counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hub_core::handle::SessionHandle;
use hub_core::node::NodeId;
use hub_core::transport::{Capabilities, Peer};

use super::report::{NodeReport, Trouble};

/// Names a session of a node. Grows with each new session, so that what an old one says can be told from its successor's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// Names a connection. Grows with each admitted one: the newest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// A place that is kept for a connection.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) node: NodeId,
    pub(crate) connection: ConnectionId,
    reserved: bool,
}

/// A session that was taken out of the table.
pub(crate) type Taken<H> = (NodeId, SessionId, H);

/// The sessions of a hub. `H` is the handle of a session.
#[derive(Debug)]
pub(crate) struct Table<H = SessionHandle> {
    entries: HashMap<NodeId, Entry<H>>,
    /// Nodes without a session whose first connection is being accepted, each with how many of them.
    reserved: HashMap<NodeId, u32>,
    limit: usize,
    count: u64,
    /// Nobody joins any more.
    closed: bool,
}

#[derive(Debug)]
struct Entry<H> {
    session: SessionId,
    handle: H,
    newest: ConnectionId,
    state: State,
    /// The last thing that went wrong. Boxed: with most nodes nothing does.
    trouble: Option<Box<Trouble>>,
    mark: Option<Mark>,
}

/// What the cluster is told of a node's newest connection, where several hubs serve it.
#[derive(Debug)]
struct Mark {
    text: Arc<str>,
    /// Whether the cluster showed it: only marks after it are newer.
    seen: bool,
}

#[derive(Debug)]
enum State {
    Connected(Box<Connected>),
    Away { since: Instant },
}

/// What is known of a connected node.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pub(crate) since: SystemTime,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) fingerprint: Option<[u8; 32]>,
    pub(crate) capabilities: Capabilities,
    pub(crate) transport: &'static str,
    pub(crate) version: Option<Arc<str>>,
    /// Whom this connection cut off while it was alive.
    cut: Option<Identity>,
    /// Whether a duplicate was reported.
    reported: bool,
}

/// What tells two holders of one name apart.
type Identity = (Option<[u8; 32]>, Option<std::net::IpAddr>);

/// Two living nodes take turns under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Duplicate {
    /// Addresses and fingerprints of both.
    pub(crate) holders: [(Option<SocketAddr>, Option<[u8; 32]>); 2],
    /// Whether this is the first time that it is noticed.
    pub(crate) first: bool,
}

/// There is no place for another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl<H: Clone> Table<H> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            reserved: HashMap::new(),
            limit,
            count: 0,
            closed: false,
        }
    }

    /// Keeps a place for a node whose connection is about to be accepted. A node that is known needs none.
    /// Every admission ends with [`release`](Self::release). A session that only lingers gives way; it is returned, to be stopped.
    pub(crate) fn admit(&mut self, node: &NodeId) -> Result<(Admission, Option<Taken<H>>), TooMany> {
        let mut evicted = None;
        let known = self.entries.contains_key(node) || self.reserved.contains_key(node);
        if !known && self.entries.len() + self.reserved.len() >= self.limit {
            evicted = Some(self.evict().ok_or(TooMany)?);
        }
        let reserved = !self.entries.contains_key(node);
        if reserved {
            *self.reserved.entry(node.clone()).or_default() += 1;
        }
        self.count += 1;
        Ok((
            Admission {
                node: node.clone(),
                connection: ConnectionId(self.count),
                reserved,
            },
            evicted,
        ))
    }

    /// The admission is over, well or not.
    pub(crate) fn release(&mut self, admission: &Admission) {
        let node = &admission.node;
        if let Some(count) = self.reserved.get_mut(node).filter(|_| admission.reserved) {
            *count -= 1;
            if *count == 0 {
                self.reserved.remove(node);
            }
        }
    }

    /// The session that a connection of the node belongs to; `make` makes it when there is none, or when the one there is over.
    /// None when a newer connection came first.
    pub(crate) fn place(
        &mut self,
        admission: &mut Admission,
        now: Instant,
        is_over: impl Fn(&H) -> bool,
        make: impl FnOnce(SessionId) -> H,
    ) -> Option<(SessionId, H, bool)> {
        self.release(admission);
        admission.reserved = false;
        if self.closed {
            return None;
        }
        let (node, connection) = (&admission.node, admission.connection);
        if let Some(entry) = self.entries.get_mut(node).filter(|entry| !is_over(&entry.handle)) {
            if connection < entry.newest {
                return None;
            }
            entry.newest = connection;
            return Some((entry.session, entry.handle.clone(), false));
        }
        self.count += 1;
        let session = SessionId(self.count);
        let handle = make(session);
        let state = State::Away { since: now };
        self.entries.insert(
            node.clone(),
            Entry {
                session,
                handle: handle.clone(),
                newest: connection,
                state,
                trouble: None,
                mark: None,
            },
        );
        Some((session, handle, true))
    }

    /// The session says that it has a connection.
    pub(crate) fn attached(&mut self, node: &NodeId, session: SessionId, peer: &Peer) -> Option<Duplicate> {
        let entry = self
            .entries
            .get_mut(node)
            .filter(|entry| entry.session == session)?;
        let mut connected = Connected {
            since: SystemTime::now(),
            address: peer.address,
            fingerprint: peer.fingerprint,
            capabilities: peer.capabilities,
            transport: peer.transport,
            version: peer.version.clone(),
            cut: None,
            reported: false,
        };
        let mut duplicate = None;
        // One that was seen to leave is no rival.
        if let State::Connected(old) = &entry.state {
            connected.reported = old.reported;
            if old.identity() != connected.identity() {
                connected.cut = Some(old.identity());
                // The one that was cut off while it lived comes back and cuts off the other: both are alive.
                if old.cut == Some(connected.identity()) {
                    let holders = [
                        (old.address, old.fingerprint),
                        (connected.address, connected.fingerprint),
                    ];
                    duplicate = Some(Duplicate {
                        holders,
                        first: !old.reported,
                    });
                    connected.reported = true;
                }
            } else {
                connected.cut = old.cut;
            }
        }
        entry.state = State::Connected(Box::new(connected));
        duplicate
    }

    /// The session's connection is told to the cluster under this mark.
    pub(crate) fn mark(&mut self, node: &NodeId, session: SessionId, text: Arc<str>) {
        if let Some(entry) = self.entries.get_mut(node).filter(|e| e.session == session) {
            entry.mark = Some(Mark { text, seen: false });
        }
    }

    /// The mark of a node that is connected.
    pub(crate) fn marked(&self, node: &NodeId) -> Option<Arc<str>> {
        let entry = self.entries.get(node);
        let entry = entry.filter(|entry| matches!(entry.state, State::Connected(_)))?;
        entry.mark.as_ref().map(|mark| mark.text.clone())
    }

    /// The cluster shows this mark of a node. Takes the session out when it is a newer one, of another hub. The cluster shows marks in
    /// the order in which they were written, late perhaps, so what comes before our own is older.
    pub(crate) fn shown(&mut self, node: &NodeId, text: &str) -> Option<Taken<H>> {
        let mark = self.entries.get_mut(node)?.mark.as_mut()?;
        if *mark.text == *text {
            mark.seen = true;
            return None;
        }
        mark.seen.then(|| self.remove(node)).flatten()
    }

    /// Takes a node's session out before a newer connection gets a new one.
    pub(crate) fn retire(&mut self, admission: &Admission) -> Option<Taken<H>> {
        let entry = self.entries.get(&admission.node)?;
        (entry.newest < admission.connection)
            .then(|| self.remove(&admission.node))
            .flatten()
    }

    /// The session says that its connection is gone. What a session says that has a successor is ignored.
    pub(crate) fn detached(&mut self, node: &NodeId, session: SessionId, now: Instant) -> bool {
        match self.entries.get_mut(node) {
            Some(entry) if entry.session == session => {
                entry.state = State::Away { since: now };
                true
            }
            _ => false,
        }
    }

    /// Takes the sessions out that have been away for longer than `linger`.
    pub(crate) fn expire(&mut self, linger: Duration, now: Instant) -> Vec<Taken<H>> {
        let over = |entry: &Entry<H>| match entry.state {
            State::Away { since } => now.saturating_duration_since(since) >= linger,
            State::Connected(_) => false,
        };
        let nodes: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, e)| over(e))
            .map(|(node, _)| node.clone())
            .collect();
        let expired = nodes.into_iter().filter_map(|node| self.remove(&node));
        let expired = expired.collect();
        if self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to_fit();
        }
        expired
    }

    /// Takes a node's session out, whatever its state.
    pub(crate) fn remove(&mut self, node: &NodeId) -> Option<Taken<H>> {
        self.entries
            .remove(node)
            .map(|entry| (node.clone(), entry.session, entry.handle))
    }

    /// The same, of this session only.
    pub(crate) fn remove_session(&mut self, node: &NodeId, session: SessionId) -> Option<Taken<H>> {
        self.entries.get(node).filter(|entry| entry.session == session)?;
        self.remove(node)
    }

    /// The handle of a node's session.
    pub(crate) fn handle(&self, node: &NodeId) -> Option<H> {
        self.entries.get(node).map(|entry| entry.handle.clone())
    }

    /// Something went wrong with a node.
    pub(crate) fn trouble(&mut self, node: &NodeId, session: SessionId, what: &str) {
        if let Some(entry) = self.entries.get_mut(node).filter(|e| e.session == session) {
            entry.trouble = Some(Box::new(Trouble::now(what)));
        }
    }

    /// What is known of all sessions, or of one.
    pub(crate) fn report(&self, only: Option<&NodeId>, now: Instant) -> Vec<(NodeReport, H)> {
        let wanted = |node: &&NodeId| only.is_none_or(|only| only == *node);
        let report = |(node, entry): (&NodeId, &Entry<H>)| {
            let connected = match &entry.state {
                State::Connected(connected) => Ok(connected),
                State::Away { since } => Err(SystemTime::now() - now.saturating_duration_since(*since)),
            };
            let known = connected.ok();
            let report = NodeReport {
                node: node.clone(),
                is_connected: known.is_some(),
                since: connected.map_or_else(|since| since, |connected| connected.since),
                address: known.and_then(|connected| connected.address),
                transport: known.map(|connected| connected.transport),
                capabilities: known.map(|connected| connected.capabilities),
                version: known.and_then(|connected| connected.version.as_deref().map(Into::into)),
                trouble: entry.trouble.as_deref().cloned(),
                condition: None,
            };
            (report, entry.handle.clone())
        };
        let entries = self.entries.iter().filter(|(node, _)| wanted(node));
        entries.map(report).collect()
    }

    /// All sessions.
    pub(crate) fn all(&self) -> Vec<(NodeId, H, Option<Connected>)> {
        let connected = |state: &State| match state {
            State::Connected(connected) => Some((**connected).clone()),
            State::Away { .. } => None,
        };
        self.entries
            .iter()
            .map(|(node, e)| (node.clone(), e.handle.clone(), connected(&e.state)))
            .collect()
    }

    /// Takes all sessions out, and takes no others in.
    pub(crate) fn close(&mut self) -> Vec<(NodeId, H)> {
        self.closed = true;
        let all = self.entries.drain();
        all.map(|(node, entry)| (node, entry.handle)).collect()
    }

    /// How many nodes are connected.
    pub(crate) fn connected(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| matches!(entry.state, State::Connected(_)))
            .count()
    }

    fn evict(&mut self) -> Option<Taken<H>> {
        let away = |entry: &Entry<H>| match entry.state {
            State::Away { since } => Some(since),
            State::Connected(_) => None,
        };
        let oldest = self
            .entries
            .iter()
            .filter_map(|(node, e)| Some((away(e)?, node)))
            .min()?
            .1
            .clone();
        self.remove(&oldest)
    }
}

impl Connected {
    fn identity(&self) -> Identity {
        (self.fingerprint, self.address.map(|address| address.ip()))
    }
}
