use super::*;
use crate::session::outbox::Outbox;
use crate::session::pace::Pace;

/// An outbox with all it is handed, at a time of its own.
struct Bench {
    outbox: Outbox,
    config: SessionConfig,
    pace: Pace,
    stamp: Stamp,
    events: VecDeque<Event>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            outbox: Outbox::default(),
            config: SessionConfig::cloud(),
            pace: Pace::none(),
            stamp: Stamp::new(1),
            events: VecDeque::new(),
            now: Instant::now(),
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        self.try_send(outgoing).unwrap();
    }

    fn try_send(&mut self, outgoing: Outgoing) -> Result<(), Full> {
        self.outbox.send(outgoing, false, self.config.slots_max, self.now)
    }

    fn transmit(&mut self) -> Option<(Message, Option<Bytes>)> {
        self.outbox.transmit(
            &self.config,
            true,
            &mut self.pace,
            &mut self.stamp,
            &mut self.events,
            self.now,
        )
    }

    /// All that is due now.
    fn drain(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.transmit().map(|(message, _)| message)).collect()
    }

    fn names(&mut self) -> Vec<String> {
        self.drain().iter().map(name_of).collect()
    }

    fn answer(&mut self, message: &Message, reply: &Message) -> bool {
        self.outbox.settle(
            &message.header.id,
            reply,
            &self.config,
            &mut self.events,
            self.now,
        )
    }

    fn ack(&mut self, message: &Message) -> bool {
        self.answer(message, &message.response(Content::ok()))
    }

    fn refuse(&mut self, message: &Message) -> bool {
        self.answer(message, &message.error("no"))
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.outbox.handle_timeout(&mut self.events, self.now);
    }

    fn delivered(&mut self) -> Vec<(String, u64)> {
        let delivered = |event| match event {
            Event::Delivered { key, version, .. } => Some((key.to_string(), version.unwrap())),
            _ => None,
        };
        self.events.drain(..).filter_map(delivered).collect()
    }

    fn expired(&mut self) -> usize {
        let expired = |event: &Event| matches!(event, Event::Expired { .. });
        self.events.drain(..).filter(expired).count()
    }
}

#[test]
fn the_newest_version_of_a_key_is_the_only_one_sent() {
    let mut bench = Bench::new();
    for version in [3, 7, 5] {
        bench.send(acked("a", version));
    }
    let sent = bench.drain();
    assert_eq!(sent.iter().map(version_of).collect::<Vec<_>>(), [7]);
    assert!(bench.ack(&sent[0]));
    assert_eq!(bench.delivered(), [("a".into(), 7)]);
    assert!(bench.outbox.is_empty());
}

#[test]
fn a_version_that_was_delivered_is_not_sent_again_unless_it_was_taken_back() {
    let mut bench = Bench::new();
    bench.send(acked("a", 7));
    let sent = bench.drain();
    bench.ack(&sent[0]);
    bench.send(acked("a", 7));
    bench.send(acked("a", 6));
    assert!(bench.outbox.is_empty());

    bench.outbox.cancel("a");
    bench.send(acked("a", 6));
    assert_eq!(bench.drain().len(), 1);
}

