//! The objects as the next write finds them: the state that decides.
//!
//! A plain value that the writer owns. What a request does is recorded step by step, so that a request that fails half-way, a dry run,
//! or a group that the disk refuses can be taken back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::{Reason, Status};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::rbac::{self, Rbac};
use hub_core::registry::Registry;
use hub_core::store::Change;
use serde_json::Value;

use super::controllers::garbage::{Dependents, Garbage};
use super::custom::cel::Budget;
use super::custom::structural;
use super::kinds::versions;
use super::{EmbeddedConfig, fault};

/// All objects, and the steps taken since they were last made durable.
pub(super) struct State {
    pub(super) registry: Registry,
    objects: BTreeMap<ObjectKey, Object>,
    revision: u64,
    bytes: usize,
    objects_max: usize,
    bytes_max: usize,
    steps: Vec<Step>,
    /// The definitions of custom kinds, read.
    pub(super) definitions: structural::Read,
    /// What the rules of one object may cost.
    pub(super) budget: Budget,
    pub(super) dependents: Dependents,
    /// The certificate by which pods know the API, where it is known.
    pub(super) authority: Option<Arc<str>>,
    /// What the steps left to be collected.
    pub(super) garbage: VecDeque<Garbage>,
}

struct Step {
    change: Change,
    key: ObjectKey,
    previous: Option<Object>,
    /// Shows the step before it in another version of the kind, under the same revision.
    shown_again: bool,
}

/// A point to go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize);

impl State {
    pub(super) fn new(
        registry: Registry,
        objects: impl IntoIterator<Item = Object>,
        revision: u64,
        config: &EmbeddedConfig,
    ) -> Self {
        let objects: BTreeMap<_, _> = objects.into_iter().map(|o| (o.key.clone(), o)).collect();
        let mut dependents = Dependents::default();
        for object in objects.values() {
            dependents.add(object);
        }
        Self {
            dependents,
            authority: None,
            garbage: VecDeque::new(),
            bytes: objects.values().map(|object| object.body.len()).sum(),
            registry,
            objects,
            revision,
            objects_max: config.objects_max,
            bytes_max: config.bytes_max,
            steps: Vec::new(),
            definitions: structural::Read::default(),
            budget: Budget {
                steps: config.rules_steps_max,
                steps_each: config.rule_steps_max,
            },
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    /// The object as JSON.
    pub(super) fn value(&self, key: &ObjectKey) -> Result<Option<Value>, Status> {
        let parse = |object: &Object| serde_json::from_slice(&object.body);
        self.objects
            .get(key)
            .map(parse)
            .transpose()
            .map_err(|error| fault::internal(format!("{key} is damaged: {error}")))
    }

    /// A collection, or one namespace of it, in the order of lists.
    pub(super) fn list<'a>(
        &'a self,
        resource: &'a GroupVersionResource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Object> {
        self.objects
            .range(ObjectKey::new(resource.clone(), namespace, "")..)
            .map(|(_, object)| object)
            .take_while(move |object| object.key.resource == *resource)
            .take_while(move |object| namespace.is_none() || object.key.namespace.as_deref() == namespace)
    }

    /// Who may do what, by the roles and bindings that are here.
    pub(super) fn rules(&self) -> Rbac {
        let kinds = ["clusterrolebindings", "clusterroles", "rolebindings", "roles"];
        let kinds = kinds.map(|resource| GroupVersionResource::new(rbac::GROUP, "v1", resource));
        Rbac::new(kinds.iter().flat_map(|kind| self.list(kind, None)))
    }

    /// Everything in a namespace, whatever its kind.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<ObjectKey> {
        let inside = |key: &&ObjectKey| key.namespace.as_deref() == Some(namespace);
        self.objects.keys().filter(inside).cloned().collect()
    }

    /// Stores an object under a new version, which is written into it, in every version of its kind.
    pub(super) fn put(
        &mut self,
        resource: &GroupVersionResource,
        value: &mut Value,
    ) -> Result<Object, Status> {
        if !value["metadata"].is_object() {
            return Err(fault::bad_request("an object has metadata"));
        }
        value["metadata"]["resourceVersion"] = (self.revision + 1).to_string().into();
        let object = self.store(resource, value, false)?;
        for kind in versions::others(&self.registry, resource) {
            let shown = versions::convert(self, resource, &kind, value);
            self.store(&kind.resource, &shown, true)?;
        }
        Ok(object)
    }

    fn store(
        &mut self,
        resource: &GroupVersionResource,
        value: &Value,
        shown_again: bool,
    ) -> Result<Object, Status> {
        let body = serde_json::to_vec(value).map(Bytes::from);
        let body = body.map_err(|error| fault::internal(error.to_string()))?;
        let object = Object::from_body(resource.clone(), body)
            .map_err(|error| fault::bad_request(error.to_string()))?;
        let key = object.key.clone();
        let previous = self.objects.get(&key).cloned();
        let replaced = previous.as_ref().map_or(0, |object| object.body.len());
        if previous.is_none() && self.objects.len() >= self.objects_max {
            return Err(full("objects_max"));
        }
        if self.bytes + object.body.len() > self.bytes_max + replaced {
            return Err(full("bytes_max"));
        }
        self.bytes = self.bytes + object.body.len() - replaced;
        if let Some(previous) = &previous {
            self.dependents.remove(previous);
        }
        self.dependents.add(&object);
        self.objects.insert(key.clone(), object.clone());
        self.revision += u64::from(!shown_again);
        self.steps.push(Step {
            change: Change::Put(object.clone()),
            key,
            previous,
            shown_again,
        });
        Ok(object)
    }

