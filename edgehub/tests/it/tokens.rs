//! Tokens of service accounts: kept, renewed, given in an outage, and never given when they are over.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use edgehub::store::EdgeStore;
use edgehub::{AskError, EdgeHub, EdgeHubConfig, TokenConfig};
use hub_core::clock::Clock;
use hub_core::message::{Content, Message};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::scope::Scope;
use hub_core::service::Reply;
use hub_core::session::Lane;
use hub_core::store::{Change, ObjectStore};
use hub_core::transport::{Capabilities, Endpoint, Rejection};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::catch_up::nothing_differs;
use crate::cloud::{Cloud, CutDialer, Script};
use crate::world::{Edge, TestStore, config, journal, node, within};

/// What the world's clocks show, cloud and node alike.
struct Hands(AtomicI64);

impl Hands {
    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn unix_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A cloud that gives tokens, until it is told otherwise.
struct Bench {
    cloud: Cloud,
    dialer: CutDialer,
    clock: Arc<Hands>,
    /// Tokens that were asked for.
    asked: Arc<AtomicUsize>,
    /// In place of a token.
    says: Arc<Mutex<Option<(&'static str, u16)>>>,
    store: Arc<TestStore>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(Hands(AtomicI64::new(1_795_305_600_000)));
        let (asked, says) = (Arc::<AtomicUsize>::default(), Arc::default());
        let script = tokens(clock.clone(), asked.clone(), Arc::clone(&says));
        let (cloud, dialer) = Cloud::start(&node(), Capabilities::ALL, script);
        Self {
            cloud,
            dialer,
            clock,
            asked,
            says,
            store: TestStore::new(),
        }
    }

