//! client-go: informers of pods, ConfigMaps and Services on a node, through a cut link, a cloud and a node that begin anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use hub_core::testing::client_go::{self, Release};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::allow_nodes;
use crate::client::Api;
use crate::world::{CONFIGMAPS, CloudHalf, NODE, PODS, SERVICES, Tunnel, config_map, pod, service, settles};

/// Kind and name; uid and the label `text`.
type Held = BTreeMap<(String, String), (String, String)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informers_of_client_go_live_through_cuts_and_restarts_miss_nothing_and_list_once() {
    live(Release::Trixie).await;
}

/// Debian's newest moves, so it cannot be a gate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "with whatever client-go is the newest today"]
async fn informers_of_the_newest_client_go_live_through_cuts_and_restarts_miss_nothing_and_list_once() {
    live(Release::Sid).await;
}

async fn live(release: Release) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/clients/informers.go");
    let made = move || client_go::program(env!("CARGO_TARGET_TMPDIR"), release, &source);
    let program = tokio::task::spawn_blocking(made).await.unwrap();

    let mut cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let api = cloud.api;
    allow_nodes(&cloud).await;
    for name in ["a", "b"] {
        make(api, name, "1").await;
    }
    let wanted = ["configmaps", "pods", "services"];
    let mut edge = cloud
        .edge_with(NODE, &wanted, |config, _| {
            config.edge_tunnel.metrics = "127.0.0.1:0".into()
        })
        .await;
    let informers = ["false", "true"].map(|streaming| Informers::start(&program, edge.api, streaming));
    let all_hold_what_the_cloud_has = async |when: &str| {
        let truth = truth(api).await;
        for informers in &informers {
            let what = format!("{when}, streaming lists {}", informers.streaming);
            settles(&what, async || informers.heard().held == truth).await;
        }
    };
    all_hold_what_the_cloud_has("at first").await;

    edge.cut().await;
    let mut deleted = change(api, "2").await;
    edge.restore().await;
    all_hold_what_the_cloud_has("after a cut").await;

    cloud = cloud.restarted().await;
    deleted.add(change(api, "3").await);
    all_hold_what_the_cloud_has("after the cloud began anew").await;

    edge = edge.restarted(async || {}).await;
    deleted.add(change(api, "4").await);
    all_hold_what_the_cloud_has("after the node began anew").await;

    let mut meanwhile = Deleted::default();
    edge = edge.restarted(async || meanwhile = change(api, "5").await).await;
    deleted.add(meanwhile);
    all_hold_what_the_cloud_has("after changes while the node was away").await;

    for informers in &informers {
        let heard = informers.heard().deleted;
        let untold: Vec<_> = deleted.known.difference(&heard).collect();
        let invented: Vec<_> = heard
            .iter()
            .filter(|uid| !deleted.known.contains(*uid) && !deleted.brief.contains(*uid))
            .collect();
        assert!(
            untold.is_empty() && invented.is_empty(),
            "untold {untold:?}, invented {invented:?}"
        );
    }
    let metrics = edge.metrics.unwrap().text("/metrics").await;
    let asked = |verb: &str| {
        let verb = format!("verb=\"{verb}\"");
        metrics
            .lines()
            .any(|line| line.contains("metaserver_requests_total{") && line.contains(&verb))
    };
    assert!(
        asked("watch") && !asked("list"),
        "a node that began anew is not listed again: {metrics}"
    );
    drop(informers);
    edge.end().await;
    cloud.end().await;
}

/// In every kind one object is changed, one deleted, one deleted and made anew, and one added.
async fn change(api: Api, text: &str) -> Deleted {
    let before = truth(api).await;
    make(api, "brief", text).await;
    let between = truth(api).await;
    let uid = |held: &Held, kind: &str, name: &str| held[&(kind.to_owned(), name.to_owned())].0.clone();
    let mut deleted = Deleted::default();
    for (kind, path) in KINDS {
        let label = json!({ "metadata": { "labels": { "text": text } } });
        api.merge(&format!("{path}/b"), label).await;
        api.delete(&format!("{path}/a")).await;
        api.delete(&format!("{path}/brief")).await;
        deleted.known.insert(uid(&before, kind, "a"));
        deleted.brief.insert(uid(&between, kind, "brief"));
    }
    make(api, "a", text).await;
    make(api, &format!("new-{text}"), text).await;
    deleted
}

/// Which objects were deleted, by their uids.
#[derive(Debug, Default)]
struct Deleted {
    /// Those that the node had.
    known: BTreeSet<String>,
    /// Those that were made a moment before: whoever is told the newest state need never hear of them.
    brief: BTreeSet<String>,
}

impl Deleted {
    fn add(&mut self, more: Self) {
        self.known.extend(more.known);
        self.brief.extend(more.brief);
    }
}

async fn make(api: Api, name: &str, text: &str) {
    let objects = [
        config_map(name, text),
        pod(name, None, "a", "none"),
        service(name),
    ];
    for ((_, path), mut object) in KINDS.into_iter().zip(objects) {
        object["metadata"]["labels"] = json!({ "text": text });
        api.create(path, object).await;
    }
}

async fn truth(api: Api) -> Held {
    let mut held = Held::new();
    for (kind, path) in KINDS {
        let list = api.read(path).await;
        for item in list["items"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &item["metadata"];
            held.insert(
                (kind.to_owned(), text(&metadata["name"])),
                (text(&metadata["uid"]), text(&metadata["labels"]["text"])),
            );
        }
    }
    held
}

/// A run of the program, and what it said.
struct Informers {
    streaming: &'static str,
    heard: Arc<Mutex<Heard>>,
    _child: Child,
}

#[derive(Debug, Clone, Default)]
struct Heard {
    held: Held,
    /// The uids of what was deleted.
    deleted: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    kind: String,
    event: String,
    name: String,
    uid: String,
    text: String,
}

impl Informers {
    fn start(program: &Path, server: Api, streaming: &'static str) -> Self {
        let mut child = Command::new(program)
            .args([format!("http://{}", server.0), "shop".into()])
            .env("KUBE_FEATURE_WatchListClient", streaming)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (mut lines, told) = (
            BufReader::new(child.stdout.take().unwrap()).lines(),
            heard.clone(),
        );
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                told.lock().unwrap().take(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            streaming,
            heard,
            _child: child,
        }
    }

    fn heard(&self) -> Heard {
        self.heard.lock().expect("what was heard makes sense").clone()
    }
}

impl Heard {
    /// What an informer hears must follow from what it heard before.
    fn take(&mut self, line: Line) {
        let Line {
            kind,
            event,
            name,
            uid,
            text,
        } = line;
        let key = (kind, name);
        let known = self.held.get(&key).map(|(uid, _)| uid.clone());
        match &*event {
            "added" => assert_eq!(known, None, "{key:?} was there"),
            "updated" => assert_eq!(known, Some(uid.clone()), "{key:?} was another, or none"),
            "deleted" => {
                assert_eq!(known, Some(uid.clone()), "{key:?} was another, or none");
                assert!(self.deleted.insert(uid), "{key:?} is deleted again");
                self.held.remove(&key);
                return;
            }
            other => panic!("{key:?} {other}"),
        }
        self.held.insert(key, (uid, text));
    }
}

/// In the words of the program.
const KINDS: [(&str, &str); 3] = [("configmaps", CONFIGMAPS), ("pods", PODS), ("services", SERVICES)];
