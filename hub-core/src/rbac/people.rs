//! The roles that people are given: `view`, `edit` and `admin`, each made of those below it and of whatever is labelled so
//! (Kubernetes `plugin/pkg/auth/authorizer/rbac/bootstrappolicy`, viewRules and editRules of 1.36).

use serde_json::{Value, json};

/// Name, labels and the rest of each role.
pub(super) fn roles() -> Vec<(&'static str, Value, Value)> {
    let label = |to: &str| json!({ format!("rbac.authorization.k8s.io/aggregate-to-{to}"): "true" });
    let made_of = |of: &str| json!({ "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": label(of) }] }, "rules": [] });
    vec![
        ("admin", json!({}), made_of("admin")),
        ("edit", label("admin"), made_of("edit")),
        ("view", label("edit"), made_of("view")),
        (
            "system:aggregate-to-admin",
            label("admin"),
            json!({ "rules": admin() }),
        ),
        (
            "system:aggregate-to-edit",
            label("edit"),
            json!({ "rules": edit() }),
        ),
        (
            "system:aggregate-to-view",
            label("view"),
            json!({ "rules": view() }),
        ),
    ]
}

fn rule(verbs: &[&str], groups: &[&str], resources: &str) -> Value {
    let resources: Vec<&str> = resources.split_whitespace().collect();
    let mut verbs = verbs.to_vec();
    verbs.sort_unstable();
    json!({ "verbs": verbs, "apiGroups": groups, "resources": resources })
}

fn view() -> Value {
    let read = |groups: &[&str], resources| rule(READ, groups, resources);
    json!([
        read(
            &[""],
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
             replicationcontrollers/scale serviceaccounts services services/status"
        ),
        read(
            &[""],
            "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas \
             resourcequotas/status"
        ),
        read(&[""], "namespaces"),
        read(&["", "events.k8s.io"], "events"),
        read(&["discovery.k8s.io"], "endpointslices"),
        read(
            &["apps"],
            "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets \
             replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"
        ),
        read(
            &["autoscaling"],
            "horizontalpodautoscalers horizontalpodautoscalers/status"
        ),
        read(&["batch"], "cronjobs cronjobs/status jobs jobs/status"),
        read(
            &["extensions"],
            "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status \
             networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale"
        ),
        read(&["policy"], "poddisruptionbudgets poddisruptionbudgets/status"),
        read(
            &["networking.k8s.io"],
            "ingresses ingresses/status networkpolicies"
        ),
        read(
            &["resource.k8s.io"],
            "resourceclaims resourceclaims/status resourceclaimtemplates"
        ),
    ])
}

fn edit() -> Value {
    let write = |groups: &[&str], resources| rule(WRITE, groups, resources);
    json!([
        rule(
            READ,
            &[""],
            "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"
        ),
        rule(&["impersonate"], &[""], "serviceaccounts"),
        write(&[""], "pods pods/attach pods/exec pods/portforward pods/proxy"),
        rule(&["create"], &[""], "pods/eviction"),
        write(
            &[""],
            "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services \
             services/proxy"
        ),
        rule(&["create"], &[""], "serviceaccounts/token"),
        write(&["", "events.k8s.io"], "events"),
        write(
            &["apps"],
            "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
             statefulsets/scale"
        ),
        write(&["autoscaling"], "horizontalpodautoscalers"),
        write(&["batch"], "cronjobs jobs"),
        write(
            &["extensions"],
            "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale \
             replicationcontrollers/scale"
        ),
        write(&["policy"], "poddisruptionbudgets"),
        write(&["networking.k8s.io"], "ingresses networkpolicies"),
        rule(&[WRITE, READ].concat(), &["coordination.k8s.io"], "leases"),
        write(&["resource.k8s.io"], "resourceclaims resourceclaimtemplates"),
    ])
}

fn admin() -> Value {
    let all = [WRITE, READ].concat();
    json!([
        rule(
            &["create"],
            &["authorization.k8s.io"],
            "localsubjectaccessreviews"
        ),
        rule(&all, &["rbac.authorization.k8s.io"], "rolebindings roles"),
    ])
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
