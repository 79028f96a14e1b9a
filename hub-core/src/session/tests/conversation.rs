use super::*;

/// A session at its own time.
struct Bench {
    session: Session,
    now: Instant,
}

impl Bench {
    fn attached(config: SessionConfig, capabilities: Capabilities) -> Self {
        let mut bench = Self {
            session: Session::new(config, 1),
            now: Instant::now(),
        };
        bench.attach(capabilities);
        bench
    }

    fn edge(capabilities: Capabilities) -> Self {
        Self::attached(SessionConfig::edge(), capabilities)
    }

    fn cloud(capabilities: Capabilities) -> Self {
        Self::attached(SessionConfig::cloud(), capabilities)
    }

    /// A new connection; its first sign of life is taken off.
    fn attach(&mut self, capabilities: Capabilities) {
        self.session.attach(capabilities, 1_000, self.now);
        if self.session.config.keepalive.interval().is_some() {
            assert!(self.session.poll_transmit(self.now).is_some());
        }
    }

    fn detach(&mut self) {
        self.session.detach(self.now);
    }

    fn receive(&mut self, message: &Message) {
        self.session.handle_message(message.clone(), self.now);
    }

    /// All messages that are due now.
    fn sent(&mut self) -> Vec<Message> {
        let message = |frame| match frame {
            Outbound::Message { message, .. } => Some(message),
            _ => None,
        };
        std::iter::from_fn(|| self.session.poll_transmit(self.now))
            .filter_map(message)
            .collect()
    }

    fn inbound(&mut self) -> Vec<Message> {
        let inbound = |event| match event {
            Event::Inbound(message) => Some(message),
            _ => None,
        };
        std::iter::from_fn(|| self.session.poll_event())
            .filter_map(inbound)
            .collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }

    fn ack(&mut self, message: &Message) {
        self.session.ack(&message.header.id, self.now);
    }
}

/// A message from the other end.
fn arrived(mut message: Message) -> Message {
    message.header.id = MessageId::from_random([7; 16]);
    message
}

fn question() -> Message {
    arrived(Message::new(
        Route::new("edged", "meta", Operation::Query, "default/configmap/c"),
        Content::null(),
    ))
}

fn is_ack_of(reply: &Message, message: &Message) -> bool {
    reply.header.parent_id.as_ref() == Some(&message.header.id)
        && reply.route.operation == Operation::Response
        && reply.content.is_ok()
}

#[test]
fn an_idle_session_is_small_and_owns_nothing() {
    let size = size_of::<Session>();
    assert!(size <= 544, "{size} bytes");
    let session = Session::new(SessionConfig::cloud(), 1);
    assert_eq!((session.notes.capacity(), session.events.capacity()), (0, 0));
}

#[test]
fn a_session_gives_its_memory_back_when_it_has_nothing_to_do() {
    let mut bench = Bench::edge(Capabilities::ALL);
    bench.receive(&arrived(object("a", "{}")));
    let message = bench.inbound().remove(0);
    bench.ack(&message);
    assert_eq!(bench.sent().len(), 1);
    let session = &bench.session;
    assert_eq!((session.notes.capacity(), session.events.capacity()), (0, 0));
}

#[test]
fn an_acknowledgement_waits_for_the_end_of_the_handler() {
    let mut bench = Bench::edge(Capabilities::NONE);
    let message = arrived(object("a", "{}"));
    bench.receive(&message);
    assert_eq!(bench.inbound(), std::slice::from_ref(&message));
    assert!(bench.sent().is_empty());
    bench.ack(&message);
    let acks = bench.sent();
    assert!(is_ack_of(&acks[0], &message));
    let route = &acks[0].route;
    assert_eq!((&*route.source, &*route.group), ("edgecontroller", "resource"));
    assert_eq!(route.resource, message.route.resource);
    assert_ne!(acks[0].header.id, MessageId::NIL);
    assert_eq!(acks[0].header.timestamp_ms, 1_000);
    assert!(bench.session.is_settled());
}

#[test]
fn a_copy_of_an_acknowledged_message_is_acknowledged_and_not_handled() {
    let mut bench = Bench::edge(Capabilities::NONE);
    let message = arrived(object("a", "{}"));
    bench.receive(&message);
    bench.receive(&message);
    assert_eq!(bench.inbound().len(), 1);
    bench.ack(&message);
    assert_eq!(bench.sent().len(), 1);
    bench.detach();
    bench.attach(Capabilities::NONE);
    bench.receive(&message);
    assert!(bench.inbound().is_empty());
    assert!(is_ack_of(&bench.sent()[0], &message));
}

