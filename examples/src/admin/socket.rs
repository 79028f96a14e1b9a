//! The socket of an operator's questions: only its owner may open it.

use std::io;
use std::path::Path;

use hub_core::socket::{Access, BindError, Socket};
use tokio::net::UnixStream;

/// A bound socket. Its file goes with it.
#[derive(Debug)]
pub struct AdminSocket(Socket);

impl AdminSocket {
    /// Binds the socket, mode 0600; folders that are missing are made, mode 0700. The error is a sentence for the operator.
    pub async fn bind(path: &Path) -> Result<Self, String> {
        let bound = Socket::bind(path, Access::OWNER).await.map_err(|error| match error {
            BindError::InUse(_) => format!(
                "cannot listen on {error}; stop it, or give this one a socket of its own (edgeTunnel.admin.socket)"
            ),
            error => format!("cannot listen on {error}"),
        });
        bound.map(Self)
    }

    /// The socket at a path, if one is wanted. What the program is for goes on without it too, as where the file system is
    /// read-only; `command` is what cannot ask it then.
    pub async fn wanted(path: &Path, command: &str) -> Option<Self> {
        if path.as_os_str().is_empty() {
            return None;
        }
        match Self::bind(path).await {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("`{command}` cannot ask this process: {error}");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.0.accept().await
    }
}
