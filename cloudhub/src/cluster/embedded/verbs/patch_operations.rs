//! JSON patches (RFC 6902), with the leniencies of the library that a kube-apiserver uses (`gopkg.in/evanphx/json-patch.v4`): what is
//! not there reads as null, a member that is not there can be replaced, and a list is counted from its end by negative numbers.

use serde_json::{Map, Value};

/// An operation that cannot be carried out. The caller's move; a kube-apiserver does not say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejected;

/// Carries out one operation.
pub(super) fn apply(document: &mut Value, operation: &Map<String, Value>) -> Result<(), Rejected> {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let path = text("path").ok_or(Rejected)?;
    let given = || operation.get("value").cloned().unwrap_or_default();
    match text("op").ok_or(Rejected)? {
        "add" => add(document, path, given()),
        "remove" => remove(document, path).map(drop),
        "replace" => replace(document, path, given()),
        "test" => {
            let found = get(document, path)?.unwrap_or_default();
            if found == given() { Ok(()) } else { Err(Rejected) }
        }
        "copy" => {
            let value = get(document, text("from").ok_or(Rejected)?)?;
            add(document, path, value.unwrap_or_default())
        }
        "move" => {
            let value = remove(document, text("from").ok_or(Rejected)?)?;
            add(document, path, value)
        }
        _ => Err(Rejected),
    }
}

fn get(document: &mut Value, path: &str) -> Result<Option<Value>, Rejected> {
    let (holder, key) = holder(document, path)?;
    match holder {
        Value::Object(fields) => Ok(fields.get(&key).cloned()),
        Value::Array(elements) => {
            let index = index(&key, elements.len())?;
            elements.get(index).cloned().map(Some).ok_or(Rejected)
        }
        _ => Err(Rejected),
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), Rejected> {
    let (holder, key) = holder(document, path)?;
    match holder {
        Value::Object(fields) => {
            fields.insert(key, value);
        }
        Value::Array(elements) if key == "-" => elements.push(value),
        Value::Array(elements) => {
            // One place more than there are elements.
            let index = index(&key, elements.len() + 1)?;
            if index > elements.len() {
                return Err(Rejected);
            }
            elements.insert(index, value);
        }
        _ => return Err(Rejected),
    }
    Ok(())
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), Rejected> {
    let (holder, key) = holder(document, path)?;
    match holder {
        Value::Object(fields) => {
            fields.insert(key, value);
        }
        Value::Array(elements) => {
            let index = index(&key, elements.len())?;
            *elements.get_mut(index).ok_or(Rejected)? = value;
        }
        _ => return Err(Rejected),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, Rejected> {
    let (holder, key) = holder(document, path)?;
    match holder {
        Value::Object(fields) => fields.remove(&key).ok_or(Rejected),
        Value::Array(elements) => {
            let index = index(&key, elements.len())?;
            if index < elements.len() {
                Ok(elements.remove(index))
            } else {
                Err(Rejected)
            }
        }
        _ => Err(Rejected),
    }
}

/// What holds the place that a path names, and the last step. What stands before the first slash does not count.
fn holder<'d>(document: &'d mut Value, path: &str) -> Result<(&'d mut Value, String), Rejected> {
    let mut steps = path
        .split('/')
        .skip(1)
        .map(|step| step.replace("~1", "/").replace("~0", "~"));
    let mut last = steps.next().ok_or(Rejected)?;
    let mut holder = document;
    for step in steps {
        holder = match holder {
            Value::Object(fields) => fields.get_mut(&last).ok_or(Rejected)?,
            Value::Array(elements) => {
                let index = index(&last, elements.len())?;
                elements.get_mut(index).ok_or(Rejected)?
            }
            _ => return Err(Rejected),
        };
        last = step;
    }
    Ok((holder, last))
}

fn index(key: &str, length: usize) -> Result<usize, Rejected> {
    let number: isize = key.parse().map_err(|_| Rejected)?;
    if number >= 0 {
        return usize::try_from(number).map_err(|_| Rejected);
    }
    length.checked_sub(number.unsigned_abs()).ok_or(Rejected)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(operation: Value) -> Option<Value> {
        let mut document = json!({"a": 1, "l": [1, 2], "m": {"x/y": "z"}});
        let operation = operation.as_object().cloned().unwrap();
        apply(&mut document, &operation).ok().map(|()| document)
    }

    #[test]
    fn operations_are_as_lenient_as_those_of_a_kube_apiserver() {
        let base = json!({"a": 1, "l": [1, 2], "m": {"x/y": "z"}});
        let with = |field: &str, value: Value| {
            let mut base = base.clone();
            base[field] = value;
            Some(base)
        };
        assert_eq!(
            patched(json!({"op": "add", "path": "/b"})),
            with("b", Value::Null)
        );
        assert_eq!(
            patched(json!({"op": "add", "path": "x/b", "value": 2})),
            with("b", json!(2))
        );
        assert_eq!(
            patched(json!({"op": "replace", "path": "/b", "value": 2})),
            with("b", json!(2))
        );
        assert_eq!(
            patched(json!({"op": "remove", "path": "/l/-1"})),
            with("l", json!([1]))
        );
        assert_eq!(
            patched(json!({"op": "add", "path": "/l/-", "value": 3})),
            with("l", json!([1, 2, 3]))
        );
        assert_eq!(
            patched(json!({"op": "copy", "from": "/no", "path": "/b"})),
            with("b", Value::Null)
        );
        assert_eq!(
            patched(json!({"op": "test", "path": "/no", "value": null})),
            Some(base.clone())
        );
        assert_eq!(
            patched(json!({"op": "replace", "path": "/m/x~1y", "value": 1})),
            with("m", json!({"x/y": 1}))
        );
        for refused in [
            json!({"op": "remove", "path": "/no"}),
            json!({"op": "move", "from": "/no", "path": "/b"}),
            json!({"op": "test", "path": "/a", "value": 2}),
            json!({"op": "add", "path": "", "value": {}}),
            json!({"op": "add", "path": "/l/9", "value": 1}),
            json!({"op": "replace", "path": "/l/2", "value": 1}),
            json!({"op": "add", "path": "/no/deep", "value": 1}),
            json!({"op": "other", "path": "/a"}),
            json!({"path": "/a"}),
        ] {
            assert_eq!(patched(refused.clone()), None, "{refused}");
        }
    }
}
