//! Forms that Kubernetes has names for, to hold texts against.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::evaluate::{Outcome, Run, no_overload};
use super::super::value::{self, Val};
use super::{FORMAT, Overload, T, global, member};
use crate::cluster::embedded::values::names;

/// A form with a name.
#[derive(Debug)]
pub(in super::super) struct Format {
    name: &'static str,
    check: fn(&str) -> Vec<String>,
}

pub(super) const FUNCTIONS: &[Overload] = &[
    global("format.dns1123Label", &[], FORMAT, |_, _| of("dns1123Label")),
    global("format.dns1123Subdomain", &[], FORMAT, |_, _| {
        of("dns1123Subdomain")
    }),
    global("format.dns1035Label", &[], FORMAT, |_, _| of("dns1035Label")),
    global("format.qualifiedName", &[], FORMAT, |_, _| of("qualifiedName")),
    global("format.dns1123LabelPrefix", &[], FORMAT, |_, _| {
        of("dns1123LabelPrefix")
    }),
    global("format.dns1123SubdomainPrefix", &[], FORMAT, |_, _| {
        of("dns1123SubdomainPrefix")
    }),
    global("format.dns1035LabelPrefix", &[], FORMAT, |_, _| {
        of("dns1035LabelPrefix")
    }),
    global("format.labelValue", &[], FORMAT, |_, _| of("labelValue")),
    global("format.uri", &[], FORMAT, |_, _| of("uri")),
    global("format.uuid", &[], FORMAT, |_, _| of("uuid")),
    global("format.byte", &[], FORMAT, |_, _| of("byte")),
    global("format.date", &[], FORMAT, |_, _| of("date")),
    global("format.datetime", &[], FORMAT, |_, _| of("datetime")),
    global("format.named", &[T::Text], T::OptionalOf(&FORMAT), named),
    member(
        "validate",
        &[FORMAT, T::Text],
        T::OptionalOf(&T::ListOf(&T::Text)),
        validate,
    ),
];

fn of<'a>(name: &str) -> Outcome<'a> {
    let format = FORMATS.iter().find(|format| format.name == name);
    format.map(Val::Format).ok_or_else(no_overload)
}

fn named<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(name)] = values else {
        return Err(no_overload());
    };
    Ok(of(name).map_or(Val::Optional(None), Val::some))
}

/// What is wrong with a text; nothing where nothing is.
fn validate<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Format(format), Val::Text(text)] = values else {
        return Err(no_overload());
    };
    run.pay(text.len())?;
    let wrong = (format.check)(text);
    if wrong.is_empty() {
        return Ok(Val::Optional(None));
    }
    Ok(Val::some(Val::list(wrong.into_iter().map(Val::text).collect())))
}

fn only(holds: bool, otherwise: &str) -> Vec<String> {
    if holds {
        Vec::new()
    } else {
        vec![otherwise.to_owned()]
    }
}

/// A prefix of a name may end with a dash.
fn prefix(text: &str, check: fn(&str) -> Vec<String>) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(text) => check(&format!("{text}a")),
        None => check(text),
    }
}

static FORMATS: &[Format] = &[
    Format {
        name: "dns1123Label",
        check: names::label,
    },
    Format {
        name: "dns1123Subdomain",
        check: names::subdomain,
    },
    Format {
        name: "dns1035Label",
        check: names::label_1035,
    },
    Format {
        name: "qualifiedName",
        check: names::qualified,
    },
    Format {
        name: "dns1123LabelPrefix",
        check: |text| prefix(text, names::label),
    },
    Format {
        name: "dns1123SubdomainPrefix",
        check: |text| prefix(text, names::subdomain),
    },
    Format {
        name: "dns1035LabelPrefix",
        check: |text| prefix(text, names::label_1035),
    },
    Format {
        name: "labelValue",
        check: names::label_value,
    },
    Format {
        name: "uri",
        check: |text| only(text.parse::<http::Uri>().is_ok(), "invalid URI for request"),
    },
    Format {
        name: "uuid",
        check: |text| {
            only(
                uuid::Uuid::try_parse(text).is_ok(),
                "does not match the UUID format",
            )
        },
    },
    Format {
        name: "byte",
        check: |text| only(BASE64.decode(text).is_ok(), "invalid base64"),
    },
    Format {
        name: "date",
        check: |text| only(text.len() == 10 && value::time(text).is_some(), "invalid date"),
    },
    Format {
        name: "datetime",
        check: |text| only(text.len() > 10 && value::time(text).is_some(), "invalid datetime"),
    },
];
