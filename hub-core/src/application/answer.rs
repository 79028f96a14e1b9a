//! Answers as KubeEdge's application says them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Application, ApplicationError, Blob, Extension};
use crate::api::{ApiResponse, Reason, Status};

impl Application {
    /// The same application with its answer.
    #[must_use]
    pub fn answered(&self, response: &ApiResponse) -> Self {
        let mut answer = self.clone();
        if response.is_success() {
            answer.status = "Approved".into();
            answer.resp_body = Blob(response.body.clone());
        } else {
            answer.status = "Rejected".into();
            answer.error.status = std::str::from_utf8(&response.body)
                .ok()
                .and_then(|text| RawValue::from_string(text.into()).ok())
                .filter(|raw| raw.get().starts_with('{'));
            if answer.error.status.is_none() {
                answer.error = ApplicationError::none();
                answer.reason = String::from_utf8_lossy(&response.body).into_owned();
            }
        }
        if let Some(tunnel) = &mut answer.tunnel {
            *tunnel = Extension {
                code: response.code,
                content_type: response.content_type.clone(),
                warnings: response.warnings.clone(),
                ..Extension::default()
            };
            // The asker knows what it asked.
            answer.option = Blob::default();
            answer.req_body = Blob::default();
        }
        answer
    }

    /// The answer in an application that came back.
    pub fn to_response(&self) -> ApiResponse {
        let warnings = self.tunnel.as_ref().map(|tunnel| tunnel.warnings.clone());
        ApiResponse {
            warnings: warnings.unwrap_or_default(),
            ..self.unwarned()
        }
    }

    fn unwarned(&self) -> ApiResponse {
        if self.status == "Approved" {
            if let Some(tunnel) = self.tunnel.as_ref().filter(|t| t.code != 0) {
                return ApiResponse {
                    code: tunnel.code,
                    content_type: tunnel.content_type.clone(),
                    body: self.resp_body.0.clone(),
                    warnings: Vec::new(),
                };
            }
            if self.resp_body.0.is_empty() {
                return Status::success().into();
            }
            return ApiResponse::json(
                if self.verb == "create" { 201 } else { 200 },
                self.resp_body.0.clone(),
            );
        }
        #[derive(Deserialize)]
        struct Code {
            #[serde(default)]
            code: u16,
        }
        if let Some(status) = &self.error.status
            && let Ok(Code {
                code: code @ 400..=599,
            }) = serde_json::from_str(status.get())
        {
            return ApiResponse::json(code, status.get().to_owned());
        }
        if let Some(tunnel) = self.tunnel.as_ref().filter(|t| t.code != 0) {
            return ApiResponse {
                code: tunnel.code,
                content_type: tunnel.content_type.clone(),
                body: self.reason.clone().into(),
                warnings: Vec::new(),
            };
        }
        // KubeEdge puts a client's error into the reason, an API server's into the error.
        const UNKNOWN: &str = "the server could not find the requested resource";
        // It wraps what an API server says to a list, and so loses the code.
        let reason = if self.reason.contains(UNKNOWN) {
            Reason::NotFound
        } else if self.reason.contains(" is forbidden: ") {
            Reason::Forbidden
        } else {
            Reason::InternalError
        };
        let text = if self.reason.is_empty() {
            "the cloud rejected the request without a reason"
        } else {
            &self.reason
        };
        Status::failure(reason, text).into()
    }
}
