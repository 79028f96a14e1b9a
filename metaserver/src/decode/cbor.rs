//! CBOR as JSON, as Kubernetes reads it: byte strings are texts unless a tag says what they become (Kubernetes
//! `apimachinery/pkg/runtime/serializer/cbor`).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

/// Why a body is no CBOR that has a form in JSON.
#[derive(Debug, thiserror::Error)]
pub(super) enum CborError {
    #[error("unable to determine group/version/kind: cbor: {0}")]
    Syntax(String),
    #[error("a key is no text")]
    Key,
    #[error("a text is not UTF-8")]
    Text,
    #[error("a number has no form in JSON")]
    Number,
    #[error("unexpected tag {0}")]
    Tag(u64),
    #[error("bytes after the end of the object")]
    Rest,
}

pub(super) fn json(mut body: &[u8]) -> Result<Vec<u8>, CborError> {
    let cbor = ciborium::de::from_reader_with_recursion_limit(&mut body, DEPTH_MAX);
    let cbor = cbor.map_err(|error| CborError::Syntax(error.to_string()))?;
    if !body.is_empty() {
        return Err(CborError::Rest);
    }
    serde_json::to_vec(&value(cbor)?).map_err(|_| CborError::Number)
}

fn value(cbor: Cbor) -> Result<Value, CborError> {
    Ok(match cbor {
        Cbor::Null => Value::Null,
        Cbor::Bool(value) => value.into(),
        Cbor::Integer(number) => {
            let number = i128::from(number);
            let small = i64::try_from(number).map(Number::from);
            small
                .or_else(|_| u64::try_from(number).map(Number::from))
                .map_err(|_| CborError::Number)?
                .into()
        }
        Cbor::Float(number) => Number::from_f64(number).ok_or(CborError::Number)?.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| CborError::Text)?.into(),
        Cbor::Array(items) => items
            .into_iter()
            .map(value)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Cbor::Map(fields) => {
            let mut map = Map::new();
            for (key, field) in fields {
                let Value::String(key) = value(key)? else {
                    return Err(CborError::Key);
                };
                map.insert(key, value(field)?);
            }
            map.into()
        }
        Cbor::Tag(SELF_DESCRIBED | TIME_TEXT, inner) => value(*inner)?,
        Cbor::Tag(tag, inner) => match (tag, *inner) {
            (BASE64URL_LATER, Cbor::Bytes(bytes)) => URL_SAFE_NO_PAD.encode(bytes).into(),
            (BASE64_LATER, Cbor::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            _ => return Err(CborError::Tag(tag)),
        },
        _ => return Err(CborError::Number),
    })
}

// RFC 8949, 3.4.
const TIME_TEXT: u64 = 0;
const BASE64URL_LATER: u64 = 21;
const BASE64_LATER: u64 = 22;
const SELF_DESCRIBED: u64 = 55799;

/// Items in items; readers of JSON take 128.
const DEPTH_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(body: &[u8]) -> Result<Value, CborError> {
        json(body).map(|json| serde_json::from_slice(&json).unwrap())
    }

    #[test]
    fn texts_come_in_both_kinds_of_strings_and_bytes_as_base64() {
        let body = b"\xd9\xd9\xf7\xa3AaAbac\x82\x01\x20Ad\xd6B\x00\x01";
        assert_eq!(read(body).unwrap(), json!({"a": "b", "c": [1, -1], "d": "AAE="}));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in [
            &b"\xff\xff"[..],
            b"",
            b"\xa1\x01\x02",
            b"\xa0\xa0",
            b"\x41\xff",
            b"\xc1\x00",
            b"\xfb\x7f\xf0\0\0\0\0\0\0",
        ] {
            assert!(read(body).is_err(), "{body:x?}");
        }
        assert!(read(&[0x81; 1000]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in vec(any::<u8>(), 0..60)) {
            let _ = read(&body);
        }
    }
}
