//! CertificateSigningRequests of nodes, approved and signed (Kubernetes, "Certificates and Certificate Signing Requests").
//!
//! The embedded cluster has no controllers, so this does for nodes what kube-controller-manager does: a request of a node for its own
//! client certificate is approved (`csrapproving`), what is approved is signed (`csrsigning`), and old requests are removed
//! (`csrcleaner`). In front of an API server, which does all that, only what KubeEdge's cloudcore does is left: the serving
//! certificate of a node's metaServer is approved (`cloud/pkg/csrapprovercontroller`).
//!
//! ```text
//!   node ── create ──► request ── Approved, by this or by kubectl certificate approve ──► signed ──► status.certificate
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use hub_core::api::{ApiRequest, Verb};
use hub_core::clock::{Clock, SystemClock};
use hub_core::credentials::certificate_pem;
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::scope::Scope;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use super::sign::{Approved, Usage};
use crate::cluster::{Cluster, ClusterEvent};

/// Approves and, where nobody else does, signs the CertificateSigningRequests of nodes: their client certificates, and the serving
/// certificates of their metaServers. [`run`](Self::run) does the work.
pub struct CertificateRequests {
    cluster: Arc<dyn Cluster>,
    /// Who signs; None where another does.
    authority: Option<Arc<Authority>>,
    /// Requests that are to be looked at again: the cluster did not take what was found.
    again: BTreeSet<ObjectKey>,
    /// When each request may be removed, in seconds since 1970.
    ends: BTreeMap<ObjectKey, i64>,
}

impl CertificateRequests {
    /// Approves the serving certificates of nodes, and leaves signing to the cluster.
    pub fn approving(cluster: Arc<dyn Cluster>) -> Self {
        Self {
            cluster,
            authority: None,
            again: BTreeSet::new(),
            ends: BTreeMap::new(),
        }
    }

    /// Approves, signs and removes.
    pub fn signing(cluster: Arc<dyn Cluster>, authority: Arc<Authority>) -> Self {
        Self {
            authority: Some(authority),
            ..Self::approving(cluster)
        }
    }

    /// Runs until told to stop, or until the cluster does not let it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut events = self.cluster.watch(Scope::all(requests()));
        let mut pause = tokio::time::interval(LOOK_AGAIN);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => match event {
                    Some(ClusterEvent::Applied { object, .. }) => self.look_at(&object).await,
                    Some(ClusterEvent::Deleted { object }) => {
                        self.again.remove(&object.key);
                        self.ends.remove(&object.key);
                    }
                    Some(ClusterEvent::Restarted | ClusterEvent::Synced { .. }) => {}
                    Some(ClusterEvent::Refused(status)) => {
                        tracing::warn!(
                            reason = status.message,
                            "certificates that nodes ask for are not approved here; give the hub the right to watch certificatesigningrequests and to approve them for kubernetes.io/kubelet-serving"
                        );
                        return;
                    }
                    None => return,
                },
                _ = pause.tick() => self.look_again().await,
            }
        }
    }

    async fn look_again(&mut self) {
        for key in std::mem::take(&mut self.again) {
            match self.cluster.get(key.clone()).await {
                Ok(Some(object)) => self.look_at(&object).await,
                Ok(None) => {}
                Err(_) => drop(self.again.insert(key)),
            }
        }
        let now = SystemClock.unix_ms() / 1000;
        let over: Vec<_> = self.ends.iter().filter(|(_, end)| **end <= now).collect();
        let over: Vec<_> = over.into_iter().map(|(key, _)| key.clone()).collect();
        for key in over {
            let delete = ApiRequest::resource(Verb::Delete, requests(), None, Some(&key.name));
            if self.cluster.execute(delete).await.is_ok() {
                self.ends.remove(&key);
            }
        }
    }

    async fn look_at(&mut self, object: &Object) {
        let Ok(document) = serde_json::from_slice::<Value>(&object.body) else {
            return;
        };
        let Ok(request) = Request::deserialize(&document) else {
            return;
        };
        if self.authority.is_some() {
            self.ends.insert(object.key.clone(), request.end());
        }
        let step = match self.decide(&request).await {
            Some(step) => step,
            None => return,
        };
        tracing::info!(request = %object.key.name, user = request.spec.username, signer = request.spec.signer_name, %step, "certificate request");
        if !self.write(&object.key, document, step).await {
            self.again.insert(object.key.clone());
        }
    }

    /// What is to be done with a request now, if anything.
    async fn decide(&self, request: &Request) -> Option<Step> {
        let is = |condition: &str| request.status.conditions.iter().any(|c| c.kind == condition);
        if !request.status.certificate.is_empty() || is("Denied") || is("Failed") {
            return None;
        }
        let kind = Kind::of(&request.spec.signer_name)?;
        let found = self.check(request, kind);
        if !is("Approved") {
            let mine = matches!(&found, Ok(approved) if approved.node.user_name() == request.spec.username);
            return (mine && (kind == Kind::Serving || self.authority.is_some()))
                .then_some(Step::Approve(kind));
        }
        let authority = self.authority.as_ref()?;
        let approved = match found {
            Ok(approved) => approved,
            Err(why) => return Some(Step::Fail(why)),
        };
        match authority.signer().sign(approved, SystemTime::now()).await {
            Ok(certificate) => Some(Step::Issue(certificate_pem(&certificate))),
            Err(error) => {
                tracing::error!(%error, "a certificate cannot be signed");
                None
            }
        }
    }

    /// What of the request may be signed, whoever asks (Kubernetes, "Kubernetes signers").
    fn check(&self, request: &Request, kind: Kind) -> Result<Approved, String> {
        let spec = &request.spec;
        let pem = BASE64.decode(&spec.request).map_err(|error| error.to_string())?;
        let der = CertificateSigningRequestDer::from_pem_slice(&pem).map_err(|error| error.to_string())?;
        let node = common_name(&der).ok_or("subject common name does not begin with system:node:")?;
        let usages: BTreeSet<_> = spec.usages.iter().map(String::as_str).collect();
        let needed = ["digital signature", kind.usage_name()];
        let allowed = |usage: &&&str| needed.contains(usage) || **usage == "key encipherment";
        if !needed.iter().all(|usage| usages.contains(usage))
            || usages.iter().filter(allowed).count() < usages.len()
        {
            return Err(format!("usages did not match {needed:?}"));
        }
        let cloud = self
            .authority
            .as_ref()
            .map_or(&[][..], |authority| authority.cloud());
        let approved =
            Approved::check(&der, &node, vec![kind.usage()], cloud).map_err(|error| error.to_string())?;
        if kind == Kind::Serving && approved.addresses.is_empty() && approved.names.is_empty() {
            return Err("a serving certificate needs at least one DNS name or IP address".into());
        }
        Ok(approved)
    }

    /// Whether the cluster took it, or need not any more.
    async fn write(&self, key: &ObjectKey, mut document: Value, step: Step) -> bool {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).ok();
        let now = now.and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default();
        let condition = |kind: &str, reason: &str, message: &str| {
            json!({ "type": kind, "status": "True", "reason": reason, "message": message,
                "lastUpdateTime": now, "lastTransitionTime": now })
        };
        let status = &mut document["status"];
        if !status.is_object() {
            *status = json!({});
        }
        if !status["conditions"].is_array() {
            status["conditions"] = json!([]);
        }
        let mut add = |condition| status["conditions"].as_array_mut().map(|all| all.push(condition));
        let subresource = match step {
            Step::Approve(kind) => {
                add(condition("Approved", "AutoApproved", kind.why()));
                "approval"
            }
            Step::Fail(why) => {
                add(condition("Failed", "SignerValidationFailure", &why));
                "status"
            }
            Step::Issue(pem) => {
                status["certificate"] = BASE64.encode(pem).into();
                "status"
            }
        };
        let update = ApiRequest::resource(Verb::Update, requests(), None, Some(&key.name))
            .with_subresource(subresource)
            .with_body("application/json", document.to_string());
        match self.cluster.execute(update).await {
            // A conflict means that somebody was quicker; what is there now is on its way here.
            Ok(answer) if answer.is_success() || matches!(answer.code, 404 | 409) => true,
            Ok(answer) => {
                let answer = String::from_utf8_lossy(&answer.body);
                tracing::warn!(request = %key.name, %answer, "the cluster does not take what became of a certificate request");
                // It was understood, and would be refused again.
                true
            }
            Err(_) => false,
        }
    }
}

