//! What of a write is done before its turn: reading what the client sent, and all else that needs nothing of what the cluster holds.
//!
//! Whoever asks does it, on its own thread, so that the one thread that decides has less to do for each. Objects of custom kinds are
//! read in their turn, since what defines their kinds may change until then; so are long bodies, which take many times their length once
//! they are read.

use hub_core::api::{ApiRequest, Status, Verb};
use hub_core::registry::Registry;
use serde_json::Value;

use super::call::{Call, has_generation, has_status, is, meta};
use super::custom::definition;
use super::fault;
use super::identity::review;
use super::kinds::{defaults, fields, versions};
use super::values::clock;
use super::verbs::create::{read_body, set_namespace};
use super::verbs::generated_name;
use super::verbs::managed::{self, Written};

/// What the body of a request says, read ahead of the request's turn.
pub(super) struct Draft {
    read: Result<Read, Status>,
    warnings: Vec<String>,
}

enum Read {
    New(New),
    Whole(Value),
}

/// A new object with all that it has of itself: its name, its identity, the defaults of its version, and who owns what of it.
pub(super) struct New {
    pub(super) value: Value,
    /// As they stand in its metadata; null where nobody owns anything.
    pub(super) owners: Value,
    /// What its name was made of, if it came with none.
    pub(super) base: Option<String>,
}

impl Draft {
    /// None for what has to be read in its turn.
    pub(super) fn of(request: &ApiRequest, registry: &Registry) -> Option<Self> {
        if request.body.len() > DRAFT_BYTES_MAX || !matches!(request.verb, Verb::Create | Verb::Update) {
            return None;
        }
        let call = Call::new(request, registry).ok()?;
        let kind = &*call.kind;
        if kind.custom || review::is_review(kind) || is(kind, "", "bindings") {
            return None;
        }
        let read = match (call.verb, call.subresource) {
            (Verb::Create, None) => New::read(&call).map(Read::New),
            (Verb::Update, None | Some("status")) => whole(&call).map(Read::Whole),
            _ => return None,
        };
        let warnings = call.take_warnings();
        Some(Self { read, warnings })
    }

    /// The object that a request makes.
    pub(super) fn new_object(draft: Option<Self>, call: &Call<'_>) -> Result<New, Status> {
        match Self::told(draft, call)? {
            Some(Read::New(new)) => Ok(new),
            Some(Read::Whole(_)) | None => New::read(call),
        }
    }

    /// The whole object that a request puts in place of another.
    pub(super) fn whole_object(draft: Option<Self>, call: &Call<'_>) -> Result<Value, Status> {
        match Self::told(draft, call)? {
            Some(Read::Whole(value)) => Ok(value),
            Some(Read::New(_)) | None => whole(call),
        }
    }

    fn told(draft: Option<Self>, call: &Call<'_>) -> Result<Option<Read>, Status> {
        let Some(draft) = draft else { return Ok(None) };
        draft.warnings.into_iter().for_each(|warning| call.warn(warning));
        draft.read.map(Some)
    }
}

