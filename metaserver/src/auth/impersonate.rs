//! Asking in another's name (Kubernetes, "User impersonation").

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use hub_core::api::{ANONYMOUS, AUTHENTICATED, Reason, Status, UNAUTHENTICATED, User};
use hub_core::rbac::{self, About, Attributes};

use super::Caller;
use crate::api::Api;

impl Api {
    /// Whom the caller wants to be, if it may.
    pub(super) fn impersonate(
        &self,
        head: &Parts,
        caller: Caller,
        wanted: &Attributes<'_>,
    ) -> Result<Caller, Status> {
        let asked = asked(&head.headers)?;
        let Some(asked) = asked else {
            return Ok(caller);
        };
        match &caller {
            // The embedded cluster's own program is its administrator.
            Caller::Own if self.authoritative() => {}
            // A node has no such right, and who asks as it has not either.
            Caller::Own => {
                let me = self.guard.config.node.as_deref().unwrap_or_default();
                let node = User {
                    name: format!("system:node:{me}"),
                    ..User::default()
                };
                return Err(refused(&node, wanted));
            }
            Caller::Of(user) => {
                for right in rights(&asked) {
                    if !self.allows(user, &right.attributes())? {
                        return Err(refused(user, wanted));
                    }
                }
            }
        }
        Ok(Caller::Of(Arc::new(completed(asked))))
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

/// A right that impersonation needs: to impersonate this.
struct Right {
    group: &'static str,
    resource: &'static str,
    subresource: Option<String>,
    namespace: Option<String>,
    name: String,
}

impl Right {
    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            verb: "impersonate",
            object: About::Resource {
                group: self.group,
                resource: self.resource,
                subresource: self.subresource.as_deref(),
                namespace: self.namespace.as_deref(),
                name: Some(&self.name),
            },
        }
    }
}

fn rights(asked: &User) -> Vec<Right> {
    let right = |group, resource, name: &str| Right {
        group,
        resource,
        subresource: None,
        namespace: None,
        name: name.to_owned(),
    };
    let user = match asked.service_account() {
        Some((namespace, name)) => Right {
            namespace: Some(namespace.to_owned()),
            ..right("", "serviceaccounts", name)
        },
        None => right("", "users", &asked.name),
    };
    let mut rights = vec![user];
    rights.extend(asked.groups.iter().map(|group| right("", "groups", group)));
    if !asked.uid.is_empty() {
        rights.push(right(AUTHENTICATION, "uids", &asked.uid));
    }
    for (key, values) in &asked.extra {
        rights.extend(values.iter().map(|value| Right {
            subresource: Some(key.clone()),
            ..right(AUTHENTICATION, "userextras", value)
        }));
    }
    rights
}

/// With the groups that such a user is in anyway.
fn completed(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, name)) = user.service_account()
    {
        user.groups = User::of_service_account(namespace, name).groups;
    }
    let whether = if user.name == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    let known = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
    if !user.groups.iter().any(known) {
        user.groups.push(whether.into());
    }
    user
}

/// Since Kubernetes 1.36 it is the request that is named.
fn refused(user: &User, wanted: &Attributes<'_>) -> Status {
    let verb = format!("impersonate-on:user-info:{}", wanted.verb);
    rbac::denial(
        user,
        &Attributes {
            verb: &verb,
            ..*wanted
        },
        "",
    )
}

/// Header names carry what is no letter percent-encoded.
fn decoded(key: &str) -> String {
    crate::request::query(&key.replace('+', "%2B"))
        .next()
        .map_or_else(String::new, |(key, _)| key.to_lowercase())
}

const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
