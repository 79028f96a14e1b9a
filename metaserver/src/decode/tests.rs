use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::protobuf::{DecodeError, Envelope};

const DEFINITION: (&str, &str) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");

fn decode((api_version, kind): (&str, &str), raw: &[u8]) -> Result<(Value, u64), DecodeError> {
    let envelope = Envelope {
        api_version,
        kind,
        raw,
    };
    let (json, skipped) = envelope.to_json()?;
    let mut json: Value = serde_json::from_slice(&json).expect("what is written is JSON");
    let object = json.as_object_mut().unwrap();
    assert_eq!(object.remove("kind").unwrap(), kind);
    assert_eq!(object.remove("apiVersion").unwrap(), api_version);
    Ok((json, skipped))
}

fn check(kind: (&str, &str), raw: &[u8], expected: Value) {
    assert_eq!(decode(kind, raw).unwrap(), (expected, 0));
}

#[test]
fn zeros_are_shown_where_go_shows_them() {
    // replicas is a pointer, paused is not, revisionHistoryLimit is not there.
    let spec = [number(1, 0), number(7, 0)].concat();
    check(
        ("apps/v1", "Deployment"),
        &bytes(2, &spec),
        json!({"spec": {"replicas": 0}}),
    );
    // The name of a container is always shown, its image is not; the name of its node is not.
    let container = [bytes(1, b""), bytes(2, b"")].concat();
    let spec = [bytes(2, &container), bytes(10, b"")].concat();
    check(
        ("v1", "Pod"),
        &bytes(2, &spec),
        json!({"spec": {"containers": [{"name": ""}]}}),
    );
}

#[test]
fn values_with_a_form_of_their_own_have_it() {
    let zone = |seconds: i64, nanos| [number(1, seconds as u64), number(2, nanos)].concat();
    let lease = |field| bytes(2, &bytes(field, &zone(1_790_000_000, 1_234_567)));
    check(
        ("coordination.k8s.io/v1", "Lease"),
        &lease(4),
        json!({"spec": {"renewTime": "2026-09-21T14:13:20.001234Z"}}),
    );
    let created = |time: &[u8]| bytes(1, &bytes(8, time));
    check(
        ("v1", "Node"),
        &created(&zone(-1, 0)),
        json!({"metadata": {"creationTimestamp": "1969-12-31T23:59:59Z"}}),
    );
    check(("v1", "Node"), &created(b""), json!({"metadata": {}}));
    assert_eq!(
        decode(("v1", "Node"), &created(&zone(i64::MAX, 0))),
        Err(DecodeError::Time)
    );
    let port = |target: &[u8]| bytes(2, &bytes(1, &[number(3, 80), bytes(4, target)].concat()));
    let target = |target: Value| json!({"spec": {"ports": [{"port": 80, "targetPort": target}]}});
    check(("v1", "Service"), &port(&number(2, 8080)), target(json!(8080)));
    let named = [number(1, 1), number(2, 0), bytes(3, b"http")].concat();
    check(("v1", "Service"), &port(&named), target(json!("http")));
    let entry = [bytes(1, b"k"), bytes(2, b"\0v")].concat();
    check(
        ("v1", "Secret"),
        &bytes(2, &entry),
        json!({"data": {"k": "AHY="}}),
    );
    check(
        ("v1", "Secret"),
        &bytes(2, &bytes(1, b"k")),
        json!({"data": {"k": ""}}),
    );
    let extra = [
        bytes(1, b"k"),
        bytes(2, &[bytes(1, b"a"), bytes(1, b"b")].concat()),
    ]
    .concat();
    check(
        ("authorization.k8s.io/v1", "SubjectAccessReview"),
        &bytes(2, &bytes(5, &extra)),
        json!({"spec": {"extra": {"k": ["a", "b"]}}}),
    );
    // One by one, and packed.
    let pod = |groups: &[u8]| bytes(2, &bytes(14, groups));
    let groups = json!({"spec": {"securityContext": {"supplementalGroups": [1, -1]}}});
    check(
        ("v1", "Pod"),
        &pod(&[number(4, 1), number(4, u64::MAX)].concat()),
        groups.clone(),
    );
    let packed = [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    check(("v1", "Pod"), &pod(&bytes(4, &packed)), groups);
}

#[test]
fn schemas_say_either_or() {
    let schema = |schema: Vec<u8>| bytes(2, &bytes(7, &bytes(4, &bytes(1, &schema))));
    let text = || bytes(5, b"string");
    for (field, value, expected) in [
        (24, bytes(1, &text()), json!({"items": {"type": "string"}})),
        (24, bytes(2, &text()), json!({"items": [{"type": "string"}]})),
        (30, number(1, 1), json!({"additionalProperties": true})),
        (30, number(1, 0), json!({"additionalProperties": false})),
        (
            30,
            [number(1, 1), bytes(2, &text())].concat(),
            json!({"additionalProperties": {"type": "string"}}),
        ),
        (
            32,
            [bytes(1, b"k"), bytes(2, &bytes(2, b"a"))].concat(),
            json!({"dependencies": {"k": ["a"]}}),
        ),
        (8, bytes(1, br#"{"a":1}"#), json!({"default": {"a": 1}})),
    ] {
        let expected = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": expected}}]}});
        check(DEFINITION, &schema(bytes(field, &value)), expected);
    }
    let mut maximum = key(9, 1);
    maximum.extend(1.5_f64.to_le_bytes());
    check(
        DEFINITION,
        &schema(maximum),
        json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"maximum": 1.5}}}]}}),
    );
}