    async fn edge(&self, tokens: TokenConfig) -> Edge {
        let config = EdgeHubConfig { tokens, ..config() };
        let hub = EdgeHub::builder(config, self.store.clone(), Arc::new(journal()))
            .with_dialer(self.dialer.clone(), Endpoint::parse("cloud:10000").unwrap())
            .with_clock(self.clock.clone())
            .build();
        let edge = Edge::of(hub, self.store.clone());
        edge.up().await;
        edge
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn says(&self, answer: Option<(&'static str, u16)>) {
        *self.says.lock().unwrap() = answer;
    }

    async fn cut(&self, edge: &Edge) {
        *self.cloud.refusing.lock().unwrap() = Some(away());
        self.dialer.cut();
        edge.down().await;
    }

    async fn mend(&self, edge: &Edge) {
        *self.cloud.refusing.lock().unwrap() = None;
        edge.up().await;
    }

    /// Waits until so many were asked for.
    async fn has_asked(&self, count: usize) {
        let reached = async {
            while self.asked() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within("a question for a token", reached).await;
    }
}

fn tokens(
    clock: Arc<Hands>,
    asked: Arc<AtomicUsize>,
    says: Arc<Mutex<Option<(&'static str, u16)>>>,
) -> Script {
    let rest = nothing_differs();
    Arc::new(move |message| {
        if !message.route.resource.as_str().contains("/serviceaccounttoken/") {
            return rest(message);
        }
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let content = match *says.lock().unwrap() {
            None => issue(&clock, message, number),
            Some((why, code)) => Content::encode(&json!({ "ErrStatus": { "message": why, "code": code } })),
        };
        Some(Reply::Answer(message.response(content), Lane::Urgent))
    })
}

/// A token whose text tells when it was made: the number of the question.
fn issue(clock: &Hands, message: &Message, number: usize) -> Content {
    let mut request: Value = message.content.decode("request").unwrap();
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    request["spec"]["expirationSeconds"] = seconds.into();
    let ends = OffsetDateTime::from_unix_timestamp(clock.unix_ms() / 1000 + seconds).unwrap();
    let about = json!({ "namespace": "shop", "serviceaccount": { "name": "web", "uid": "sa-1" } });
    let claims =
        json!({ "exp": 0, "iss": "x", "sub": "s", "jti": number.to_string(), "kubernetes.io": about });
    let token = format!("h.{}.{number}", BASE64.encode(claims.to_string()));
    request["status"] = json!({ "token": token, "expirationTimestamp": ends.format(&Rfc3339).unwrap() });
    Content::encode(&request)
}

/// The number of the question that a token answered.
fn number(answer: Result<Value, AskError>) -> usize {
    let answer = answer.unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    token.rsplit('.').next().unwrap().parse().unwrap()
}

fn request(uid: &str) -> Value {
    json!({ "spec": { "expirationSeconds": 3600, "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid } } })
}

fn object(resource: &str, uid: &str) -> Object {
    static VERSION: AtomicUsize = AtomicUsize::new(1);
    let version = VERSION.fetch_add(1, Ordering::SeqCst).to_string();
    let metadata = json!({ "name": "web", "namespace": "shop", "uid": uid, "resourceVersion": version });
    let body = json!({ "metadata": metadata }).to_string();
    Object::from_body(GroupVersionResource::core(resource), body.into()).unwrap()
}

fn key(resource: &str) -> ObjectKey {
    ObjectKey::new(GroupVersionResource::core(resource), Some("shop"), "web")
}

fn deleted(resource: &str) -> Change {
    Change::Delete {
        key: key(resource),
        uid: None,
        version: None,
    }
}

async fn pod_is_here(store: &dyn ObjectStore, uid: &str) {
    store.apply(vec![Change::Put(object("pods", uid))]).await.unwrap();
}

async fn none_is_kept(edge: &Edge) {
    let gone = async {
        let tokens = GroupVersionResource::new("node.invalid", "v1", "serviceaccounttokens");
        while !edge.store.list(&tokens, None).objects.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("the end of a token", gone).await;
}

fn away() -> Rejection {
    Rejection {
        code: 503,
        reason: "away".into(),
        retry_after_seconds: None,
    }
}

fn often() -> TokenConfig {
    TokenConfig {
        look_every: Duration::from_millis(5),
        ..TokenConfig::default()
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_another_one_for_each_thing_that_differs() {
    let bench = Bench::new();
    pod_is_here(&*bench.store, "u1").await;
    let edge = bench.edge(TokenConfig::default()).await;
    let ask = async |request: &Value| number(edge.handle.request_token("shop", "web", request).await);
    for _ in 0..3 {
        assert_eq!(ask(&request("u1")).await, 0);
    }
    let mut other = request("u1");
    other["spec"]["audiences"] = json!(["vault"]);
    assert_eq!((ask(&other).await, ask(&request("u1")).await), (1, 0));
    other["spec"]["expirationSeconds"] = 7200.into();
    assert_eq!((ask(&other).await, bench.asked()), (2, 3));
    let kept = edge.handle.kept_tokens();
    assert_eq!((kept.len(), kept[0].bound_to.as_str()), (3, "Pod web"));
    assert_eq!(kept[2].ends_ms - bench.clock.unix_ms(), 7_200_000);
    edge.stop().await;
}

#[tokio::test]
async fn a_token_that_is_due_is_renewed_and_the_kept_one_given_while_that_fails() {
    let bench = Bench::new();
    pod_is_here(&*bench.store, "u1").await;
    let edge = bench.edge(TokenConfig::default()).await;
    let ask = async || edge.handle.request_token("shop", "web", &request("u1")).await;
    assert_eq!(number(ask().await), 0);
    bench.clock.forward(2800);
    assert_eq!(number(ask().await), 0, "not due yet");
    bench.clock.forward(100);
    assert_eq!(number(ask().await), 1, "due");
    bench.clock.forward(2900);
    for busy in [429, 500, 503, 401, 0] {
        bench.says(Some(("not now", busy)));
        assert_eq!(number(ask().await), 1, "{busy}");
    }
    bench.cut(&edge).await;
    assert_eq!(number(ask().await), 1, "the cloud is away");
    bench.clock.forward(699);
    assert_eq!(number(ask().await), 1);
    bench.clock.forward(1);
    let over = ask().await;
    assert!(matches!(over, Err(AskError::Away)), "{over:?}");
    none_is_kept(&edge).await;
    bench.says(None);
    bench.mend(&edge).await;
    assert!(number(ask().await) > 1);
    edge.stop().await;
}

#[tokio::test]
async fn what_the_cloud_refuses_to_renew_is_not_given_any_more() {
    for code in [400, 403, 404, 409, 422] {
        let bench = Bench::new();
        pod_is_here(&*bench.store, "u1").await;
        let edge = bench.edge(TokenConfig::default()).await;
        let ask = async || edge.handle.request_token("shop", "web", &request("u1")).await;
        assert_eq!(number(ask().await), 0);
        bench.clock.forward(3000);
        bench.says(Some(("no", code)));
        let refused = ask().await;
        assert!(
            matches!(&refused, Err(AskError::Denied(denied)) if denied.code == code),
            "{refused:?}"
        );
        bench.cut(&edge).await;
        let away = ask().await;
        assert!(matches!(away, Err(AskError::Away)), "{code}: {away:?}");
        edge.stop().await;
    }
}

#[tokio::test]
async fn the_tokens_of_pods_are_renewed_though_nobody_asks() {
    let bench = Bench::new();
    pod_is_here(&*bench.store, "u1").await;
    let edge = bench.edge(often()).await;
    number(edge.handle.request_token("shop", "web", &request("u1")).await);
    number(edge.handle.request_token("shop", "web", &json!({})).await);
    bench.clock.forward(2900);
    bench.has_asked(3).await;
    let renewed = async {
        while edge
            .handle
            .kept_tokens()
            .iter()
            .all(|kept| kept.due_ms <= bench.clock.unix_ms())
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("the new token", renewed).await;
    assert_eq!(
        bench.asked(),
        3,
        "the one that is bound to no pod waits for who asks"
    );
    bench.cut(&edge).await;
    bench.clock.forward(2000);
    let answer = edge.handle.request_token("shop", "web", &request("u1")).await;
    assert_eq!(number(answer), 2, "an outage finds the new one");
    edge.stop().await;
}

#[tokio::test]
async fn what_became_due_in_an_outage_is_renewed_as_soon_as_the_cloud_is_there_again() {
    let bench = Bench::new();
    pod_is_here(&*bench.store, "u1").await;
    let edge = bench.edge(TokenConfig::default()).await;
    number(edge.handle.request_token("shop", "web", &request("u1")).await);
    bench.cut(&edge).await;
    bench.clock.forward(3000);
    bench.mend(&edge).await;
    bench.has_asked(2).await;
    edge.stop().await;
}

#[tokio::test]
async fn the_token_of_a_pod_that_is_gone_or_came_anew_is_never_given() {
    let bench = Bench::new();
    pod_is_here(&*bench.store, "u1").await;
    let edge = bench.edge(TokenConfig::default()).await;
    let ask = async |uid: &str| edge.handle.request_token("shop", "web", &request(uid)).await;
    assert_eq!(number(ask("u1").await), 0);
    bench.cut(&edge).await;
    assert_eq!(number(ask("u1").await), 0);
    pod_is_here(&*bench.store, "u2").await;
    for uid in ["u1", "u2"] {
        let given = ask(uid).await;
        assert!(matches!(given, Err(AskError::Away)), "{uid}: {given:?}");
    }
    bench.mend(&edge).await;
    assert_eq!((number(ask("u2").await), number(ask("u2").await)), (1, 1));
    // Nobody asks, and it is forgotten with its pod.
    edge.store.apply(vec![deleted("pods")]).await.unwrap();
    none_is_kept(&edge).await;
    assert_eq!(
        (number(ask("u2").await), number(ask("u2").await)),
        (2, 3),
        "what has no pod here is not kept"
    );
    edge.stop().await;
}

#[tokio::test]
async fn the_token_of_an_account_that_is_gone_or_came_anew_is_never_given() {
    let bench = Bench::new();
    pod_is_here(&*bench.store, "u1").await;
    let edge = bench.edge(TokenConfig::default()).await;
    let ask = async || edge.handle.request_token("shop", "web", &request("u1")).await;
    assert_eq!(number(ask().await), 0);
    let scope = Scope::object(&key("serviceaccounts"));
    let wanted = edge.store.scopes().iter().any(|(wanted, _)| *wanted == scope);
    assert!(wanted, "the node follows the account");
    let told = |uid| {
        vec![
            Change::Put(object("serviceaccounts", uid)),
            Change::Complete(scope.clone()),
        ]
    };
    edge.store.apply(told("sa-1")).await.unwrap();
    assert_eq!(number(ask().await), 0);
    edge.store.apply(vec![deleted("serviceaccounts")]).await.unwrap();
    none_is_kept(&edge).await;
    edge.store.apply(told("sa-1")).await.unwrap();
    assert_eq!((number(ask().await), number(ask().await)), (1, 1));
    bench.cut(&edge).await;
    edge.store.apply(told("sa-2")).await.unwrap();
    let given = ask().await;
    assert!(matches!(given, Err(AskError::Away)), "{given:?}");
    edge.stop().await;
}

#[tokio::test]
async fn one_token_too_many_takes_the_place_of_the_one_that_ends_first() {
    let bench = Bench::new();
    pod_is_here(&*bench.store, "u1").await;
    let edge = bench
        .edge(TokenConfig {
            kept_max: 2,
            ..TokenConfig::default()
        })
        .await;
    for seconds in [3600, 600, 7200] {
        let mut request = request("u1");
        request["spec"]["expirationSeconds"] = seconds.into();
        number(edge.handle.request_token("shop", "web", &request).await);
    }
    let kept = edge.handle.kept_tokens();
    let lives: Vec<_> = kept
        .iter()
        .map(|kept| (kept.ends_ms - bench.clock.unix_ms()) / 1000)
        .collect();
    assert_eq!(lives, [3600, 7200]);
    edge.stop().await;
}

#[tokio::test]
async fn tokens_outlive_a_restart_with_the_cable_pulled_in_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.db");
    let over = |dialer: CutDialer| {
        let store = EdgeStore::open(&path).unwrap();
        let hub = EdgeHub::with_store(config(), store.clone())
            .with_dialer(dialer, Endpoint::parse("cloud:10000").unwrap())
            .with_clock(bench.clock.clone())
            .build();
        (Edge::of(hub, TestStore::new()), store)
    };
    let (edge, store) = over(bench.dialer.clone());
    edge.up().await;
    pod_is_here(&store, "u1").await;
    let first = edge
        .handle
        .request_token("shop", "web", &request("u1"))
        .await
        .unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let metadata = file.unwrap().metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let shown = format!("{store:?} {:?} {:?}", edge.handle, edge.handle.kept_tokens());
    assert!(
        !shown.contains(first["status"]["token"].as_str().unwrap()),
        "{shown}"
    );
    edge.stop().await;
    drop(store);

    *bench.cloud.refusing.lock().unwrap() = Some(away());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (edge, store) = over(bench.dialer.clone());
    bench.clock.forward(3599);
    let again = edge
        .handle
        .request_token("shop", "web", &request("u1"))
        .await
        .unwrap();
    assert_eq!(again, first);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "an older file is closed to others too");
    bench.clock.forward(1);
    let over = edge.handle.request_token("shop", "web", &request("u1")).await;
    assert!(matches!(over, Err(AskError::Away)), "{over:?}");
    edge.stop().await;
    drop(store);
}
