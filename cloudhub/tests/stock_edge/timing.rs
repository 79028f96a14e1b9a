//! When what is said, in virtual time: the session of a Go edge without socket and clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hub_core::message::{Content, Message, MessageId, Operation, Route, needs_ack};
use hub_core::session::{Delivery, Event, Lane, Outgoing, Session, SessionConfig};
use hub_core::transport::{Capabilities, Outbound};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The cloud's session with a Go edge, and the time of this world.
struct Tunnel {
    session: Session,
    start: Instant,
    now: Instant,
    /// What went out, and when.
    out: Vec<(Duration, Message)>,
}

impl Tunnel {
    fn new() -> Self {
        let start = Instant::now();
        let mut session = Session::new(SessionConfig::cloud(), 7);
        session.attach(Capabilities::NONE, 1_795_325_356_183, start);
        Self {
            session,
            start,
            now: start,
            out: Vec::new(),
        }
    }

    fn push(&mut self, name: &str, version: u64) {
        let route = Route::new(
            "edgecontroller",
            "resource",
            Operation::Update,
            format!("default/configmap/{name}"),
        );
        let outgoing = Outgoing {
            key: name.into(),
            version: Some(version),
            lane: Lane::Own,
            delivery: Delivery::Acked,
            message: Message::new(route, Content::encode(&version)),
            previous: None,
        };
        self.session.send(outgoing, self.now).unwrap();
    }

    /// The node asks; the hub answers.
    fn question(&mut self, kind: &str) -> MessageId {
        let route = Route::new("edged", "meta", Operation::Query, format!("default/{kind}/x"));
        let mut question = Message::new(route, Content::null());
        question.header.id = MessageId::random();
        let id = question.header.id.clone();
        self.session.handle_message(question.clone(), self.now);
        while let Some(event) = self.session.poll_event() {
            if let Event::Inbound(message) = event {
                let mut answer = message.response(Content::encode(&7));
                answer.route.source = "edgecontroller".into();
                answer.route.group = "resource".into();
                self.session
                    .reply(&message.header.id, answer, Lane::Urgent, self.now);
            }
        }
        id
    }

    fn answer(&mut self, to: &Message, operation: Operation) {
        let mut ack = to.response(Content::ok());
        ack.route.operation = operation;
        ack.header.id = MessageId::random();
        self.session.handle_message(ack, self.now);
        self.transmit();
    }

    fn transmit(&mut self) {
        while let Some(frame) = self.session.poll_transmit(self.now) {
            if let Outbound::Message { message, .. } = frame {
                self.out.push((self.now - self.start, message));
            }
        }
    }

    /// Lets the time pass; the edge shows life with a keepalive every 15 s if it `lives`. True when the session ended in silence.
    fn pass(&mut self, time: Duration, lives: bool) -> bool {
        let end = self.now + time;
        self.transmit();
        let mut beat = self.now + secs(15);
        loop {
            let timer = self.session.poll_timeout().filter(|at| *at <= end);
            let next = [timer, (lives && beat <= end).then_some(beat)]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            if lives && next == beat {
                beat += secs(15);
                let route = Route::new("websocket", "resource", Operation::Keepalive, "node");
                self.session
                    .handle_message(Message::new(route, Content::string("ping")), self.now);
            }
            self.session.handle_timeout(self.now);
            while let Some(event) = self.session.poll_event() {
                if matches!(event, Event::Silent) {
                    return true;
                }
            }
            self.transmit();
        }
    }

    fn times(&self, name: &str) -> Vec<u64> {
        let resource = format!("default/configmap/{name}");
        let of = self
            .out
            .iter()
            .filter(|(_, message)| message.route.resource.as_str() == resource);
        of.map(|(at, _)| at.as_secs()).collect()
    }
}

