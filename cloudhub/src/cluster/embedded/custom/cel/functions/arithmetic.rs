//! Numbers: sums, products, and which comes first.

use std::cmp::Ordering;

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::types::ListKind;
use super::super::value::{Val, contains};
use super::{Overload, T, global};

pub(super) const FUNCTIONS: &[Overload] = &[
    global("_+_", &[T::Int, T::Int], T::Int, add),
    global("_+_", &[T::Uint, T::Uint], T::Uint, add),
    global("_+_", &[T::Double, T::Double], T::Double, add),
    global("_+_", &[T::Text, T::Text], T::Text, add),
    global("_+_", &[T::Bytes, T::Bytes], T::Bytes, add),
    global("_+_", &[T::ListOfA, T::ListOfA], T::ListOfA, join),
    global("_+_", &[T::Time, T::Span], T::Time, add),
    global("_+_", &[T::Span, T::Time], T::Time, add),
    global("_+_", &[T::Span, T::Span], T::Span, add),
    global("_-_", &[T::Int, T::Int], T::Int, subtract),
    global("_-_", &[T::Uint, T::Uint], T::Uint, subtract),
    global("_-_", &[T::Double, T::Double], T::Double, subtract),
    global("_-_", &[T::Time, T::Time], T::Span, subtract),
    global("_-_", &[T::Time, T::Span], T::Time, subtract),
    global("_-_", &[T::Span, T::Span], T::Span, subtract),
    global("_*_", &[T::Int, T::Int], T::Int, multiply),
    global("_*_", &[T::Uint, T::Uint], T::Uint, multiply),
    global("_*_", &[T::Double, T::Double], T::Double, multiply),
    global("_/_", &[T::Int, T::Int], T::Int, divide),
    global("_/_", &[T::Uint, T::Uint], T::Uint, divide),
    global("_/_", &[T::Double, T::Double], T::Double, divide),
    global("_%_", &[T::Int, T::Int], T::Int, modulo),
    global("_%_", &[T::Uint, T::Uint], T::Uint, modulo),
    global("-_", &[T::Int], T::Int, negate),
    global("-_", &[T::Double], T::Double, negate),
    global("!_", &[T::Bool], T::Bool, not),
    global("_<_", &[T::Bool, T::Bool], T::Bool, less),
    global("_<=_", &[T::Bool, T::Bool], T::Bool, less_or_equal),
    global("_>_", &[T::Bool, T::Bool], T::Bool, greater),
    global("_>=_", &[T::Bool, T::Bool], T::Bool, greater_or_equal),
    global("_<_", NUMBER, T::Bool, less),
    global("_<_", &[T::Text, T::Text], T::Bool, less),
    global("_<_", &[T::Bytes, T::Bytes], T::Bool, less),
    global("_<_", &[T::Time, T::Time], T::Bool, less),
    global("_<_", &[T::Span, T::Span], T::Bool, less),
    global("_<=_", NUMBER, T::Bool, less_or_equal),
    global("_<=_", &[T::Text, T::Text], T::Bool, less_or_equal),
    global("_<=_", &[T::Bytes, T::Bytes], T::Bool, less_or_equal),
    global("_<=_", &[T::Time, T::Time], T::Bool, less_or_equal),
    global("_<=_", &[T::Span, T::Span], T::Bool, less_or_equal),
    global("_>_", NUMBER, T::Bool, greater),
    global("_>_", &[T::Text, T::Text], T::Bool, greater),
    global("_>_", &[T::Bytes, T::Bytes], T::Bool, greater),
    global("_>_", &[T::Time, T::Time], T::Bool, greater),
    global("_>_", &[T::Span, T::Span], T::Bool, greater),
    global("_>=_", NUMBER, T::Bool, greater_or_equal),
    global("_>=_", &[T::Text, T::Text], T::Bool, greater_or_equal),
    global("_>=_", &[T::Bytes, T::Bytes], T::Bool, greater_or_equal),
    global("_>=_", &[T::Time, T::Time], T::Bool, greater_or_equal),
    global("_>=_", &[T::Span, T::Span], T::Bool, greater_or_equal),
];

/// Numbers of any type are held against each other.
const NUMBER: &[T] = &[T::Number, T::Number];

fn add<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Int(a), Val::Int(b)] => a.checked_add(*b).map(Val::Int).ok_or_else(overflow),
        [Val::Uint(a), Val::Uint(b)] => a.checked_add(*b).map(Val::Uint).ok_or_else(unsigned),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a + b)),
        [Val::Text(a), Val::Text(b)] => {
            run.pay((a.len() + b.len()) / 10)?;
            Ok(Val::text(format!("{a}{b}")))
        }
        [Val::Bytes(a), Val::Bytes(b)] => {
            run.pay((a.len() + b.len()) / 10)?;
            Ok(Val::Bytes(a.iter().chain(b.iter()).copied().collect()))
        }
        [Val::Time(time), Val::Span(span)] | [Val::Span(span), Val::Time(time)] => {
            time.checked_add(*span).map(Val::Time).ok_or_else(timestamp)
        }
        [Val::Span(a), Val::Span(b)] => a.checked_add(*b).map(Val::Span).ok_or_else(overflow),
        _ => Err(no_overload()),
    }
}

