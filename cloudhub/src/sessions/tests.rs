use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use hub_core::node::NodeId;
use hub_core::transport::{Capabilities, Peer};

use super::table::{SessionId, Table, TooMany};

fn node(number: u8) -> NodeId {
    NodeId::new(&format!("edge-{number}")).unwrap()
}

fn peer(print: u8, address: u8) -> Peer {
    Peer {
        version: None,
        address: Some(SocketAddr::from(([10, 0, 0, address], 40_000))),
        common_name: None,
        fingerprint: Some([print; 32]),
        capabilities: Capabilities::NONE,
        transport: "memory",
    }
}

/// Connects as the hub does; the handle is the number of the session.
fn connect(table: &mut Table<u64>, who: &NodeId, now: Instant) -> Result<SessionId, TooMany> {
    let (mut admission, _) = table.admit(who)?;
    let (session, ..) = table.place(&mut admission, now, |_| false, |id| id.0).unwrap();
    table.release(&admission);
    Ok(session)
}

#[test]
fn a_late_goodbye_cannot_remove_a_successor() {
    let (mut table, now) = (Table::new(9), Instant::now());
    let old = connect(&mut table, &node(1), now).unwrap();
    table.remove(&node(1));
    let new = connect(&mut table, &node(1), now).unwrap();
    assert!(old < new);
    table.attached(&node(1), new, &peer(1, 1));
    assert!(!table.detached(&node(1), old, now));
    assert_eq!(table.connected(), 1);
    assert!(table.expire(Duration::ZERO, now).is_empty());
}

#[test]
fn nobody_joins_a_hub_that_is_closed_not_even_in_the_middle_of_a_handshake() {
    let (mut table, now) = (Table::new(9), Instant::now());
    let session = connect(&mut table, &node(1), now).unwrap();
    let (mut known, _) = table.admit(&node(1)).unwrap();
    let (mut new, _) = table.admit(&node(2)).unwrap();
    assert_eq!(table.close(), [(node(1), session.0)]);
    assert!(table.place(&mut known, now, |_| false, |id| id.0).is_none());
    assert!(table.place(&mut new, now, |_| false, |id| id.0).is_none());
    assert!(table.all().is_empty());
}

#[test]
fn an_older_connection_that_comes_later_is_turned_away() {
    let (mut table, now) = (Table::new(9), Instant::now());
    let (mut slow, _) = table.admit(&node(1)).unwrap();
    let (mut fast, _) = table.admit(&node(1)).unwrap();
    assert!(table.place(&mut fast, now, |_| false, |id| id.0).is_some());
    assert!(table.place(&mut slow, now, |_| false, |id| id.0).is_none());
}

#[test]
fn only_a_mark_that_the_cluster_shows_after_our_own_is_newer() {
    let (mut table, now) = (Table::new(9), Instant::now());
    let session = connect(&mut table, &node(1), now).unwrap();
    table.mark(&node(1), session, "a/1".into());
    table.attached(&node(1), session, &peer(1, 1));
    assert_eq!(table.marked(&node(1)).as_deref(), Some("a/1"));
    // From before it came here, told late; and its own of an older connection.
    for old in ["b/1", "a/0"] {
        assert!(table.shown(&node(1), old).is_none());
    }
    assert!(table.shown(&node(1), "a/1").is_none());
    // It connects anew here: what is told next may be older than that.
    table.mark(&node(1), session, "a/2".into());
    assert!(table.shown(&node(1), "b/2").is_none());
    assert!(table.shown(&node(1), "a/2").is_none());
    assert!(table.shown(&node(1), "b/3").is_some());
    assert_eq!(table.marked(&node(1)), None);
}

#[test]
fn two_living_holders_of_one_name_are_noticed_once_they_take_turns() {
    let (mut table, now) = (Table::new(9), Instant::now());
    let session = connect(&mut table, &node(1), now).unwrap();
    let mut turn = |print| table.attached(&node(1), session, &peer(print, print));
    assert_eq!(turn(1), None);
    assert_eq!(turn(1), None, "the same machine again");
    assert_eq!(turn(2), None, "a renewed certificate, or a new address");
    let duplicate = turn(1).unwrap();
    assert!(duplicate.first && duplicate.holders[0].1 != duplicate.holders[1].1);
    assert!(!turn(2).unwrap().first, "told once");
}

#[test]
fn a_machine_that_left_before_another_came_is_no_rival() {
    let (mut table, now) = (Table::new(9), Instant::now());
    let session = connect(&mut table, &node(1), now).unwrap();
    for print in [1, 2, 1, 2] {
        assert_eq!(table.attached(&node(1), session, &peer(print, print)), None);
        table.detached(&node(1), session, now);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Connect(u8),
    Detach(u8, u8),
    Expire,
    Remove(u8),
}

proptest! {
    #[test]
    fn the_limit_holds_and_only_the_current_session_speaks_for_a_node(
        limit in 1..5usize,
        steps in prop::collection::vec(prop_oneof![
            4 => (0..8u8).prop_map(Step::Connect),
            3 => (0..8u8, 0..3u8).prop_map(|(node, age)| Step::Detach(node, age)),
            1 => Just(Step::Expire),
            1 => (0..8u8).prop_map(Step::Remove),
        ], 0..60),
    ) {
        let (mut table, now) = (Table::new(limit), Instant::now());
        // What is connected, by a model that knows no table.
        let mut connected: HashMap<u8, SessionId> = HashMap::new();
        let mut history: HashMap<u8, Vec<SessionId>> = HashMap::new();
        for step in steps {
            match step {
                Step::Connect(n) => match connect(&mut table, &node(n), now) {
                    Ok(session) => {
                        table.attached(&node(n), session, &peer(n, n));
                        connected.insert(n, session);
                        history.entry(n).or_default().push(session);
                    }
                    Err(TooMany) => {
                        prop_assert!(!connected.contains_key(&n), "a known node is always let in");
                        prop_assert!(connected.len() >= limit);
                    }
                },
                Step::Detach(n, age) => {
                    let sessions = history.get(&n).map_or(&[][..], |s| &s[..]);
                    if let Some(session) = sessions.iter().rev().nth(age.into()) {
                        table.detached(&node(n), *session, now);
                        if connected.get(&n) == Some(session) {
                            connected.remove(&n);
                        }
                    }
                }
                Step::Expire => {
                    for (node, ..) in table.expire(Duration::ZERO, now) {
                        let still = connected.keys().any(|n| super::tests::node(*n) == node);
                        prop_assert!(!still, "a connected node is never taken out");
                    }
                }
                Step::Remove(n) => {
                    table.remove(&node(n));
                    connected.remove(&n);
                }
            }
            prop_assert_eq!(table.connected(), connected.len());
            prop_assert!(table.all().len() <= limit);
        }
    }
}
