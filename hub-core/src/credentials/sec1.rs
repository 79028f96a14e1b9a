//! The two encodings of an elliptic-curve key: SEC1 (RFC 5915), which KubeEdge stores and keys its tokens with, and PKCS #8
//! (RFC 5958), which crypto libraries read and write.

use rustls_pki_types::{PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use x509_parser::der_parser::ber::{BerObject, Class};
use x509_parser::der_parser::der::parse_der;

/// Makes SEC1 of a P-256 key in PKCS #8; `public_key` is the uncompressed point. `None` when it is another kind of key.
///
/// Curve and public key are written out, as Go's `x509.ParseECPrivateKey` wants them.
pub fn sec1_from_pkcs8(pkcs8: &[u8], public_key: &[u8]) -> Option<PrivateSec1KeyDer<'static>> {
    let (_, outer) = parse_der(pkcs8).ok()?;
    let (_, inner) = parse_der(outer.as_sequence().ok()?.get(2)?.as_slice().ok()?).ok()?;
    let scalar = inner.as_sequence().ok()?.get(1)?.as_slice().ok()?;
    if scalar.len() != 32 || public_key.len() != 65 {
        return None;
    }
    let point = [&[0][..], public_key].concat();
    let fields = [
        tlv(0x02, &[1]),
        tlv(0x04, scalar),
        tlv(0xa0, P256),
        tlv(0xa1, &tlv(0x03, &point)),
    ];
    Some(PrivateSec1KeyDer::from(tlv(0x30, &fields.concat())))
}

/// Wraps a SEC1 key of P-256 or P-384 as PKCS #8. `None` when it is neither.
pub fn pkcs8_from_sec1(sec1: &[u8]) -> Option<PrivatePkcs8KeyDer<'static>> {
    let (_, key) = parse_der(sec1).ok()?;
    let fields = key.as_sequence().ok()?;
    let curve = match fields.iter().find(|f| is_parameters(f)) {
        Some(parameters) => parameters.as_slice().ok()?.to_vec(),
        None => match fields.get(1)?.as_slice().ok()?.len() {
            32 => P256.to_vec(),
            48 => P384.to_vec(),
            _ => return None,
        },
    };
    let algorithm = tlv(0x30, &[EC_PUBLIC_KEY, &curve].concat());
    let fields = [tlv(0x02, &[0]), algorithm, tlv(0x04, sec1)];
    Some(PrivatePkcs8KeyDer::from(tlv(0x30, &fields.concat())))
}

fn is_parameters(field: &BerObject<'_>) -> bool {
    field.header.class() == Class::ContextSpecific && field.header.tag().0 == 0
}

/// Tag, length, value (X.690 8.1), for values below 64 KiB.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        n @ 0..0x80 => out.push(n as u8),
        n @ 0x80..0x100 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(value);
    out
}

/// Object identifiers, encoded: id-ecPublicKey, prime256v1, secp384r1 (RFC 5480).
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