/// Two lists; sets take what they lack, and of a map the second list's elements replace those of the same keys.
fn join<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [a, b] = values else { return Err(no_overload()) };
    let mut joined = a.elements(run)?;
    let more = b.elements(run)?;
    match a {
        Val::Array(_, _, ListKind::Set) => {
            for one in more {
                if !contains(&joined, &one, run)? {
                    joined.push(one);
                }
            }
        }
        Val::Array(_, _, ListKind::Map(keys)) => {
            for one in more {
                let mut place = None;
                for (index, other) in joined.iter().enumerate() {
                    let mut same = true;
                    for key in keys {
                        same = same
                            && match (one.field(key).transpose()?, other.field(key).transpose()?) {
                                (Some(a), Some(b)) => a.equals(&b, run)?,
                                (a, b) => a.is_none() && b.is_none(),
                            };
                    }
                    if same {
                        place = Some(index);
                        break;
                    }
                }
                match place.and_then(|place| joined.get_mut(place)) {
                    Some(held) => *held = one,
                    None => joined.push(one),
                }
            }
        }
        _ => joined.extend(more),
    }
    Ok(Val::list(joined))
}

fn subtract<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Int(a), Val::Int(b)] => a.checked_sub(*b).map(Val::Int).ok_or_else(overflow),
        [Val::Uint(a), Val::Uint(b)] => a.checked_sub(*b).map(Val::Uint).ok_or_else(unsigned),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a - b)),
        [Val::Time(a), Val::Time(b)] => Ok(Val::Span(*a - *b)),
        [Val::Time(a), Val::Span(b)] => a.checked_sub(*b).map(Val::Time).ok_or_else(timestamp),
        [Val::Span(a), Val::Span(b)] => a.checked_sub(*b).map(Val::Span).ok_or_else(overflow),
        _ => Err(no_overload()),
    }
}

fn multiply<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Int(a), Val::Int(b)] => a.checked_mul(*b).map(Val::Int).ok_or_else(overflow),
        [Val::Uint(a), Val::Uint(b)] => a.checked_mul(*b).map(Val::Uint).ok_or_else(unsigned),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a * b)),
        _ => Err(no_overload()),
    }
}

fn divide<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Int(_), Val::Int(0)] | [Val::Uint(_), Val::Uint(0)] => Err(Fault::failed("division by zero")),
        [Val::Int(a), Val::Int(b)] => a.checked_div(*b).map(Val::Int).ok_or_else(overflow),
        [Val::Uint(a), Val::Uint(b)] => Ok(Val::Uint(a / b)),
        [Val::Double(a), Val::Double(b)] => Ok(Val::Double(a / b)),
        _ => Err(no_overload()),
    }
}

fn modulo<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Int(_), Val::Int(0)] | [Val::Uint(_), Val::Uint(0)] => Err(Fault::failed("modulus by zero")),
        [Val::Int(a), Val::Int(b)] => a.checked_rem(*b).map(Val::Int).ok_or_else(overflow),
        [Val::Uint(a), Val::Uint(b)] => Ok(Val::Uint(a % b)),
        _ => Err(no_overload()),
    }
}

fn negate<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Int(a)] => a.checked_neg().map(Val::Int).ok_or_else(overflow),
        [Val::Double(a)] => Ok(Val::Double(-a)),
        _ => Err(no_overload()),
    }
}

fn not<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Bool(a)] => Ok(Val::Bool(!a)),
        _ => Err(no_overload()),
    }
}

fn less<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    ordered(values, Ordering::is_lt)
}

fn less_or_equal<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    ordered(values, Ordering::is_le)
}

fn greater<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    ordered(values, Ordering::is_gt)
}

fn greater_or_equal<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    ordered(values, Ordering::is_ge)
}

fn ordered<'a>(values: &[Val<'a>], holds: fn(Ordering) -> bool) -> Outcome<'a> {
    let [a, b] = values else { return Err(no_overload()) };
    // Not a number is neither before nor after another.
    Ok(Val::Bool(a.compare(b).is_some_and(holds)))
}

pub(super) fn overflow() -> Fault {
    Fault::failed("integer overflow")
}

fn unsigned() -> Fault {
    Fault::failed("unsigned integer overflow")
}

fn timestamp() -> Fault {
    Fault::failed("timestamp overflow")
}
