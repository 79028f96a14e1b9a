//! Ten thousand worlds: two sessions, a bad wire, virtual time (`docs/worlds.md`).
//!
//! `WORLD_SEED=n` replays one world; `WORLDS=n` runs that many in each of the tests.

use std::time::Duration;

use hub_core::testing::world::{self, Tally};

/// Runs one share of the worlds; the shares run side by side.
fn share(number: u64) {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = read("WORLD_SEED") {
        world::run(seed);
        return;
    }
    let worlds = read("WORLDS").unwrap_or(2_600);
    let mut sum = Tally::default();
    for seed in 0..worlds {
        sum += world::run(number + 4 * seed);
    }
    println!("{worlds} worlds: {sum:?}");
    let met = [
        sum.delivered,
        sum.differences,
        sum.refused_differences,
        sum.failed,
        sum.barriers,
        sum.answered,
        sum.unanswered,
        sum.reports,
        sum.expired,
        sum.connections,
        sum.silences,
        sum.restarts,
        sum.full,
    ];
    let enough = met.iter().all(|times| *times > worlds / 100);
    assert!(enough, "some troubles were hardly met: {sum:?}");
}

/// T29: seven days with a bad link, and both ends agree whenever it is good.
#[test]
fn t29_worlds_that_live_for_a_week_agree_after_every_trouble() {
    let week = Duration::from_secs(7 * 24 * 3600);
    let mut sum = Tally::default();
    for seed in 0..WEEKS {
        sum += world::run_for(seed, week);
    }
    println!("{WEEKS} weeks: {sum:?}");
    assert!(sum.connections > WEEKS * 100, "hardly a bad link: {sum:?}");
}

const WEEKS: u64 = 12;

#[test]
fn every_world_is_safe_and_settles_first_share() {
    share(0);
}

#[test]
fn every_world_is_safe_and_settles_second_share() {
    share(1);
}

#[test]
fn every_world_is_safe_and_settles_third_share() {
    share(2);
}

#[test]
fn every_world_is_safe_and_settles_fourth_share() {
    share(3);
}
