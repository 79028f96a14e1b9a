//! Twins in a world without disks, sockets and clocks.

mod world;

use std::collections::BTreeMap;

use hub_core::store::Change;
use proptest::prelude::*;

use super::device::{Device, Rejected};
use super::name::DeviceId;
use super::property::Version;
use super::shape::{self, Twin, Value};
use super::{DeviceState, record};

const MAX: usize = 8;

fn device() -> Device {
    Device::new(DeviceId::parse("home/lamp").unwrap())
}

fn actual(text: &str) -> Twin {
    Twin {
        actual: Some(Value::new(text)),
        ..Twin::default()
    }
}

fn expected(text: &str) -> Twin {
    Twin {
        expected: Some(Value::new(text)),
        ..Twin::default()
    }
}

fn of_type(kind: &str, twin: Twin) -> Twin {
    Twin {
        metadata: Some(shape::Type { kind: kind.into() }),
        ..twin
    }
}

fn one(name: &str, twin: Twin) -> shape::Twins {
    [(name.to_owned(), Some(twin))].into()
}

/// What the cloud sends with a version.
fn synced(twin: Twin, cloud: i64, edge: i64) -> Twin {
    let version = Some(shape::Version { cloud, edge });
    Twin {
        expected_version: version,
        actual_version: version,
        ..twin
    }
}

#[test]
fn a_local_change_is_always_taken_and_counts_as_one_of_the_edge_s() {
    let mut lamp = device();
    for (n, text) in ["1", "2", "2"].into_iter().enumerate() {
        let updated = lamp
            .update(&one("level", of_type("int", actual(text))), 7, MAX)
            .unwrap();
        let level = &lamp.properties["level"];
        assert_eq!(
            level.actual.version,
            Version {
                cloud: 0,
                edge: n as i64 + 1
            }
        );
        assert_eq!(
            updated.result["level"]
                .as_ref()
                .unwrap()
                .actual
                .as_ref()
                .unwrap()
                .value
                .as_deref(),
            Some(text)
        );
        assert_eq!(updated.document["level"].last.is_none(), n == 0);
    }
}

#[test]
fn the_version_rule_for_what_comes_from_the_cloud() {
    // (version here, version of the message, whether it is taken)
    for (here, there, taken) in [
        ((0, 2), Some((1, 2)), true),
        ((1, 2), Some((1, 2)), true),
        ((1, 2), Some((1, 3)), true),
        ((2, 2), Some((1, 2)), false),
        ((1, 3), Some((2, 2)), false),
        ((0, 1), None, false),
    ] {
        let mut lamp = device();
        lamp.sync(&one("level", synced(expected("old"), here.0, here.1)), 1, MAX);
        let message = match there {
            Some((cloud, edge)) => synced(expected("new"), cloud, edge),
            None => expected("new"),
        };
        lamp.sync(&one("level", message), 2, MAX);
        let side = &lamp.properties["level"].expected;
        let (cloud, edge) = if taken { there.unwrap() } else { here };
        assert_eq!(side.version, Version { cloud, edge }, "{here:?} {there:?}");
        assert_eq!(
            side.text(),
            Some(if taken { "new" } else { "old" }),
            "{here:?} {there:?}"
        );
        // What is refused goes up instead.
        assert_eq!(lamp.owes(), !taken, "{here:?} {there:?}");
    }
}

#[test]
fn a_deletion_by_the_cloud_needs_no_version_and_an_older_one_is_refused() {
    let deleted = || of_type("deleted", Twin::default());
    let mut lamp = device();
    lamp.sync(&one("level", synced(expected("1"), 2, 2)), 1, MAX);
    lamp.sync(&one("level", synced(deleted(), 1, 2)), 2, MAX);
    assert!(!lamp.properties["level"].deleted && lamp.owes());
    lamp.sync(&one("level", deleted()), 3, MAX);
    assert!(lamp.properties["level"].deleted);
    assert!(lamp.twin().is_empty());
    // Nothing older brings it back.
    lamp.sync(&one("level", synced(expected("1"), 1, 1)), 4, MAX);
    assert!(lamp.properties["level"].deleted);
}

