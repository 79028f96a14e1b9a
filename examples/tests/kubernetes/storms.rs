//! Whatever the API server does for a while: once it is good again, every watch shows the truth, and nothing was deleted that was
//! there.

use std::collections::BTreeSet;
use std::time::Duration;

use cloudhub::cluster::KubeCluster;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::random::Random;
use hub_core::scope::Scope;
use hub_core::store::ObjectStore;

use crate::server::{Mood, Server};
use crate::view::View;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_storm_every_watch_shows_the_truth() {
    for seed in 0..STORMS {
        storm(seed).await;
    }
}

async fn storm(seed: u64) {
    let mut random = Random::new(seed);
    let server = Server::new();
    let cluster = server.cluster_with(|config| {
        config.page_objects = 1 + random.below(5) as u32;
        config.history_max = 1 + random.below(40) as usize;
        config.narrow_watches_max = random.below(3) as usize;
        config.request_deadline = Duration::from_millis(50);
        config.watch_duration = Duration::from_secs(2);
    });
    if random.below(2) == 0 {
        server.mood(Mood::NoStreams);
    }
    let config_maps = || GroupVersionResource::core("configmaps");
    let scopes = [
        Scope::all(config_maps()),
        Scope::namespaced(config_maps(), "default"),
        Scope {
            labels: "app=x".into(),
            ..Scope::all(config_maps())
        },
        Scope::object(&ObjectKey::new(config_maps(), Some("default"), "m1")),
    ];
    let mut views: Vec<_> = scopes
        .iter()
        .map(|scope| View::of(&cluster, scope.clone()))
        .collect();
    let mut deleted = BTreeSet::new();
    for _ in 0..STEPS {
        let name = format!("m{}", random.below(8));
        let label = if random.below(2) == 0 { "x" } else { "y" };
        match random.below(12) {
            0..5 => drop(server.put(&name, label, &random.number().to_string()).await),
            5..7 => {
                let held = server.truth.store_get(&name);
                deleted.extend(held);
                server.delete(&name).await;
            }
            7 => server.cut(),
            8 => tokio::time::sleep(Duration::from_millis(random.below(15))).await,
            9 => {
                // A reader comes and goes.
                let at = random.below(views.len() as u64) as usize;
                views[at] = View::of(&cluster, scopes[at].clone());
            }
            _ => server.mood(mood(&mut random)),
        }
        for view in &mut views {
            view.read_now();
        }
    }
    server.mood(Mood::Good);
    settle(seed, &server, &cluster, &scopes, &mut views).await;
    // The first one shows everything: what it was told to be gone is gone, in truth.
    for gone in &views[0].gone {
        assert!(
            deleted.contains(&*gone.uid),
            "seed {seed}: {gone:?} was there all the time"
        );
    }
}

async fn settle(seed: u64, server: &Server, cluster: &KubeCluster, scopes: &[Scope], views: &mut [View]) {
    // Watches that were refused for good are asked for again, as the hub does.
    for (view, scope) in views.iter_mut().zip(scopes) {
        view.read_now();
        if view.refused.is_some() {
            *view = View::of(cluster, scope.clone());
        }
    }
    let truth = server.truth.list(&GroupVersionResource::core("configmaps"), None);
    for (view, scope) in views.iter_mut().zip(scopes) {
        let expected: Vec<_> = truth
            .objects
            .iter()
            .map(|stored| &stored.object)
            .filter(|object| scope.contains_key(&object.key))
            .filter(|object| {
                scope.labels.is_empty() || String::from_utf8_lossy(&object.body).contains(r#""app":"x""#)
            })
            .map(|object| (object.key.clone(), object.version.clone()))
            .collect();
        let what = format!("seed {seed}: the truth of {scope}: {expected:?}");
        view.until(&what, |view| {
            let held = view
                .objects
                .values()
                .map(|object| (object.key.clone(), object.version.clone()));
            view.is_synced && held.collect::<Vec<_>>() == expected
        })
        .await;
    }
}

trait Uids {
    fn store_get(&self, name: &str) -> Option<String>;
}

impl Uids for cloudhub::cluster::EmbeddedCluster {
    fn store_get(&self, name: &str) -> Option<String> {
        let key = ObjectKey::new(GroupVersionResource::core("configmaps"), Some("default"), name);
        self.get(&key).map(|stored| stored.object.uid.to_string())
    }
}

const STORMS: u64 = 40;
const STEPS: u64 = 120;

fn mood(random: &mut Random) -> Mood {
    match random.below(14) {
        0..4 => Mood::Good,
        4 => Mood::Away,
        5 => Mood::Slow(Duration::from_millis(random.below(80))),
        6 => Mood::Busy,
        7 => Mood::Garbage("<html>"),
        8 => Mood::Garbage(r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[]}"#),
        9 => Mood::Cut,
        10 => Mood::Expired,
        11 => Mood::Forbids("configmaps"),
        12 => Mood::NoStreams,
        _ => Mood::Proxy,
    }
}
