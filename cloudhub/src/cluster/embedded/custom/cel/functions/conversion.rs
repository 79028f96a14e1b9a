//! From one type to another.

use ::time::format_description::well_known::Rfc3339;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::{self, Val, cast, float};
use super::arithmetic::overflow;
use super::{Overload, T, global, member};

pub(super) const FUNCTIONS: &[Overload] = &[
    global("size", &[T::Text], T::Int, size),
    global("size", &[T::Bytes], T::Int, size),
    global("size", &[T::ListOf(&T::Dyn)], T::Int, size),
    global("size", &[T::Map], T::Int, size),
    member("size", &[T::Text], T::Int, size),
    member("size", &[T::Bytes], T::Int, size),
    member("size", &[T::ListOf(&T::Dyn)], T::Int, size),
    member("size", &[T::Map], T::Int, size),
    global("int", &[T::Int], T::Int, int),
    global("int", &[T::Uint], T::Int, int),
    global("int", &[T::Double], T::Int, int),
    global("int", &[T::Text], T::Int, int),
    global("int", &[T::Time], T::Int, int),
    global("uint", &[T::Uint], T::Uint, uint),
    global("uint", &[T::Int], T::Uint, uint),
    global("uint", &[T::Double], T::Uint, uint),
    global("uint", &[T::Text], T::Uint, uint),
    global("double", &[T::Double], T::Double, double),
    global("double", &[T::Int], T::Double, double),
    global("double", &[T::Uint], T::Double, double),
    global("double", &[T::Text], T::Double, double),
    global("bool", &[T::Bool], T::Bool, bool),
    global("bool", &[T::Text], T::Bool, bool),
    global("string", &[T::Text], T::Text, string),
    global("string", &[T::Bool], T::Text, string),
    global("string", &[T::Int], T::Text, string),
    global("string", &[T::Uint], T::Text, string),
    global("string", &[T::Double], T::Text, string),
    global("string", &[T::Bytes], T::Text, string),
    global("string", &[T::Time], T::Text, string),
    global("string", &[T::Span], T::Text, string),
    global("string", &[super::IP], T::Text, string),
    global("string", &[super::CIDR], T::Text, string),
    global("bytes", &[T::Text], T::Bytes, bytes),
    global("bytes", &[T::Bytes], T::Bytes, bytes),
    global("dyn", &[T::A], T::Dyn, same),
    global("type", &[T::Dyn], T::Kind, kind),
];

fn size<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [of] = values else { return Err(no_overload()) };
    if let Val::Text(text) = of {
        run.pay(text.len() / 10)?;
    }
    let size = of.size().ok_or_else(no_overload)?;
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn int<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Int(number)] => Ok(Val::Int(*number)),
        [Val::Uint(number)] => i64::try_from(*number).map(Val::Int).map_err(|_| overflow()),
        [Val::Double(number)] if number.abs() < 9.2e18 => Ok(Val::Int(cast(*number))),
        [Val::Double(_)] => Err(overflow()),
        [Val::Time(time)] => Ok(Val::Int(time.unix_timestamp())),
        [Val::Text(text)] => text
            .parse()
            .map(Val::Int)
            .map_err(|_| Fault::failed("type conversion error from 'string' to 'int'")),
        _ => Err(no_overload()),
    }
}

fn uint<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Uint(number)] => Ok(Val::Uint(*number)),
        [Val::Int(number)] => u64::try_from(*number)
            .map(Val::Uint)
            .map_err(|_| Fault::failed("unsigned integer overflow")),
        [Val::Double(number)] if (0.0..9.2e18).contains(number) => {
            Ok(Val::Uint(u64::try_from(cast(*number)).unwrap_or_default()))
        }
        [Val::Text(text)] => text
            .parse()
            .map(Val::Uint)
            .map_err(|_| Fault::failed("type conversion error from 'string' to 'uint'")),
        _ => Err(Fault::failed("unsigned integer overflow")),
    }
}

fn double<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Double(number)] => Ok(Val::Double(*number)),
        [Val::Int(number)] => Ok(Val::Double(float((*number).into()))),
        [Val::Uint(number)] => Ok(Val::Double(float((*number).into()))),
        [Val::Text(text)] => text
            .parse()
            .map(Val::Double)
            .map_err(|_| Fault::failed("type conversion error from 'string' to 'double'")),
        _ => Err(no_overload()),
    }
}

fn bool<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Bool(value)] => Ok(Val::Bool(*value)),
        [Val::Text(text)] => match text.as_ref() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
            _ => Err(Fault::failed("type conversion error from 'string' to 'bool'")),
        },
        _ => Err(no_overload()),
    }
}

fn string<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Bytes(bytes)] => {
            run.pay(bytes.len() / 10)?;
            let text = std::str::from_utf8(bytes);
            text.map(|text| Val::text(text.to_owned()))
                .map_err(|_| Fault::failed("invalid UTF-8 in bytes, cannot convert to string"))
        }
        [other] => text(other).map(Val::text).ok_or_else(no_overload),
        _ => Err(no_overload()),
    }
}

/// A value as a text. None for those that have none.
pub(super) fn text(value: &Val<'_>) -> Option<String> {
    Some(match value {
        Val::Text(text) => text.to_string(),
        Val::Bool(value) => value.to_string(),
        Val::Int(number) => number.to_string(),
        Val::Uint(number) => number.to_string(),
        Val::Double(number) => decimal(*number),
        Val::Time(time) => time.format(&Rfc3339).ok()?,
        Val::Span(span) => format!("{}s", decimal(span.as_seconds_f64())),
        Val::Ip(ip) => ip.to_string(),
        Val::Cidr(ip, bits) => format!("{ip}/{bits}"),
        Val::Bytes(bytes) => BASE64.encode(bytes),
        Val::Null => "null".into(),
        Val::Kind(name) => name.to_string(),
        _ => return None,
    })
}

/// As Go writes a number: digits, and an exponent for what is very great or small.
fn decimal(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 || (1e-4..1e21).contains(&size) {
        return number.to_string();
    }
    if !number.is_finite() {
        return match number {
            number if number.is_nan() => "NaN".into(),
            number if number > 0.0 => "+Inf".into(),
            _ => "-Inf".into(),
        };
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

fn bytes<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Bytes(bytes)] => Ok(Val::Bytes(bytes.clone())),
        [Val::Text(text)] => {
            run.pay(text.len() / 10)?;
            Ok(Val::Bytes(text.as_bytes().into()))
        }
        _ => Err(no_overload()),
    }
}

fn same<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    values.first().cloned().ok_or_else(no_overload)
}

fn kind<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [of] = values else { return Err(no_overload()) };
    Ok(Val::Kind(of.kind().into()))
}

/// Only here so that the functions of time are with those of their type.
pub(super) fn span_or_fault(text: &str) -> Result<::time::Duration, Fault> {
    value::span(text)
        .ok_or_else(|| Fault::failed("type conversion error from 'string' to 'google.protobuf.Duration'"))
}