/// The signers that sign for nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A node as a client of the API server.
    Client,
    /// A server on a node: its kubelet, or its metaServer.
    Serving,
}

impl Kind {
    fn of(signer: &str) -> Option<Self> {
        match signer {
            "kubernetes.io/kube-apiserver-client-kubelet" => Some(Self::Client),
            "kubernetes.io/kubelet-serving" => Some(Self::Serving),
            _ => None,
        }
    }

    fn usage(self) -> Usage {
        match self {
            Self::Client => Usage::Client,
            Self::Serving => Usage::Server,
        }
    }

    fn usage_name(self) -> &'static str {
        match self {
            Self::Client => "client auth",
            Self::Serving => "server auth",
        }
    }

    /// As the controllers of Kubernetes and KubeEdge say it.
    fn why(self) -> &'static str {
        match self {
            Self::Client => "Auto approving self kubelet client certificate after SubjectAccessReview.",
            Self::Serving => "Auto approving MetaServer serving certificate.",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Approve(Kind),
    Fail(String),
    Issue(String),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Approve(_) => f.write_str("approved"),
            Self::Fail(why) => write!(f, "cannot be signed: {why}"),
            Self::Issue(_) => f.write_str("signed"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    metadata: RequestMetadata,
    spec: RequestSpec,
    #[serde(default)]
    status: RequestStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestMetadata {
    #[serde(default)]
    creation_timestamp: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestSpec {
    request: String,
    signer_name: String,
    #[serde(default)]
    usages: Vec<String>,
    #[serde(default)]
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestStatus {
    conditions: Vec<Condition>,
    certificate: String,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
}

impl Request {
    /// When it may be removed, in seconds since 1970: an hour after it was decided, a day where nobody did
    /// (kube-controller-manager, `csrcleaner`).
    fn end(&self) -> i64 {
        let created = OffsetDateTime::parse(&self.metadata.creation_timestamp, &Rfc3339);
        let created = created.map_or(i64::MAX >> 1, OffsetDateTime::unix_timestamp);
        let decided = self
            .status
            .conditions
            .iter()
            .any(|c| matches!(&*c.kind, "Approved" | "Denied" | "Failed"));
        created + if decided { 3600 } else { 24 * 3600 }
    }
}

/// The node whose name a request's subject has.
fn common_name(der: &[u8]) -> Option<NodeId> {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer;
    let (_, csr) = X509CertificationRequest::from_der(der).ok()?;
    let subject = &csr.certification_request_info.subject;
    let name = super::sign::one(subject.iter_common_name())?;
    NodeId::new(name.strip_prefix("system:node:")?).ok()
}

fn requests() -> GroupVersionResource {
    GroupVersionResource::new("certificates.k8s.io", "v1", "certificatesigningrequests")
}

/// The pause before requests are looked at again that the cluster did not take, and before old ones are removed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
