//! Where the address and the credentials of an API server come from, and that they may change while this program runs.
//!
//! ```text
//!  every minute ─────────────────┐
//!  401, no connection, ... ──────┴─► read the files anew ─► other than before? ─► a client with these; old watches go on
//! ```
//!
//! A token is rotated, a certificate renewed before it ends, an authority replaced by the next: none of that asks for a restart (client-go
//! `transport/cert_rotation.go`, `transport/token_source.go`). A plugin that makes credentials is run again when they are refused.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};

use super::config::KubeClusterConfig;
use super::connect::{self, ConnectError};
use super::door::{Door, Doubt, chain};

/// Where the address and the credentials of an API server come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `KUBECONFIG` or `~/.kube/config`; without them, the service account of the pod that this program runs in.
    Inferred,
    /// The service account of the pod that this program runs in.
    InCluster,
    /// A kubeconfig file.
    File {
        /// The file.
        path: PathBuf,
        /// The server's address, where it is not the one of the file (KubeEdge `kubeAPIConfig.master`).
        server: Option<String>,
    },
    /// A server that asks for no credentials, such as `http://127.0.0.1:8080` (KubeEdge `kubeAPIConfig.master` alone).
    Anonymous {
        /// Its address.
        server: String,
    },
}

/// Credentials with what they were when they were read last.
pub(super) struct Source {
    credentials: Credentials,
    /// Makes of what was read a number that tells nothing about it.
    hasher: RandomState,
    seen: u64,
}

impl Source {
    /// Reads the credentials for the first time, and makes a client with them.
    pub(super) async fn open(
        credentials: Credentials,
        config: &KubeClusterConfig,
    ) -> Result<(Self, kube::Client), ConnectError> {
        let mut source = Self {
            credentials,
            hasher: RandomState::new(),
            seen: 0,
        };
        let found = source.credentials.read().await?;
        source.seen = source.number(&found);
        let client = connect::client(found, config).await?;
        Ok((source, client))
    }

    /// Keeps the door's client up to date; runs for ever.
    pub(super) async fn follow(mut self, door: Arc<Door>) {
        let mut refusals = 0;
        loop {
            let doubt = tokio::time::timeout(door.config.credentials_interval, door.doubted())
                .await
                .ok();
            match self.look(&door, doubt).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!("the credentials for the API server have changed; the new ones are used")
                }
                // They are written just now, or were taken away after the start.
                Err(error) => {
                    tracing::warn!(%error, "the credentials for the API server cannot be read anew; those read before are used")
                }
            }
            // A plugin whose work is refused all the time need not be run all the time.
            refusals = if doubt == Some(Doubt::Refused) {
                refusals + 1
            } else {
                0
            };
            let pause = door.pause(refusals, None).max(door.config.credentials_pause);
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether there is something new.
    async fn look(&mut self, door: &Door, doubt: Option<Doubt>) -> Result<bool, ConnectError> {
        let found = self.credentials.read().await?;
        let number = self.number(&found);
        // What a plugin gave is in no file.
        let is_stale = doubt == Some(Doubt::Refused) && found.auth_info.exec.is_some();
        if number == self.seen && !is_stale {
            return Ok(false);
        }
        door.replace(connect::client(found, &door.config).await?);
        self.seen = number;
        Ok(true)
    }

    /// The same for the same credentials, contents of files included.
    fn number(&self, found: &kube::Config) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        found.cluster_url.hash(&mut hasher);
        found.tls_server_name.hash(&mut hasher);
        found.accept_invalid_certs.hash(&mut hasher);
        found.root_cert.hash(&mut hasher);
        let user = &found.auth_info;
        serde_json::to_vec(user).unwrap_or_default().hash(&mut hasher);
        for file in [&user.client_certificate, &user.client_key].into_iter().flatten() {
            std::fs::read(file).ok().hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Credentials {
    async fn read(&self) -> Result<kube::Config, ConnectError> {
        let unreadable = |error: &dyn std::error::Error| ConnectError::Credentials(chain(error));
        let address = |text: &str| text.parse().map_err(|_| ConnectError::Address(text.to_owned()));
        let mut found = match self {
            Self::Inferred => kube::Config::infer().await.map_err(|error| unreadable(&error))?,
            Self::InCluster => kube::Config::incluster().map_err(|error| unreadable(&error))?,
            Self::File { path, server } => {
                let file = Kubeconfig::read_from(path).map_err(|error| {
                    ConnectError::Credentials(format!("{}: {}", path.display(), chain(&error)))
                })?;
                let mut found = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| unreadable(&error))?;
                if let Some(server) = server {
                    found.cluster_url = address(server)?;
                }
                found
            }
            Self::Anonymous { server } => kube::Config::new(address(server)?),
        };
        let user = &mut found.auth_info;
        // Where there is a token beside the file, it is what the file held at some time (client-go `tools/clientcmd/client_config.go`).
        if let Some(file) = user.token_file.take() {
            let token = std::fs::read_to_string(&file)
                .map_err(|error| ConnectError::Credentials(format!("{file}: {error}")))?;
            user.token = Some(token.trim().to_owned().into());
        }
        Ok(found)
    }
}
