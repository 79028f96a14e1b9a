//! JSONPath as kubectl and definitions of custom kinds write it (`client-go/util/jsonpath`).

use std::cmp::Ordering;

use serde_json::Value;

/// The values at a path: fields, `['field']`, `[0]`, `[1:3]`, `[0,2]`, `[*]`, `..field` and `[?(@.field>1)]`. A path that is not
/// understood leads nowhere.
pub(super) fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    let mut rest = path
        .trim()
        .trim_start_matches('{')
        .trim_end_matches('}')
        .trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some(end) = closing(inner) else {
                return Vec::new();
            };
            found = step(&found, inner[..end].trim());
            rest = &inner[end + 1..];
            continue;
        }
        if let Some(deeper) = rest.strip_prefix("..") {
            found = found.into_iter().flat_map(descendants).collect();
            rest = deeper;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        let (name, length) = name(rest);
        if length == 0 && !rest.starts_with('[') {
            return Vec::new();
        }
        rest = &rest[length..];
        match &*name {
            "" => {}
            "*" => found = children(&found),
            name => found = field(&found, name),
        }
    }
    found
}

/// A name up to what follows it, without its backslashes, and how long it is with them.
fn name(text: &str) -> (String, usize) {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
            '.' | '[' => return (name, at),
            letter => name.push(letter),
        }
    }
    (name, text.len())
}

/// Where the bracket ends that has been opened.
fn closing(inner: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0_usize);
    for (at, letter) in inner.char_indices() {
        match (quote, letter) {
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, '[') => depth += 1,
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            _ => {}
        }
    }
    None
}

fn step<'a>(found: &[&'a Value], inside: &str) -> Vec<&'a Value> {
    if inside == "*" {
        return children(found);
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let items = found.iter().filter_map(|value| value.as_array()).flatten();
        return items.filter(|item| holds(item, condition)).collect();
    }
    let is_quoted = inside.starts_with(['\'', '"']);
    if !is_quoted && inside.contains(',') {
        return inside
            .split(',')
            .flat_map(|one| step(found, one.trim()))
            .collect();
    }
    if !is_quoted && inside.contains(':') {
        return found.iter().flat_map(|value| slice(value, inside)).collect();
    }
    let Ok(index) = inside.parse::<i64>() else {
        return field(found, unquoted(inside));
    };
    let at = |value: &&'a Value| {
        let array = value.as_array()?;
        let from_end = if index < 0 {
            i64::try_from(array.len()).ok()?
        } else {
            0
        };
        array.get(usize::try_from(index + from_end).ok()?)
    };
    found.iter().filter_map(at).collect()
}

/// `[begin:end:step]`; what is left out is the beginning, the end, and one.
fn slice<'a>(value: &'a Value, inside: &str) -> Vec<&'a Value> {
    let array = value.as_array().map_or(&[][..], Vec::as_slice);
    let length = i64::try_from(array.len()).unwrap_or(i64::MAX);
    let mut bounds = inside.split(':').map(|bound| match bound.trim() {
        "" => Ok(None),
        bound => bound.parse::<i64>().map(Some),
    });
    let mut next = |default: i64| {
        bounds
            .next()
            .unwrap_or(Ok(None))
            .map(|given| given.unwrap_or(default))
    };
    let (Ok(begin), Ok(end), Ok(step)) = (next(0), next(length), next(1)) else {
        return Vec::new();
    };
    let place = |bound: i64| {
        if bound < 0 {
            bound.saturating_add(length)
        } else {
            bound
        }
    };
    let (begin, end) = (place(begin), place(end).min(length));
    let (Ok(begin), Ok(end), Ok(step)) = (
        usize::try_from(begin),
        usize::try_from(end),
        usize::try_from(step),
    ) else {
        return Vec::new();
    };
    let part = array.get(begin..end).unwrap_or_default();
    part.iter().step_by(step.max(1)).collect()
}

