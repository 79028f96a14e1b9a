//! Requests in the name of nodes, and what becomes of them when the server is in no mood.

use std::time::Duration;

use cloudhub::cluster::{Cluster, ClusterError};
use hub_core::api::{ApiRequest, Target, UpstreamError, User, Verb};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use serde_json::{Value, json};

use crate::server::{Mood, Server};
use crate::view::{View, within};

fn config_maps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

fn read(name: &str) -> ApiRequest {
    ApiRequest::resource(Verb::Get, config_maps(), Some("default"), Some(name))
}

fn create(name: &str) -> ApiRequest {
    let body = json!({ "metadata": { "name": name } });
    ApiRequest::resource(Verb::Create, config_maps(), Some("default"), None)
        .with_body("application/json", body.to_string())
}

#[tokio::test]
async fn a_request_is_made_in_the_name_of_the_node_and_answered_byte_for_byte() {
    let server = Server::new();
    let cluster = server.cluster();
    let mut request = create("a");
    request.user = Some(User {
        name: "system:node:edge-1".into(),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    });
    let answer = cluster.execute(request).await.unwrap();
    assert_eq!((answer.code, &*answer.content_type), (201, "application/json"));
    let seen = server.seen(|line| line == "POST /api/v1/namespaces/default/configmaps");
    let header = |name: &str| {
        seen[0]
            .headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(header("impersonate-user"), ["system:node:edge-1"]);
    assert_eq!(header("impersonate-group"), ["system:nodes"]);

    let missing = cluster.execute(read("b")).await.unwrap();
    let own = server.truth.execute(read("b")).await.unwrap();
    assert_eq!(
        (missing.code, missing.body.trim_ascii()),
        (own.code, own.body.trim_ascii())
    );
    assert!(
        server.seen(|line| line.ends_with("/b"))[0]
            .headers
            .get("impersonate-user")
            .is_none()
    );

    let mut version = ApiRequest::new(Verb::Get, Target::Path("/apis".into()));
    version.accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList".into();
    let answer = cluster.execute(version).await.unwrap();
    assert!(
        answer.content_type.contains("as=APIGroupDiscoveryList"),
        "{}",
        answer.content_type
    );
    let hidden = ApiRequest {
        query: "watch=1".into(),
        ..ApiRequest::resource(Verb::List, config_maps(), None, None)
    };
    assert_eq!(cluster.execute(hidden).await.unwrap().code, 400);
    let odd = cluster.execute(read("../../secrets")).await.unwrap();
    assert_eq!(odd.code, 400);
}

#[tokio::test]
async fn where_there_is_no_answer_the_error_says_what_may_have_happened() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    let cluster = server.cluster_with(|config| config.request_deadline = Duration::from_millis(200));
    let key = ObjectKey::new(config_maps(), Some("default"), "a");
    let expect = async |mood: Mood, reads: UpstreamError, writes: UpstreamError| {
        server.mood(mood.clone());
        assert_eq!(cluster.execute(read("a")).await, Err(reads), "{mood:?}");
        assert_eq!(cluster.execute(create("z")).await, Err(writes), "{mood:?}");
        let got = cluster.get(key.clone()).await;
        assert!(
            matches!(got, Err(ClusterError::Unreachable(_))),
            "{mood:?}: {got:?}"
        );
    };
    expect(Mood::Away, UpstreamError::Unreachable, UpstreamError::Unreachable).await;
    expect(Mood::Cut, UpstreamError::Unreachable, UpstreamError::Timeout).await;
    expect(
        Mood::Slow(Duration::from_secs(3)),
        UpstreamError::Timeout,
        UpstreamError::Timeout,
    )
    .await;
    expect(
        Mood::Proxy,
        UpstreamError::Unreachable,
        UpstreamError::Unreachable,
    )
    .await;
    server.mood(Mood::Good);
    let object = cluster.get(key).await.unwrap().unwrap();
    assert_eq!(&*object.key.name, "a");
    let absent = ObjectKey::new(config_maps(), Some("default"), "nobody");
    assert_eq!(cluster.get(absent).await, Ok(None));
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_only_where_it_says_when() {
    let server = Server::new();
    let cluster = server.cluster();
    let attempts = || {
        let created = |line: &str| line.starts_with("POST") && line.ends_with("configmaps");
        server.seen(created).len()
    };
    server.mood(Mood::Later);
    assert_eq!(cluster.execute(create("a")).await.unwrap().code, 503);
    assert_eq!(attempts(), 4);
    server.mood(Mood::Proxy);
    assert_eq!(
        cluster.execute(create("a")).await,
        Err(UpstreamError::Unreachable)
    );
    assert_eq!(attempts(), 5);
    assert!(cluster.silence().is_some());
    server.mood(Mood::Good);
    assert_eq!(cluster.execute(create("a")).await.unwrap().code, 201);
    assert_eq!(cluster.silence(), None);
}

#[tokio::test]
async fn a_page_of_a_proxy_is_no_answer_whatever_its_code() {
    let server = Server::new();
    let cluster = server.cluster();
    for page in ["<html>welcome</html>", "{}", "[]", "\"OK\"", ""] {
        server.mood(Mood::Garbage(page));
        assert_eq!(
            cluster.execute(create("a")).await,
            Err(UpstreamError::Timeout),
            "{page}"
        );
        let mut read = create("a");
        read.verb = Verb::List;
        assert_eq!(
            cluster.execute(read).await,
            Err(UpstreamError::Unreachable),
            "{page}"
        );
    }
}

#[tokio::test]
async fn however_many_ask_at_once_few_are_under_way() {
    let server = Server::new();
    let cluster = server.cluster_with(|config| {
        config.concurrency = 8;
        config.queries_per_second = 0;
    });
    // What discovery and the review of rights ask comes beside it.
    let beside = 8;
    server.mood(Mood::Slow(Duration::from_millis(5)));
    server.most_under_way();
    let asked = (0..200).map(|n| cluster.execute(create(&format!("c{n}"))));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap().code, 201);
    }
    let most = server.most_under_way();
    assert!((2..=8 + beside).contains(&most), "{most} at once");
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_its_last_word_is_passed_on() {
    let server = Server::new();
    let cluster = server.cluster();
    server.mood(Mood::Busy);
    let answer = cluster.execute(create("a")).await.unwrap();
    let status: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.code, &status["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(
        server
            .seen(|line| line.starts_with("POST") && line.ends_with("configmaps"))
            .len(),
        4
    );
    let later = {
        let cluster = cluster.clone();
        tokio::spawn(async move { cluster.execute(create("b")).await })
    };
    while server
        .seen(|line| line.starts_with("POST") && line.ends_with("configmaps"))
        .len()
        < 5
    {
        tokio::task::yield_now().await;
    }
    server.mood(Mood::Good);
    assert_eq!(later.await.unwrap().unwrap().code, 201);
}

