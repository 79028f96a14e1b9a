//! What a key takes, and the words in which a wrong value is refused.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hub_core::node::NodeId;
use hub_core::transport::Endpoint;
use serde_json::{Value, json};

use super::given::{Given, GivenValue};

/// What a key takes. Texts may be given as numbers and switches too, as KubeEdge reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number from the first to the second, and what it counts.
    Whole(i32, i32, &'static str),
    /// Any text.
    Text,
    /// `kind` of the file of this program.
    Program(&'static str),
    /// The name of a node.
    NodeName,
    /// The path of a file or folder.
    File,
    /// The path of a file that must be there; empty for none.
    FileThatIs,
    /// An IP address; empty for none.
    IpOrNone,
    /// `host:port`.
    HostPort,
    /// `host:port`; empty for none.
    HostPortOrNone,
    /// Several `host:port`, separated by commas.
    Servers,
    /// `https://host:port`, the port 443 if there is none; several, separated by commas.
    Https,
    /// Go's spelling of a duration, such as `5m0s`.
    Duration,
    /// A list of texts. Empty ones do not count.
    Texts,
    /// Names with texts.
    TextMap,
    /// Taints as Kubernetes has them.
    Taints,
    /// Anything: the key has no effect.
    Any,
}

impl Kind {
    /// The value in the form that our programs take, or what was expected in its place.
    pub(super) fn read(self, given: &Given) -> Result<Value, String> {
        let text = || text(given);
        match self {
            Self::Any => Ok(given.to_json()),
            Self::Switch => match &given.value {
                GivenValue::Switch(value) => Ok((*value).into()),
                _ => Err("true or false".into()),
            },
            Self::Whole(least, most, what) => {
                let number = whole(given).filter(|n| (i64::from(least)..=i64::from(most)).contains(n));
                number.map(Value::from).ok_or_else(|| match (least, most) {
                    (least, i32::MAX) => format!("{what}, at least {least}"),
                    (least, most) => format!("{what} from {least} to {most}"),
                })
            }
            Self::Text => text().map(Value::from).ok_or_else(|| "a text".into()),
            Self::Program(kind) => match text() {
                Some(text) if text.is_empty() || text.eq_ignore_ascii_case(kind) => Ok(kind.into()),
                _ => Err(format!("{kind}: it is the file of another program")),
            },
            Self::NodeName => match text().map(|text| NodeId::new(&text)) {
                Some(Ok(node)) => Ok(node.as_str().into()),
                Some(Err(error)) => Err(format!("the name of a node ({error})")),
                None => Err("the name of a node".into()),
            },
            Self::File => match text() {
                Some(text) if !text.is_empty() => Ok(text.into()),
                _ => Err("a path".into()),
            },
            Self::FileThatIs => match text() {
                Some(text) if text.is_empty() || Path::new(&text).is_file() => Ok(text.into()),
                _ => Err("the path of a file that is there".into()),
            },
            Self::IpOrNone => ip(text()),
            Self::HostPort => host_port(text(), false),
            Self::HostPortOrNone => host_port(text(), true),
            Self::Servers => match text() {
                Some(text) if text.split(',').all(|part| Endpoint::parse(part.trim()).is_some()) => {
                    Ok(text.into())
                }
                _ => Err("host:port, or several separated by commas".into()),
            },
            Self::Https => match text() {
                Some(text) if https(&text).is_some() => Ok(text.into()),
                _ => Err("https://host:port, or several separated by commas".into()),
            },
            Self::Duration => match &given.value {
                GivenValue::Text(text) if duration(text).is_some() => Ok(text.as_str().into()),
                _ => Err("a duration such as 5m0s".into()),
            },
            Self::Texts => texts(given).ok_or_else(|| "a list of texts".into()),
            Self::TextMap => text_map(given).ok_or_else(|| "names with texts".into()),
            Self::Taints => taints(given).ok_or_else(|| {
                "a list of taints, each with key and effect (NoSchedule, PreferNoSchedule or NoExecute)"
                    .into()
            }),
        }
    }

    /// Whether an environment variable's value is text as it stands.
    pub(super) fn is_text(self) -> bool {
        !matches!(
            self,
            Self::Switch | Self::Whole(..) | Self::Texts | Self::TextMap | Self::Taints | Self::Any
        )
    }
}

fn whole(given: &Given) -> Option<i64> {
    match given.value {
        GivenValue::Whole(number) => Some(number),
        // `1e3` and `15.0` are whole numbers too, for Go's JSON.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it has no fraction and is far inside the range"
        )]
        GivenValue::Real(number) if number.fract() == 0.0 && number.abs() < 1e15 => Some(number as i64),
        _ => None,
    }
}

