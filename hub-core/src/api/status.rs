//! `metav1.Status`: how a Kubernetes API says what went wrong.

use serde_json::json;

/// The machine-readable causes (Kubernetes `apimachinery/pkg/apis/meta/v1/types.go`, `StatusReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    Timeout,
}

impl Reason {
    /// The HTTP status code that goes with it.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// A failure, or the plain success of a delete, as `metav1.Status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The cause. None for a success, and where a real API server names none for a failure.
    pub reason: Option<Reason>,
    /// For people.
    pub message: String,
    /// The object or collection concerned: group, resource (Kubernetes calls it kind here) and name.
    pub about: Option<(String, String, String)>,
    /// `details.uid`.
    pub uid: String,
    /// `details.causes`: reason, message, field.
    pub causes: Vec<(String, String, String)>,
    /// `details.retryAfterSeconds`, also sent as `Retry-After`.
    pub retry_after_seconds: Option<u32>,
    /// `metadata.continue`: with an expired page token, one that goes on at the same place.
    pub continue_token: String,
}

impl Status {
    /// A failure.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason: Some(reason),
            message: message.into(),
            about: None,
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: None,
            continue_token: String::new(),
        }
    }

    /// The answer to a delete that left nothing.
    pub fn success() -> Self {
        Self {
            code: 200,
            reason: None,
            ..Self::failure(Reason::InternalError, "")
        }
    }

    /// The object does not exist.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let shown = if group.is_empty() {
            resource.to_string()
        } else {
            format!("{resource}.{group}")
        };
        Self::failure(Reason::NotFound, format!("{shown} {name:?} not found")).about(group, resource, name)
    }

    /// Whether it tells of a failure.
    pub fn is_failure(&self) -> bool {
        self.code >= 400
    }

    /// The same, about an object or collection.
    #[must_use]
    pub fn about(mut self, group: &str, resource: &str, name: &str) -> Self {
        self.about = Some((group.into(), resource.into(), name.into()));
        self
    }

    /// The same, with the time after which a retry makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The same, with one more cause.
    #[must_use]
    pub fn cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        self.causes.push((reason.into(), message.into(), field.into()));
        self
    }

    /// The JSON text of the Status.
    pub fn to_json(&self) -> Vec<u8> {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": if self.is_failure() { "Failure" } else { "Success" },
        });
        let mut details = serde_json::Map::new();
        if let Some((group, resource, name)) = &self.about {
            for (key, value) in [("name", name), ("group", group), ("kind", resource)] {
                if !value.is_empty() {
                    details.insert(key.into(), value.as_str().into());
                }
            }
        }
        if !self.uid.is_empty() {
            details.insert("uid".into(), self.uid.as_str().into());
        }
        if !self.causes.is_empty() {
            let cause = |(reason, message, field): &(String, String, String)| {
                let mut cause = json!({ "message": message });
                if !reason.is_empty() {
                    cause["reason"] = reason.as_str().into();
                }
                if !field.is_empty() {
                    cause["field"] = field.as_str().into();
                }
                cause
            };
            details.insert("causes".into(), self.causes.iter().map(cause).collect());
        }
        if let Some(seconds) = self.retry_after_seconds {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        if !self.message.is_empty() {
            status["message"] = self.message.as_str().into();
        }
        if let Some(reason) = self.reason {
            status["reason"] = format!("{reason:?}").into();
        }
        // What an API server's frame answers has details, if empty ones; what its handlers answer has none.
        let framed = self.causes.is_empty()
            && match self.reason {
                Some(Reason::MethodNotAllowed) => true,
                Some(Reason::NotFound) => self.message == NO_SUCH_RESOURCE,
                Some(Reason::Invalid) => self.message == REJECTED,
                Some(Reason::NotAcceptable | Reason::UnsupportedMediaType) => {
                    self.message.starts_with(char::is_numeric)
                }
                _ => false,
            };
        if framed || !details.is_empty() || self.about.is_some() {
            status["details"] = details.into();
        }
        if !self.continue_token.is_empty() {
            status["metadata"]["continue"] = self.continue_token.as_str().into();
        }
        if self.code != 200 {
            status["code"] = self.code.into();
        }
        status.to_string().into_bytes()
    }
}

const NO_SUCH_RESOURCE: &str = "the server could not find the requested resource";
const REJECTED: &str = "the server rejected our request due to an error in our request";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_frame_of_an_api_server_answers_has_empty_details() {
        let details = |status: Status| {
            let status: serde_json::Value = serde_json::from_slice(&status.to_json()).unwrap();
            status.get("details").cloned()
        };
        assert_eq!(
            details(Status::failure(Reason::MethodNotAllowed, "no")),
            Some(json!({}))
        );
        assert_eq!(
            details(Status::failure(Reason::NotFound, NO_SUCH_RESOURCE)),
            Some(json!({}))
        );
        assert_eq!(
            details(Status::failure(
                Reason::UnsupportedMediaType,
                "415: Unsupported Media Type"
            )),
            Some(json!({}))
        );
        assert_eq!(details(Status::failure(Reason::BadRequest, "no")), None);
    }

    #[test]
    fn a_status_reads_as_a_real_api_server_writes_it() {
        let status: serde_json::Value =
            serde_json::from_slice(&Status::not_found("apps", "deployments", "web").to_json()).unwrap();
        assert_eq!(status["message"], "deployments.apps \"web\" not found");
        assert_eq!(status["reason"], "NotFound");
        assert_eq!(status["code"], 404);
        assert_eq!(
            status["details"],
            json!({"name": "web", "group": "apps", "kind": "deployments"})
        );
    }
}
