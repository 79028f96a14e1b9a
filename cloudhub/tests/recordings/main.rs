//! The recordings of real KubeEdge programs, the edge's side played against our cloud over the embedded cluster.
//!
//! What a stock cloud answered and told, ours answers and tells too, but for the differences in [`BETTER`].
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

mod compare;
mod kubectl;
mod odd;
mod replay;
#[path = "../hub/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the hub")]
mod world;

use std::collections::BTreeSet;

/// Where ours differs on purpose: what a difference begins with (up to `*`, which stands for anything), and why.
const BETTER: &[(&str, &str)] = &[
    // Towards the node.
    (
        "* answered besides: get membership/detail with response",
        "L9: unanswered, an edge asks again for ever",
    ),
    (
        "* told besides: update membership/detail",
        "L4: an edge learns of devices that came or went while it was away",
    ),
    (
        "* told besides: insert default/configmap/*",
        "what a pod needs comes before the pod",
    ),
    (
        "* told besides: update default/secret/*",
        "what a pod needs comes before the pod",
    ),
    (
        "* told besides: delete default/configmap/*",
        "what no pod needs any more does not stay on the node",
    ),
    (
        "* told besides: delete default/secret/*",
        "what no pod needs any more does not stay on the node",
    ),
    (
        "* told update *: operation: update → insert",
        "what is new to the node is an insert; a repair of KubeEdge's is always an update",
    ),
    (
        "* told update default/configmap/*: source: edgecontroller → dynamiccontroller",
        "a watch brought it, and brings it again",
    ),
    (
        "* told * default/devicemodel/*: .kind:*",
        "repairs and watches of KubeEdge's lack kind and version",
    ),
    (
        "* told * default/devicemodel/*: .apiVersion:*",
        "repairs and watches of KubeEdge's lack kind and version",
    ),
    (
        "* told delete default/*: version: false → true",
        "ours deletes with the last state, a repair of KubeEdge's with a name only",
    ),
    (
        "* told delete default/*: .*: null → *",
        "ours deletes with the last state, a repair of KubeEdge's with a name only",
    ),
    (
        "* told besides: update null/node/*",
        "the node is told of each of its states, KubeEdge's cloud of one in ten seconds",
    ),
    (
        "* answered besides: query default/teapot/x with error",
        "what is not served is an error, never silence",
    ),
    (
        "* answered besides: dance default/configmap/x with error",
        "what is not served is an error, never silence",
    ),
    (
        "17-odd-clients answered besides: query kube-node-lease/lease/raw4 with response",
        "these clients were gone, or nameless, before the answer",
    ),
    (
        "* told besides: update *",
        "the node is told of states that KubeEdge's cloud passed over, of labels of devices too",
    ),
    (
        "* told update default/devicemodel/*: source: edgecontroller → devicecontroller",
        "KubeEdge's repairs all have one source",
    ),
    (
        "* told * default/device/*: .status: {} → null",
        "an empty field of KubeEdge's types",
    ),
    (
        "* told besides: delete default/devicemodel/web-model",
        "a watch that ends takes along what it brought",
    ),
    (
        "08-disconnect-reconnect untold: delete default/configmap/web-r2",
        "told before: no pod needed it any more",
    ),
    (
        "12-authorization-rejected-connection *besides: *",
        "a client that shows its authority's certificate too is welcome; KubeEdge's cloud leaves it unheard",
    ),
    (
        "15-no-keepalive goes on: ",
        "C11: any frame is a sign of life, not the keepalive message alone",
    ),
    // Failures.
    (
        "* answer to query *: operation: response → error",
        "L7: an edge stores the error of a plain query as if it were the object",
    ),
    (
        "* answer to query *: : {\"ErrStatus\":*",
        "L7: the reason is a text, which no edge takes for an object",
    ),
    (
        "* answer to query kube-node-lease/lease/*: .Err.ErrStatus.*: \"lease*",
        "asked of the API, not of a cache",
    ),
    (
        "* answer to patch null/nodepatch/raw4: .Err.ErrStatus.message:*",
        "another decoder",
    ),
    // Rights.
    (
        "12-authorization-enabled answer to list /*",
        "a node may read what is no secret, and is refused the rest with a reason",
    ),
    (
        "12-authorization-enabled answer to * /core/v1/*",
        "a node may read what is no secret, and is refused the rest with a reason",
    ),
    (
        "05-metaserver-reads answer to list /*: .Error.ErrStatus.*: null → *",
        "a failed list names its reason, where KubeEdge's has a text only",
    ),
    (
        "05-metaserver-reads answer to list /*: .Reason: *",
        "a failed list names its reason, where KubeEdge's has a text only",
    ),
    (
        "05-metaserver-reads answer to get /api*: .RespBody: null → *",
        "KubeEdge's cloud has it in protobuf, which this comparison does not read",
    ),
    // Documents of the API that differ by nature.
    (
        "* answer to get /openapi/*",
        "another program's descriptions and hashes; those of a Kubernetes are held beside the API's own tests",
    ),
    ("* answer to get /version: .RespBody.*", "another program"),
    ("*.RespBody.metadata.continue: *", "a page may be the whole"),
    (
        "*.RespBody.metadata.remainingItemCount: *",
        "a page may be the whole",
    ),
    (
        "05-metaserver-reads answer to list /core/v1/configmaps/*: .RespBody.items.default/web-demo: null → *",
        "a page may be the whole",
    ),
    (
        "* answer to list /apiextensions.k8s.io/*: .RespBody.items.*",
        "this cluster has the definitions that the test needs",
    ),
    (
        "*.RespBody.items.*/kube-root-ca.crt: {*",
        "no controller that publishes the authority",
    ),
    (
        "*.RespBody.items.*/openshift-service-ca.crt: {*",
        "no controller that publishes the authority",
    ),
    (
        "*.RespBody.items.default/web-svc*: {*",
        "no controller of endpoints",
    ),
    ("*.RespBody.items./kubeedge: {*", "not installed here"),
    (
        "*.RespBody.items.default/kubernetes: {*",
        "this cluster has no address of its own",
    ),
    ("*.containerID: \"fakeRuntime://*", "named by the pod's uid"),
    ("*.RespBody.metadata.name: \"web-gen-*", "a random name"),
    (
        "* answer to create /authorization.k8s.io/*: .RespBody.status.reason: *",
        "the reason is for people",
    ),
    (
        "06-metaserver-writes answer to create /core/v1/configmaps/default/null: .Error.ErrStatus.message: \"Secret in*",
        "another decoder",
    ),
    (
        "06-metaserver-writes answer to create /no.such/*: .Error.ErrStatus.*",
        "a whole Status, where an API server has the text of a path that is not there",
    ),
    (
        "06-metaserver-writes answer to patch /devices.kubeedge.io/*: .Error.ErrStatus.*",
        "the definitions of this test have no status",
    ),
    // The embedded cluster is no whole Kubernetes.
    (
        "06-metaserver-writes answer to patch /core/v1/configmaps/default/web-*",
        "the embedded cluster has no server-side apply yet",
    ),
    (
        "17-odd-clients answer to insert default/certificatesigningrequest/raw4-csr: *",
        "the embedded cluster does not look into what is to be signed",
    ),
    (
        "* answer to query default/serviceaccounttoken/*: .spec.audiences[0]:*",
        "another issuer",
    ),
    (
        "* answer to create /devices.kubeedge.io/*",
        "the definitions of this test have no schema",
    ),
    (
        "* answer to delete /*: .RespBody: null → *",
        "what the API says of a deletion is passed on",
    ),
    (
        "01-first-join untold: update null/node/edge1",
        "no node controller",
    ),
    (
        "08-disconnect-reconnect untold: update null/node/edge1",
        "no node controller",
    ),
    (
        "17-odd-clients untold: update null/node/raw4",
        "no node controller, and these clients were gone",
    ),
    (
        "14-* told update null/node/*: .status.conditions: [{*",
        "no node controller",
    ),
    (
        "12-authorization-enabled told besides: insert default/serviceaccountaccess/default",
        "what is new to the node is an insert",
    ),
    ("*: .Object.spec.taints:*", "no node controller"),
    ("*: .spec.taints:*", "no node controller"),
    (
        "*: .spec.taints[*",
        "no node controller: one that never was ready is not called unreachable",
    ),
    (
        "*.metadata.annotations.node.alpha.kubernetes.io/ttl:*",
        "no node controller",
    ),
    ("*.spec.podCIDR*", "no node controller"),
    (
        "*.metadata.deletionGracePeriodSeconds:*",
        "the last state before a deletion does not say how short its end was made",
    ),
    ("*.spec.volumes: null → []", "an empty list is kept"),
    ("*.volumeMounts: null → []", "an empty list is kept"),
    ("*.envFrom: null → []", "an empty list is kept"),
    ("*.cpu: \"5k\" → *", "quantities are kept as they were written"),
];

