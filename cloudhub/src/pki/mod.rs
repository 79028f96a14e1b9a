//! Certificates: the authority, join tokens, and the HTTPS server on port 10002 where an edge gets both its CA and its own
//! certificate. Requests and answers are KubeEdge's; what may be signed is stricter.
//!
//! ```text
//!   edge                                     PkiServer
//!    │ GET /ca.crt (TLS unverified)             │
//!    │ ────────────────────────────────────────►│  CA, DER; the edge compares its hash with the token's
//!    │ GET /edge.crt, token or certificate, CSR │
//!    │ ────────────────────────────────────────►│  TokenKey or client certificate → who asks
//!    │                                          │  Approved: what of the request may be signed
//!    │ ◄────────────────────────────────────────│  Signer: the certificate, DER
//! ```

mod authority;
mod http;
mod issue;
mod keep;
mod nodes;
mod place;
mod refusals;
mod requests;
mod secrets;
mod serve;
mod server;
mod sign;
mod token;

pub use authority::{Authority, AuthorityConfig, AuthorityError};
pub use http::{NodeLookup, PkiConfig, PkiRequest, PkiService, SILENCE_MAX, Silence};
pub use issue::{IssueError, LocalSigner, Signer};
pub use nodes::ClusterNodes;
pub use requests::CertificateRequests;
pub use secrets::{SecretError, SharedSecrets};
pub use serve::{PkiServer, ServeConfig};
pub use sign::{Approved, RequestError, Usage};
pub(crate) use token::install_provider;
pub use token::{TokenError, TokenKey, join_token};
