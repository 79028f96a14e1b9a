//! A port: listened on, or the sentence that says why it is not. One that another program holds may be tried again while the rest goes on.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;

/// A port, or the wish for one: it is tried again.
#[derive(Debug)]
pub(crate) struct Port {
    what: &'static str,
    address: String,
    listener: Option<TcpListener>,
    trouble: Trouble,
}

/// Why a port is not there; empty while it is. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Port {
    /// Listens if it can. `what` is for the log.
    pub(crate) async fn at(what: &'static str, address: &str) -> Self {
        let trouble = Trouble::default();
        let listener = match listen(address).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!(
                    "{what} is not served yet, it will be tried again; the node agent goes on: {error}"
                );
                trouble.set(Some(error));
                None
            }
        };
        Self {
            what,
            address: address.into(),
            listener,
            trouble,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Why it does not.
    pub(crate) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// The listener, as soon as the port is free.
    pub(crate) async fn open(&mut self) -> TcpListener {
        loop {
            if let Some(listener) = self.listener.take() {
                return listener;
            }
            tokio::time::sleep(PAUSE).await;
            match listen(&self.address).await {
                Ok(listener) => {
                    tracing::info!("{} is served on {} at last", self.what, self.address);
                    self.trouble.set(None);
                    self.listener = Some(listener);
                }
                Err(error) => self.trouble.set(Some(error)),
            }
        }
    }
}

impl Trouble {
    /// The sentence for an operator.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, trouble: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Listens, or says what an operator can do.
pub(crate) async fn listen(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| busy(address, &error))
}

/// Why a port is not there.
pub(crate) fn busy(address: impl Display, error: &io::Error) -> String {
    format!("cannot listen on {address}: {error}; is another program there?")
}

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);
