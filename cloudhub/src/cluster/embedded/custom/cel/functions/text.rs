//! Texts and patterns.

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::{Val, cast};
use super::{Overload, T, compiled, conversion, global, member};

pub(super) const FUNCTIONS: &[Overload] = &[
    member("contains", &[T::Text, T::Text], T::Bool, contains),
    member("startsWith", &[T::Text, T::Text], T::Bool, starts_with),
    member("endsWith", &[T::Text, T::Text], T::Bool, ends_with),
    member("matches", &[T::Text, T::Text], T::Bool, matches),
    global("matches", &[T::Text, T::Text], T::Bool, matches),
    member("find", &[T::Text, T::Text], T::Text, find),
    member("findAll", &[T::Text, T::Text], T::ListOf(&T::Text), find_all),
    member(
        "findAll",
        &[T::Text, T::Text, T::Int],
        T::ListOf(&T::Text),
        find_all,
    ),
    member("charAt", &[T::Text, T::Int], T::Text, char_at),
    member("indexOf", &[T::Text, T::Text], T::Int, index_of),
    member("indexOf", &[T::Text, T::Text, T::Int], T::Int, index_of),
    member("lastIndexOf", &[T::Text, T::Text], T::Int, last_index_of),
    member("lastIndexOf", &[T::Text, T::Text, T::Int], T::Int, last_index_of),
    member("lowerAscii", &[T::Text], T::Text, lower),
    member("upperAscii", &[T::Text], T::Text, upper),
    member("trim", &[T::Text], T::Text, trim),
    member("replace", &[T::Text, T::Text, T::Text], T::Text, replace),
    member("replace", &[T::Text, T::Text, T::Text, T::Int], T::Text, replace),
    member("split", &[T::Text, T::Text], T::ListOf(&T::Text), split),
    member("split", &[T::Text, T::Text, T::Int], T::ListOf(&T::Text), split),
    member("substring", &[T::Text, T::Int], T::Text, substring),
    member("substring", &[T::Text, T::Int, T::Int], T::Text, substring),
    member("join", &[T::ListOf(&T::Text)], T::Text, join),
    member("join", &[T::ListOf(&T::Text), T::Text], T::Text, join),
    member("format", &[T::Text, T::ListOf(&T::Dyn)], T::Text, format),
];

/// What looking at a text costs.
fn pay<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Result<(), Fault> {
    let texts = values.iter().filter_map(|value| match value {
        Val::Text(text) => Some(text.len() / 10),
        _ => None,
    });
    run.pay(texts.sum())
}

fn contains<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let [Val::Text(a), Val::Text(b)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(a.contains(b.as_ref())))
}

fn starts_with<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let [Val::Text(a), Val::Text(b)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(a.starts_with(b.as_ref())))
}

fn ends_with<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let [Val::Text(a), Val::Text(b)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(a.ends_with(b.as_ref())))
}

/// A pattern out of a value is read each time, which is dear.
fn pattern<'a>(run: &mut Run<'a>, text: &str, pattern: &str) -> Result<regex::Regex, Fault> {
    run.pay(text.len() / 4 + pattern.len() * 20 + 100)?;
    compiled(pattern)
}

fn matches<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(a), Val::Text(b)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(pattern(run, a, b)?.is_match(a)))
}

fn find<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(a), Val::Text(b)] = values else {
        return Err(no_overload());
    };
    let found = pattern(run, a, b)?.find(a).map(|found| found.as_str().to_owned());
    Ok(Val::text(found.unwrap_or_default()))
}

fn find_all<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let (a, b, most) = match values {
        [Val::Text(a), Val::Text(b)] => (a, b, usize::MAX),
        [Val::Text(a), Val::Text(b), Val::Int(most)] => (a, b, usize::try_from(*most).unwrap_or(usize::MAX)),
        _ => return Err(no_overload()),
    };
    let pattern = pattern(run, a, b)?;
    let found = pattern.find_iter(a).take(most);
    Ok(Val::list(
        found.map(|found| Val::text(found.as_str().to_owned())).collect(),
    ))
}