#[test]
fn a_handler_that_ends_without_a_connection_is_remembered() {
    let mut bench = Bench::edge(Capabilities::NONE);
    let message = arrived(object("a", "{}"));
    bench.receive(&message);
    bench.detach();
    bench.ack(&message);
    bench.inbound();
    bench.attach(Capabilities::NONE);
    assert!(bench.sent().is_empty());
    bench.receive(&message);
    assert!(bench.inbound().is_empty());
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_failed_handler_tells_the_peer_and_a_copy_is_handled_anew() {
    let mut bench = Bench::edge(Capabilities::NONE);
    let message = arrived(object("a", "{}"));
    bench.receive(&message);
    bench.inbound();
    bench
        .session
        .nack(&message.header.id, "the disk is full", bench.now);
    let errors = bench.sent();
    assert_eq!(errors[0].route.operation, Operation::Error);
    assert_eq!(errors[0].content.as_string().unwrap(), "the disk is full");
    assert_eq!(errors[0].header.parent_id, Some(message.header.id.clone()));
    bench.receive(&message);
    assert_eq!(bench.inbound().len(), 1);
}

#[test]
fn our_own_peers_acknowledge_in_short_whatever_the_class() {
    for mut bench in [Bench::edge(Capabilities::ALL), Bench::cloud(Capabilities::ALL)] {
        let mut message = arrived(object("a", "{}"));
        message.route.resource = "default/podstatus/a".into();
        assert!(!needs_ack(&message));
        bench.receive(&message);
        bench.ack(&message);
        let acks = bench.sent();
        assert!(is_ack_of(&acks[0], &message));
        assert_eq!(acks[0].header.id, MessageId::NIL);
        assert_eq!(acks[0].header.timestamp_ms, 0);
        let route = &acks[0].route;
        assert_eq!(
            [
                &*route.source,
                &*route.destination,
                &*route.group,
                route.resource.as_str()
            ],
            [""; 4]
        );
    }
}

#[test]
fn a_stock_edge_gets_no_acknowledgement_and_a_stock_cloud_only_for_its_class() {
    let mut cloud = Bench::cloud(Capabilities::NONE);
    let message = arrived(object("a", "{}"));
    cloud.receive(&message);
    cloud.ack(&message);
    assert!(cloud.sent().is_empty());

    let mut edge = Bench::edge(Capabilities::NONE);
    let mut message = message;
    message.route.group = "user".into();
    edge.receive(&message);
    edge.ack(&message);
    assert!(edge.sent().is_empty());
}

#[test]
fn a_message_without_id_is_handled_every_time_and_never_acknowledged() {
    let mut bench = Bench::edge(Capabilities::ALL);
    for _ in 0..2 {
        bench.receive(&object("a", "{}"));
        assert_eq!(bench.inbound().len(), 1);
        bench.session.ack(&MessageId::NIL, bench.now);
    }
    assert!(bench.sent().is_empty());
}

#[test]
fn control_messages_are_answered_and_keepalives_only_show_life() {
    let mut bench = Bench::cloud(Capabilities::NONE);
    for operation in [Operation::Config, Operation::Ping, Operation::Pong] {
        let message = arrived(Message::new(
            Route::new("s", "g", operation, "r"),
            Content::null(),
        ));
        bench.receive(&message);
        let answers = bench.sent();
        assert_eq!(answers[0].route.operation, Operation::Response);
        assert_eq!(answers[0].content.as_string().unwrap(), "ack");
        assert_eq!(answers[0].header.parent_id, Some(message.header.id));
        assert_eq!(&*answers[0].route.source, "s");
    }
    bench.wait(secs(20));
    bench.receive(&arrived(Message::new(
        Route::new("websocket", "resource", Operation::Keepalive, "node"),
        Content::string("ping"),
    )));
    assert!(bench.sent().is_empty());
    assert!(bench.session.poll_event().is_none());
    assert_eq!(bench.session.poll_timeout(), Some(bench.now + secs(30)));
}

#[test]
fn the_keepalive_of_a_stock_cloud_is_kubeedge_s() {
    let now = Instant::now();
    let mut session = Session::new(SessionConfig::edge(), 1);
    session.attach(Capabilities::NONE, 5, now);
    let Some(Outbound::Message { message, base: None }) = session.poll_transmit(now) else {
        panic!("the keepalive is the first thing to be sent")
    };
    assert_eq!(message.route.operation, Operation::Keepalive);
    assert_eq!(&*message.route.source, "websocket");
    assert_eq!(&*message.route.group, "resource");
    assert_eq!(message.route.resource.as_str(), "node");
    assert_eq!(message.content.as_string().unwrap(), "ping");
    assert_eq!(message.header.timestamp_ms, 5);
    assert!(session.poll_transmit(now).is_none());
}

#[test]
fn a_silent_peer_is_told_of_once() {
    let mut bench = Bench::cloud(Capabilities::ALL);
    bench.wait(secs(30));
    assert!(matches!(bench.session.poll_event(), Some(Event::Silent)));
    bench.wait(secs(30));
    assert!(bench.session.poll_event().is_none());
    bench.detach();
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn an_answer_is_sent_once_and_said_again_to_a_copy_of_its_question() {
    let mut bench = Bench::edge(Capabilities::NONE);
    let question = question();
    bench.receive(&question);
    bench.inbound();
    let answer = question.response(Content::string("forty-two"));
    bench
        .session
        .reply(&question.header.id, answer, Lane::Urgent, bench.now);
    let first = bench.sent();
    assert_eq!(first.len(), 1);
    assert!(bench.session.is_settled());
    bench.receive(&question);
    assert!(bench.inbound().is_empty());
    assert_eq!(bench.sent(), first);
}

#[test]
fn an_answer_of_the_cloud_that_is_acknowledged_is_resent_for_a_minute() {
    let mut bench = Bench::cloud(Capabilities::NONE);
    let question = question();
    bench.receive(&question);
    bench.inbound();
    let answer = question.response(Content::string("forty-two"));
    bench
        .session
        .reply(&question.header.id, answer, Lane::Urgent, bench.now);
    let first = bench.sent();
    bench.receive(&question);
    assert!(bench.sent().is_empty(), "it is under way already");
    bench.wait(secs(5));
    assert_eq!(bench.sent(), first);
    bench.receive(&first[0].response(Content::ok()));
    assert!(bench.session.is_settled());
    assert!(bench.session.poll_event().is_none(), "answers cause no events");

    bench.receive(&question);
    assert_eq!(bench.sent(), first, "it is still remembered");
    bench.wait(secs(60));
    bench.sent();
    assert!(bench.session.is_settled(), "nobody waits for it any more");
}

#[test]
fn there_is_room_for_answers_in_a_full_outbox() {
    let config = SessionConfig {
        slots_max: 1,
        handling_max: 1,
        ..SessionConfig::cloud()
    };
    let mut bench = Bench::attached(config, Capabilities::NONE);
    bench.session.send(acked("a", 1), bench.now).unwrap();
    let question = question();
    bench.receive(&question);
    let answer = question.response(Content::null());
    bench
        .session
        .reply(&question.header.id, answer, Lane::Urgent, bench.now);
    assert_eq!(bench.sent().len(), 2);
}

#[test]
fn the_edge_acknowledges_every_answer_of_the_class_even_an_orphan() {
    let mut bench = Bench::edge(Capabilities::NONE);
    let asked = bench.session.call(
        Message::new(question().route, Content::null()),
        Lane::Urgent,
        bench.now + secs(9),
        bench.now,
    );
    let question = bench.sent().remove(0);
    let answer = arrived(question.response(Content::string("x")));
    bench.receive(&answer);
    assert!(
        matches!(bench.session.poll_event(), Some(Event::CallEnded(call, CallEnd::Answered(_))) if call == asked)
    );
    assert!(is_ack_of(&bench.sent()[0], &answer));
    bench.receive(&answer);
    assert!(bench.session.poll_event().is_none());
    assert!(is_ack_of(&bench.sent()[0], &answer), "the first may be lost");

    bench.receive(&arrived(question.response(Content::ok())));
    assert!(bench.sent().is_empty(), "nobody acknowledges an acknowledgement");

    let mut cloud = Bench::cloud(Capabilities::ALL);
    cloud.receive(&answer);
    assert!(cloud.sent().is_empty());
}

#[test]
fn a_call_without_a_connection_or_room_is_not_sent() {
    let config = SessionConfig {
        calls_max: 1,
        ..SessionConfig::edge()
    };
    let mut bench = Bench::attached(config, Capabilities::NONE);
    let ask = |bench: &mut Bench| {
        let message = Message::new(question().route, Content::null());
        bench
            .session
            .call(message, Lane::Urgent, bench.now + secs(9), bench.now)
    };
    ask(&mut bench);
    let second = ask(&mut bench);
    assert!(
        matches!(bench.session.poll_event(), Some(Event::CallEnded(call, CallEnd::NotSent)) if call == second)
    );
    assert_eq!(bench.session.depth().calls, 1);
    bench.detach();
    assert!(matches!(
        bench.session.poll_event(),
        Some(Event::CallEnded(_, CallEnd::NotSent))
    ));
    let third = ask(&mut bench);
    assert!(
        matches!(bench.session.poll_event(), Some(Event::CallEnded(call, CallEnd::NotSent)) if call == third)
    );
    assert!(bench.session.is_settled());
}

#[test]
fn a_call_goes_before_a_message_of_its_lane_and_behind_one_of_a_better_lane() {
    let mut bench = Bench::edge(Capabilities::ALL);
    for (key, lane) in [("own", Lane::Own), ("rest", Lane::Rest)] {
        let outgoing = push(key, 1, lane, Delivery::Acked);
        bench.session.send(outgoing, bench.now).unwrap();
    }
    let message = Message::new(question().route, Content::null());
    bench
        .session
        .call(message, Lane::Rest, bench.now + secs(9), bench.now);
    let names: Vec<_> = bench.sent().iter().map(name_of).collect();
    assert_eq!(names, ["own", "c", "rest"]);
}

#[test]
fn a_difference_is_sent_only_where_both_ends_can() {
    for (capabilities, expected) in [(Capabilities::ALL, true), (Capabilities::NONE, false)] {
        let mut bench = Bench::cloud(capabilities);
        let held = Bytes::from_static(b"{\"v\":1}");
        bench.session.assume_held("a", Some(1), &held);
        let outgoing = Outgoing {
            previous: Some(held),
            ..acked("a", 2)
        };
        bench.session.send(outgoing, bench.now).unwrap();
        let Some(Outbound::Message { base, .. }) = bench.session.poll_transmit(bench.now) else {
            panic!("it is due")
        };
        assert_eq!(base.is_some(), expected);
    }
}

#[test]
fn what_is_held_is_not_sent_again_until_it_is_forgotten() {
    let mut bench = Bench::cloud(Capabilities::ALL);
    bench
        .session
        .assume_held("a", Some(2), &Bytes::from_static(b"{}"));
    bench.session.send(acked("a", 2), bench.now).unwrap();
    assert!(bench.sent().is_empty());
    bench.session.forget_held();
    bench.session.send(acked("a", 2), bench.now).unwrap();
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_difference_to_what_is_not_here_is_refused_unless_it_is_a_copy() {
    let mut bench = Bench::edge(Capabilities::ALL);
    let message = arrived(object("a", "{}"));
    bench.session.refuse(message.clone(), "another base", bench.now);
    assert_eq!(bench.sent()[0].route.operation, Operation::Error);
    assert!(bench.inbound().is_empty());
    bench.receive(&message);
    bench.ack(&message);
    assert_eq!(bench.sent().len(), 1);
    bench.session.refuse(message.clone(), "another base", bench.now);
    assert!(is_ack_of(&bench.sent()[0], &message));
}

#[test]
fn a_new_connection_takes_over_from_one_that_is_still_attached() {
    let mut bench = Bench::cloud(Capabilities::ALL);
    bench.session.send(acked("a", 1), bench.now).unwrap();
    let sent = bench.sent();
    bench.attach(Capabilities::NONE);
    assert_eq!(bench.sent(), sent);
    assert!(bench.session.is_attached());
}

#[test]
fn without_a_connection_nothing_is_sent_and_only_lifetimes_are_due() {
    let mut bench = Bench::cloud(Capabilities::ALL);
    bench.session.send(acked("a", 1), bench.now).unwrap();
    bench.sent();
    bench.detach();
    assert_eq!(bench.session.poll_timeout(), None);
    let once = push("b", 1, Lane::Rest, Delivery::Once(secs(4)));
    bench.session.send(once, bench.now).unwrap();
    assert!(bench.sent().is_empty());
    assert_eq!(bench.session.poll_timeout(), Some(bench.now + secs(4)));
    bench.wait(secs(4));
    assert!(matches!(bench.session.poll_event(), Some(Event::Expired { key }) if &*key == "b"));
    assert_eq!(bench.session.poll_timeout(), None);
    assert!(!bench.session.is_settled());
}

#[test]
fn a_peer_that_sends_copies_and_does_not_read_gets_a_limited_number_of_notes() {
    let config = SessionConfig {
        remembered_max: 3,
        handling_max: 1,
        ..SessionConfig::edge()
    };
    let mut bench = Bench::attached(config, Capabilities::ALL);
    let message = arrived(object("a", "{}"));
    bench.receive(&message);
    bench.ack(&message);
    for _ in 0..100 {
        bench.receive(&message);
    }
    assert_eq!(bench.sent().len(), 4);
}