#[tokio::test]
async fn a_denial_is_the_node_s_and_a_missing_right_to_impersonate_is_ours() {
    let server = Server::new();
    let cluster = server.cluster();
    server.mood(Mood::Forbids("configmaps/a"));
    let denied = cluster.execute(read("a")).await.unwrap();
    assert_eq!(denied.code, 403, "the API server's word is final");
    let ours: Vec<_> = cluster.missing_rights().iter().map(ToString::to_string).collect();
    assert_eq!(
        ours,
        [r#"- {apiGroups: [""], resources: ["configmaps"], verbs: ["get"]}"#]
    );
    server.mood(Mood::NoImpersonation);
    let mut as_node = read("a");
    as_node.user = Some(User {
        name: "system:node:edge-1".into(),
        ..User::default()
    });
    assert_eq!(cluster.execute(as_node).await, Err(UpstreamError::Unreachable));
    let missing: Vec<_> = cluster.missing_rights().iter().map(ToString::to_string).collect();
    assert_eq!(
        missing[1..],
        [r#"- {apiGroups: [""], resources: ["users"], verbs: ["impersonate"]}"#]
    );
}

#[tokio::test]
async fn more_requests_than_may_wait_are_told_so() {
    let server = Server::new();
    let cluster = server.cluster_with(|config| {
        config.concurrency = 1;
        config.waiting_max = 1;
        config.request_deadline = Duration::from_millis(300);
    });
    // The review of rights at the start takes its turn as well.
    while server
        .seen(|line| line.contains("selfsubjectaccessreviews"))
        .len()
        < 10
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.mood(Mood::Slow(Duration::from_secs(3)));
    let answers = futures::future::join_all((0..8).map(|_| cluster.execute(read("a")))).await;
    let overloaded = answers
        .iter()
        .filter(|answer| **answer == Err(UpstreamError::Overloaded))
        .count();
    assert!(overloaded >= 6, "{answers:?}");
}

#[tokio::test]
async fn a_server_that_has_just_come_back_denies_nothing_for_good() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    let cluster = server.cluster_with(|config| config.settling = Duration::from_millis(500));
    let ask = async || {
        let list = ApiRequest::resource(Verb::List, config_maps(), Some("default"), None);
        let user = User {
            name: "system:node:edge-1".into(),
            ..User::default()
        };
        let list = ApiRequest {
            user: Some(user),
            ..list
        };
        cluster.execute(list).await.map(|answer| answer.code)
    };
    assert_eq!(ask().await, Ok(200));
    server.mood(Mood::Away);
    server.cut();
    within("a silence", async {
        while cluster
            .silence()
            .is_none_or(|silence| silence < Duration::from_millis(1100))
        {
            let _ = ask().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    // It has not read its roles yet.
    server.mood(Mood::Forbids("configmaps"));
    within("the first answer", async {
        while cluster.silence().is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let mut view = View::of(&cluster, Scope::all(config_maps()));
    assert_eq!(ask().await, Err(UpstreamError::Unreachable));
    view.read_now();
    assert_eq!(view.refused, None);
    assert_eq!(cluster.missing_rights(), []);
    // Some time later a denial is one.
    within("a denial", async {
        while ask().await != Ok(403) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    view.until("the refusal", |view| view.refused.is_some()).await;
}