/// What capture 14 shows of a Go cloud: an edge that never acknowledges holds up all of its objects there.
#[test]
fn t1_a_message_without_ack_is_sent_again_and_again_with_the_same_id_and_others_pass() {
    let mut tunnel = Tunnel::new();
    tunnel.push("lost", 1);
    tunnel.pass(secs(1), true);
    for i in 0..200 {
        tunnel.push(&format!("other-{i}"), 1);
        tunnel.transmit();
        let last = tunnel.out.last().unwrap().1.clone();
        assert!(
            last.route.resource.as_str().ends_with(&format!("other-{i}")),
            "at once"
        );
        tunnel.answer(&last, Operation::Response);
    }
    tunnel.pass(secs(200), true);
    assert_eq!(tunnel.times("lost"), [0, 5, 15, 35, 75, 135, 195]);
    let ids: std::collections::BTreeSet<_> = tunnel
        .out
        .iter()
        .filter(|(_, message)| message.route.resource.as_str().ends_with("lost"))
        .map(|(_, message)| message.header.id.to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    // An acknowledgement of whichever copy ends it.
    let copy = tunnel.out.last().unwrap().1.clone();
    tunnel.answer(&copy, Operation::Response);
    assert!(tunnel.session.is_settled());
}

#[test]
fn t1_a_window_and_one_of_each_object() {
    let mut tunnel = Tunnel::new();
    for i in 0..300 {
        tunnel.push(&format!("c-{i}"), 1);
    }
    tunnel.transmit();
    for version in 2..10 {
        tunnel.push("c-0", version);
    }
    tunnel.transmit();
    assert_eq!(tunnel.out.len(), 64);
    let first = tunnel.out[0].1.clone();
    tunnel.answer(&first, Operation::Response);
    // Its place is taken, by the newest version of all that waited.
    assert_eq!(tunnel.out.len(), 65);
    for at in 1..400 {
        let Some((_, message)) = tunnel.out.get(at).cloned() else {
            break;
        };
        tunnel.answer(&message, Operation::Response);
    }
    assert_eq!(tunnel.out.len(), 301);
    let newest = tunnel
        .out
        .iter()
        .rev()
        .find(|(_, m)| m.route.resource.as_str().ends_with("/c-0"));
    assert_eq!(newest.unwrap().1.content.bytes().as_ref(), b"9");
    assert!(tunnel.session.is_settled());
}

#[test]
fn an_edge_that_may_say_thirty_things_a_second_is_sent_no_copies() {
    // The limiter of EdgeHub (`messageQPS` 30, burst 60) holds acknowledgements back.
    let mut tunnel = Tunnel::new();
    for i in 0..1000 {
        tunnel.push(&format!("c-{i}"), 1);
    }
    tunnel.transmit();
    let (mut unacknowledged, mut taken, mut tokens) = (VecDeque::new(), 0, 60);
    while !tunnel.session.is_settled() {
        unacknowledged.extend(tunnel.out[taken..].iter().map(|(_, message)| message.clone()));
        taken = tunnel.out.len();
        if tokens == 0 {
            tunnel.pass(Duration::from_millis(34), true);
            tokens += 1;
        }
        if let Some(message) = unacknowledged.pop_front() {
            tokens -= 1;
            tunnel.answer(&message, Operation::Response);
        }
    }
    assert_eq!(tunnel.out.len(), 1000);
}

#[test]
fn l5_an_answer_that_nobody_acknowledges_is_given_up_after_a_minute() {
    let mut tunnel = Tunnel::new();
    tunnel.question("configmap");
    assert!(needs_ack(&{
        tunnel.transmit();
        tunnel.out[0].1.clone()
    }));
    tunnel.pass(secs(600), true);
    assert_eq!(tunnel.times("x"), [0, 5, 15, 35], "the asker waits for 60 s");
    assert!(tunnel.session.is_settled());
    // A lease's answer has no acknowledgement: once, and no more.
    tunnel.out.clear();
    tunnel.question("lease");
    tunnel.pass(secs(600), true);
    assert_eq!(tunnel.out.len(), 1);
}

#[test]
fn l5_answers_of_before_a_break_do_not_hold_up_what_comes_after() {
    let mut tunnel = Tunnel::new();
    for _ in 0..64 {
        tunnel.question("configmap");
    }
    tunnel.pass(secs(10), true);
    tunnel.session.detach(tunnel.now);
    tunnel.now += secs(100);
    tunnel.session.handle_timeout(tunnel.now);
    tunnel.session.attach(Capabilities::NONE, 0, tunnel.now);
    tunnel.out.clear();
    tunnel.push("fresh", 1);
    tunnel.transmit();
    assert_eq!(tunnel.out.len(), 1, "nobody waits for the answers any more");
    assert_eq!(tunnel.times("fresh").len(), 1);
}

#[test]
fn l13_refusals_are_tried_again_after_pauses_that_grow() {
    let mut tunnel = Tunnel::new();
    tunnel.push("full-disk", 1);
    tunnel.transmit();
    let mut seen = 0;
    while (tunnel.now - tunnel.start) < secs(300) {
        while seen < tunnel.out.len() {
            let message = tunnel.out[seen].1.clone();
            seen += 1;
            tunnel.answer(&message, Operation::Error);
        }
        tunnel.pass(secs(1), false);
        tunnel.session.heard(tunnel.now);
    }
    assert_eq!(tunnel.times("full-disk")[..6], [0, 5, 15, 35, 75, 135]);
}

#[test]
fn l4_what_waits_for_an_away_node_is_sent_when_it_is_back_and_only_the_newest() {
    let mut tunnel = Tunnel::new();
    tunnel.push("a", 1);
    tunnel.transmit();
    tunnel.session.detach(tunnel.now);
    for version in 2..50 {
        tunnel.push("a", version);
        tunnel.push("b", version);
    }
    tunnel.now += secs(3600);
    tunnel.session.handle_timeout(tunnel.now);
    tunnel.session.attach(Capabilities::NONE, 0, tunnel.now);
    tunnel.out.clear();
    tunnel.transmit();
    let mut told = BTreeMap::new();
    for (_, message) in &tunnel.out {
        told.insert(
            message.route.resource.to_string(),
            message.content.bytes().clone(),
        );
    }
    assert_eq!(tunnel.out.len(), 2);
    assert!(told.values().all(|content| content.as_ref() == b"49"), "{told:?}");
}

/// Capture 15: a client that shows no sign of life.
#[test]
fn c11_thirty_seconds_of_silence_end_a_connection_and_any_frame_prevents_it() {
    let mut tunnel = Tunnel::new();
    assert!(!tunnel.pass(secs(600), true));
    assert!(tunnel.pass(secs(600), false));
    let mut tunnel = Tunnel::new();
    assert!(!tunnel.pass(secs(29), false));
    tunnel.session.heard(tunnel.now);
    assert!(!tunnel.pass(secs(29), false), "a ping is a sign of life");
    tunnel.question("lease");
    assert!(!tunnel.pass(secs(29), false), "and so is a question");
    assert!(tunnel.pass(secs(2), false));
}