#[test]
fn raw_values_are_json_or_objects_in_envelopes() {
    let revision = |raw: &[u8]| bytes(2, &bytes(1, raw));
    let kind = ("apps/v1", "ControllerRevision");
    check(kind, &revision(b"{\"a\": 1}"), json!({"data": {"a": 1}}));
    check(kind, &revision(b""), json!({}));
    assert_eq!(decode(kind, &revision(b"{} {}")), Err(DecodeError::Raw));
    let meta = [bytes(1, b"v1"), bytes(2, b"Secret")].concat();
    let inner = [b"k8s\0".to_vec(), bytes(1, &meta), bytes(2, &bytes(3, b"Opaque"))].concat();
    check(
        kind,
        &revision(&inner),
        json!({"data": {"kind": "Secret", "apiVersion": "v1", "type": "Opaque"}}),
    );
}

#[test]
fn unknown_fields_are_skipped_and_counted() {
    let metadata = bytes(1, &[bytes(1, b"a"), number(99, 1)].concat());
    let raw = [metadata.clone(), bytes(99, b"new")].concat();
    let expected = json!({"metadata": {"name": "a"}});
    assert_eq!(decode(("v1", "ConfigMap"), &raw), Ok((expected, 2)));
    let parts = decode(("v1", "ConfigMap"), &metadata.repeat(2));
    assert_eq!(parts, Err(DecodeError::Parts(1)));
}

#[test]
fn depth_and_number_of_values_are_limited() {
    let mut schema = Vec::new();
    for _ in 0..1000 {
        schema = bytes(28, &schema);
    }
    let raw = bytes(2, &bytes(7, &bytes(4, &bytes(1, &schema))));
    assert_eq!(decode(DEFINITION, &raw), Err(DecodeError::Depth));
    let mut envelope = Vec::new();
    for _ in 0..100 {
        let meta = [bytes(1, b"apps/v1"), bytes(2, b"ControllerRevision")].concat();
        let raw = bytes(2, &bytes(1, &envelope));
        envelope = [b"k8s\0".to_vec(), bytes(1, &meta), bytes(2, &raw)].concat();
    }
    let outer = Envelope::read(&envelope).unwrap();
    assert_eq!(outer.to_json(), Err(DecodeError::Depth));
    let many = [0x12, 0].repeat(super::protobuf::VALUES_MAX + 1);
    assert_eq!(decode(("v1", "ConfigMap"), &many), Err(DecodeError::Values));
    let many = bytes(2, &bytes(14, &bytes(4, &vec![1; super::protobuf::VALUES_MAX])));
    assert_eq!(decode(("v1", "Pod"), &many), Err(DecodeError::Values));
}

/// Bytes that look like messages in messages.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..12),
        "[a-z{}\"]{0,6}".prop_map(String::into_bytes)
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let value = prop_oneof![
            4 => (1..45_u32, inner).prop_map(|(field, inner)| bytes(field, &inner)),
            2 => (1..45_u32, any::<u64>()).prop_map(|(field, value)| number(field, value)),
            1 => (1..45_u32, any::<[u8; 8]>()).prop_map(|(field, value)| [&key(field, 1)[..], &value].concat()),
        ];
        vec(value, 0..6).prop_map(|values| values.concat())
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(body in vec(any::<u8>(), 0..200)) {
        let _ = Envelope::read(&body);
        let _ = Envelope::read(&[b"k8s\0", &body[..]].concat());
    }

    #[test]
    fn no_message_panics_and_what_is_written_is_json(
        kind in prop::sample::select(vec![
            DEFINITION,
            ("v1", "Pod"),
            ("v1", "Service"),
            ("v1", "Secret"),
            ("meta.k8s.io/v1", "DeleteOptions"),
            ("apps/v1", "ControllerRevision"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("certificates.k8s.io/v1", "CertificateSigningRequest"),
            ("coordination.k8s.io/v1", "Lease"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
        ]),
        raw in message(),
    ) {
        let _ = decode(kind, &raw);
    }

    #[test]
    fn no_damage_to_a_recorded_body_panics(
        body in prop::sample::select(&RECORDED[..]),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut body = body;
        for (place, byte) in changes {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        if let Ok(envelope) = Envelope::read(&body)
            && let Ok((json, _)) = envelope.to_json()
        {
            prop_assert!(serde_json::from_slice::<Value>(&json).is_ok());
        }
    }
}

/// Recorded bodies.
static RECORDED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../../tests/golden/protobuf.json")).unwrap();
    let body = |case: &Value| STANDARD.decode(case["protobuf"].as_str().unwrap()).unwrap();
    cases.iter().map(body).collect()
});

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value > 127 {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}

fn key(field: u32, wire: u32) -> Vec<u8> {
    varint((field << 3 | wire).into())
}

fn number(field: u32, value: u64) -> Vec<u8> {
    [key(field, 0), varint(value)].concat()
}

fn bytes(field: u32, value: &[u8]) -> Vec<u8> {
    [key(field, 2), varint(value.len() as u64), value.to_vec()].concat()
}
