//! The rights by which somebody may ask in another's name: since Kubernetes 1.36 one for whom, and one for what (KEP-5284), and the
//! older one, which is for whom alone (`apiserver/pkg/endpoints/filters/impersonation/mode.go`).

use std::borrow::Cow;

use hub_core::api::{AUTHENTICATED, Status, User};
use hub_core::node::{NODES_GROUP, NodeId};
use hub_core::rbac::{About, Attributes, denial};

/// A way of asking in another's name. They are tried in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A pod's account as the node that the pod runs on.
    AssociatedNode,
    /// As any node.
    ArbitraryNode,
    /// As a service account.
    ServiceAccount,
    /// As anybody who is neither.
    UserInfo,
    /// As anybody, for whatever that one may do.
    Legacy,
}

/// The way in which a caller may be somebody for a wish. `allows` says what the caller may. The error is the first way's.
pub(super) fn way(
    caller: &User,
    asked: &User,
    wanted: &Attributes<'_>,
    allows: impl Fn(&Attributes<'_>) -> Result<bool, Status>,
) -> Result<Way, Status> {
    let mut first = None;
    for way in Way::ALL.into_iter().filter(|way| way.fits(caller, asked)) {
        match way.refused(caller, asked, wanted, &allows)? {
            None => return Ok(way),
            Some(refused) => first = first.or(Some(refused)),
        }
    }
    Err(first.unwrap_or_else(|| denial(caller, wanted, "")))
}

/// What somebody must be allowed to do.
#[derive(Debug)]
struct Right<'a> {
    verb: Cow<'a, str>,
    group: &'a str,
    resource: &'a str,
    subresource: Option<&'a str>,
    namespace: Option<&'a str>,
    name: Cow<'a, str>,
}