fn is_better(difference: &str) -> bool {
    BETTER.iter().any(|(pattern, _)| matches(pattern, difference))
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    for (index, part) in pattern.split('*').enumerate() {
        match rest.find(part) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || pattern.ends_with('*')
}

async fn check(name: &str) {
    let found = replay::replay(name, is_better).await;
    let unexplained: BTreeSet<_> = found.iter().filter(|difference| !is_better(difference)).collect();
    assert!(unexplained.is_empty(), "{name}: {unexplained:#?}");
}

macro_rules! recordings {
    ($($test:ident = $name:literal),+ $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            check($name).await;
        })+
    };
}

recordings! {
    first_join = "01-first-join",
    the_life_of_a_pod = "02-pod-lifecycle",
    changes_of_configs = "03-configmap-secret-updates",
    edits_of_the_node = "04-node-edits",
    reads_of_the_api = "05-metaserver-reads",
    writes_of_the_api = "06-metaserver-writes",
    watches_and_a_restart = "07-watch-and-cloudcore-restart",
    a_cut_link = "08-disconnect-reconnect",
    devices = "09-devices",
    the_end_of_pods_and_of_the_node = "10-events-grace-node-deletion",
    queries_of_what_is_absent = "11-query-errors",
    with_authorization = "12-authorization-enabled",
    a_real_runtime = "13-stock-edgecore-events",
    a_connection_that_a_go_cloud_leaves_open_unheard = "12-authorization-rejected-connection",
    odd_clients = "17-odd-clients",
}

async fn check_odd(name: &str) {
    let found = odd::play(name).await;
    let unexplained: BTreeSet<_> = found.iter().filter(|difference| !is_better(difference)).collect();
    assert!(unexplained.is_empty(), "{name}: {unexplained:#?}");
}

#[tokio::test]
async fn a_client_that_never_acknowledges_and_then_all() {
    check_odd("14-client-never-acknowledges").await;
}

#[tokio::test]
async fn a_client_without_keepalives() {
    check_odd("15-no-keepalive").await;
}

#[tokio::test]
async fn two_clients_with_one_name() {
    check_odd("16-same-node-id-twice").await;
}

#[tokio::test]
async fn acknowledgements_out_of_order() {
    check_odd("18-acknowledgements-out-of-order").await;
}