#[test]
fn a_message_without_version_always_counts_as_newer() {
    let mut bench = Bench::new();
    bench.send(acked("a", 7));
    bench.send(Outgoing {
        version: None,
        ..acked("a", 1)
    });
    assert_eq!(bench.drain().iter().map(version_of).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_newer_message_waits_for_the_one_in_flight() {
    let mut bench = Bench::new();
    bench.send(acked("a", 1));
    let first = bench.drain();
    bench.send(acked("a", 2));
    bench.send(acked("a", 3));
    assert!(bench.drain().is_empty(), "one of a key is in flight");
    assert_eq!((bench.outbox.in_flight(), bench.outbox.queued()), (1, 1));

    bench.ack(&first[0]);
    let second = bench.drain();
    assert_eq!(second.iter().map(version_of).collect::<Vec<_>>(), [3]);
    assert_ne!(first[0].header.id, second[0].header.id);
}

#[test]
fn a_newer_message_goes_out_in_place_of_a_resend_under_its_own_id() {
    let mut bench = Bench::new();
    bench.send(acked("a", 1));
    let first = bench.drain();
    bench.send(acked("a", 2));
    bench.wait(secs(5));
    let second = bench.drain();
    assert_eq!(version_of(&second[0]), 2);
    assert_ne!(first[0].header.id, second[0].header.id);
    assert!(!bench.ack(&first[0]), "the old one is nobody's any more");
    assert!(bench.delivered().is_empty());
    assert!(bench.ack(&second[0]));
    assert_eq!(bench.delivered(), [("a".into(), 2)]);
    assert_eq!((bench.outbox.in_flight(), bench.outbox.queued()), (0, 0));
}

#[test]
fn a_resend_is_the_same_message_with_longer_and_longer_pauses() {
    let mut bench = Bench::new();
    bench.send(acked("a", 1));
    let first = bench.drain().remove(0);
    for pause in [5, 10, 20, 40, 60, 60] {
        bench.wait(secs(pause) - Duration::from_millis(1));
        assert!(bench.drain().is_empty());
        bench.wait(Duration::from_millis(1));
        assert_eq!(bench.drain(), std::slice::from_ref(&first), "after {pause} s");
    }
    assert_eq!(bench.outbox.in_flight(), 1);
}

#[test]
fn lanes_are_strict_and_a_lane_is_first_in_first_out() {
    let mut bench = Bench::new();
    for (key, lane) in [
        ("bulk", Lane::Bulk),
        ("rest1", Lane::Rest),
        ("rest2", Lane::Rest),
        ("own", Lane::Own),
        ("urgent", Lane::Urgent),
    ] {
        bench.send(push(key, 1, lane, Delivery::Acked));
    }
    assert_eq!(bench.names(), ["urgent", "own", "rest1", "rest2", "bulk"]);
}

#[test]
fn a_replaced_message_keeps_its_place() {
    let mut bench = Bench::new();
    for (key, version) in [("a", 1), ("b", 1), ("a", 2)] {
        bench.send(acked(key, version));
    }
    assert_eq!(bench.names(), ["a", "b"]);
}

#[test]
fn the_window_bounds_what_is_in_flight_but_not_what_is_urgent_or_sent_once() {
    let mut bench = Bench::new();
    bench.config.window = 2;
    for key in ["a", "b", "c"] {
        bench.send(acked(key, 1));
    }
    let sent = bench.drain();
    assert_eq!(sent.len(), 2);

    bench.send(push("once", 1, Lane::Bulk, Delivery::Once(secs(9))));
    bench.send(push("urgent", 1, Lane::Urgent, Delivery::Acked));
    assert_eq!(bench.names(), ["urgent", "once"]);

    bench.ack(&sent[0]);
    assert!(bench.drain().is_empty(), "the urgent one counts");
    bench.ack(&sent[1]);
    assert_eq!(bench.names(), ["c"]);
}

#[test]
fn after_a_lost_connection_everything_in_flight_is_sent_again_at_once_in_its_old_order() {
    let mut bench = Bench::new();
    for key in ["c", "a", "b"] {
        bench.send(acked(key, 1));
    }
    let before = bench.drain();
    bench.send(acked("new", 1));
    bench.outbox.detach();
    assert_eq!(
        bench.outbox.deadline(),
        None,
        "nothing is due without a connection"
    );
    let after = bench.drain();
    assert_eq!(after[..3], before[..]);
    assert_eq!(name_of(&after[3]), "new");
    assert_eq!(bench.outbox.in_flight(), 4);
}

#[test]
fn what_is_wanted_for_a_time_expires_queued_in_flight_and_behind() {
    let mut bench = Bench::new();
    bench.config.window = 1;
    let within = |key, version| push(key, version, Lane::Rest, Delivery::AckedWithin(secs(3)));
    bench.send(within("flight", 1));
    bench.send(within("queued", 1));
    let sent = bench.drain();
    assert_eq!(sent.len(), 1);
    bench.send(within("flight", 2));
    bench.send(push("once", 1, Lane::Rest, Delivery::Once(secs(3))));
    bench.wait(secs(3));
    assert_eq!(bench.expired(), 4);
    assert!(bench.outbox.is_empty());
    assert_eq!((bench.outbox.in_flight(), bench.outbox.queued()), (0, 0));
    assert_eq!(bench.outbox.deadline(), None);
    assert!(!bench.ack(&sent[0]), "an acknowledgement that comes too late");
}

#[test]
fn what_is_sent_once_is_never_sent_again() {
    let mut bench = Bench::new();
    bench.send(push("a", 1, Lane::Rest, Delivery::Once(secs(9))));
    assert_eq!(bench.names(), ["a"]);
    assert!(bench.outbox.is_empty());
    bench.outbox.detach();
    bench.wait(secs(99));
    assert!(bench.drain().is_empty());
    assert!(bench.events.is_empty());
}

#[test]
fn a_barrier_waits_until_everything_before_it_is_settled() {
    let mut bench = Bench::new();
    let barrier = |version| push("end", version, Lane::Urgent, Delivery::Barrier);
    bench.send(push("bulk", 1, Lane::Bulk, Delivery::Acked));
    bench.send(push("dying", 1, Lane::Rest, Delivery::AckedWithin(secs(3))));
    bench.send(acked("cancelled", 1));
    bench.send(barrier(1));
    bench.send(acked("after", 1));
    let sent = bench.drain();
    assert_eq!(
        sent.iter().map(name_of).collect::<Vec<_>>(),
        ["dying", "cancelled", "after", "bulk"]
    );
    bench.ack(&sent[3]);
    bench.wait(secs(3));
    assert!(bench.drain().is_empty());
    bench.outbox.cancel("cancelled");
    assert_eq!(bench.names(), ["end"], "what came after it does not matter");
}

#[test]
fn a_barrier_waits_for_what_took_the_place_of_a_message_before_it() {
    let mut bench = Bench::new();
    bench.send(acked("a", 1));
    bench.drain();
    bench.send(push("end", 1, Lane::Urgent, Delivery::Barrier));
    bench.send(acked("a", 2));
    bench.wait(secs(5));
    let second = bench.drain();
    assert_eq!(version_of(&second[0]), 2);
    assert_eq!(second.len(), 1);
    bench.ack(&second[0]);
    assert_eq!(bench.names(), ["end"]);
}

#[test]
fn a_newer_barrier_waits_for_what_was_enqueued_before_the_newer_one() {
    let mut bench = Bench::new();
    let barrier = |version| push("end", version, Lane::Urgent, Delivery::Barrier);
    bench.send(acked("a", 1));
    bench.send(barrier(1));
    bench.send(acked("b", 1));
    bench.send(barrier(2));
    let sent = bench.drain();
    bench.ack(&sent[0]);
    assert!(bench.drain().is_empty());
    bench.ack(&sent[1]);
    assert_eq!(bench.drain().iter().map(version_of).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_barrier_behind_its_own_predecessor_does_not_overtake() {
    let mut bench = Bench::new();
    let barrier = |version| push("end", version, Lane::Urgent, Delivery::Barrier);
    bench.send(barrier(1));
    let first = bench.drain();
    bench.send(acked("a", 1));
    bench.send(barrier(2));
    let object = bench.drain();
    bench.wait(secs(5));
    let again: Vec<_> = bench
        .drain()
        .iter()
        .map(|m| (name_of(m), version_of(m)))
        .collect();
    assert_eq!(again, [("end".into(), 1), ("a".into(), 1)]);
    bench.ack(&first[0]);
    assert!(bench.drain().is_empty());
    bench.ack(&object[0]);
    assert_eq!(bench.drain().iter().map(version_of).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_refused_message_is_told_of_and_tried_again_after_a_pause_without_blocking_the_window() {
    let mut bench = Bench::new();
    bench.config.window = 1;
    bench.send(acked("a", 1));
    bench.send(acked("b", 1));
    let first = bench.drain();
    bench.refuse(&first[0]);
    assert!(
        matches!(bench.events.pop_front(), Some(Event::Refused { key, reason }) if &*key == "a" && reason == "no")
    );
    let other = bench.drain();
    assert_eq!(name_of(&other[0]), "b");
    bench.ack(&other[0]);
    bench.wait(secs(5));
    assert_eq!(bench.drain(), first, "the same message");
    assert!(bench.ack(&first[0]));
    assert!(bench.outbox.is_empty());
}

#[test]
fn a_refused_message_may_still_be_acknowledged() {
    let mut bench = Bench::new();
    bench.send(acked("a", 1));
    let first = bench.drain();
    bench.refuse(&first[0]);
    assert!(bench.ack(&first[0]));
    assert!(bench.outbox.is_empty());
    assert_eq!(bench.outbox.deadline(), None);
}

#[test]
fn a_newer_message_takes_the_place_of_a_refused_one_at_once() {
    let mut bench = Bench::new();
    bench.send(acked("a", 1));
    let first = bench.drain();
    bench.send(acked("a", 2));
    bench.refuse(&first[0]);
    assert_eq!(bench.drain().iter().map(version_of).collect::<Vec<_>>(), [2]);
    assert_eq!((bench.outbox.in_flight(), bench.outbox.queued()), (1, 0));
}

#[test]
fn a_full_outbox_gives_the_message_back_and_still_takes_newer_ones_of_its_keys() {
    let mut bench = Bench::new();
    bench.config.slots_max = 2;
    bench.send(acked("a", 1));
    bench.send(acked("b", 1));
    let Err(Full(back)) = bench.try_send(acked("c", 1)) else {
        panic!("it is full")
    };
    assert_eq!(&*back.key, "c");
    bench.send(acked("a", 2));
    let sent = bench.drain();
    bench.ack(&sent[0]);
    bench.send(*back);
}

#[test]
fn the_next_version_is_a_difference_to_what_was_acknowledged() {
    let mut bench = Bench::new();
    let old = Bytes::from_static(b"{\"v\":1}");
    let next = |version| Outgoing {
        previous: Some(old.clone()),
        ..acked("a", version)
    };
    bench.send(next(2));
    let (first, base) = bench.transmit().unwrap();
    assert_eq!(base, None, "the peer is not known to hold it");
    bench.ack(&first);

    bench.send(acked("b", 1));
    let b = bench.drain();
    bench.ack(&b[0]);
    bench.send(Outgoing {
        previous: Some(old.clone()),
        ..acked("b", 2)
    });
    assert_eq!(bench.transmit().unwrap().1, Some(old.clone()));
    bench.send(next(3));
    assert_eq!(bench.transmit().unwrap().1, None, "the peer holds version 2 of a");
}

#[test]
fn a_message_that_replaces_an_unsent_one_is_a_difference_to_what_that_was_to() {
    let mut bench = Bench::new();
    let content = |version: u64| Bytes::from(format!("{{\"v\":{version}}}"));
    bench
        .outbox
        .held
        .remember(&"a".into(), Some(1), Some(&content(1)), 9);
    for version in [2, 3] {
        bench.send(Outgoing {
            previous: Some(content(version - 1)),
            ..acked("a", version)
        });
    }
    assert_eq!(bench.transmit().unwrap().1, Some(content(1)));
}

#[test]
fn a_refused_difference_is_sent_whole_at_once() {
    let mut bench = Bench::new();
    let old = Bytes::from_static(b"{\"v\":1}");
    bench.outbox.held.remember(&"a".into(), Some(1), Some(&old), 9);
    bench.send(Outgoing {
        previous: Some(old),
        ..acked("a", 2)
    });
    let (first, base) = bench.transmit().unwrap();
    assert!(base.is_some());
    bench.refuse(&first);
    assert!(bench.events.is_empty(), "nobody needs to look at it");
    assert_eq!(bench.transmit().unwrap(), (first.clone(), None));
    assert!(bench.ack(&first));
}

#[test]
fn a_deleted_object_is_no_base() {
    let mut bench = Bench::new();
    let mut delete = acked("a", 2);
    delete.message.route.operation = Operation::Delete;
    let content = delete.message.content.bytes().clone();
    bench.send(delete);
    let sent = bench.drain();
    bench.ack(&sent[0]);
    bench.send(Outgoing {
        previous: Some(content),
        ..acked("a", 3)
    });
    assert_eq!(bench.transmit().unwrap().1, None);
}

#[test]
fn a_full_outbox_of_many_keys_is_worked_through_quickly_and_leaves_nothing_behind() {
    let mut bench = Bench::new();
    for n in 0..65_536 {
        bench.send(acked(&format!("key{n}"), 1));
    }
    assert!(bench.try_send(acked("one more", 1)).is_err());
    let started = Instant::now();
    loop {
        let sent = bench.drain();
        if sent.is_empty() {
            break;
        }
        assert!(sent.len() <= bench.config.window);
        for message in &sent {
            bench.ack(message);
        }
    }
    assert!(bench.outbox.is_empty());
    assert_eq!((bench.outbox.in_flight(), bench.outbox.queued()), (0, 0));
    assert!(started.elapsed() < secs(20), "no operation may scan the slots");
}

#[test]
fn who_asks_learns_how_far_the_peer_is_behind_in_each_lane() {
    let mut bench = Bench::new();
    bench.config.window = 1;
    bench.send(acked("a", 1));
    bench.wait(secs(1));
    bench.send(acked("b", 1));
    let sent = bench.drain();
    bench.wait(secs(1));
    // What takes the place of a message has been lacked for as long.
    bench.send(acked("b", 2));
    let lanes = bench.outbox.lanes(bench.now);
    let own: Vec<_> = lanes.iter().filter(|lane| lane.oldest.is_some()).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(
        (own[0].queued, own[0].in_flight, own[0].oldest),
        (1, 1, Some(secs(2)))
    );

    let way = |bench: &Bench, id| bench.outbox.round_trip(id, &bench.config, bench.now);
    assert_eq!(way(&bench, &sent[0].header.id), Some(secs(1)));
    bench.ack(&sent[0]);
    assert_eq!(way(&bench, &sent[0].header.id), None);
    let lanes = bench.outbox.lanes(bench.now);
    assert_eq!(lanes.iter().filter_map(|lane| lane.oldest).max(), Some(secs(1)));

    // A message that is sent again is known as such, and does not tell how long the way is.
    assert!(!bench.outbox.resends(&bench.config, &bench.pace));
    let sent = bench.drain();
    bench.wait(bench.config.resend);
    assert!(bench.outbox.resends(&bench.config, &bench.pace));
    assert_eq!(bench.drain().len(), 1);
    assert_eq!(way(&bench, &sent[0].header.id), None);
    bench.ack(&sent[0]);

    bench.send(acked("c", 1));
    let sent = bench.drain();
    bench.refuse(&sent[0]);
    assert_eq!(
        bench
            .outbox
            .lanes(bench.now)
            .iter()
            .map(|lane| lane.refused)
            .sum::<usize>(),
        1
    );
}