fn char_at<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let [Val::Text(text), Val::Int(index)] = values else {
        return Err(no_overload());
    };
    let count = text.chars().count();
    match usize::try_from(*index) {
        Ok(index) if index == count => Ok(Val::text("")),
        Ok(index) if index < count => Ok(Val::text(text.chars().skip(index).take(1).collect::<String>())),
        _ => Err(Fault::failed(format!("index out of range: {index}"))),
    }
}

fn index_of<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let (a, b, from) = match values {
        [Val::Text(a), Val::Text(b)] => (a, b, 0),
        [Val::Text(a), Val::Text(b), Val::Int(from)] => (a, b, *from),
        _ => return Err(no_overload()),
    };
    let skipped = usize::try_from(from).map_err(|_| Fault::failed(format!("index out of range: {from}")))?;
    let found = byte_at(a, skipped).and_then(|begin| a[begin..].find(b.as_ref()).map(|at| begin + at));
    Ok(found.map_or(Val::Int(-1), |at| letters(&a[..at])))
}

fn last_index_of<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let (a, b, end) = match values {
        [Val::Text(a), Val::Text(b)] => (a, b, a.len()),
        [Val::Text(a), Val::Text(b), Val::Int(from)] => {
            let out = || Fault::failed(format!("index out of range: {from}"));
            let last = usize::try_from(*from).map_err(|_| out())?;
            let begin = byte_at(a, last).ok_or_else(out)?;
            (a, b, begin.saturating_add(b.len()).min(a.len()))
        }
        _ => return Err(no_overload()),
    };
    let found = a.get(..end).unwrap_or(a).rfind(b.as_ref());
    Ok(found.map_or(Val::Int(-1), |at| letters(&a[..at])))
}

fn lower<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    Ok(Val::text(text.to_ascii_lowercase()))
}

fn upper<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    Ok(Val::text(text.to_ascii_uppercase()))
}

fn trim<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    Ok(Val::text(text.trim().to_owned()))
}

fn replace<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let (text, from, to, most) = match values {
        [Val::Text(text), Val::Text(from), Val::Text(to)] => (text, from, to, usize::MAX),
        [Val::Text(text), Val::Text(from), Val::Text(to), Val::Int(most)] => {
            (text, from, to, usize::try_from(*most).unwrap_or(usize::MAX))
        }
        _ => return Err(no_overload()),
    };
    // As great as it may become.
    let found = text.matches(from.as_ref()).take(most).count();
    run.pay(found.saturating_mul(to.len()) / 10)?;
    Ok(Val::text(text.replacen(from.as_ref(), to, most)))
}

fn split<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let (text, by, most) = match values {
        [Val::Text(text), Val::Text(by)] => (text, by, -1),
        [Val::Text(text), Val::Text(by), Val::Int(most)] => (text, by, *most),
        _ => return Err(no_overload()),
    };
    run.pay(text.len())?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts: Vec<String> = if by.is_empty() {
        let mut letters = text.chars();
        let mut parts: Vec<String> = letters
            .by_ref()
            .take(most.saturating_sub(1))
            .map(String::from)
            .collect();
        let rest: String = letters.collect();
        parts.extend(Some(rest).filter(|rest| !rest.is_empty() && most > 0));
        parts
    } else {
        text.splitn(most, by.as_ref()).map(str::to_owned).collect()
    };
    Ok(Val::list(parts.into_iter().map(Val::text).collect()))
}

fn substring<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    pay(run, values)?;
    let (text, from, to) = match values {
        [Val::Text(text), Val::Int(from)] => (text, *from, None),
        [Val::Text(text), Val::Int(from), Val::Int(to)] => (text, *from, Some(*to)),
        _ => return Err(no_overload()),
    };
    let place = |at: i64| usize::try_from(at).ok().and_then(|at| byte_at(text, at));
    let out = |at: i64| Fault::failed(format!("index out of range: {at}"));
    let begin = place(from).ok_or_else(|| out(from))?;
    let end = match to {
        Some(to) => place(to).ok_or_else(|| out(to))?,
        None => text.len(),
    };
    let part = text.get(begin..end);
    part.map(|part| Val::text(part.to_owned())).ok_or_else(|| {
        Fault::failed(format!(
            "invalid substring range. start: {from}, end: {}",
            to.unwrap_or(0)
        ))
    })
}