fn text(given: &Given) -> Option<String> {
    match &given.value {
        GivenValue::Text(text) => Some(text.clone()),
        GivenValue::Null => Some(String::new()),
        GivenValue::Switch(_) | GivenValue::Whole(_) | GivenValue::Real(_) => Some(given.show()),
        GivenValue::List(_) | GivenValue::Map(_) => None,
    }
}

fn ip(text: Option<String>) -> Result<Value, String> {
    match text {
        Some(text) if text.is_empty() || text.parse::<IpAddr>().is_ok() => Ok(text.into()),
        _ => Err("an IP address".into()),
    }
}

fn host_port(text: Option<String>, none: bool) -> Result<Value, String> {
    let fits = |text: &str| text.parse::<SocketAddr>().is_ok() || Endpoint::parse(text).is_some();
    match text {
        Some(text) if (none && text.is_empty()) || fits(&text) => Ok(text.into()),
        _ => Err("host:port with a port up to 65535".into()),
    }
}

/// The servers of `https://host:port`; the port is 443 if there is none.
pub(crate) fn https(text: &str) -> Option<Vec<Endpoint>> {
    let one = |part: &str| {
        let part = part.trim();
        let host = part
            .strip_prefix("https://")
            .unwrap_or(part)
            .trim_end_matches('/');
        if host.contains('/') {
            return None;
        }
        let bare = !host.is_empty() && (host.ends_with(']') || !host.contains(':'));
        if bare {
            Endpoint::parse(&format!("{host}:443"))
        } else {
            Endpoint::parse(host)
        }
    };
    text.split(',').map(one).collect()
}

fn texts(given: &Given) -> Option<Value> {
    let GivenValue::List(items) = &given.value else {
        return None;
    };
    let items = items.iter().map(text).collect::<Option<Vec<_>>>()?;
    Some(items.into_iter().filter(|item| !item.is_empty()).collect())
}

fn text_map(given: &Given) -> Option<Value> {
    let GivenValue::Map(entries) = &given.value else {
        return None;
    };
    let pairs = entries
        .iter()
        .map(|(_, key, value)| Some((key.clone(), Value::from(text(value)?))));
    Some(Value::Object(pairs.collect::<Option<_>>()?))
}

fn taints(given: &Given) -> Option<Value> {
    let GivenValue::List(items) = &given.value else {
        return None;
    };
    let taint = |item: &Given| {
        let taint = item.to_json();
        let word = |key: &str| Some(taint.get(key)?.as_str()?.to_owned());
        let (key, effect) = (word("key")?, word("effect")?);
        if !matches!(effect.as_str(), "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            return None;
        }
        let value = word("value").unwrap_or_default();
        Some(json!({ "key": key, "value": value, "effect": effect }))
    };
    items.iter().map(taint).collect()
}

/// Reads a duration as Go's `time.ParseDuration`, as far as it is not negative.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    while {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
        !rest.is_empty()
    } {}
    Duration::try_from_secs_f64(total).ok()
}

