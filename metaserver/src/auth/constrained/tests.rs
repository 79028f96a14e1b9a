//! Who may be whom, in which way.

use super::*;

fn check(caller: &User, asked: &User, rights: &[&str], expected: &str) {
    let wanted = Attributes::resource("list", "", "pods", None);
    let allows = |wanted: &Attributes<'_>| {
        let About::Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
        } = wanted.object
        else {
            panic!("{wanted:?}")
        };
        let part =
            |mark: &str, text: Option<&str>| text.map_or_else(String::new, |text| format!("{mark}{text}"));
        let shown = format!(
            "{} {group}:{resource}{}{}{}",
            wanted.verb,
            part("/", subresource),
            part("@", namespace),
            part(" ", name)
        );
        Ok(rights.contains(&&*shown))
    };
    let found = match way(caller, asked, &wanted, allows) {
        Ok(way) => format!("{way:?} {}", way.user(asked.clone()).groups.join(",")),
        Err(status) => status.message,
    };
    assert_eq!(found, expected, "{} with {rights:?}", asked.name);
}

fn named(name: &str) -> User {
    User {
        name: name.into(),
        ..User::default()
    }
}

#[test]
fn a_pod_s_account_may_be_its_node_and_no_other_and_only_for_what_it_may() {
    let mut agent = User::of_service_account("shop", "agent");
    let node = ["edge-1".to_owned()].into();
    agent
        .extra
        .insert("authentication.kubernetes.io/node-name".into(), node);
    let rights = [
        "impersonate-on:associated-node:list :pods",
        "impersonate:associated-node authentication.k8s.io:nodes *",
    ];
    check(
        &agent,
        &named("system:node:edge-1"),
        &rights,
        "AssociatedNode system:nodes",
    );
    check(
        &agent,
        &named("system:node:edge-1"),
        &rights[..1],
        "nodes.authentication.k8s.io \"*\" is forbidden: User \"system:serviceaccount:shop:agent\" cannot \
         impersonate:associated-node resource \"nodes\" in API group \"authentication.k8s.io\" at the cluster scope",
    );
    check(
        &agent,
        &named("system:node:edge-2"),
        &rights,
        "pods is forbidden: User \"system:serviceaccount:shop:agent\" cannot impersonate-on:arbitrary-node:list \
         resource \"pods\" in API group \"\" at the cluster scope",
    );
}

#[test]
fn each_kind_of_user_has_a_way_of_its_own_and_the_older_right_serves_all() {
    let me = named("me");
    let rights = [
        "impersonate-on:arbitrary-node:list :pods",
        "impersonate:arbitrary-node authentication.k8s.io:nodes edge-2",
        "impersonate-on:serviceaccount:list :pods",
        "impersonate:serviceaccount authentication.k8s.io:serviceaccounts@shop reader",
        "impersonate-on:user-info:list :pods",
        "impersonate:user-info authentication.k8s.io:users jane",
        "impersonate:user-info authentication.k8s.io:groups dev",
        "impersonate:user-info authentication.k8s.io:userextras/acme.io/why x",
    ];
    check(
        &me,
        &named("system:node:edge-2"),
        &rights,
        "ArbitraryNode system:nodes",
    );
    let account = named("system:serviceaccount:shop:reader");
    let groups = "system:serviceaccounts,system:serviceaccounts:shop";
    check(&me, &account, &rights, &format!("ServiceAccount {groups}"));
    let mut jane = named("jane");
    jane.groups = vec!["dev".into()];
    jane.extra = [("acme.io/why".to_owned(), vec!["x".to_owned()])].into();
    check(&me, &jane, &rights, "UserInfo dev");
    let older = [
        "impersonate :serviceaccounts@shop reader",
        "impersonate :groups dev",
    ];
    check(&me, &account, &older, &format!("Legacy {groups}"));
    // With a group, an account is nobody whom the finer rights know.
    let grouped = User {
        groups: vec!["dev".into()],
        ..account
    };
    check(&me, &grouped, &older, "Legacy dev");
    check(
        &me,
        &grouped,
        &rights,
        "serviceaccounts \"reader\" is forbidden: User \"me\" cannot impersonate resource \"serviceaccounts\" in API group \
         \"\" in the namespace \"shop\"",
    );
}

#[test]
fn many_groups_may_be_had_at_once_and_administrators_only_in_the_older_way() {
    let me = named("me");
    let mut jane = named("jane");
    jane.groups = ["a", "b", "c", "d"].map(String::from).into();
    let rights = [
        "impersonate-on:user-info:list :pods",
        "impersonate:user-info authentication.k8s.io:users jane",
        "impersonate:user-info authentication.k8s.io:groups *",
    ];
    check(&me, &jane, &rights, "UserInfo a,b,c,d");
    jane.groups = vec!["system:masters".into()];
    check(
        &me,
        &jane,
        &rights,
        "groups.authentication.k8s.io \"system:masters\" is forbidden: User \"me\" cannot impersonate:user-info resource \
         \"groups\" in API group \"authentication.k8s.io\" at the cluster scope: impersonating the system:masters group is \
         not allowed",
    );
    let older = ["impersonate :users jane", "impersonate :groups system:masters"];
    check(&me, &jane, &older, "Legacy system:masters");
}