impl New {
    fn read(call: &Call<'_>) -> Result<Self, Status> {
        let value = whole(call)?;
        if !matches!(meta(&value, "resourceVersion"), "" | "0") {
            return Err(fault::internal(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        Self::of(call, value, Written::Directly)
    }

    /// Gives a new object what it has of itself.
    pub(super) fn of(call: &Call<'_>, mut value: Value, written: Written) -> Result<Self, Status> {
        let kind = &*call.kind;
        set_namespace(call, &mut value)?;
        let base = generated_name::give(&mut value);
        let given = managed::given(&mut value);
        let metadata = &mut value["metadata"];
        if let Some(metadata) = metadata.as_object_mut() {
            for given in SERVER_GIVEN {
                metadata.remove(*given);
            }
            if has_generation(kind) {
                metadata.remove("generation");
            }
        }
        metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
        metadata["creationTimestamp"] = clock::now().into();
        if has_generation(kind) {
            metadata["generation"] = 1.into();
        }
        // A node registers itself with its status.
        if has_status(kind)
            && !is(kind, "", "nodes")
            && let Some(object) = value.as_object_mut()
        {
            object.remove("status");
        }
        defaults::of_version(kind, &mut value);
        if versions::is_definitions(&kind.resource) {
            let warnings = definition::complete(kind, None, &mut value)?;
            warnings.into_iter().for_each(|warning| call.warn(warning));
        }
        let owners = managed::of_new(call, &value, &given, written);
        Ok(Self {
            value,
            owners: managed::shown(&owners),
            base,
        })
    }
}

/// A whole object, as its kind has it.
fn whole(call: &Call<'_>) -> Result<Value, Status> {
    let mut value = read_body(call)?;
    fields::read(call, &mut value)?;
    Ok(value)
}

/// Of the body of what is read ahead. As many may wait as `EmbeddedConfig::queue_max` says.
const DRAFT_BYTES_MAX: usize = 64 << 10;
const SERVER_GIVEN: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
    "selfLink",
];

#[cfg(test)]
mod tests {
    use hub_core::api::ApiResponse;
    use hub_core::object::GroupVersionResource;
    use serde_json::json;

    use super::super::EmbeddedConfig;
    use super::super::decide::decide;
    use super::super::identity::issuer::{self, Issuer};
    use super::super::open::new_namespace;
    use super::super::state::State;
    use super::*;

    fn request(verb: Verb, name: Option<&str>, body: &str) -> ApiRequest {
        let resource = GroupVersionResource::core("configmaps");
        let mut request = ApiRequest::resource(verb, resource, Some("default"), name);
        request.query = "fieldManager=test".into();
        request.with_body("application/json", body.to_owned())
    }

    /// Without what is another each time.
    fn shown(answer: ApiResponse) -> (u16, Value, Vec<String>) {
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
        let metadata = body["metadata"].as_object_mut().unwrap();
        for other in ["uid", "creationTimestamp", "managedFields"] {
            metadata.remove(other);
        }
        if let Some(base) = metadata.get("generateName").cloned() {
            metadata.insert("name".into(), base);
        }
        (answer.code, body, answer.warnings)
    }

    #[test]
    fn what_is_read_ahead_is_answered_as_what_is_read_in_its_turn() {
        let issuer = Issuer::new(&issuer::new_key().unwrap()).unwrap();
        let state = || {
            let mut state = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
            decide(&mut state, &issuer, &new_namespace("default"), None);
            let held = request(
                Verb::Create,
                None,
                r#"{"metadata":{"name":"held"},"data":{"a":"1"}}"#,
            );
            decide(&mut state, &issuer, &held, None);
            state
        };
        let (mut ahead, mut in_turn) = (state(), state());
        for (verb, name, body) in [
            (
                Verb::Create,
                None,
                r#"{"metadata":{"name":"a"},"data":{"a":"1"}}"#,
            ),
            (Verb::Create, None, r#"{"metadata":{"name":"held"}}"#),
            (Verb::Create, None, r#"{"metadata":{"generateName":"some-"}}"#),
            (
                Verb::Create,
                None,
                r#"{"metadata":{"name":"b","resourceVersion":"7"}}"#,
            ),
            (
                Verb::Create,
                None,
                r#"{"metadata":{"name":"b","namespace":"other"}}"#,
            ),
            (Verb::Create, None, r#"{"metadata":{"name":"b"},"data":{"a":1}}"#),
            (
                Verb::Create,
                None,
                r#"{"metadata":{"name":"b"},"odd":1,"data":{"a":"1","a":"2"}}"#,
            ),
            (Verb::Create, None, r#"{"kind":"Secret"}"#),
            (Verb::Create, None, "{"),
            (
                Verb::Update,
                Some("held"),
                r#"{"metadata":{"name":"held"},"data":{"a":"2"},"odd":1}"#,
            ),
            (Verb::Update, Some("none"), r#"{"metadata":{"name":"none"}}"#),
            (Verb::Update, Some("held"), r#"{"metadata":{"name":"other"}}"#),
            (
                Verb::Update,
                Some("held"),
                r#"{"metadata":{"name":"held"},"data":[]}"#,
            ),
        ] {
            let request = request(verb, name, body);
            let draft = Draft::of(&request, &ahead.registry);
            assert!(draft.is_some(), "{body}");
            let one = decide(&mut ahead, &issuer, &request, draft);
            let other = decide(&mut in_turn, &issuer, &request, None);
            assert_eq!(shown(one), shown(other), "{body}");
        }
    }

    #[test]
    fn what_depends_on_the_cluster_or_is_long_is_read_in_its_turn() {
        let registry = Registry::builtin();
        let long = json!({"data": {"a": "x".repeat(DRAFT_BYTES_MAX)}}).to_string();
        assert!(Draft::of(&request(Verb::Create, None, &long), &registry).is_none());
        let patch = request(Verb::Patch, Some("held"), "{}");
        assert!(Draft::of(&patch, &registry).is_none());
        let reviews = GroupVersionResource::new("authorization.k8s.io", "v1", "selfsubjectaccessreviews");
        let review =
            ApiRequest::resource(Verb::Create, reviews, None, None).with_body("application/json", "{}");
        assert!(Draft::of(&review, &registry).is_none());
    }

    #[test]
    fn a_generated_name_that_is_taken_is_made_anew() {
        let state = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
        let request = request(Verb::Create, None, "{}");
        let call = Call::new(&request, &state.registry).unwrap();
        let mut value = json!({"metadata": {"generateName": "some-"}});
        let base = generated_name::give(&mut value).unwrap();
        let first = meta(&value, "name").to_owned();
        assert!(first.starts_with("some-") && first.len() == 10, "{first}");
        generated_name::settle(&state, &call, &base, &mut value).unwrap();
        assert_eq!(meta(&value, "name"), first, "nobody has it");
        let mut held = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
        let named = json!({"metadata": {"name": &first, "namespace": "default"}});
        held.put(&GroupVersionResource::core("configmaps"), &mut named.clone())
            .unwrap();
        generated_name::settle(&held, &call, &base, &mut value).unwrap();
        assert!(meta(&value, "name") != first && meta(&value, "name").starts_with("some-"));
    }
}