    /// Removes an object, from every version of its kind. The deletion has a revision of its own.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Object> {
        let object = self.take(key, false)?;
        for kind in versions::others(&self.registry, &key.resource) {
            let shown = ObjectKey {
                resource: kind.resource.clone(),
                ..key.clone()
            };
            self.take(&shown, true);
        }
        self.garbage.push_back(Garbage::Gone(object.clone()));
        Some(object)
    }

    /// Removes what is left of an object in one version of its kind.
    pub(super) fn take(&mut self, key: &ObjectKey, shown_again: bool) -> Option<Object> {
        let object = self.objects.remove(key)?;
        self.bytes -= object.body.len();
        self.dependents.remove(&object);
        self.revision += u64::from(!shown_again);
        self.steps.push(Step {
            change: Change::Delete {
                key: key.clone(),
                uid: Some(object.uid.clone()),
                version: Some(self.revision.to_string().into()),
            },
            key: key.clone(),
            previous: Some(object.clone()),
            shown_again,
        });
        Some(object)
    }

    /// What was there before each step since the mark, and after it; each object in its own version only.
    pub(super) fn steps_since(
        &self,
        mark: Mark,
    ) -> impl Iterator<Item = (&ObjectKey, Option<&Object>, Option<&Object>)> {
        let steps = self.steps.get(mark.0..).unwrap_or_default().iter();
        steps.filter(|step| !step.shown_again).map(|step| {
            let now = match &step.change {
                Change::Put(object) => Some(object),
                _ => None,
            };
            (&step.key, step.previous.as_ref(), now)
        })
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.steps.len())
    }

    /// Takes back every step since the mark.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        while self.steps.len() > mark.0 {
            let Some(step) = self.steps.pop() else { return };
            self.revision -= u64::from(!step.shown_again);
            let now = match step.previous {
                Some(object) => {
                    self.bytes += object.body.len();
                    self.dependents.add(&object);
                    self.objects.insert(step.key, object)
                }
                None => self.objects.remove(&step.key),
            };
            if let Some(now) = now {
                // An owner of both keeps its dependent.
                self.dependents.remove(&now);
                if let Some(back) = self.objects.get(&now.key) {
                    self.dependents.add(back);
                }
                self.bytes -= now.body.len();
            }
        }
    }

    /// Takes back every step that is not durable.
    pub(super) fn roll_back_all(&mut self) {
        self.roll_back(Mark(0));
    }

    /// The steps that are not durable yet.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.steps.iter().map(|step| &step.change)
    }

    /// All steps are durable.
    pub(super) fn settle(&mut self) -> Vec<Change> {
        self.steps.drain(..).map(|step| step.change).collect()
    }
}

fn full(limit: &str) -> Status {
    Status::failure(
        Reason::InternalError,
        format!("the embedded cluster is full: {limit} is reached"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn small(objects_max: usize) -> EmbeddedConfig {
        EmbeddedConfig {
            objects_max,
            bytes_max: 10_000,
            ..EmbeddedConfig::default()
        }
    }

    #[test]
    fn what_is_rolled_back_never_was() {
        let pods = GroupVersionResource::core("pods");
        let mut state = State::new(Registry::builtin(), [], 7, &small(10));
        let pod = |name: &str, n: u32| json!({"metadata":{"name":name,"namespace":"d","uid":name},"n":n});
        let first = state.put(&pods, &mut pod("a", 1)).unwrap();
        assert_eq!(first.version.as_str(), "8");
        state.settle();
        let (mark, bytes) = (state.mark(), state.bytes);
        state.put(&pods, &mut pod("a", 22)).unwrap();
        state.put(&pods, &mut pod("b", 1)).unwrap();
        state.remove(&first.key).unwrap();
        state.roll_back(mark);
        assert_eq!((state.revision, state.bytes, state.objects.len()), (8, bytes, 1));
        assert_eq!(state.get(&first.key), Some(&first));
        assert_eq!(state.changes().count(), 0);
    }

    #[test]
    fn a_full_state_refuses_what_would_make_it_grow() {
        let pods = GroupVersionResource::core("pods");
        let mut state = State::new(Registry::builtin(), [], 1, &small(1));
        let pod = |name: &str| json!({"metadata":{"name":name,"namespace":"d"}});
        state.put(&pods, &mut pod("a")).unwrap();
        state.put(&pods, &mut pod("a")).unwrap();
        assert!(
            state
                .put(&pods, &mut pod("b"))
                .unwrap_err()
                .message
                .contains("objects_max")
        );
    }
}