#[test]
fn an_update_is_made_whole_or_not_at_all_and_says_why() {
    let mut lamp = device();
    lamp.update(&one("level", of_type("int", actual("1"))), 1, MAX)
        .unwrap();
    let fixed = Twin {
        optional: Some(false),
        ..actual("x")
    };
    lamp.update(&one("fixed", fixed), 1, MAX).unwrap();
    let before = lamp.clone();
    for (name, twin, expected) in [
        (
            "level",
            Some(actual("warm")),
            "the value \"warm\" of level is not of type int",
        ),
        (
            "level",
            Some(actual("1 2")),
            "the value of level must be at most 512 letters, digits and - _ . , : / @ #",
        ),
        (
            "a b",
            Some(actual("1")),
            "the property name \"a b\" must be 1 to 128 letters, digits and - _ . , : / @ #",
        ),
        (
            "new",
            Some(of_type("colour", actual("1"))),
            "the type \"colour\" is none of string, int, integer, float, boolean",
        ),
        (
            "level",
            Some(Twin {
                actual: Some(Value::default()),
                ..Twin::default()
            }),
            "level has an expected or actual part without a value",
        ),
        ("fixed", None, "the property fixed is not optional"),
        ("none", None, "there is no property none to delete"),
    ] {
        let change = [("aaa".to_owned(), Some(actual("first"))), (name.to_owned(), twin)];
        let error = lamp.update(&change.into(), 2, MAX).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(lamp, before, "{name}");
    }
    let many = (0..MAX).map(|n| (n.to_string(), Some(actual("1"))));
    assert_eq!(lamp.update(&many.collect(), 2, MAX), Err(Rejected::Full(MAX)));
}

#[test]
fn what_is_deleted_and_told_makes_room_for_another_property() {
    let mut lamp = device();
    lamp.update(
        &(0..MAX).map(|n| (n.to_string(), Some(actual("1")))).collect(),
        1,
        MAX,
    )
    .unwrap();
    lamp.update(&[("0".to_owned(), None)].into(), 2, MAX).unwrap();
    assert_eq!(
        lamp.update(&one("new", actual("1")), 3, MAX),
        Err(Rejected::Full(MAX))
    );
    let owed = lamp.owed().unwrap();
    lamp.settle(&owed.marks);
    lamp.update(&one("new", actual("1")), 3, MAX).unwrap();
    assert_eq!(lamp.properties.len(), MAX);
}

#[test]
fn a_delta_names_what_should_be_otherwise_and_nothing_else() {
    let mut lamp = device();
    let updated = lamp.update(&one("level", expected("5")), 1, MAX).unwrap();
    assert_eq!(updated.delta, BTreeMap::from([("level".into(), "5".into())]));
    let updated = lamp.update(&one("level", actual("4")), 2, MAX).unwrap();
    assert_eq!(updated.delta.len(), 1);
    let updated = lamp.update(&one("level", actual("5")), 3, MAX).unwrap();
    assert!(updated.delta.is_empty());
    let updated = lamp.update(&one("level", expected("")), 4, MAX).unwrap();
    assert!(updated.delta.is_empty(), "nothing is wanted any more");
}

#[test]
fn a_device_s_wish_is_news_once_and_a_local_one_stands_until_the_next() {
    let mut lamp = device();
    let wish = |lamp: &mut Device, value: &str| {
        let (updated, rejected) = lamp.desired([("level", value, "INT")], 1, MAX);
        assert!(rejected.is_empty());
        updated.document.len()
    };
    assert_eq!(wish(&mut lamp, "20"), 1);
    assert_eq!(lamp.delta()["level"], "20");
    assert!(lamp.owes(), "the cloud is to see that its wish has come");
    lamp.update(&one("level", expected("25")), 2, MAX).unwrap();
    assert_eq!(wish(&mut lamp, "20"), 0, "the same wish again is no news");
    assert_eq!(lamp.delta()["level"], "25");
    assert_eq!(wish(&mut lamp, "22"), 1);
    assert_eq!(lamp.delta()["level"], "22");
    let (updated, _) = lamp.desired([], 3, MAX);
    assert!(updated.delta.is_empty(), "the wish is gone");
    assert_eq!(wish(&mut lamp, "22"), 1);
    let (_, rejected) = lamp.desired([("level", "warm", "int"), ("on", "yes", "boolean")], 3, MAX);
    assert_eq!(rejected.len(), 2);
    assert!(!lamp.properties.contains_key("on"));
    assert!(
        lamp.update(&[("level".into(), None)].into(), 4, MAX).is_err(),
        "the Device has it"
    );
}

