//! Lists and sets.

use std::cmp::Ordering;

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::{Val, contains};
use super::arithmetic::overflow;
use super::{Overload, T, global, member};

pub(super) const FUNCTIONS: &[Overload] = &[
    member("isSorted", &[T::ListOfA], T::Bool, is_sorted),
    member("sum", &[T::ListOfA], T::A, sum),
    member("min", &[T::ListOfA], T::A, min),
    member("max", &[T::ListOfA], T::A, max),
    member("indexOf", &[T::ListOfA, T::A], T::Int, index_of),
    member("lastIndexOf", &[T::ListOfA, T::A], T::Int, last_index_of),
    member("slice", &[T::ListOfA, T::Int, T::Int], T::ListOfA, slice),
    member("flatten", &[T::ListOf(&T::Dyn)], T::ListOf(&T::Dyn), flatten),
    member("sort", &[T::ListOfA], T::ListOfA, sort),
    member("distinct", &[T::ListOfA], T::ListOfA, distinct),
    member("reverse", &[T::ListOfA], T::ListOfA, reverse),
    member("first", &[T::ListOfA], T::OptionalOfA, first),
    member("last", &[T::ListOfA], T::OptionalOfA, last),
    global("lists.range", &[T::Int], T::ListOf(&T::Int), range),
    global("sets.contains", &[T::ListOfA, T::ListOfA], T::Bool, sets_contains),
    global(
        "sets.equivalent",
        &[T::ListOfA, T::ListOfA],
        T::Bool,
        sets_equivalent,
    ),
    global(
        "sets.intersects",
        &[T::ListOfA, T::ListOfA],
        T::Bool,
        sets_intersect,
    ),
];

fn is_sorted<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let all = one(values)?.elements(run)?;
    let mut pairs = all.windows(2);
    Ok(Val::Bool(pairs.all(|pair| {
        pair[0].compare(&pair[1]).is_none_or(Ordering::is_le)
    })))
}

fn sum<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let mut all = one(values)?.elements(run)?.into_iter();
    let first = all.next().unwrap_or(Val::Int(0));
    all.try_fold(first, |sum, next| match (sum, next) {
        (Val::Int(a), Val::Int(b)) => a.checked_add(b).map(Val::Int).ok_or_else(overflow),
        (Val::Uint(a), Val::Uint(b)) => a.checked_add(b).map(Val::Uint).ok_or_else(overflow),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Val::Span(a), Val::Span(b)) => a.checked_add(b).map(Val::Span).ok_or_else(overflow),
        _ => Err(no_overload()),
    })
}

fn min<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    extreme(run, values, "min", Ordering::is_lt)
}

fn max<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    extreme(run, values, "max", Ordering::is_gt)
}

fn extreme<'a>(
    run: &mut Run<'a>,
    values: &[Val<'a>],
    name: &str,
    better: fn(Ordering) -> bool,
) -> Outcome<'a> {
    let mut best: Option<Val<'a>> = None;
    for next in one(values)?.elements(run)? {
        let is_better = match &best {
            Some(best) => better(next.compare(best).ok_or_else(no_overload)?),
            None => true,
        };
        if is_better {
            best = Some(next);
        }
    }
    best.ok_or_else(|| Fault::failed(format!("{name} called on empty list")))
}

fn index_of<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [all, one] = values else {
        return Err(no_overload());
    };
    for (place, other) in all.elements(run)?.iter().enumerate() {
        if other.equals(one, run)? {
            return Ok(number(place));
        }
    }
    Ok(Val::Int(-1))
}

fn last_index_of<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [all, one] = values else {
        return Err(no_overload());
    };
    for (place, other) in all.elements(run)?.iter().enumerate().rev() {
        if other.equals(one, run)? {
            return Ok(number(place));
        }
    }
    Ok(Val::Int(-1))
}

fn slice<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [all, Val::Int(from), Val::Int(to)] = values else {
        return Err(no_overload());
    };
    let all = all.elements(run)?;
    let (first, last) = (usize::try_from(*from), usize::try_from(*to));
    let part = first.ok().zip(last.ok()).and_then(|(from, to)| all.get(from..to));
    part.map(|part| Val::list(part.to_vec())).ok_or_else(|| {
        let length = all.len();
        Fault::failed(format!("cannot slice({from}, {to}), list is length {length}"))
    })
}

fn flatten<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let mut flat = Vec::new();
    for element in one(values)?.elements(run)? {
        match element {
            list @ (Val::List(_) | Val::Array(..)) => flat.extend(list.elements(run)?),
            other => flat.push(other),
        }
    }
    Ok(Val::list(flat))
}

fn sort<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let mut all = one(values)?.elements(run)?;
    run.pay(all.len().saturating_mul(4))?;
    if all.windows(2).any(|pair| pair[0].compare(&pair[1]).is_none()) {
        return Err(Fault::failed("list elements must be comparable"));
    }
    all.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
    Ok(Val::list(all))
}

fn distinct<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let mut seen: Vec<Val<'a>> = Vec::new();
    for element in one(values)?.elements(run)? {
        if !contains(&seen, &element, run)? {
            seen.push(element);
        }
    }
    Ok(Val::list(seen))
}

fn reverse<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let mut all = one(values)?.elements(run)?;
    all.reverse();
    Ok(Val::list(all))
}

fn first<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let first = one(values)?.element(0).transpose()?;
    Ok(first.map_or(Val::Optional(None), Val::some))
}

fn last<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let all = one(values)?;
    let place = all.size().unwrap_or_default().checked_sub(1);
    let last = place.and_then(|place| all.element(place)).transpose()?;
    Ok(last.map_or(Val::Optional(None), Val::some))
}

fn range<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Int(count)] = values else {
        return Err(no_overload());
    };
    run.pay(usize::try_from(*count).unwrap_or_default())?;
    Ok(Val::list((0..*count).map(Val::Int).collect()))
}

fn sets_contains<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [all, some] = values else {
        return Err(no_overload());
    };
    let all = all.elements(run)?;
    for one in some.elements(run)? {
        if !contains(&all, &one, run)? {
            return Ok(Val::Bool(false));
        }
    }
    Ok(Val::Bool(true))
}

fn sets_equivalent<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [a, b] = values else { return Err(no_overload()) };
    match sets_contains(run, values)? {
        Val::Bool(true) => sets_contains(run, &[b.clone(), a.clone()]),
        other => Ok(other),
    }
}

fn sets_intersect<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [a, b] = values else { return Err(no_overload()) };
    let all = a.elements(run)?;
    for one in b.elements(run)? {
        if contains(&all, &one, run)? {
            return Ok(Val::Bool(true));
        }
    }
    Ok(Val::Bool(false))
}

fn one<'r, 'a>(values: &'r [Val<'a>]) -> Result<&'r Val<'a>, Fault> {
    values.first().ok_or_else(no_overload)
}

fn number<'a>(place: usize) -> Val<'a> {
    Val::Int(i64::try_from(place).unwrap_or(i64::MAX))
}