/// What must hold beside the right to ask for this in another's name.
#[derive(Debug)]
enum Needs<'a> {
    /// This right.
    One(Right<'a>),
    /// The first, or all of the others.
    Either(Right<'a>, Vec<Right<'a>>),
    /// What nobody may, about what and why.
    Never(Right<'a>, String),
}

impl Way {
    const ALL: [Self; 5] = [
        Self::AssociatedNode,
        Self::ArbitraryNode,
        Self::ServiceAccount,
        Self::UserInfo,
        Self::Legacy,
    ];

    /// Whether it is a way for such a caller to be such a user.
    fn fits(self, caller: &User, asked: &User) -> bool {
        let only_name = asked.uid.is_empty() && asked.groups.is_empty() && asked.extra.is_empty();
        let (node, account) = (node_of(asked), asked.service_account());
        match self {
            Self::AssociatedNode => {
                only_name && caller.service_account().is_some() && node.is_some() && node == bound_to(caller)
            }
            Self::ArbitraryNode => only_name && node.is_some(),
            Self::ServiceAccount => only_name && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }

    /// What the caller is told, if something is lacking.
    fn refused(
        self,
        caller: &User,
        asked: &User,
        wanted: &Attributes<'_>,
        allows: impl Fn(&Attributes<'_>) -> Result<bool, Status>,
    ) -> Result<Option<Status>, Status> {
        if let Some(name) = self.name() {
            let verb = format!("impersonate-on:{name}:{}", wanted.verb);
            let on = Attributes {
                verb: &verb,
                ..*wanted
            };
            if !allows(&on)? {
                return Ok(Some(denial(caller, &on, "")));
            }
        }
        for needs in self.needs(asked) {
            let each = match &needs {
                Needs::One(right) => std::slice::from_ref(right),
                Needs::Either(all, _) if allows(&all.attributes())? => continue,
                Needs::Either(_, each) => each,
                Needs::Never(right, why) => return Ok(Some(denial(caller, &right.attributes(), why))),
            };
            for right in each {
                if !allows(&right.attributes())? {
                    return Ok(Some(denial(caller, &right.attributes(), "")));
                }
            }
        }
        Ok(None)
    }

    /// What is needed beside the right to such a wish.
    fn needs(self, asked: &User) -> Vec<Needs<'_>> {
        let verb = match self.name() {
            Some(name) => format!("impersonate:{name}"),
            None => "impersonate".into(),
        };
        let right = |group, resource, name| Right {
            verb: verb.clone().into(),
            group,
            resource,
            subresource: None,
            namespace: None,
            name,
        };
        let (of_users, constrained) = match self {
            Self::Legacy => ("", false),
            _ => (AUTHENTICATION, true),
        };
        let who = match (node_of(asked), asked.service_account()) {
            // Whose node it is has been looked at.
            (Some(_), _) if self == Self::AssociatedNode => right(of_users, "nodes", "*".into()),
            (Some(node), _) if constrained => right(of_users, "nodes", node.into()),
            (_, Some((namespace, name))) => Right {
                namespace: Some(namespace),
                ..right(of_users, "serviceaccounts", name.into())
            },
            _ => right(of_users, "users", (&*asked.name).into()),
        };
        let mut needs = vec![Needs::One(who)];
        if !asked.uid.is_empty() {
            needs.push(Needs::One(right(AUTHENTICATION, "uids", (&*asked.uid).into())));
        }
        let group = |name: &'static str| right(of_users, "groups", name.into());
        let forbidden = [("", "empty string"), (ADMINISTRATORS, ADMINISTRATORS)];
        let held = |(group, _): &(&'static str, &str)| asked.groups.iter().any(|held| held == group);
        if let Some((name, shown)) = forbidden.into_iter().find(held).filter(|_| constrained) {
            let why = format!("impersonating the {shown} group is not allowed");
            needs.push(Needs::Never(group(name), why));
        }
        let groups = asked
            .groups
            .iter()
            .map(|name| right(of_users, "groups", (&**name).into()));
        let groups = groups.collect();
        needs.extend(all_or_each(
            constrained && asked.groups.len() >= MANY,
            group("*"),
            groups,
        ));
        let extras = |subresource, name| Right {
            subresource,
            ..right(AUTHENTICATION, "userextras", name)
        };
        if let Some(why) = wrong_extra(asked).filter(|_| constrained) {
            needs.push(Needs::Never(extras(None, "".into()), why));
        }
        let values = asked.extra.iter().flat_map(|(key, values)| {
            let of_key = values.iter();
            of_key.map(|value| extras(Some(&**key), (&**value).into()))
        });
        let values: Vec<_> = values.collect();
        let many = constrained && values.len().max(asked.extra.len()) >= MANY;
        needs.extend(all_or_each(many, extras(Some("*"), "*".into()), values));
        needs
    }

    /// The user whom the caller then is.
    pub(super) fn user(self, mut asked: User) -> User {
        match (self, asked.service_account()) {
            (Self::AssociatedNode | Self::ArbitraryNode, _) => asked.groups = vec![NODES_GROUP.into()],
            (_, Some((namespace, name))) if asked.groups.is_empty() => {
                asked.groups = User::of_service_account(namespace, name).groups;
                asked.groups.retain(|group| group != AUTHENTICATED);
            }
            _ => {}
        }
        asked
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::AssociatedNode => Some("associated-node"),
            Self::ArbitraryNode => Some("arbitrary-node"),
            Self::ServiceAccount => Some("serviceaccount"),
            Self::UserInfo => Some("user-info"),
            Self::Legacy => None,
        }
    }
}

impl Right<'_> {
    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            verb: &self.verb,
            object: About::Resource {
                group: self.group,
                resource: self.resource,
                subresource: self.subresource,
                namespace: self.namespace,
                name: Some(&self.name),
            },
        }
    }
}

fn all_or_each<'a>(many: bool, all: Right<'a>, each: Vec<Right<'a>>) -> Vec<Needs<'a>> {
    if many {
        return vec![Needs::Either(all, each)];
    }
    each.into_iter().map(Needs::One).collect()
}

fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    NodeId::new(name).ok().map(|_| name)
}

/// The node of the pod whose token it is.
fn bound_to(caller: &User) -> Option<&str> {
    match caller
        .extra
        .get("authentication.kubernetes.io/node-name")?
        .as_slice()
    {
        [node] => Some(node),
        _ => None,
    }
}

/// What must not be said of anybody in the finer ways.
fn wrong_extra(asked: &User) -> Option<String> {
    asked.extra.iter().find_map(|(key, values)| {
        let is_path = matches!(key.split_once('/'), Some((domain, path))
            if NodeId::new(domain).is_ok() && !path.is_empty() && !path.contains('/'));
        let what = if key.is_empty() {
            "the empty string key in extra is not allowed".to_owned()
        } else if !is_path {
            format!(
                "an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a domain-prefixed path \
                 (such as \"acme.io/foo\")"
            )
        } else if values.iter().any(String::is_empty) {
            "the empty string value in extra is not allowed".to_owned()
        } else {
            return None;
        };
        Some(format!("impersonating {what}"))
    })
}

/// From so many groups, or values, on it is first asked whether all may be had.
const MANY: usize = 4;
const AUTHENTICATION: &str = "authentication.k8s.io";
const ADMINISTRATORS: &str = "system:masters";

#[cfg(test)]
mod tests;
