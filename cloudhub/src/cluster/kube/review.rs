//! Whether the cluster's own rules let somebody watch something: a SubjectAccessReview, and for a short time its answer.
//!
//! Watches need it: they are shared among nodes and run as the hub. So does what a node asks for a caller of its own. All else is
//! executed in the name of who asks, and the API server decides then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, header};
use serde_json::{Value, json};

use hub_core::api::{ApiRequest, User, Verb};
use hub_core::rbac::{self, About, Attributes};

use super::door::Door;
use super::rights::Right;

/// Answers of the API server, kept as a kubelet keeps them (Kubernetes `authorizationConfig.webhook`), but shorter.
#[derive(Debug, Default)]
pub(super) struct Reviews {
    kept: Mutex<HashMap<String, (bool, Instant)>>,
}

impl Reviews {
    /// False where the API server denies it, and where nobody knows.
    pub(super) async fn allows(&self, door: &Door, request: &ApiRequest) -> bool {
        if request.verb != Verb::Watch {
            return true;
        }
        self.permits(door, request).await
    }

    /// The same of every verb.
    pub(super) async fn permits(&self, door: &Door, request: &ApiRequest) -> bool {
        let spec = spec(request);
        let question = spec.to_string();
        if let Some(known) = self.known(&question, Instant::now()) {
            return known;
        }
        let review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "spec": spec,
        });
        match ask(door, "subjectaccessreviews", &review).await {
            Some(allowed) => {
                self.keep(question, allowed, Instant::now());
                allowed
            }
            None => false,
        }
    }

    fn known(&self, question: &str, now: Instant) -> Option<bool> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (allowed, since) = kept.get(question)?;
        (now.duration_since(*since) < KEPT).then_some(*allowed)
    }

    fn keep(&self, question: String, allowed: bool, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (_, since)| now.duration_since(*since) < KEPT);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(question, (allowed, now));
        }
    }
}

/// Puts a review of `authorization.k8s.io`. None where there is no answer.
pub(super) async fn ask(door: &Door, resource: &'static str, review: &Value) -> Option<bool> {
    let request = Request::post(format!("/apis/authorization.k8s.io/v1/{resource}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(review.to_string().into())
        .ok()?;
    let answer = door.call(request).await.ok()?;
    // One that has just come back knows no roles yet.
    let is_settling = door.is_settling();
    if answer.code == 403 && !is_settling {
        let right = Right {
            group: "authorization.k8s.io".into(),
            resource: resource.into(),
            verbs: vec!["create"],
        };
        door.rights.report(right, &answer.refusal().message);
    }
    let answered: Value = serde_json::from_slice(&answer.body)
        .ok()
        .filter(|_| answer.is_success())?;
    let allowed = answered["status"]["allowed"].as_bool();
    allowed.filter(|allowed| *allowed || !is_settling)
}

fn spec(request: &ApiRequest) -> Value {
    let nobody = User::default();
    let user = request.user.as_ref().unwrap_or(&nobody);
    let selected = rbac::selected_name(request);
    let wanted = Attributes::of(request, selected.as_deref());
    let mut spec = json!({
        "user": user.name,
        "groups": user.groups,
        "uid": user.uid,
        "extra": user.extra,
    });
    match wanted.object {
        About::Path(path) => spec["nonResourceAttributes"] = json!({ "verb": wanted.verb, "path": path }),
        About::Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
        } => {
            spec["resourceAttributes"] = json!({
                "verb": wanted.verb,
                "group": group,
                "resource": resource,
                "subresource": subresource.unwrap_or_default(),
                "namespace": namespace.unwrap_or_default(),
                "name": name.unwrap_or_default(),
            });
        }
    }
    spec
}

/// How long an answer is believed: so long may a change of roles take to be felt.
const KEPT: Duration = Duration::from_secs(10);
/// Answers that are kept.
const KEPT_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_for_a_while() {
        let (reviews, start) = (Reviews::default(), Instant::now());
        reviews.keep("q".into(), true, start);
        assert_eq!(reviews.known("q", start + KEPT / 2), Some(true));
        assert_eq!(reviews.known("q", start + KEPT), None);
        for at in 0..KEPT_MAX + 1 {
            reviews.keep(at.to_string(), false, start);
        }
        assert!(reviews.kept.lock().unwrap().len() <= KEPT_MAX);
        reviews.keep("later".into(), true, start + KEPT);
        assert_eq!(reviews.kept.lock().unwrap().len(), 1);
    }
}
