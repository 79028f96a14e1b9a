//! Values of expressions. What stands in an object is looked at where it stands, and only as deep as somebody looks.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::evaluate::{Fault, Run};
use super::functions::format::Format;
use super::functions::url::Url;
use super::types::{ListKind, Type};

#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Arc<[u8]>),
    Time(OffsetDateTime),
    Span(Duration),
    /// A list of the object, with the type of its elements.
    Array(&'a [Value], &'a Type, &'a ListKind),
    /// A list of an expression.
    List(Arc<Vec<Val<'a>>>),
    /// An object, or a map, of the object.
    Object(&'a Map<String, Value>, &'a Type),
    /// A map of an expression.
    Map(Arc<Vec<(Val<'a>, Val<'a>)>>),
    Optional(Option<Arc<Val<'a>>>),
    Kind(Cow<'static, str>),
    /// In billionths.
    Quantity(i128),
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Format(&'static Format),
}

impl<'a> Val<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn list(elements: Vec<Val<'a>>) -> Self {
        Self::List(Arc::new(elements))
    }

    pub(super) fn some(value: Val<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// What stands in an object, as its schema has it.
    pub(super) fn read(value: &'a Value, of: &'a Type) -> Result<Self, Fault> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match (of, number.as_i64()) {
                (Type::Double, _) => Self::Double(number.as_f64().unwrap_or_default()),
                (_, Some(whole)) => Self::Int(whole),
                (Type::Int, None) => Self::Int(cast(number.as_f64().unwrap_or_default())),
                (_, None) => Self::Double(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => match of {
                Type::Time => Self::Time(
                    time(text)
                        .ok_or_else(|| Fault::failed(format!("cannot convert {text:?} to a timestamp")))?,
                ),
                Type::Span => Self::Span(
                    span(text)
                        .ok_or_else(|| Fault::failed(format!("cannot convert {text:?} to a duration")))?,
                ),
                Type::Bytes => Self::Bytes(
                    BASE64
                        .decode(text)
                        .map_err(|_| Fault::failed("cannot convert a string to bytes"))?
                        .into(),
                ),
                _ => Self::Text(Cow::Borrowed(text)),
            },
            Value::Array(elements) => match of {
                Type::List(of, kind) => Self::Array(elements, of, kind),
                _ => Self::Array(elements, &DYN, &ATOMIC),
            },
            Value::Object(fields) => match of {
                Type::Object(_) | Type::Map(..) => Self::Object(fields, of),
                _ => Self::Object(fields, &DYN),
            },
        })
    }

    /// Its type, as messages name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Span(_) => "google.protobuf.Duration",
            Self::Array(..) | Self::List(_) => "list",
            Self::Object(..) | Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Kind(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Format(_) => "kubernetes.NamedFormat",
        }
    }

    /// How many elements, entries, letters or bytes it has.
    pub(super) fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Text(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(elements, ..) => elements.len(),
            Self::List(elements) => elements.len(),
            Self::Object(fields, _) => fields.len(),
            Self::Map(entries) => entries.len(),
            _ => return None,
        })
    }

    /// An element of a list.
    pub(super) fn element(&self, index: usize) -> Option<Result<Val<'a>, Fault>> {
        match self {
            Self::Array(elements, of, _) => elements.get(index).map(|element| Self::read(element, of)),
            Self::List(elements) => elements.get(index).cloned().map(Ok),
            _ => None,
        }
    }

    /// All elements of a list.
    pub(super) fn elements(&self, run: &mut Run<'a>) -> Result<Vec<Val<'a>>, Fault> {
        let count = self.size().unwrap_or_default();
        run.pay(count)?;
        (0..count).filter_map(|index| self.element(index)).collect()
    }

    /// A field of an object, by CEL's name for it, or an entry of a map.
    pub(super) fn field(&self, name: &str) -> Option<Result<Val<'a>, Fault>> {
        match self {
            Self::Object(fields, of @ Type::Object(_)) => {
                let (name, of) = of.field(name)?;
                fields.get(name).map(|field| Self::read(field, of))
            }
            Self::Object(fields, of) => {
                let of = of.element().unwrap_or(&DYN);
                fields.get(name).map(|field| Self::read(field, of))
            }
            Self::Map(entries) => {
                let mut entries = entries.iter();
                entries
                    .find(|(key, _)| matches!(key, Self::Text(key) if key == name))
                    .map(|(_, value)| Ok(value.clone()))
            }
            _ => None,
        }
    }

    /// The names, or keys, and what stands there.
    pub(super) fn entries(&self, run: &mut Run<'a>) -> Result<Vec<(Val<'a>, Val<'a>)>, Fault> {
        run.pay(self.size().unwrap_or_default())?;
        match self {
            Self::Object(fields, of) => {
                let entry = |(name, field): (&'a String, &'a Value)| {
                    let of = of.property(name).or(of.element()).unwrap_or(&DYN);
                    Ok((Self::Text(Cow::Borrowed(name)), Self::read(field, of)?))
                };
                fields.iter().map(entry).collect()
            }
            Self::Map(entries) => Ok(entries.as_ref().clone()),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether two are the same. Numbers are by their value, lists as their kind has it.
    pub(super) fn equals(&self, other: &Val<'a>, run: &mut Run<'a>) -> Result<bool, Fault> {
        run.pay(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => {
                run.pay(a.len().min(b.len()) / 10)?;
                a == b
            }
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Kind(a), Self::Kind(b)) => a == b,
            (Self::Optional(None), Self::Optional(None)) => true,
            (Self::Optional(Some(a)), Self::Optional(Some(b))) => a.equals(b, run)?,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, b), Self::Cidr(c, d)) => (a, b) == (c, d),
            (Self::Format(a), Self::Format(b)) => std::ptr::eq(*a, *b),
            (Self::Array(..) | Self::List(_), Self::Array(..) | Self::List(_)) => lists(self, other, run)?,
            (Self::Object(..) | Self::Map(_), Self::Object(..) | Self::Map(_)) => maps(self, other, run)?,
            _ => self.compare(other) == Some(Ordering::Equal),
        })
    }

    /// Which of two comes first. None where they cannot be held against each other.
    pub(super) fn compare(&self, other: &Val<'_>) -> Option<Ordering> {
        match (self, other) {
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
            (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
            (Val::Time(a), Val::Time(b)) => Some(a.cmp(b)),
            (Val::Span(a), Val::Span(b)) => Some(a.cmp(b)),
            (Val::Quantity(a), Val::Quantity(b)) => Some(a.cmp(b)),
            (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
            (Val::Double(a), b) => a.partial_cmp(&float(b.whole()?)),
            (a, Val::Double(b)) => float(a.whole()?).partial_cmp(b),
            (a, b) => Some(a.whole()?.cmp(&b.whole()?)),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Val::Int(number) => Some((*number).into()),
            Val::Uint(number) => Some((*number).into()),
            _ => None,
        }
    }
}

fn lists<'a>(a: &Val<'a>, b: &Val<'a>, run: &mut Run<'a>) -> Result<bool, Fault> {
    let kind = match (a, b) {
        (Val::Array(_, _, kind), _) | (_, Val::Array(_, _, kind)) => *kind,
        _ => &ATOMIC,
    };
    if a.size() != b.size() {
        return Ok(false);
    }
    let (a, b) = (a.elements(run)?, b.elements(run)?);
    if *kind == ListKind::Atomic {
        for (a, b) in a.iter().zip(&b) {
            if !a.equals(b, run)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    // Sets and maps have no order.
    for a in &a {
        if !contains(&b, a, run)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn maps<'a>(a: &Val<'a>, b: &Val<'a>, run: &mut Run<'a>) -> Result<bool, Fault> {
    if a.size() != b.size() {
        return Ok(false);
    }
    if let (Val::Object(a, _), Val::Object(b, _)) = (a, b)
        && a.keys().ne(b.keys())
    {
        return Ok(false);
    }
    let (a, b) = (a.entries(run)?, b.entries(run)?);
    for (index, (key, value)) in a.iter().enumerate() {
        // Both are mostly in the same order.
        let beside = b
            .get(index)
            .filter(|(other, _)| key.compare(other) == Some(Ordering::Equal));
        let mut found = None;
        for (other, value) in beside
            .into_iter()
            .chain(if beside.is_none() { &b[..] } else { &[] })
        {
            if key.equals(other, run)? {
                found = Some(value);
                break;
            }
        }
        match found {
            Some(other) if value.equals(other, run)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether one of several is the same as this one.
pub(super) fn contains<'a>(all: &[Val<'a>], one: &Val<'a>, run: &mut Run<'a>) -> Result<bool, Fault> {
    for other in all {
        if other.equals(one, run)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Out of RFC 3339, or only a day.
pub(super) fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339))
        .ok()
}

/// Out of Go's form: `1h30m`, `-1.5s`, `250ms`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, seconds) = SPANS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total = total.checked_add(Duration::checked_seconds_f64(number * seconds)?)?;
    }
    Some(if sign < 0.0 { -total } else { total })
}

/// A double as a whole number, as Go makes it one.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a cast saturates, and that is what is wanted"
)]
pub(super) fn cast(number: f64) -> i64 {
    number as i64
}

/// The nearest double.
#[allow(clippy::cast_precision_loss, reason = "the nearest is what is wanted")]
pub(super) fn float(number: i128) -> f64 {
    number as f64
}

/// Those that begin like others come first.
const SPANS: &[(&str, f64)] = &[
    ("ms", 1e-3),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];
pub(super) static DYN: Type = Type::Dyn;
static ATOMIC: ListKind = ListKind::Atomic;
