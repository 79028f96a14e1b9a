use super::*;

const SEND: KeepaliveConfig = KeepaliveConfig::Send {
    interval: secs(15),
    silence_max: secs(40),
};

fn signs(keepalive: &mut Keepalive) -> Vec<Sign> {
    std::iter::from_fn(|| keepalive.transmit()).collect()
}

#[test]
fn towards_a_stock_cloud_the_message_goes_out_at_once_and_with_a_ping_every_interval() {
    let start = Instant::now();
    let mut keepalive = Keepalive::new(&SEND, true, start);
    assert_eq!(signs(&mut keepalive), [Sign::Message]);
    for n in 1..=3 {
        let now = start + secs(15 * n);
        assert_eq!(keepalive.deadline(&SEND), Some(now));
        keepalive.heard(now);
        assert!(!keepalive.handle_timeout(&SEND, now));
        assert_eq!(signs(&mut keepalive), [Sign::Message, Sign::Ping]);
    }
}

#[test]
fn towards_our_own_cloud_a_ping_is_enough() {
    let start = Instant::now();
    let mut keepalive = Keepalive::new(&SEND, false, start);
    assert_eq!(signs(&mut keepalive), [Sign::Ping]);
    keepalive.handle_timeout(&SEND, start + secs(15));
    assert_eq!(signs(&mut keepalive), [Sign::Ping]);
}

#[test]
fn signs_that_could_not_be_sent_do_not_pile_up() {
    let start = Instant::now();
    let mut keepalive = Keepalive::new(&SEND, false, start);
    for n in 1..=2 {
        keepalive.handle_timeout(&SEND, start + secs(15 * n));
    }
    assert_eq!(signs(&mut keepalive), [Sign::Ping]);
}

#[test]
fn silence_is_told_once() {
    let start = Instant::now();
    let expect = KeepaliveConfig::Expect {
        silence_max: secs(30),
    };
    let mut keepalive = Keepalive::new(&expect, false, start);
    assert!(signs(&mut keepalive).is_empty(), "the cloud gives none");
    keepalive.heard(start + secs(20));
    assert!(!keepalive.handle_timeout(&expect, start + secs(30)));
    assert_eq!(keepalive.deadline(&expect), Some(start + secs(50)));
    assert!(keepalive.handle_timeout(&expect, start + secs(50)));
    assert!(!keepalive.handle_timeout(&expect, start + secs(99)));
    assert_eq!(keepalive.deadline(&expect), None);
}
