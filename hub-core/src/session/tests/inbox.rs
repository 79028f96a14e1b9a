use super::*;

fn arrived(n: u8) -> Message {
    let mut message = object("a", "{}");
    message.header.id = MessageId::from_random([n; 16]);
    message
}

#[test]
fn a_message_is_new_once() {
    let now = Instant::now();
    let mut inbox = Inbox::default();
    let message = arrived(1);
    let id = &message.header.id;
    assert!(matches!(inbox.arrive(message.clone()), Arrival::New(m) if m == message));
    assert!(matches!(inbox.arrive(message.clone()), Arrival::Handling));
    assert_eq!(inbox.len(), 1);
    assert!(inbox.finish(id).is_some());
    assert!(inbox.finish(id).is_none(), "a handler ends once");
    inbox.remember(id.clone(), None, 9, now);
    assert!(
        matches!(inbox.arrive(message.clone()), Arrival::Acknowledged(h) if h.message.header == message.header)
    );
    assert_eq!(inbox.len(), 0);
}

#[test]
fn a_message_whose_handler_failed_is_new_again() {
    let mut inbox = Inbox::default();
    let message = arrived(1);
    inbox.arrive(message.clone());
    inbox.finish(&message.header.id);
    assert!(matches!(inbox.arrive(message), Arrival::New(_)));
}

#[test]
fn a_message_without_id_is_always_new_and_never_remembered() {
    let mut inbox = Inbox::default();
    for _ in 0..2 {
        assert!(matches!(inbox.arrive(object("a", "{}")), Arrival::New(_)));
    }
    assert_eq!(inbox.len(), 0);
}

#[test]
fn as_many_ends_are_remembered_as_the_limit_says_and_the_oldest_go_first() {
    let now = Instant::now();
    let mut inbox = Inbox::default();
    for n in 0..3 {
        inbox.remember(arrived(n).header.id, Some(arrived(9)), 2, now);
    }
    assert!(!inbox.knows(&arrived(0).header.id));
    assert!(inbox.knows(&arrived(1).header.id) && inbox.knows(&arrived(2).header.id));
    inbox.remember(arrived(7).header.id, None, 0, now);
    assert!(!inbox.knows(&arrived(7).header.id));
}

#[test]
fn an_answer_too_large_to_keep_is_made_anew() {
    let now = Instant::now();
    let mut inbox = Inbox::default();
    let mut large = arrived(9);
    large.content = Content::from_json(Bytes::from(vec![b' '; (1 << 20) + 1]));
    inbox.remember(arrived(1).header.id, Some(large), 9, now);
    assert!(matches!(inbox.arrive(arrived(1)), Arrival::New(_)));
}

#[test]
fn the_room_for_answers_is_given_back_with_them() {
    let now = Instant::now();
    let mut inbox = Inbox::default();
    let mut answer = arrived(9);
    answer.content = Content::from_json(Bytes::from(vec![b' '; 1 << 20]));
    for n in 0..5 {
        inbox.remember(arrived(n).header.id, Some(answer.clone()), 9, now);
        assert!(inbox.knows(&arrived(n).header.id));
        inbox.forget_old(Some(now), now + secs(120));
    }
}

#[test]
fn an_end_is_forgotten_once_a_connection_has_stood_long_enough_for_every_copy() {
    let start = Instant::now();
    let mut inbox = Inbox::default();
    let id = arrived(1).header.id;
    inbox.remember(id.clone(), None, 9, start);
    let attached = start + secs(1000);
    inbox.forget_old(Some(attached), attached + secs(119));
    assert!(inbox.knows(&id), "a copy may have waited for the connection");
    inbox.forget_old(Some(attached), attached + secs(120));
    assert!(!inbox.knows(&id));
}
