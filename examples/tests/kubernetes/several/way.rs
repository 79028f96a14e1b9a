//! The way of one object can be followed through both halves, by what each step says under the target `way`.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use edgehub::Report;
use hub_core::message::{Content, Message, MessageId, Operation, Route};
use hub_core::session::Lane;
use serde_json::{Value, json};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::fleet::{Fleet, OURS, Ours, config, node, pod, settled};
use crate::world::until;

// One thread, so that the subscriber hears of everything here and of nothing else.
#[tokio::test]
async fn every_step_of_an_object_names_its_version_and_every_step_of_a_report_its_id() {
    let said = Said::default();
    let lines = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::new("way=debug"))
        .with_writer(said.clone())
        .finish();
    // Where there is one subscriber only, tracing asks that of the thread which takes a step first, a test beside this one perhaps, and
    // remembers that nobody wants to hear of it.
    let _second = tracing::Dispatch::new(NoSubscriber::default());
    let _here = tracing::subscriber::set_default(lines);
    let fleet = Fleet::new(1, |_| {}).await;
    fleet.put("nodes", node(OURS), "").await;
    fleet.put("configmaps", config("blue"), "").await;
    fleet.put("pods", pod("p", OURS, "blue"), "").await;
    fleet.ready().await;
    let ours = Ours::start(&fleet, OURS, None);
    settled(&fleet, OURS, || ours.held()).await;

    // Down: a change in the cluster, until the hub knows that it is on the node's disk.
    fleet.put("configmaps", config("blue"), "changed").await;
    settled(&fleet, OURS, || ours.held()).await;
    let truth = fleet.truth(OURS).await;
    let version = truth["configmap/blue"]
        .rsplit(' ')
        .next()
        .unwrap()
        .trim_matches('"');
    let down = [
        "the API server tells of a change",
        "sent",
        "on the disk",
        "acknowledged",
    ];
    let told = said.in_order(&down, "version", version).await;
    let id = told[1]["id"].clone();
    assert_eq!((&told[2]["span"]["id"], &told[3]["id"]), (&id, &id), "{told:#?}");
    assert!(told[0]["object"].as_str().unwrap().contains("blue"), "{told:#?}");
    assert!(
        told[1..]
            .iter()
            .all(|line| line["node"] == OURS || line["span"]["node"] == OURS),
        "{told:#?}"
    );

    // Up: a report, until the node knows what the API server said to it.
    let route = Route::new("edged", "meta", Operation::Patch, "default/podpatch/p");
    let patch = json!({ "status": { "phase": "Running" } }).to_string();
    let mut message = Message::new(route, Content::string(&patch));
    message.header.id = MessageId::random();
    let id = message.header.id.to_string();
    let report = Report {
        key: "status".into(),
        lane: Lane::Own,
        message,
    };
    ours.handle.report(report).await.unwrap();
    // Whoever sends it is awake as soon as it is on the disk, and may say so first.
    let kept = said.in_order(&["in the journal"], "id", &id).await;
    let up = ["sent", "asked the API server", "answered", "acknowledged"];
    let told = said.in_order(&up, "id", &id).await;
    assert_eq!(
        (&told[1]["method"], &told[1]["code"]),
        (&json!("PATCH"), &json!(200))
    );
    assert!(
        kept.iter()
            .chain(&told)
            .all(|line| line["node"] == OURS || line["span"]["node"] == OURS),
        "{told:#?}"
    );
    ours.end().await;
}

/// What was said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// The lines with these messages, one after the other, in which a field, or that of the span around it, has this value.
    async fn in_order(&self, messages: &[&str], field: &str, value: &str) -> Vec<Value> {
        let steps = async || {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut of_it = lines.filter(|line| line[field] == value || line["span"][field] == value);
            let found = messages
                .iter()
                .map(|message| of_it.find(|line| line["message"] == *message));
            found.collect::<Option<Vec<_>>>()
        };
        until(&format!("{messages:?} of {field} {value}"), steps).await
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Said {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
