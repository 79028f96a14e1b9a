//! Who may have an answer, and by which role: for people who ask why.

use hub_core::api::{AUTHENTICATED, UNAUTHENTICATED, User};
use hub_core::rbac::{self, Attributes};

use super::attributes::Wanted;
use crate::api::Api;
use crate::request::Route;

impl Api {
    /// Who may GET a path and its query, in a sentence: everybody whom a role lets, or whether this one user may.
    pub(crate) fn who_may(&self, path: &str, asker: Option<&str>) -> String {
        let Ok(request) = http::Request::get(path).body(()) else {
            return "nobody can: it is no path".into();
        };
        let (head, ()) = request.into_parts();
        let route = Route::parse(head.uri.path());
        let wanted = Wanted::of(&head, &route);
        let wanted = wanted.attributes();
        match asker {
            Some(_) if !self.is_guarded() => ANYBODY.into(),
            Some(name) => self.may(&user(name), &wanted),
            None if !self.is_guarded() => ANYBODY.into(),
            None => self.all_who_may(&wanted),
        }
    }

    fn may(&self, user: &User, wanted: &Attributes<'_>) -> String {
        let name = &user.name;
        if rbac::is_administrator(user) {
            return format!("{name}, as an administrator");
        }
        match self.roles_for(wanted) {
            Some(roles) => match roles.reason(user, wanted) {
                Some(reason) => format!("{name}: {reason}"),
                None => format!(
                    "not {name}: {}",
                    rbac::denial(user, wanted, "no role allows it").message
                ),
            },
            None => NOT_KNOWN.into(),
        }
    }

    fn all_who_may(&self, wanted: &Attributes<'_>) -> String {
        let Some(roles) = self.roles_for(wanted) else {
            return NOT_KNOWN.into();
        };
        let mut all = roles.who_may(wanted);
        let mut shown: Vec<String> = all.by_ref().take(SHOWN_MAX).collect();
        if all.next().is_some() {
            shown.push("others".into());
        }
        shown.insert(0, "this node".into());
        shown.join("; ")
    }
}

/// A user by name, in the groups that such a name is in; `group:NAME` is anybody in that group.
fn user(text: &str) -> User {
    if let Some(group) = text.strip_prefix("group:") {
        return User {
            name: format!("somebody in {group}"),
            groups: vec![group.to_owned()],
            ..User::default()
        };
    }
    let account = User {
        name: text.to_owned(),
        ..User::default()
    };
    if let Some((namespace, name)) = account.service_account() {
        return User::of_service_account(namespace, name);
    }
    let known = if text == hub_core::api::ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    User {
        groups: vec![known.into()],
        ..account
    }
}

const ANYBODY: &str = "everybody who can connect to this server";
const NOT_KNOWN: &str = "only this node yet: the roles of the cluster are not known on it";
/// Bindings that are named.
const SHOWN_MAX: usize = 10;
