//! The Secrets in which the instances of a cloud half share what they trust.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::credentials::belongs;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::transport::Identity;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// The Secrets in which the instances of a cloud half share what they trust: ours, and Go ones beside them. Cheap to clone.
///
/// Names, keys and encodings are KubeEdge's (`cloud/pkg/cloudhub/servers/httpserver/pre_server.go`). Unlike there, what two instances
/// make at the same time becomes one: a Secret is created or replaced only in the state in which it was seen, and who comes second
/// takes what the first one made.
#[derive(Clone)]
pub struct SharedSecrets {
    cluster: Arc<dyn Cluster>,
    namespace: Arc<str>,
}

/// What instances share cannot be read or written. The cluster's move, or the operator's.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No answer, or a refusal.
    #[error("Secret {name}: {why}")]
    Cluster {
        /// Which.
        name: &'static str,
        /// What the cluster said.
        why: String,
    },
    /// It holds something else.
    #[error("Secret {name} {why}; restore it, or remove it to have it made anew")]
    Malformed {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Others changed it again and again.
    #[error("Secret {0} is changed by others faster than it can be written")]
    Contested(&'static str),
}

/// A certificate with its key in a Secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) name: &'static str,
    certificate: &'static str,
    key: &'static str,
}

/// The CA.
pub(super) const CA: Pair = Pair {
    name: "casecret",
    certificate: "cadata",
    key: "cakeydata",
};

/// The cloud's own certificate.
pub(super) const SERVER: Pair = Pair {
    name: "cloudcoresecret",
    certificate: "cloudcoredata",
    key: "cloudcorekeydata",
};

/// A Secret as it was seen, to be replaced in this state only.
#[derive(Debug)]
pub(super) struct Seen(Option<Value>);

impl SharedSecrets {
    /// KubeEdge's namespace.
    pub const NAMESPACE: &'static str = "kubeedge";

    /// Secrets in a namespace of this cluster. The hub needs the rights to get, create and update Secrets there, and to create the
    /// namespace where it is missing.
    pub fn new(cluster: Arc<dyn Cluster>, namespace: &str) -> Self {
        Self {
            cluster,
            namespace: namespace.into(),
        }
    }

