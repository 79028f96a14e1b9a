//! Asking in another's name (Kubernetes, "User impersonation").

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use hub_core::api::{ANONYMOUS, AUTHENTICATED, Reason, Status, UNAUTHENTICATED, User};
use hub_core::rbac::Attributes;

use super::Caller;
use super::constrained::{Way, way};
use crate::api::Api;

impl Api {
    /// Whom the caller wants to be, if it may.
    pub(super) fn impersonate(
        &self,
        head: &Parts,
        caller: Caller,
        wanted: &Attributes<'_>,
    ) -> Result<Caller, Status> {
        let Some(asked) = asked(&head.headers)? else {
            return Ok(caller);
        };
        let way = match &caller {
            // The embedded cluster's own program is its administrator.
            Caller::Own if self.authoritative() => Way::Legacy,
            // A node has no such right, and who asks as it has not either.
            Caller::Own => {
                let me = self.guard.config.node.as_deref().unwrap_or_default();
                let node = User {
                    name: format!("system:node:{me}"),
                    ..User::default()
                };
                way(&node, &asked, wanted, |_| Ok(false))?
            }
            Caller::Of(user) => way(user, &asked, wanted, |right| self.allows(user, right))?,
        };
        Ok(Caller::Of(Arc::new(completed(way.user(asked)))))
    }
}

/// Whom the headers name. None without any of them.
fn asked(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let texts = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
            extra.entry(decoded(key)).or_default().push(value.to_owned());
        }
    }
    let first = |name: &str| texts(name).into_iter().next().unwrap_or_default();
    let user = User {
        name: first("impersonate-user"),
        groups: texts("impersonate-group"),
        uid: first("impersonate-uid"),
        extra,
    };
    if user == User::default() {
        return Ok(None);
    }
    if user.name.is_empty() {
        return Err(Status::failure(Reason::BadRequest, nameless(&user)));
    }
    Ok(Some(user))
}

/// As Go prints a user.
fn nameless(user: &User) -> String {
    let list = |texts: &[String]| match texts {
        [] => "[]string(nil)".to_owned(),
        texts => {
            let shown: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("[]string{{{}}}", shown.join(", "))
        }
    };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let shown = user
            .extra
            .iter()
            .map(|(key, values)| format!("{key:?}:{}", list(values)));
        format!("map[string][]string{{{}}}", shown.collect::<Vec<_>>().join(", "))
    };
    format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{}, Extra:{extra}}} without impersonating a user name",
        user.uid,
        list(&user.groups)
    )
}

/// With the group that such a user is in anyway.
fn completed(mut user: User) -> User {
    let is_in = |group: &str| user.groups.iter().any(|held| held == group);
    let whether = match &*user.name {
        ANONYMOUS => UNAUTHENTICATED,
        _ if is_in(UNAUTHENTICATED) => return user,
        _ => AUTHENTICATED,
    };
    if !is_in(whether) {
        user.groups.push(whether.into());
    }
    user
}

/// Header names carry what is no letter percent-encoded.
fn decoded(key: &str) -> String {
    crate::request::query(&key.replace('+', "%2B"))
        .next()
        .map_or_else(String::new, |(key, _)| key.to_lowercase())
}

const EXTRA: &str = "impersonate-extra-";