#[test]
fn what_is_owed_is_the_newest_of_each_property_and_a_confirmation_settles_what_it_confirms() {
    let mut lamp = device();
    for n in 0..1000 {
        lamp.update(&one("level", actual(&n.to_string())), n, MAX)
            .unwrap();
    }
    lamp.set_state(DeviceState::Online, "2026-01-01T00:00:00Z");
    let owed = lamp.owed().unwrap();
    assert_eq!(owed.twin.len(), 1);
    let level = owed.twin["level"].as_ref().unwrap();
    assert_eq!(level.actual.as_ref().unwrap().value.as_deref(), Some("999"));
    assert_eq!(owed.state.as_ref().unwrap().state, "online");
    lamp.update(&one("level", actual("1000")), 1000, MAX).unwrap();
    lamp.settle(&owed.marks);
    let owed = lamp.owed().unwrap();
    assert!(owed.state.is_none());
    assert_eq!(
        owed.twin["level"]
            .as_ref()
            .unwrap()
            .actual
            .as_ref()
            .unwrap()
            .value
            .as_deref(),
        Some("1000")
    );
    lamp.settle(&owed.marks);
    assert!(!lamp.owes());
}

proptest! {
    #[test]
    fn a_twin_is_read_from_its_record_as_it_was(
        changes in prop::collection::vec(("[a-c]", prop::option::of("[a-zA-Z0-9:/]{0,12}"), any::<bool>(), 0i64..9), 0..40),
    ) {
        let mut lamp = device();
        for (name, text, is_actual, version) in changes {
            let change = match (&text, is_actual) {
                (Some(text), true) => Some(actual(text)),
                (Some(text), false) => Some(expected(text)),
                (None, _) => None,
            };
            let twin = [(name.clone(), change.clone())].into();
            let _ = lamp.update(&twin, version, MAX);
            if let Some(change) = change {
                lamp.sync(&one(&name, synced(change, version, version)), version, MAX);
            }
            if let Some(owed) = lamp.owed().filter(|_| version % 3 == 0) {
                lamp.settle(&owed.marks);
            }
            let Change::Put(object) = record::put(&lamp) else { unreachable!() };
            prop_assert_eq!(record::read(&object).unwrap(), lamp.clone());
        }
    }

    #[test]
    fn versions_only_grow(
        changes in prop::collection::vec(("[a-b]", any::<bool>(), any::<bool>(), 0i64..6, 0i64..6), 0..60),
    ) {
        let mut lamp = device();
        let mut before: BTreeMap<String, Version> = BTreeMap::new();
        for (name, is_local, deletes, cloud, edge) in changes {
            if is_local {
                let _ = lamp.update(&[(name.clone(), (!deletes).then(|| actual("1")))].into(), 0, MAX);
            } else if deletes {
                lamp.sync(&one(&name, synced(of_type("deleted", Twin::default()), cloud, edge)), 0, MAX);
            } else {
                lamp.sync(&one(&name, synced(actual("2"), cloud, edge)), 0, MAX);
            }
            if let Some(property) = lamp.properties.get(&name) {
                let now = property.actual.version;
                let last = before.insert(name, now).unwrap_or_default();
                prop_assert!(now.cloud >= last.cloud && now.edge >= last.edge, "{last:?} {now:?}");
            }
        }
    }
}