fn join<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let (all, by) = match values {
        [all] => (all, ""),
        [all, Val::Text(by)] => (all, by.as_ref()),
        _ => return Err(no_overload()),
    };
    let parts = all.elements(run)?;
    pay(run, &parts)?;
    run.pay(parts.len().saturating_mul(by.len()) / 10)?;
    let parts = parts.iter().map(|part| match part {
        Val::Text(text) => Ok(text.as_ref()),
        _ => Err(no_overload()),
    });
    Ok(Val::text(parts.collect::<Result<Vec<_>, _>>()?.join(by)))
}

fn format<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(pattern), list] = values else {
        return Err(no_overload());
    };
    run.pay(pattern.len() / 10)?;
    let mut arguments = list.elements(run)?.into_iter();
    let (mut made, mut rest) = (String::new(), pattern.as_ref());
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            made.push('%');
            rest = after;
            continue;
        }
        let places = rest
            .strip_prefix('.')
            .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        let (precision, after) = match places {
            Some(after) => (rest[1..rest.len() - after.len()].parse::<usize>().ok(), after),
            None => (None, rest),
        };
        let Some(verb) = after.chars().next() else {
            return Err(Fault::failed("unexpected end of string"));
        };
        rest = &after[verb.len_utf8()..];
        let argument = arguments
            .next()
            .ok_or_else(|| Fault::failed("index out of range"))?;
        let text = formatted(
            run,
            verb,
            precision.map(|places| places.min(PLACES_MAX)),
            &argument,
        )?;
        run.pay(text.len() / 10)?;
        made.push_str(&text);
    }
    made.push_str(rest);
    Ok(Val::text(made))
}

fn formatted<'a>(
    run: &mut Run<'a>,
    verb: char,
    places: Option<usize>,
    value: &Val<'a>,
) -> Result<String, Fault> {
    let number = match value {
        Val::Int(number) => Some(i128::from(*number)),
        Val::Uint(number) => Some(i128::from(*number)),
        Val::Bool(value) => Some(i128::from(*value)),
        _ => None,
    };
    let signed = |number: i128, digits: String| if number < 0 { format!("-{digits}") } else { digits };
    Ok(match (verb, value, number) {
        ('s', value, _) => deep(run, value)?,
        ('d', Val::Int(_) | Val::Uint(_), Some(number)) => number.to_string(),
        ('d', Val::Double(number), _) => cast(*number).to_string(),
        ('f', Val::Double(number), _) => format!("{number:.*}", places.unwrap_or(6)),
        ('e', Val::Double(number), _) => format!("{number:.*e}", places.unwrap_or(6)),
        ('b', _, Some(number)) => signed(number, format!("{:b}", number.abs())),
        ('o', _, Some(number)) => signed(number, format!("{:o}", number.abs())),
        ('x', _, Some(number)) => signed(number, format!("{:x}", number.abs())),
        ('X', _, Some(number)) => signed(number, format!("{:X}", number.abs())),
        ('x', Val::Text(text), _) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Val::Text(text), _) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        (verb, value, _) => {
            return Err(Fault::failed(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\" for {}",
                value.kind()
            )));
        }
    })
}

/// A value with all that is in it.
fn deep<'a>(run: &mut Run<'a>, value: &Val<'a>) -> Result<String, Fault> {
    run.pay(1)?;
    Ok(match value {
        Val::List(_) | Val::Array(..) => {
            let parts = value.elements(run)?;
            let parts = parts.iter().map(|part| deep(run, part)).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", parts.join(", "))
        }
        Val::Map(_) | Val::Object(..) => {
            let mut parts = Vec::new();
            for (key, value) in value.entries(run)? {
                parts.push(format!("{}: {}", deep(run, &key)?, deep(run, &value)?));
            }
            parts.sort();
            format!("{{{}}}", parts.join(", "))
        }
        other => conversion::text(other)
            .ok_or_else(|| Fault::failed(format!("string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}", other.kind())))?,
    })
}

/// Where a letter begins, or the end.
fn byte_at(text: &str, letter: usize) -> Option<usize> {
    let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    places.nth(letter)
}

fn letters<'a>(text: &str) -> Val<'a> {
    Val::Int(i64::try_from(text.chars().count()).unwrap_or(i64::MAX))
}

/// Digits after the point.
const PLACES_MAX: usize = 100;
