use super::*;

#[test]
fn an_idle_session_is_small_and_owns_nothing() {
    let size = size_of::<Session>();
    assert!(size <= 512, "{size} bytes");
}
