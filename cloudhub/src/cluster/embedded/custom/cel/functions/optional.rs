//! What may not be there.

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::Val;
use super::{Overload, T, global, member};

pub(super) const FUNCTIONS: &[Overload] = &[
    global("optional.of", &[T::A], T::OptionalOfA, of),
    global("optional.ofNonZeroValue", &[T::A], T::OptionalOfA, of_non_zero),
    global("optional.none", &[], T::OptionalOfA, none),
    member("hasValue", &[T::OptionalOfA], T::Bool, has_value),
    member("value", &[T::OptionalOfA], T::A, value),
    member("orValue", &[T::OptionalOfA, T::A], T::A, or_value),
    member("or", &[T::OptionalOfA, T::OptionalOfA], T::OptionalOfA, or),
];

fn of<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    values.first().cloned().map(Val::some).ok_or_else(no_overload)
}

fn of_non_zero<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [value] = values else {
        return Err(no_overload());
    };
    let zero = match value {
        Val::Null => true,
        Val::Bool(value) => !value,
        Val::Int(number) => *number == 0,
        Val::Uint(number) => *number == 0,
        Val::Double(number) => *number == 0.0,
        Val::Span(span) => span.is_zero(),
        other => other.size() == Some(0),
    };
    Ok(if zero {
        Val::Optional(None)
    } else {
        Val::some(value.clone())
    })
}

fn none<'a>(_: &mut Run<'a>, _: &[Val<'a>]) -> Outcome<'a> {
    Ok(Val::Optional(None))
}

fn has_value<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    Ok(Val::Bool(matches!(values, [Val::Optional(Some(_))])))
}

fn value<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Optional(Some(value))] => Ok(value.as_ref().clone()),
        _ => Err(Fault::failed("optional.none() dereference")),
    }
}

fn or_value<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [Val::Optional(Some(value)), _] => Ok(value.as_ref().clone()),
        [_, other] => Ok(other.clone()),
        _ => Err(no_overload()),
    }
}

fn or<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    match values {
        [some @ Val::Optional(Some(_)), _] => Ok(some.clone()),
        [_, other] => Ok(other.clone()),
        _ => Err(no_overload()),
    }
}
