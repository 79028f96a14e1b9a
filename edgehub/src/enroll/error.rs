//! What can go wrong while enrolling, and whose move it is.

use hub_core::credentials::CredentialError;

use super::token::TokenFormatError;

/// The node has no certificate, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// There is neither a certificate nor a token.
    #[error(
        "{0}, and there is no token; get one from the cloud (`cloudcore token` or `keadm gettoken`) and put it into modules.edgeHub.token"
    )]
    NoToken(String),
    /// The token is not one.
    #[error(transparent)]
    Token(#[from] TokenFormatError),
    /// The server's CA is not the one that the token was made for.
    #[error(
        "the CA of {server} has the hash {found}, but the token was made for {expected}: the token is of another cloud, or somebody is in between"
    )]
    OtherCa {
        /// Who was asked.
        server: String,
        /// The hash in the token.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// The cloud does not give this node a certificate: the token is expired or of another cloud, or the node may not have what it asks.
    #[error("{server} refused the certificate ({status}): {text}")]
    Refused {
        /// Who was asked.
        server: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// The certificate's time ended before it was renewed.
    #[error(
        "the certificate is expired and cannot renew itself; put a new token into modules.edgeHub.token and start again"
    )]
    Expired,
    /// The server's certificate is not of the CA that the node trusts, or is for another address.
    #[error("{server} cannot be trusted: {why}")]
    Untrusted {
        /// Who was asked.
        server: String,
        /// What TLS said.
        why: String,
    },
    /// The files cannot be written.
    #[error(transparent)]
    Files(#[from] CredentialError),
    /// A key or a request could not be made.
    #[error("cannot make a certificate request: {0}")]
    Request(String),
    /// The server said something that no such server says.
    #[error("unusable answer: {0}")]
    Answer(String),
    /// The server cannot be reached, or has trouble of its own.
    #[error("cannot reach {server}: {why}")]
    Link {
        /// Who was asked.
        server: String,
        /// What happened.
        why: String,
    },
    /// There is nobody to ask.
    #[error("no server to enroll with; set modules.edgeHub.httpServer")]
    NoServer,
}

/// Who must do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A person: trying again changes nothing.
    Operator,
    /// Nobody here: try again later.
    Link,
}

impl EnrollError {
    /// Who must do something before it can work.
    pub fn whose_move(&self) -> Move {
        match self {
            Self::Link { .. } | Self::Answer(_) => Move::Link,
            _ => Move::Operator,
        }
    }
}
