//! Keeping what ends: the server certificate, and the join token where instances share one.
//!
//! Nothing here gives up. A cluster or disk that fails is asked again, with growing pauses, for as long as the hub runs (KubeEdge's
//! token refresh ends with its first error, issue 5826 there).

use std::future::Future;
use std::time::{Duration, SystemTime};

use hub_core::backoff::Backoff;
use hub_core::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, AuthorityError};

impl Authority {
    /// Makes the server certificate anew before it ends, takes over one that others put in its place, and writes a fresh join token
    /// to its Secret in every half of a token's life. Listeners show a new certificate to those who connect from then on;
    /// connections that stand go on. Runs until told to stop.
    pub async fn keep(&self, clock: &dyn Clock, stop: CancellationToken) {
        let now = || SystemTime::UNIX_EPOCH + Duration::from_millis(clock.unix_ms().unsigned_abs());
        let certificate = repeat("the server certificate", CHECK, || self.renew(now()));
        let token = repeat("the join token", self.token_lifetime() / 2, || {
            self.publish_token(now())
        });
        tokio::select! {
            () = stop.cancelled() => {}
            _ = async { tokio::join!(certificate, token) } => {}
        }
    }
}

async fn repeat<F: Future<Output = Result<(), AuthorityError>>>(
    what: &str,
    pause: Duration,
    mut act: impl FnMut() -> F,
) {
    let mut failures = 0;
    loop {
        let pause = match act().await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(what, "fresh again");
                }
                failures = 0;
                pause.max(PAUSE_MIN)
            }
            Err(error) => {
                // One line a failure is enough: the pauses grow.
                tracing::warn!(what, %error, "could not be kept fresh yet; trying again");
                let again = RETRY.pause(failures, uuid::Uuid::new_v4().as_u64_pair().0);
                failures = failures.saturating_add(1);
                again
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// How soon a certificate that others replaced is noticed.
const CHECK: Duration = Duration::from_secs(3600);
/// Protects the cluster from a token life of nothing.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const RETRY: Backoff = Backoff {
    first: Duration::from_secs(1),
    max: Duration::from_secs(300),
};
