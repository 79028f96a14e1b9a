//! Who this node is towards the cloud: its certificate, a new one in time, and what to do while there is none.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hub_core::transport::{
    Dialer, Endpoint, Identity, QuicConfig, QuicDialer, TlsClient, WebSocketConfig, WebSocketDialer,
};

use crate::config::{EdgeHubConfig, TransportConfig};
use crate::enroll::{EnrollError, Enrolled, Move, RenewalPlan, enroll, renew};
use crate::error::RunError;
use crate::metrics::Metrics;

/// One way to the cloud.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) endpoint: Endpoint,
}

/// The ways to the cloud, and the certificate they show.
pub(crate) struct Identities {
    pub(crate) targets: Vec<Target>,
    /// None where the dialers were given by the embedder, with whatever they show.
    certificate: Option<Certificate>,
}

struct Certificate {
    enrolled: Enrolled,
    plan: RenewalPlan,
    tls: TlsClient,
    seed: u64,
    /// The trouble that was told last.
    told: String,
}

impl Identities {
    /// Dialers of the embedder's own.
    pub(crate) fn given(targets: Vec<Target>) -> Self {
        Self {
            targets,
            certificate: None,
        }
    }

    /// Loads the node's certificate or gets one. Tries for as long as it takes, unless only a person can help and there is
    /// nothing that the node could serve meanwhile.
    pub(crate) async fn obtain(config: &EdgeHubConfig, serves: bool, seed: u64) -> Result<Self, RunError> {
        if config.websocket.is_empty() && config.quic.is_empty() {
            return Err(RunError::NoEndpoint);
        }
        let certificate = Certificate::obtain(config, serves, seed, &mut String::new()).await?;
        let tls = &certificate.tls;
        let websocket: Arc<dyn Dialer> =
            Arc::new(WebSocketDialer::new(tls.clone(), WebSocketConfig::default()));
        let quic: Arc<dyn Dialer> = Arc::new(QuicDialer::new(tls.clone(), QuicConfig::default()));
        let to = |dialer: &Arc<dyn Dialer>, endpoints: &[Endpoint]| -> Vec<Target> {
            let target = |endpoint: &Endpoint| Target {
                dialer: dialer.clone(),
                endpoint: endpoint.clone(),
            };
            endpoints.iter().map(target).collect()
        };
        let mut targets = [to(&websocket, &config.websocket), to(&quic, &config.quic)];
        if config.prefer == TransportConfig::Quic {
            targets.reverse();
        }
        Ok(Self {
            targets: targets.concat(),
            certificate: Some(certificate),
        })
    }

    /// Resolves with a new certificate in place, for the next dial. Dropping the future loses at most an attempt.
    pub(crate) async fn renewed(
        &mut self,
        config: &EdgeHubConfig,
        metrics: &Metrics,
    ) -> Result<(), RunError> {
        let Some(certificate) = &mut self.certificate else {
            return std::future::pending().await;
        };
        loop {
            let now = SystemTime::now();
            if certificate.plan.is_over(now) {
                // The tunnel's server would refuse it. The link that stands lives on without it.
                let other =
                    Certificate::obtain(config, true, certificate.seed, &mut certificate.told).await?;
                return certificate.install(config, other.enrolled);
            }
            if !config.rotate || now < certificate.plan.due() {
                let until = if config.rotate {
                    certificate.plan.due()
                } else {
                    certificate.enrolled.not_after
                };
                let pause = until.duration_since(now).unwrap_or_default();
                // In steps, since the wall clock may jump.
                tokio::time::sleep(pause.min(CLOCK_STEP)).await;
                continue;
            }
            match renew(&config.enroll, &certificate.enrolled, now).await {
                Ok(enrolled) => {
                    certificate.install(config, enrolled)?;
                    metrics.renewals.inc();
                    tracing::info!("the certificate is renewed");
                    return Ok(());
                }
                Err(error) => {
                    let again = certificate.plan.failed(SystemTime::now());
                    let pause = again.duration_since(SystemTime::now()).unwrap_or_default();
                    tracing::warn!(%error, retry_in = ?pause, "the certificate could not be renewed yet");
                }
            }
        }
    }
}

impl Certificate {
    async fn obtain(
        config: &EdgeHubConfig,
        serves: bool,
        seed: u64,
        told: &mut String,
    ) -> Result<Self, RunError> {
        let mut attempt = 0;
        loop {
            let error = match enroll(&config.enroll, SystemTime::now()).await {
                Ok(enrolled) => {
                    let tls = tls(&enrolled)?;
                    let plan = RenewalPlan::new(config.renewal.clone(), &enrolled, seed);
                    return Ok(Self {
                        enrolled,
                        plan,
                        tls,
                        seed,
                        told: String::new(),
                    });
                }
                Err(error) => error,
            };
            let operator = error.whose_move() == Move::Operator;
            if operator && !serves {
                return Err(error.into());
            }
            say(&error, operator, told);
            let pause = if operator {
                config.identity_retry
            } else {
                config.backoff.pause(attempt, seed.rotate_left(attempt))
            };
            attempt = attempt.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    fn install(&mut self, config: &EdgeHubConfig, enrolled: Enrolled) -> Result<(), RunError> {
        self.tls.replace(&tls(&enrolled)?);
        self.seed = self.seed.rotate_left(1);
        self.plan = RenewalPlan::new(config.renewal.clone(), &enrolled, self.seed);
        self.enrolled = enrolled;
        Ok(())
    }
}

/// Says each trouble once.
fn say(error: &EnrollError, operator: bool, told: &mut String) {
    let text = error.to_string();
    if *told == text {
        tracing::debug!(%error, "still no certificate");
    } else if operator {
        tracing::error!(
            %error,
            "this node has no certificate that is good; it serves what it holds, and looks for a new certificate or token now and then"
        );
    } else {
        tracing::warn!(%error, "this node has no certificate yet; trying again");
    }
    *told = text;
}

fn tls(enrolled: &Enrolled) -> Result<TlsClient, RunError> {
    // The authority's own certificate, which some tools write behind the node's, need not be shown, and a stock cloud that
    // authorizes refuses a node that shows two.
    let mut chain = enrolled.identity.chain.clone();
    chain.retain(|certificate| *certificate != enrolled.ca);
    let identity = Identity {
        chain,
        key: enrolled.identity.key.clone_key(),
    };
    TlsClient::new(&enrolled.ca, Some(identity)).map_err(|error| RunError::Tls(error.to_string()))
}

/// How long a sleep towards a wall time may be.
const CLOCK_STEP: Duration = Duration::from_secs(600);
