//! Quantities of resources.

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::{Val, float};
use super::arithmetic::overflow;
use super::{Overload, QUANTITY, T, global, member};
use crate::cluster::embedded::values::quantity;

pub(super) const FUNCTIONS: &[Overload] = &[
    global("quantity", &[T::Text], QUANTITY, read),
    global("isQuantity", &[T::Text], T::Bool, is_quantity),
    global("sign", &[QUANTITY], T::Int, sign),
    member("isInteger", &[QUANTITY], T::Bool, is_integer),
    member("asInteger", &[QUANTITY], T::Int, as_integer),
    member("asApproximateFloat", &[QUANTITY], T::Double, as_float),
    member("add", &[QUANTITY, QUANTITY], QUANTITY, add),
    member("add", &[QUANTITY, T::Int], QUANTITY, add),
    member("sub", &[QUANTITY, QUANTITY], QUANTITY, sub),
    member("sub", &[QUANTITY, T::Int], QUANTITY, sub),
    member("isLessThan", &[QUANTITY, QUANTITY], T::Bool, is_less),
    member("isGreaterThan", &[QUANTITY, QUANTITY], T::Bool, is_greater),
    member("compareTo", &[QUANTITY, QUANTITY], T::Int, compare),
];

fn read<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    quantity::billionths(text)
        .map(Val::Quantity)
        .map_err(Fault::Failed)
}

fn is_quantity<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(quantity::billionths(text).is_ok()))
}

fn sign<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Quantity(amount)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Int(if *amount < 0 { -1 } else { i64::from(*amount > 0) }))
}

fn is_integer<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Quantity(amount)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(whole(*amount).is_some()))
}

fn as_integer<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Quantity(amount)] = values else {
        return Err(no_overload());
    };
    let whole = whole(*amount).map(Val::Int);
    whole.ok_or_else(|| Fault::failed("cannot convert value to integer"))
}

fn as_float<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Quantity(amount)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Double(float(*amount) / 1e9))
}

fn add<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let (a, b) = pair(values)?;
    a.checked_add(b).map(Val::Quantity).ok_or_else(overflow)
}

fn sub<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let (a, b) = pair(values)?;
    a.checked_sub(b).map(Val::Quantity).ok_or_else(overflow)
}

fn is_less<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pair(values).map(|(a, b)| Val::Bool(a < b))
}

fn is_greater<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pair(values).map(|(a, b)| Val::Bool(a > b))
}

fn compare<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pair(values).map(|(a, b)| Val::Int(a.cmp(&b) as i64))
}

fn pair(values: &[Val<'_>]) -> Result<(i128, i128), Fault> {
    match values {
        [Val::Quantity(a), Val::Quantity(b)] => Ok((*a, *b)),
        [Val::Quantity(a), Val::Int(b)] => Ok((*a, i128::from(*b) * BILLION)),
        _ => Err(no_overload()),
    }
}

fn whole(amount: i128) -> Option<i64> {
    let whole = i64::try_from(amount / BILLION).ok()?;
    (amount % BILLION == 0).then_some(whole)
}

const BILLION: i128 = 1_000_000_000;
