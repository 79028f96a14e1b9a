//! Server-side apply: the embedded cluster and a real API server are told the same, and say the same.
//!
//! What is compared is a custom kind and config maps: the types of other built-in kinds have changed since the older servers. Run it
//! by hand against a server of these days: with 1.20 it ends at what that one does otherwise (an object applied without a map that it
//! had applied before is refused there).

use cloudhub::cluster::{Cluster, EmbeddedCluster, EmbeddedConfig};
use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};

use crate::real::Admin;
use crate::world::until;

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn whoever_writes_in_whatever_order_both_servers_say_the_same() {
    let admin = Admin::new("apply").await;
    let folder = tempfile::tempdir().unwrap();
    let embedded = EmbeddedCluster::open(&folder.path().join("cluster"), EmbeddedConfig::default()).unwrap();
    let servers: [&dyn Cluster; 2] = [&admin.cluster, &embedded];
    let group = format!("{}.example.com", admin.namespace);
    let namespaces = GroupVersionResource::core("namespaces");
    let namespace = json!({ "metadata": { "name": admin.namespace } });
    let made = create(&embedded, &namespaces, None, &namespace).await;
    assert!(made.is_success(), "{made:?}");
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    for server in servers {
        let made = create(server, &definitions, None, &definition(&group)).await;
        assert!(made.is_success(), "{made:?}");
    }
    let widgets = GroupVersionResource::new(group.as_str(), "v1", "widgets");
    until("the kind is served", async || {
        let probe = apply(
            &widgets,
            &admin.namespace,
            "probe",
            "probe",
            true,
            &widget(&group, "probe", json!({})),
        );
        let answer = admin.cluster.execute(probe).await.ok()?;
        answer.is_success().then_some(())
    })
    .await;

    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_261_122);
    let mut dice = Dice(seed);
    for round in 0..ROUNDS {
        let name = format!("o{round}");
        for step in 0..STEPS {
            let request = dice.request(&widgets, &group, &admin.namespace, &name, round % 2 == 0);
            let mut answers = Vec::new();
            for server in servers {
                answers.push(said(&server.execute(request.clone()).await.unwrap()));
            }
            assert_eq!(
                answers[1],
                answers[0],
                "seed {seed}, round {round}, step {step}: {} {} {}",
                request.content_type,
                request.query,
                String::from_utf8_lossy(&request.body)
            );
        }
    }
    let delete = ApiRequest::resource(Verb::Delete, definitions, None, Some(&format!("widgets.{group}")));
    assert!(admin.cluster.execute(delete).await.unwrap().is_success());
    admin.end().await;
}

/// A random walk over writers, kinds of writes and contents. The same seed walks the same way.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // A linear congruential generator (Knuth, MMIX) is random enough.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let sides = u64::try_from(from.len()).unwrap();
        from[usize::try_from(self.roll(sides)).unwrap()]
    }

    fn request(
        &mut self,
        widgets: &GroupVersionResource,
        group: &str,
        namespace: &str,
        name: &str,
        custom: bool,
    ) -> ApiRequest {
        let manager = self.pick(&["one", "two", "three"]);
        let resource = if custom {
            widgets.clone()
        } else {
            GroupVersionResource::core("configmaps")
        };
        let object = if custom {
            widget(group, name, self.spec())
        } else {
            let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            object["data"] = self.texts();
            object["metadata"]["labels"] = self.texts();
            object
        };
        if self.roll(4) > 0 {
            let force = self.roll(2) == 0;
            return apply(&resource, namespace, name, manager, force, &object);
        }
        let mut patch = object;
        patch
            .as_object_mut()
            .unwrap()
            .retain(|field, _| matches!(field.as_str(), "data" | "spec"));
        let mut request = ApiRequest::resource(Verb::Patch, resource, Some(namespace), Some(name))
            .with_body("application/merge-patch+json", patch.to_string());
        request.query = format!("fieldManager={manager}");
        request
    }

    fn texts(&mut self) -> Value {
        // Never none: servers before structured-merge-diff 4.1 do not own an empty map, later ones and ours do.
        let count = 1 + self.roll(2);
        let texts = (0..count).map(|_| {
            (
                self.pick(&["a", "b", "c"]).to_owned(),
                self.pick(&["1", "2"]).into(),
            )
        });
        Value::Object(texts.collect())
    }

    fn spec(&mut self) -> Value {
        let mut spec = json!({});
        if self.roll(2) == 0 {
            spec["color"] = self.pick(&["red", "blue"]).into();
        }
        if self.roll(2) == 0 {
            spec["whole"] = self.texts();
        }
        if self.roll(2) == 0 {
            spec["texts"] = self.texts();
        }
        if self.roll(2) == 0 {
            spec["tags"] = self.texts().as_object().unwrap().keys().cloned().collect();
        }
        if self.roll(2) == 0 {
            let names: Vec<String> = self.texts().as_object().unwrap().keys().cloned().collect();
            let part = |name: &String| json!({"name": name, "text": self.pick(&["1", "2"])});
            spec["parts"] = names.iter().map(part).collect();
        }
        if self.roll(4) == 0 {
            // No deeper: what nobody declares older servers own as a whole, from the second level on.
            spec["free"] = json!({"flat": self.pick(&["1", "2"]), "list": [self.pick(&["1", "2"])]});
        }
        spec
    }
}

fn definition(group: &str) -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let mut whole = texts.clone();
    whole["x-kubernetes-map-type"] = "atomic".into();
    let part = json!({"type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}, "text": {"type": "string"}}});
    let spec = json!({"type": "object", "properties": {
        "color": {"type": "string"},
        "size": {"type": "integer", "default": 1},
        "whole": whole,
        "texts": texts,
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": part},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
}

fn widget(group: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

fn apply(
    resource: &GroupVersionResource,
    namespace: &str,
    name: &str,
    manager: &str,
    force: bool,
    object: &Value,
) -> ApiRequest {
    let mut request = ApiRequest::resource(Verb::Patch, resource.clone(), Some(namespace), Some(name))
        .with_body("application/apply-patch+yaml", object.to_string());
    request.query = format!("fieldManager={manager}&force={force}");
    request
}

async fn create(
    server: &dyn Cluster,
    resource: &GroupVersionResource,
    namespace: Option<&str>,
    object: &Value,
) -> ApiResponse {
    let request = ApiRequest::resource(Verb::Create, resource.clone(), namespace, None)
        .with_body("application/json", object.to_string());
    server.execute(request).await.unwrap()
}

/// An answer without what differs between any two servers. Who owns what comes in one order, and causes too.
fn said(answer: &ApiResponse) -> Value {
    let mut said: Value = serde_json::from_slice(&answer.body).unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "selfLink"] {
        said["metadata"].as_object_mut().unwrap().remove(field);
    }
    if let Some(entries) = said["metadata"]["managedFields"].as_array_mut() {
        for entry in &mut *entries {
            entry.as_object_mut().unwrap().remove("time");
        }
        entries.sort_by_key(Value::to_string);
    }
    if let Some(causes) = said["details"]["causes"].as_array_mut() {
        causes.sort_by_key(Value::to_string);
    }
    json!({"code": answer.code, "body": said})
}

const ROUNDS: u32 = 40;
const STEPS: u32 = 12;
