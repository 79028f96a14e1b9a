//! Addresses of pages: with a scheme and a host, or only a path.

use std::sync::Arc;

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::Val;
use super::{Overload, T, URL, global, member};

/// The parts of a URL, as they are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

pub(super) const FUNCTIONS: &[Overload] = &[
    global("url", &[T::Text], URL, url),
    global("isURL", &[T::Text], T::Bool, is_url),
    member("getScheme", &[URL], T::Text, |_, of| part(of, |url| &url.scheme)),
    member("getHost", &[URL], T::Text, |_, of| part(of, |url| &url.host)),
    member("getHostname", &[URL], T::Text, |_, of| {
        part(of, |url| hostname(&url.host))
    }),
    member("getPort", &[URL], T::Text, |_, of| {
        part(of, |url| port(&url.host))
    }),
    member("getEscapedPath", &[URL], T::Text, |_, of| {
        part(of, |url| &url.path)
    }),
    member("getQuery", &[URL], T::Map, query),
];

fn url<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    let url = parse(text).ok_or_else(|| {
        Fault::failed(format!(
            "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
        ))
    });
    Ok(Val::Url(Arc::new(url?)))
}

fn is_url<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(parse(text).is_some()))
}

fn part<'a>(values: &[Val<'a>], part: fn(&Url) -> &str) -> Outcome<'a> {
    let [Val::Url(url)] = values else {
        return Err(no_overload());
    };
    Ok(Val::text(part(url).to_owned()))
}

fn query<'a>(run: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Url(url)] = values else {
        return Err(no_overload());
    };
    run.pay(url.query.len())?;
    let mut all: Vec<(String, Vec<Val<'a>>)> = Vec::new();
    for (key, value) in form_urlencoded::parse(url.query.as_bytes()) {
        let value = Val::text(value.into_owned());
        match all.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => all.push((key.into_owned(), vec![value])),
        }
    }
    let entries = all
        .into_iter()
        .map(|(key, values)| (Val::text(key), Val::list(values)));
    Ok(Val::Map(Arc::new(entries.collect())))
}

/// As Go's `url.ParseRequestURI`: an absolute URL or an absolute path.
fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control()) {
        return None;
    }
    let (rest, query) = text.split_once('?').unwrap_or((text, ""));
    let query = query.to_owned();
    if rest.starts_with('/') {
        return well_escaped(rest).then(|| Url {
            scheme: String::new(),
            host: String::new(),
            path: rest.to_owned(),
            query,
        });
    }
    let (scheme, rest) = rest.split_once(':')?;
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !named {
        return None;
    }
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (host.rsplit_once('@').map_or(host, |(_, host)| host), path)
        }
        None => ("", rest),
    };
    let digits = port(host);
    let well_formed = !host.contains([' ', '<', '>', '"', '\\'])
        && (host.contains('[') == host.contains(']'))
        && digits.chars().all(|digit| digit.is_ascii_digit());
    (well_formed && well_escaped(path)).then(|| Url {
        scheme: scheme.to_ascii_lowercase(),
        host: host.to_owned(),
        path: path.replace(' ', "%20"),
        query,
    })
}

fn well_escaped(path: &str) -> bool {
    let mut parts = path.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

fn hostname(host: &str) -> &str {
    let host = &host[..host.len() - port(host).len()];
    let host = host.strip_suffix(':').unwrap_or(host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((before, port)) if !port.contains(']') && (!before.contains(':') || before.ends_with(']')) => {
            port
        }
        _ => "",
    }
}
