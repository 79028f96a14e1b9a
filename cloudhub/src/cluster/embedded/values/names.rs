//! What Kubernetes says of a text that is not the name it should be (`apimachinery/pkg/util/validation`).

/// `metadata.name` of most kinds.
pub(in crate::cluster::embedded) fn subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(format!("must be no more than {SUBDOMAIN_BYTES_MAX} characters"));
    }
    if !is_subdomain(text) {
        wrong.push(SUBDOMAIN.to_owned());
    }
    wrong
}

/// All names below one.
pub(in crate::cluster::embedded) fn wildcard(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(format!("must be no more than {SUBDOMAIN_BYTES_MAX} characters"));
    }
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        wrong.push(WILDCARD.to_owned());
    }
    wrong
}

/// A part of a host name.
pub(in crate::cluster::embedded) fn label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(format!("must be no more than {LABEL_BYTES_MAX} characters"));
    }
    if !is_long_label(text) {
        let only_dots = is_subdomain(text);
        wrong.push(if only_dots { "must not contain dots" } else { LABEL }.to_owned());
    }
    wrong
}

/// A part of a host name that begins with a letter.
pub(in crate::cluster::embedded) fn label_1035(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(format!("must be no more than {LABEL_BYTES_MAX} characters"));
    }
    if !is_long_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        wrong.push(LABEL_1035.to_owned());
    }
    wrong
}

/// The key of a label, an annotation, a finalizer.
pub(in crate::cluster::embedded) fn qualified(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        ["", name] => {
            wrong.push("prefix part must be non-empty".to_owned());
            name
        }
        [prefix, name] => {
            if prefix.len() > SUBDOMAIN_BYTES_MAX {
                wrong.push(format!(
                    "prefix part must be no more than {SUBDOMAIN_BYTES_MAX} bytes"
                ));
            }
            if !is_subdomain(prefix) {
                wrong.push(format!("prefix part {SUBDOMAIN}"));
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES_MAX {
        wrong.push(format!("name part must be no more than {LABEL_BYTES_MAX} bytes"));
    }
    if !is_name_part(name) {
        wrong.push(format!("name part {NAME_PART}"));
    }
    wrong
}

/// The value of a label.
pub(in crate::cluster::embedded) fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_BYTES_MAX {
        wrong.push(format!("must be no more than {LABEL_BYTES_MAX} bytes"));
    }
    if !text.is_empty() && !is_name_part(text) {
        wrong.push(LABEL_VALUE.to_owned());
    }
    wrong
}

/// A file in a volume of data, so also a key of the data.
pub(in crate::cluster::embedded) fn config_key(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if key.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(format!("must be no more than {SUBDOMAIN_BYTES_MAX} characters"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if key.is_empty() || !key.chars().all(plain) {
        wrong.push(CONFIG_KEY.to_owned());
    }
    match key {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        key if key.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// The name of a port of a container.
pub(in crate::cluster::embedded) fn port(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut when = |holds: bool, why: &str| {
        if holds {
            wrong.push(why.to_owned());
        }
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    when(name.len() > 15, "must be no more than 15 characters");
    when(
        name.is_empty() || !name.chars().all(plain),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    when(
        !name.contains(|c: char| c.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    when(name.contains("--"), "must not contain consecutive hyphens");
    when(
        name.starts_with('-') || name.ends_with('-'),
        "must not begin or end with a hyphen",
    );
    wrong
}

/// A name that is a step of a path and nothing more, as roles have it.
pub(in crate::cluster::embedded) fn path_segment(name: &str) -> Vec<String> {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => ["/", "%"]
            .iter()
            .filter(|part| name.contains(**part))
            .map(|part| format!("may not contain '{part}'"))
            .collect(),
    }
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_long_label)
}

fn is_long_label(text: &str) -> bool {
    let edge = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|c| edge(c) || *c == b'-')
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

const SUBDOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_not_spoken_of() {
        assert!(subdomain("a.b-c.1").is_empty() && label("a-1").is_empty() && label_1035("a-1").is_empty());
        assert!(
            qualified("a.io/B_c.d").is_empty() && qualified("x").is_empty() && label_value("").is_empty()
        );
        assert!(
            config_key("A_b.c").is_empty() && port("http-2").is_empty() && path_segment("a:b").is_empty()
        );
    }

    #[test]
    fn each_fault_of_a_name_is_told_by_itself() {
        assert_eq!(label("a.b"), ["must not contain dots"]);
        assert_eq!(label(&"x".repeat(64)), ["must be no more than 63 characters"]);
        assert!(label_1035("1a")[0].starts_with("a DNS-1035 label"));
        assert_eq!(qualified("/a"), ["prefix part must be non-empty"]);
        assert_eq!(qualified("a/")[0], "name part must be non-empty");
        assert_eq!(qualified("a/").len(), 2);
        assert!(qualified("a/b/c")[0].starts_with("a valid label key must consist"));
        assert_eq!(config_key(".."), ["must not be '..'"]);
        assert_eq!(port("HTTP").len(), 2);
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
    }
}
