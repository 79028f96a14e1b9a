//! Nobody gives others more than he has (Kubernetes `pkg/registry/rbac/validation`, `component-helpers/auth/rbac/validation`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::api::User;

use super::{Rbac, Rule};

impl Rbac {
    /// Why a user may not give these rules to anybody; None where he has all of them himself. `namespace` is where he gives them, None
    /// for everywhere.
    pub fn escalation(&self, user: &User, namespace: Option<&str>, given: &[Rule]) -> Option<String> {
        let own: Vec<&Rule> = self.rules(user, namespace).collect();
        let parts = given.iter().flat_map(parts);
        let missing: Vec<Rule> = parts
            .filter(|part| !own.iter().any(|rule| includes(rule, part)))
            .collect();
        if missing.is_empty() {
            return None;
        }
        let (name, groups) = (&user.name, quoted(&user.groups));
        let lines: BTreeSet<String> = together(missing).iter().map(Rule::to_string).collect();
        let lines: Vec<String> = lines.into_iter().collect();
        Some(format!(
            "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
            lines.join("\n")
        ))
    }

    /// The rules that stand in a role, which is a ClusterRole without a namespace. None for a role that is not there.
    pub fn role(&self, namespace: Option<&str>, name: &str) -> Option<Vec<Rule>> {
        let key = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        Some(self.roles.get(&key)?.rules.clone())
    }
}

/// As a kube-apiserver shows a rule in a line.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown = fields.iter().filter(|(_, values)| !values.is_empty());
        let shown: Vec<String> = shown
            .map(|(name, values)| format!("{name}:{}", quoted(values)))
            .collect();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

/// A rule taken apart: of each list, one.
fn parts(rule: &Rule) -> Vec<Rule> {
    let one = |value: &String| vec![value.clone()];
    let names: Vec<Vec<String>> = match rule.resource_names.is_empty() {
        true => vec![Vec::new()],
        false => rule.resource_names.iter().map(one).collect(),
    };
    let mut parts = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                parts.extend(names.iter().map(|names| Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    resource_names: names.clone(),
                    ..Rule::default()
                }));
            }
        }
    }
    for url in &rule.non_resource_urls {
        parts.extend(rule.verbs.iter().map(|verb| Rule {
            verbs: one(verb),
            non_resource_urls: one(url),
            ..Rule::default()
        }));
    }
    parts
}

/// Whether a rule has all that a part says. A `*` is included in nothing but a `*`.
fn includes(rule: &Rule, part: &Rule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        held.iter().any(|value| value == "*") || wanted.iter().all(|value| held.contains(value))
    };
    let resource = |wanted: &String| {
        let of_any = wanted.split_once('/').map(|(_, part)| format!("*/{part}"));
        rule.resources
            .iter()
            .any(|held| held == "*" || held == wanted || Some(held) == of_any.as_ref())
    };
    let url = |wanted: &String| {
        rule.non_resource_urls.iter().any(|held| {
            held == wanted || (held.ends_with('*') && wanted.starts_with(held.trim_end_matches('*')))
        })
    };
    let names = match part.resource_names.as_slice() {
        [] => rule.resource_names.is_empty(),
        wanted => {
            rule.resource_names.is_empty() || wanted.iter().all(|name| rule.resource_names.contains(name))
        }
    };
    all(&rule.verbs, &part.verbs)
        && all(&rule.api_groups, &part.api_groups)
        && part.resources.iter().all(resource)
        && part.non_resource_urls.iter().all(url)
        && names
}

/// Parts that differ by their verb only become one. Those about URLs stay apart.
fn together(parts: Vec<Rule>) -> Vec<Rule> {
    let (urls, resources): (Vec<Rule>, Vec<Rule>) = parts
        .into_iter()
        .partition(|part| !part.non_resource_urls.is_empty());
    let mut by_object: BTreeMap<_, Rule> = BTreeMap::new();
    for part in resources {
        let object = (
            part.api_groups.clone(),
            part.resources.clone(),
            part.resource_names.clone(),
        );
        match by_object.get_mut(&object) {
            Some(held) => held.verbs.extend(part.verbs),
            None => drop(by_object.insert(object, part)),
        }
    }
    urls.into_iter().chain(by_object.into_values()).collect()
}

/// `["a" "b"]`, as Go prints a list of texts.
fn quoted(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", values.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    #[test]
    fn a_rule_includes_what_it_names_and_everything_only_where_it_says_so() {
        let check = |own: &Rule, wanted: Rule, expected: bool| {
            let parts = parts(&wanted);
            assert_eq!(
                parts.iter().all(|part| includes(own, part)),
                expected,
                "{own} {wanted}"
            );
        };
        let own = rule(&["get", "list"], &["", "apps"], &["pods", "*/scale"], &[]);
        check(
            &own,
            rule(&["list"], &["apps"], &["deployments/scale", "pods"], &[]),
            true,
        );
        check(&own, rule(&["get"], &[""], &["pods"], &["one"]), true);
        check(&own, rule(&["get"], &["*"], &["pods"], &[]), false);
        check(&own, rule(&["*"], &[""], &["pods"], &[]), false);
        check(&own, rule(&["get"], &[""], &["pods/log"], &[]), false);
        let named = rule(&["get"], &[""], &["pods"], &["one", "two"]);
        check(&named, rule(&["get"], &[""], &["pods"], &["two"]), true);
        check(&named, rule(&["get"], &[""], &["pods"], &["three"]), false);
        check(&named, rule(&["get"], &[""], &["pods"], &[]), false);
        let urls = |url: &str| Rule {
            verbs: vec!["get".into()],
            non_resource_urls: vec![url.into()],
            ..Rule::default()
        };
        check(&urls("/a/*"), urls("/a/b"), true);
        check(&urls("/a/*"), urls("/a/*"), true);
        check(&urls("/a"), urls("*"), false);
    }

    #[test]
    fn what_is_missing_is_told_a_line_an_object_with_its_verbs_in_the_order_given() {
        let user = User {
            name: "u".into(),
            groups: vec!["a".into(), "b".into()],
            ..User::default()
        };
        let given = [
            rule(&["list", "get"], &[""], &["secrets", "pods"], &[]),
            rule(&["watch"], &[""], &["pods"], &[]),
            rule(&["get"], &[""], &["pods"], &["x"]),
        ];
        let why = Rbac::default().escalation(&user, None, &given).unwrap();
        assert_eq!(
            why,
            "user \"u\" (groups=[\"a\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], ResourceNames:[\"x\"], Verbs:[\"get\"]}\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"get\" \"watch\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"list\" \"get\"]}"
        );
    }
}