    /// The certificate and key of a Secret, and the state in which it was seen.
    pub(super) async fn load(&self, pair: Pair) -> Result<(Option<Identity>, Seen), SecretError> {
        let seen = self.see(pair.name).await?;
        let malformed = |why: String| SecretError::Malformed { name: pair.name, why };
        let part = |field| seen.data(field).map_err(malformed);
        let identity = match (part(pair.certificate)?, part(pair.key)?) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::try_from(key)
                    .map_err(|why| malformed(format!("has no private key in {}: {why}", pair.key)))?;
                let chain = vec![CertificateDer::from(certificate)];
                if !belongs(&chain, &key) {
                    return Err(malformed("holds a key of another certificate".into()));
                }
                Some(Identity { chain, key })
            }
            (None, Some(_)) => return Err(malformed(format!("lacks {}", pair.certificate))),
            (Some(_), None) => return Err(malformed(format!("lacks {}", pair.key))),
        };
        Ok((identity, seen))
    }

    /// Writes certificate and key, unless others wrote since it was `seen`: whether they are written.
    pub(super) async fn store(
        &self,
        pair: Pair,
        identity: &Identity,
        seen: Seen,
    ) -> Result<bool, SecretError> {
        let certificate = identity.chain.first().map_or(&[][..], |leaf| leaf);
        let data = [
            (pair.certificate, certificate),
            (pair.key, identity.key.secret_der()),
        ];
        self.write(pair.name, &data, seen).await
    }

    /// Writes the token that edges join with, whatever was there.
    pub(super) async fn store_token(&self, token: &str) -> Result<(), SecretError> {
        for _ in 0..ATTEMPTS {
            let seen = self.see(TOKEN).await?;
            if self
                .write(TOKEN, &[("tokendata", token.as_bytes())], seen)
                .await?
            {
                return Ok(());
            }
        }
        Err(SecretError::Contested(TOKEN))
    }

    async fn see(&self, name: &'static str) -> Result<Seen, SecretError> {
        let key = ObjectKey::new(secrets(), Some(&self.namespace), name);
        let failed = |why: String| SecretError::Cluster { name, why };
        let object = self
            .cluster
            .get(key)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let body = object.map(|object| serde_json::from_slice(&object.body));
        body.transpose()
            .map(Seen)
            .map_err(|error| failed(error.to_string()))
    }

    async fn write(
        &self,
        name: &'static str,
        data: &[(&str, &[u8])],
        seen: Seen,
    ) -> Result<bool, SecretError> {
        let encoded: BTreeMap<_, _> = data
            .iter()
            .map(|(field, bytes)| (*field, STANDARD.encode(bytes)))
            .collect();
        let response = match seen.0 {
            Some(mut secret) => {
                if !secret["data"].is_object() {
                    secret["data"] = json!({});
                }
                for (field, text) in &encoded {
                    secret["data"][field] = text.as_str().into();
                }
                self.execute(name, Verb::Update, secrets(), Some(name), &secret)
                    .await?
            }
            None => {
                let secret = json!({
                    "kind": "Secret", "apiVersion": "v1", "type": "Opaque", "data": encoded,
                    "metadata": { "name": name, "namespace": &*self.namespace },
                });
                let response = self.execute(name, Verb::Create, secrets(), None, &secret).await?;
                if response.code == 404 {
                    self.create_namespace(name).await?;
                    self.execute(name, Verb::Create, secrets(), None, &secret).await?
                } else {
                    response
                }
            }
        };
        match response.code {
            _ if response.is_success() => Ok(true),
            // Somebody made it, changed it or removed it since it was seen.
            404 | 409 => Ok(false),
            _ => Err(refused(name, &response)),
        }
    }

    async fn create_namespace(&self, name: &'static str) -> Result<(), SecretError> {
        let namespace =
            json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": &*self.namespace } });
        let namespaces = GroupVersionResource::core("namespaces");
        let request = ApiRequest::resource(Verb::Create, namespaces, None, None);
        let response = self.send(name, request, &namespace).await?;
        match response.code {
            409 => Ok(()),
            _ if response.is_success() => Ok(()),
            _ => Err(refused(name, &response)),
        }
    }

    async fn execute(
        &self,
        name: &'static str,
        verb: Verb,
        resource: GroupVersionResource,
        object: Option<&str>,
        body: &Value,
    ) -> Result<ApiResponse, SecretError> {
        let request = ApiRequest::resource(verb, resource, Some(&self.namespace), object);
        self.send(name, request, body).await
    }

    async fn send(
        &self,
        name: &'static str,
        request: ApiRequest,
        body: &Value,
    ) -> Result<ApiResponse, SecretError> {
        let request = request.with_body("application/json", body.to_string());
        let answer = self.cluster.execute(request).await;
        answer.map_err(|error| SecretError::Cluster {
            name,
            why: error.to_string(),
        })
    }
}

impl Seen {
    /// What a key of the Secret holds; an empty value is none.
    fn data(&self, field: &str) -> Result<Option<Vec<u8>>, String> {
        let text = self.0.as_ref().and_then(|secret| secret["data"][field].as_str());
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        STANDARD
            .decode(text)
            .map(Some)
            .map_err(|_| format!("holds no base64 in {field}"))
    }
}

impl std::fmt::Debug for SharedSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedSecrets").field(&self.namespace).finish()
    }
}

fn secrets() -> GroupVersionResource {
    GroupVersionResource::core("secrets")
}

fn refused(name: &'static str, response: &ApiResponse) -> SecretError {
    let status: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let message = status["message"].as_str().unwrap_or("the cluster refused it");
    SecretError::Cluster {
        name,
        why: message.to_owned(),
    }
}

/// What `keadm gettoken` reads.
const TOKEN: &str = "tokensecret";

/// Rounds with others that write at the same time.
pub(super) const ATTEMPTS: usize = 8;
