//! What a Go edge asks, and how its answers are read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::StockEdge;
use crate::cloud::PATIENCE;
use crate::metamanager;

impl StockEdge {
    /// A message of its own.
    pub(crate) fn message(
        &self,
        source: &str,
        group: &str,
        operation: &str,
        resource: &str,
        content: Value,
    ) -> Value {
        self.line.message(source, group, operation, resource, content)
    }

    /// Expects the answer to a message that is sent in some way of the test's own.
    pub(crate) fn expect(&self, message: &Value) -> oneshot::Receiver<Value> {
        let (answer, answered) = oneshot::channel();
        let id = message["header"]["msg_id"].as_str().unwrap().to_owned();
        self.line
            .asked
            .lock()
            .unwrap()
            .insert(id, (message.clone(), answer));
        answered
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(&self, message: Value) -> Value {
        let answered = self.expect(&message);
        self.send(&message).await.unwrap();
        answer(answered).await
    }

    /// As kubelet asks, through MetaManager.
    pub(crate) async fn edged(&self, operation: &str, resource: &str, content: Value) -> Value {
        self.ask(self.message("edged", "meta", operation, resource, content))
            .await
    }

    /// Registers the node and reports it, as on its first start.
    pub(crate) async fn register(&self) {
        let name = self.node.clone();
        let made = self
            .edged("insert", &format!("null/node/{name}"), metamanager::node(&name))
            .await;
        assert_eq!(made["content"]["Err"], Value::Null, "{made}");
        self.edged("patch", &format!("null/nodepatch/{name}"), "{}".into())
            .await;
    }

    /// Bytes as they are.
    pub(crate) async fn raw(&self, bytes: &[u8]) {
        self.line.writer.lock().await.raw(bytes).await.unwrap();
    }

    /// Renews the lease, or makes it.
    pub(crate) async fn renew(&self, operation: &str, renewed: &str) -> Value {
        let resource = format!("kube-node-lease/lease/{}", self.node);
        self.edged(operation, &resource, metamanager::lease(&self.node, renewed))
            .await
    }

    /// The message that asks for an application (`pkg/metaserver/application.go`).
    pub(crate) fn application(
        &self,
        verb: &str,
        key: &str,
        option: &Value,
        body: Option<&Value>,
        subresource: &str,
    ) -> Value {
        let (option, body) = (option.to_string(), body.map(Value::to_string));
        let mut hash = Sha256::new();
        for part in [
            &*self.node,
            key,
            verb,
            &option,
            body.as_deref().unwrap_or(""),
            subresource,
        ] {
            hash.update(part.as_bytes());
        }
        let id: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let content = json!({ "ID": id, "Key": key, "Verb": verb, "Nodename": self.node, "Option": BASE64.encode(option),
            "ReqBody": body.map(|body| BASE64.encode(body)), "Subresource": subresource, "RespBody": null, "Status": "InApplying",
            "Reason": "", "Error": { "ErrStatus": { "metadata": {} } }, "Timestamp": "0001-01-01T00:00:00Z" });
        self.message("metaserver", "dynamiccontroller", "null", "null", content)
    }

    /// Asks the API through the tunnel. The body that came back, or the `Status`.
    pub(crate) async fn api(
        &self,
        verb: &str,
        key: &str,
        option: Value,
        body: Option<Value>,
    ) -> Result<Value, Value> {
        let answer = self
            .ask(self.application(verb, key, &option, body.as_ref(), ""))
            .await;
        applied(&answer)
    }

    /// Says which watches it still wants.
    pub(crate) async fn watch_sync(&self, watches: &[&Value]) -> Value {
        let wanted: serde_json::Map<_, _> = watches
            .iter()
            .map(|watch| {
                (
                    watch["content"]["ID"].as_str().unwrap().to_owned(),
                    watch["content"].clone(),
                )
            })
            .collect();
        let message = self.message(
            "metaserver",
            "dynamiccontroller",
            "null",
            "watchapp/sync",
            wanted.into(),
        );
        self.ask(message).await
    }
}

/// The answer to what was asked.
pub(crate) async fn answer(answered: oneshot::Receiver<Value>) -> Value {
    tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("an answer in time")
        .expect("the connection stands")
}

/// Why it failed, in whichever of the forms that a Go edge understands. None when it did not.
pub(crate) fn failure(answer: &Value) -> Option<String> {
    let content = &answer["content"];
    if answer["route"]["operation"] == "error" {
        return content.as_str().map(str::to_owned);
    }
    let status = content
        .get("ErrStatus")
        .or_else(|| content.get("Err")?.get("ErrStatus"))?;
    // An empty one reads as success.
    let filled = status["status"] == "Failure" && status["code"].as_u64().is_some_and(|code| code >= 400);
    filled.then(|| status["message"].to_string())
}

/// What an application was answered: its body, or its error.
pub(crate) fn applied(answer: &Value) -> Result<Value, Value> {
    let route = &answer["route"];
    assert_eq!(
        (
            &route["source"],
            &route["group"],
            &route["operation"],
            &route["resource"]
        ),
        (
            &json!("dynamiccontroller"),
            &json!("resource"),
            &json!("applicationResponse"),
            &json!("ignore/Application/ignore")
        ),
        "{answer}"
    );
    let application = &answer["content"];
    if application["Status"] != "Approved" {
        assert_eq!(application["Status"], "Rejected", "{application}");
        return Err(application["Error"]["ErrStatus"].clone());
    }
    let body = application["RespBody"].as_str().unwrap_or_default();
    let body = BASE64.decode(body).expect("base64");
    Ok(serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}
