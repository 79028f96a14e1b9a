use super::*;

fn once(name: &str) -> Outgoing {
    push(name, 1, Lane::Urgent, Delivery::Once(secs(60)))
}

fn cloud(capabilities: Capabilities, now: Instant) -> Session {
    let mut session = Session::new(SessionConfig::cloud(), 1);
    session.attach(capabilities, 0, now);
    session
}

fn sent(session: &mut Session, now: Instant) -> Vec<String> {
    let frames = std::iter::from_fn(|| session.poll_transmit(now));
    let messages = frames.filter_map(|frame| match frame {
        Outbound::Message { message, .. } => Some(name_of(&message)),
        _ => None,
    });
    messages.collect()
}

#[test]
fn what_a_stock_edge_does_not_acknowledge_goes_in_a_burst_and_then_at_a_steady_rate() {
    let start = Instant::now();
    let mut session = cloud(Capabilities::NONE, start);
    for number in 0..100 {
        session.send(once(&format!("m{number}")), start).unwrap();
    }
    assert_eq!(sent(&mut session, start).len(), 16);
    let mut now = start;
    for number in 16..100 {
        let next = session.poll_timeout().unwrap();
        assert_eq!(next - now, Duration::from_millis(20));
        now = next;
        session.handle_timeout(now);
        assert_eq!(sent(&mut session, now), [format!("m{number}")]);
    }
    assert!(session.is_settled());
    assert_eq!(
        session.poll_timeout(),
        Some(start + secs(30)),
        "nothing waits: only silence is waited for"
    );
}

#[test]
fn what_comes_after_a_paced_message_does_not_overtake_it() {
    let now = Instant::now();
    let mut session = cloud(Capabilities::NONE, now);
    for number in 0..17 {
        let mut outgoing = once(&format!("m{number}"));
        outgoing.lane = Lane::Own;
        session.send(outgoing, now).unwrap();
    }
    session
        .send(push("after", 1, Lane::Own, Delivery::Acked), now)
        .unwrap();
    assert_eq!(sent(&mut session, now).len(), 16);
    assert_eq!(
        sent(&mut session, now + Duration::from_millis(20)),
        ["m16", "after"]
    );
}

#[test]
fn urgent_messages_have_a_few_places_beside_a_full_window_of_a_stock_edge() {
    let now = Instant::now();
    let mut session = cloud(Capabilities::NONE, now);
    for number in 0..100 {
        session.send(acked(&format!("a{number}"), 1), now).unwrap();
    }
    assert_eq!(sent(&mut session, now).len(), 64);
    for number in 0..100 {
        let urgent = push(&format!("u{number}"), 1, Lane::Urgent, Delivery::Acked);
        session.send(urgent, now).unwrap();
    }
    assert_eq!(sent(&mut session, now).len(), 12);
}

#[test]
fn an_edge_of_our_own_is_not_slowed() {
    let now = Instant::now();
    let mut session = cloud(Capabilities::ALL, now);
    for number in 0..100 {
        session.send(once(&format!("m{number}")), now).unwrap();
        let urgent = push(&format!("u{number}"), 1, Lane::Urgent, Delivery::Acked);
        session.send(urgent, now).unwrap();
    }
    assert_eq!(sent(&mut session, now).len(), 200);
}
