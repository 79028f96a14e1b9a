//! `ObjectResp`: how EdgeController answers what a node tells of itself (tunnel specification §6.3).

use bytes::Bytes;
use hub_core::message::{Content, Message, Operation};
use serde::Deserialize;
use serde_json::value::RawValue;

/// `{"Object":…,"Err":null|{"ErrStatus":{…}}}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectResponse {
    #[serde(default)]
    object: Option<Box<RawValue>>,
    #[serde(default)]
    err: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(rename = "ErrStatus")]
    status: Option<ErrStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrStatus {
    message: String,
    code: u16,
}

/// The cloud said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Denied {
    /// The HTTP status code; 0 where none was said.
    pub code: u16,
    /// Why, for people.
    pub message: String,
}

/// The document of a plain answer: an object as it is, with its kind. What says that something failed is never taken for one, as
/// stock edges do (weak spot L7).
pub(crate) fn document(answer: &Message) -> Result<Bytes, Denied> {
    let denied = |message: String| Denied { code: 0, message };
    let document = answer.content.document_bytes();
    if let Some(undecided) = undecided(answer) {
        return Err(undecided);
    }
    if let Ok(Failure { status: Some(status) }) = serde_json::from_slice(&document) {
        return Err(Denied {
            code: status.code,
            message: status.message,
        });
    }
    if document.trim_ascii_start().first() != Some(&b'{') {
        return Err(denied("the answer is no object".into()));
    }
    Ok(document)
}

/// What an error says. Our own clouds say with its code what the cluster has not decided yet.
fn undecided(answer: &Message) -> Option<Denied> {
    if answer.route.operation != Operation::Error {
        return None;
    }
    let document = answer.content.document_bytes();
    let failure = match serde_json::from_slice(&document) {
        Ok(failure @ Failure { status: Some(_) }) => Some(failure),
        _ => serde_json::from_slice(&document)
            .ok()
            .and_then(|response: ObjectResponse| response.err),
    };
    let Some(ErrStatus { message, code }) = failure.and_then(|failure| failure.status) else {
        let text = answer.content.as_string();
        return Some(Denied {
            code: 0,
            message: text.unwrap_or_else(|| "no reason given".into()),
        });
    };
    Some(Denied { code, message })
}

/// What is denied for good in the answer to a report. Whatever else it says, the report is settled.
pub(crate) fn denial(answer: &Content) -> Option<Denied> {
    let document = answer.document();
    let failure = match serde_json::from_slice(&document) {
        Ok(failure @ Failure { status: Some(_) }) => failure,
        _ => serde_json::from_slice::<ObjectResponse>(&document).ok()?.err?,
    };
    let ErrStatus { message, code } = failure.status.unwrap_or_default();
    Some(Denied { code, message })
}

/// The object in an answer. An error without a text is one all the same: stock edges take it for success.
pub(crate) fn parse(answer: &Message) -> Result<Option<Box<RawValue>>, Denied> {
    let denied = |code, message: &str| Denied {
        code,
        message: message.into(),
    };
    if let Some(undecided) = undecided(answer) {
        return Err(undecided);
    }
    if answer.content.is_ok() {
        return Ok(None);
    }
    if let Ok(Failure { status: Some(status) }) = serde_json::from_slice(&answer.content.document()) {
        return Err(denied(status.code, &status.message));
    }
    match serde_json::from_slice(&answer.content.document()) {
        Ok(ObjectResponse { object, err: None }) => Ok(object),
        Ok(ObjectResponse {
            err: Some(failure), ..
        }) => {
            let status = failure.status.unwrap_or_default();
            Err(denied(status.code, &status.message))
        }
        Err(error) => Err(denied(0, &format!("the answer makes no sense: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use hub_core::message::{Content, Route};

    use super::*;

    fn answer(content: &'static str) -> Result<Option<String>, u16> {
        let route = Route::new("edgecontroller", "resource", Operation::Response, "null/node/e");
        let message = Message::new(route, Content::from_json(Bytes::from_static(content.as_bytes())));
        parse(&message)
            .map(|o| o.map(|o| o.get().to_owned()))
            .map_err(|denied| denied.code)
    }

    #[test]
    fn an_answer_holds_an_object_or_a_denial() {
        assert_eq!(
            answer(r#"{"Object":{"a":1},"Err":null}"#),
            Ok(Some(r#"{"a":1}"#.into()))
        );
        assert_eq!(
            answer(r#"{"Object":null,"Err":{"ErrStatus":{"code":404,"message":"no"}}}"#),
            Err(404)
        );
        assert_eq!(answer(r#"{"ErrStatus":{"code":409}}"#), Err(409));
        assert_eq!(
            answer(r#"{"Object":null,"Err":{}}"#),
            Err(0),
            "stock edges take this for success"
        );
        assert_eq!(answer("\"OK\""), Ok(None));
        assert_eq!(answer("7"), Err(0));
    }

    #[test]
    fn a_plain_answer_is_an_object_or_a_denial() {
        let document = |operation: Operation, content: Content| {
            let route = Route::new("edgecontroller", "resource", operation, "shop/configmap/a");
            document(&Message::new(route, content)).map_err(|denied| denied.code)
        };
        let json = |text: &'static str| Content::from_json(Bytes::from_static(text.as_bytes()));
        let object = "{\"kind\":\"ConfigMap\"}";
        assert_eq!(document(Operation::Response, json(object)), Ok(object.into()));
        assert_eq!(
            document(Operation::Response, Content::string(object)),
            Ok(object.into())
        );
        let gone = r#"{"ErrStatus":{"code":404,"message":"no"}}"#;
        assert_eq!(document(Operation::Response, json(gone)), Err(404));
        assert_eq!(document(Operation::Error, Content::string("no")), Err(0));
        let later = r#"{"ErrStatus":{"code":503,"message":"not now"}}"#;
        assert_eq!(document(Operation::Error, json(later)), Err(503));
        assert_eq!(document(Operation::Error, Content::string(later)), Err(503));
        let later = r#"{"Object":null,"Err":{"ErrStatus":{"code":429,"message":"not now"}}}"#;
        assert_eq!(document(Operation::Error, json(later)), Err(429));
        for odd in ["null", "7", "[]", "\"OK\""] {
            assert_eq!(document(Operation::Response, json(odd)), Err(0), "{odd}");
        }
    }
}
