use super::*;

struct Bench {
    calls: Calls,
    events: VecDeque<Event>,
    now: Instant,
    stamp: Stamp,
}

impl Bench {
    fn new() -> Self {
        Self {
            calls: Calls::default(),
            events: VecDeque::new(),
            now: Instant::now(),
            stamp: Stamp::new(1),
        }
    }

    fn start(&mut self, lane: Lane, within: Duration) -> CallId {
        let call = self.calls.name();
        let mut message = object("q", "{}");
        self.stamp.fill(&mut message, self.now);
        self.calls.start(call, message, lane, self.now + within);
        call
    }

    fn ends(&mut self) -> Vec<(CallId, &'static str)> {
        let end = |event| match event {
            Event::CallEnded(call, CallEnd::Answered(_)) => (call, "answered"),
            Event::CallEnded(call, CallEnd::TimedOut) => (call, "timed out"),
            Event::CallEnded(call, CallEnd::NotSent) => (call, "not sent"),
            other => panic!("{other:?}"),
        };
        self.events.drain(..).map(end).collect()
    }
}

#[test]
fn calls_are_sent_once_by_lane_and_age() {
    let mut bench = Bench::new();
    for lane in [Lane::Rest, Lane::Urgent, Lane::Rest] {
        bench.start(lane, secs(9));
    }
    assert_eq!(bench.calls.next_lane(), Some(Lane::Urgent));
    let sent = std::iter::from_fn(|| bench.calls.transmit()).count();
    assert_eq!(sent, 3);
    assert_eq!((bench.calls.len(), bench.calls.next_lane()), (3, None));
}

#[test]
fn an_answer_ends_a_call_and_a_second_one_is_an_orphan() {
    let mut bench = Bench::new();
    let call = bench.start(Lane::Rest, secs(9));
    let question = bench.calls.transmit().unwrap();
    let answer = question.error("no such thing");
    let parent = &question.header.id;
    assert!(
        bench
            .calls
            .answer(parent, answer.clone(), &mut bench.events)
            .is_none()
    );
    assert_eq!(bench.ends(), [(call, "answered")]);
    assert!(bench.calls.answer(parent, answer, &mut bench.events).is_some());
    assert_eq!(bench.calls.deadline(), None);
    assert!(bench.ends().is_empty());
}

#[test]
fn a_call_ends_at_its_deadline_even_without_a_connection() {
    let mut bench = Bench::new();
    let late = bench.start(Lane::Rest, secs(9));
    let soon = bench.start(Lane::Rest, secs(3));
    while bench.calls.transmit().is_some() {}
    bench.calls.detach(&mut bench.events);
    assert_eq!(bench.calls.deadline(), Some(bench.now + secs(3)));
    bench.calls.handle_timeout(&mut bench.events, bench.now + secs(3));
    assert_eq!(bench.ends(), [(soon, "timed out")]);
    bench.calls.handle_timeout(&mut bench.events, bench.now + secs(9));
    assert_eq!(bench.ends(), [(late, "timed out")]);
    assert_eq!((bench.calls.len(), bench.calls.deadline()), (0, None));
}

#[test]
fn a_call_that_was_never_sent_says_so() {
    let mut bench = Bench::new();
    let dying = bench.start(Lane::Rest, secs(3));
    let cut = bench.start(Lane::Rest, secs(9));
    bench.calls.handle_timeout(&mut bench.events, bench.now + secs(3));
    assert_eq!(bench.ends(), [(dying, "not sent")]);
    bench.calls.detach(&mut bench.events);
    assert_eq!(bench.ends(), [(cut, "not sent")]);
    assert_eq!((bench.calls.len(), bench.calls.deadline()), (0, None));
    assert!(bench.calls.transmit().is_none());
}