/// Whether a value means the same as KubeEdge's default; without a default, whether it is nothing.
pub(super) fn is_default(given: &Value, default: Option<&Value>) -> bool {
    match (given, default) {
        (Value::Null, _) => true,
        (given, None | Some(Value::Null)) => is_nothing(given),
        (Value::Number(a), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
        (Value::String(a), Some(Value::String(b))) => {
            a == b || duration(a).is_some_and(|a| duration(b) == Some(a))
        }
        (given, Some(default)) => given == default,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.values().all(is_nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, yaml: &str) -> Result<Value, String> {
        kind.read(&Given::parse(yaml).unwrap())
    }

    #[test]
    fn values_are_taken_as_kubeedge_takes_them() {
        let seconds = Kind::Whole(1, i32::MAX, "a number of seconds");
        for (kind, yaml, value) in [
            (seconds, "15", json!(15)),
            (seconds, "15.0", json!(15)),
            (seconds, "1e3", json!(1000)),
            (Kind::Switch, "yes", json!(true)),
            (Kind::Switch, "Off", json!(false)),
            (Kind::Text, "12", json!("12")),
            (Kind::Text, "true", json!("true")),
            (Kind::NodeName, "12", json!("12")),
            (Kind::Texts, "[a, '', 1]", json!(["a", "1"])),
            (Kind::Texts, "[null]", json!([])),
            (Kind::TextMap, "{a: 1, b: true}", json!({ "a": "1", "b": "true" })),
            (Kind::Https, "https://cloud", json!("https://cloud")),
            (
                Kind::Https,
                "https://[2001:db8::1]:10002/",
                json!("https://[2001:db8::1]:10002/"),
            ),
            (Kind::Servers, "'a:1, b:2'", json!("a:1, b:2")),
            (Kind::Program("CloudCore"), "cloudcore", json!("CloudCore")),
            (
                Kind::Taints,
                "[{key: a, effect: NoSchedule, timeAdded: null}]",
                json!([{ "key": "a", "value": "", "effect": "NoSchedule" }]),
            ),
        ] {
            assert_eq!(read(kind, yaml), Ok(value), "{yaml}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_was_expected() {
        for (kind, yaml, expected) in [
            (
                Kind::Whole(1, i32::MAX, "a number of seconds"),
                "fifteen",
                "a number of seconds, at least 1",
            ),
            (
                Kind::Whole(0, 65_535, "a port"),
                "65536",
                "a port from 0 to 65535",
            ),
            (Kind::Whole(0, 65_535, "a port"), "'10'", "a port from 0 to 65535"),
            (Kind::Switch, "maybe", "true or false"),
            (Kind::IpOrNone, "cloud", "an IP address"),
            (Kind::HostPort, "127.0.0.1", "host:port with a port up to 65535"),
            (
                Kind::HostPort,
                "'127.0.0.1:70000'",
                "host:port with a port up to 65535",
            ),
            (
                Kind::Servers,
                "cloud",
                "host:port, or several separated by commas",
            ),
            (
                Kind::Https,
                "http://cloud:1",
                "https://host:port, or several separated by commas",
            ),
            (Kind::Duration, "5", "a duration such as 5m0s"),
            (Kind::Texts, "a", "a list of texts"),
            (
                Kind::Program("CloudCore"),
                "EdgeCore",
                "CloudCore: it is the file of another program",
            ),
        ] {
            assert_eq!(read(kind, yaml), Err(expected.to_owned()), "{yaml}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        let seconds = Duration::from_secs;
        for (text, value) in [
            ("0s", Some(seconds(0))),
            ("0", Some(seconds(0))),
            ("5m0s", Some(seconds(300))),
            ("1.5h", Some(seconds(5400))),
            ("100ms", Some(Duration::from_millis(100))),
            ("", None),
            ("5", None),
            ("5d", None),
            ("m", None),
            ("-5s", None),
        ] {
            assert_eq!(duration(text), value, "{text}");
        }
    }
}