/// Whether a condition holds of an item: two sides with a comparison between them, or a path that leads somewhere.
fn holds(item: &Value, condition: &str) -> bool {
    let split = ["==", "!=", "<=", ">=", "<", ">"]
        .into_iter()
        .find_map(|operator| Some((operator, condition.split_once(operator)?)));
    let Some((operator, (left, right))) = split else {
        return !find(item, condition.trim().trim_start_matches('@')).is_empty();
    };
    let (Some(left), Some(right)) = (side(item, left), side(item, right)) else {
        return false;
    };
    let order = match (&left, &right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (left, right) => (left == right).then_some(Ordering::Equal),
    };
    match (operator, order) {
        ("!=", order) => order != Some(Ordering::Equal),
        (_, None) => false,
        ("==", Some(order)) => order.is_eq(),
        ("<=", Some(order)) => order.is_le(),
        (">=", Some(order)) => order.is_ge(),
        ("<", Some(order)) => order.is_lt(),
        (_, Some(order)) => order.is_gt(),
    }
}

/// One side of a comparison: a path in the item, a text, a number or a truth value.
fn side(item: &Value, text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix('@') {
        return find(item, path).first().map(|found| (*found).clone());
    }
    if text.starts_with(['\'', '"']) {
        return Some(unquoted(text).into());
    }
    serde_json::from_str(text).ok()
}

fn field<'a>(found: &[&'a Value], name: &str) -> Vec<&'a Value> {
    found
        .iter()
        .filter_map(|value| value.get(name))
        .filter(|value| !value.is_null())
        .collect()
}

fn children<'a>(found: &[&'a Value]) -> Vec<&'a Value> {
    let mut children = Vec::new();
    for value in found {
        match value {
            Value::Array(items) => children.extend(items),
            Value::Object(fields) => children.extend(fields.values()),
            _ => {}
        }
    }
    children
}

/// The value and all below it.
fn descendants(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    let mut at = 0;
    while let Some(value) = all.get(at).copied() {
        all.extend(children(&[value]));
        at += 1;
    }
    all
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(|letter| matches!(letter, '\'' | '"'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_followed_as_kubectl_follows_them() {
        let object = json!({"spec": {"a.b": "dot", "n": 3, "list": [
            {"type": "X", "v": "x", "age": 31, "on": true}, {"type": "Ready", "v": "y", "age": 12}, {"v": "z"}]}});
        for (path, expected) in [
            (".spec.n", "3"),
            ("{.spec.n}", "3"),
            ("..n", "3"),
            ("..v", r#""x" "y" "z""#),
            (".spec.list[0].v", r#""x""#),
            (".spec.list[-1].v", r#""z""#),
            (".spec.list[-1:].v", r#""z""#),
            (".spec.list[0:2].v", r#""x" "y""#),
            (".spec.list[::2].v", r#""x" "z""#),
            (".spec.list[5:].v", ""),
            (".spec.list[0,2].v", r#""x" "z""#),
            (".spec.list[*].v", r#""x" "y" "z""#),
            (r#".spec.list[?(@.type=="Ready")].v"#, r#""y""#),
            (".spec.list[?(@.type!='Ready')].v", r#""x""#),
            (".spec.list[?(@.age>30)].v", r#""x""#),
            (".spec.list[?(@.age<=12)].v", r#""y""#),
            (".spec.list[?(@.on==true)].v", r#""x""#),
            (".spec.list[?(@.age)].v", r#""x" "y""#),
            (".spec['a.b']", r#""dot""#),
            (r".spec.a\.b", r#""dot""#),
            (".spec.absent.x", ""),
        ] {
            let found: Vec<String> = find(&object, path)
                .iter()
                .map(|value| value.to_string())
                .collect();
            assert_eq!(found.join(" "), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[\\[\\]a.*?@('\"=<,:2){0\\\\-]{0,20}") {
            find(&json!({"a": [{"a": 0}]}), &path);
        }
    }
}
