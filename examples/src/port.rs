//! A port that is listened on, or the sentence that says why it is not.

use std::fmt::Display;
use std::io;

use tokio::net::TcpListener;

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
