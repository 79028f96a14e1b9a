//! The one door to the API server: how fast, how many at once, how long, how large.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hub_core::random::{Random, share};
use kube::client::Body;
use tokio::sync::{Notify, Semaphore, TryAcquireError, watch};

use super::config::KubeClusterConfig;
use super::metrics::KubeMetrics;
use super::pace::Pace;
use super::rights::{Right, Rights};
use super::silence::Silence;
use super::wire::Refusal;

/// See the [module](self).
pub(super) struct Door {
    client: RwLock<kube::Client>,
    pub(super) config: KubeClusterConfig,
    pub(super) metrics: KubeMetrics,
    pub(super) rights: Rights,
    pace: Pace,
    /// Who is under way.
    slots: Semaphore,
    /// Who is under way or waits for it.
    places: Semaphore,
    /// Whether the API server refused the credentials last.
    refused: AtomicBool,
    /// The credentials may be no good any more.
    doubts: Notify,
    silence: Mutex<Silence>,
    /// When somebody answered after a while in which nobody did.
    returned: Mutex<Option<Instant>>,
    /// Changes when somebody answers again.
    returns: watch::Sender<()>,
    random: Mutex<Random>,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub(super) fn refusal(&self) -> Refusal {
        Refusal::of(self.code, &self.headers, &self.body)
    }

    /// Whether the API server is well, and only what stands behind it is away: the server of an API that it aggregates, or a webhook
    /// (Kubernetes `kube-aggregator/pkg/apiserver/handler_proxy.go`, `apiserver/pkg/admission/plugin/webhook/errors`).
    fn is_from_behind(&self) -> bool {
        let refusal = self.refusal();
        if refusal.is_status {
            return ["failed calling webhook", "conversion webhook for"]
                .iter()
                .any(|words| refusal.message.contains(words));
        }
        let words = ["service unavailable", "error trying to reach service"];
        self.headers.contains_key("audit-id") && words.iter().any(|words| refusal.message.starts_with(words))
    }
}

/// Why the credentials may be no good any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The API server said so.
    Refused,
    /// There is no answer: perhaps it is the server that is not to be trusted any more.
    Unanswered,
}

/// There is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The request never left.
    #[error("no connection to the API server: {0}")]
    NotSent(String),
    /// The connection broke: the request may have been executed.
    #[error("the connection to the API server broke: {0}")]
    Broken(String),
    /// Too many are waiting; it never left.
    #[error("too many requests wait for the API server")]
    Overloaded,
    /// It took too long, and may have been executed.
    #[error("the API server did not answer in time")]
    Timeout,
    /// The answer is larger than what was thought of.
    #[error("the API server's answer has more than {0} bytes")]
    TooLarge(usize),
}

impl Door {
    pub(super) fn new(client: kube::Client, config: KubeClusterConfig) -> Self {
        Self {
            client: RwLock::new(client),
            pace: Pace::new(config.queries_per_second, config.burst),
            slots: Semaphore::new(config.concurrency.max(1)),
            places: Semaphore::new(config.concurrency.max(1).saturating_add(config.waiting_max)),
            metrics: KubeMetrics::default(),
            rights: Rights::default(),
            refused: AtomicBool::default(),
            doubts: Notify::new(),
            silence: Mutex::default(),
            returned: Mutex::default(),
            returns: watch::Sender::default(),
            random: Mutex::new(Random::new(seed())),
            config,
        }
    }

    /// Puts a request, in its turn, and waits for the whole answer. A server that is too busy, or says when to come
    /// back, is asked again then.
    pub(super) async fn call(&self, request: Request<Bytes>) -> Result<Answer, Fault> {
        let _place = self.places.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => Fault::Overloaded,
        })?;
        let deadline = tokio::time::Instant::now() + self.config.request_deadline;
        let sent = AtomicBool::new(false);
        let answered = async {
            let mut attempt = 0;
            loop {
                tokio::time::sleep_until(self.pace.turn(Instant::now()).into()).await;
                let slot = self.slots.acquire().await;
                sent.store(true, Ordering::Relaxed);
                let answer = self.whole(copy(&request), self.config.answer_bytes_max).await?;
                drop(slot);
                let is_busy = answer.code == 429 || (500..600).contains(&answer.code);
                if !is_busy || attempt >= self.config.busy_retries_max {
                    return Ok(answer);
                }
                // A server that fails and names a time has not begun (client-go `rest/with_retry.go` takes it so).
                let retry_after = answer.refusal().retry_after;
                if answer.code != 429 && retry_after.is_none() {
                    return Ok(answer);
                }
                let pause = self.pause(attempt, retry_after);
                if tokio::time::Instant::now() + pause >= deadline {
                    return Ok(answer);
                }
                self.metrics.busy.inc();
                sent.store(false, Ordering::Relaxed);
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
        };
        let began = Instant::now();
        tokio::time::timeout_at(deadline, answered)
            .await
            .unwrap_or_else(|_| {
                if sent.load(Ordering::Relaxed) {
                    self.hear(false, began);
                    Err(Fault::Timeout)
                } else {
                    Err(Fault::Overloaded)
                }
            })
    }

    /// Gets a document, out of turn: lists and discovery are few, and much waits for them.
    pub(super) async fn fetch(&self, request: Request<Bytes>, bytes_max: usize) -> Result<Answer, Fault> {
        self.in_time(self.whole(request, bytes_max)).await
    }

    /// Begins to read an answer that may have no end, out of turn. Or says why there is none.
    pub(super) async fn open(
        &self,
        request: Request<Bytes>,
    ) -> Result<Result<Response<Body>, Refusal>, Fault> {
        let opened = async {
            let began = Instant::now();
            let response = self.send(request).await?;
            if response.status().is_success() {
                return Ok(Ok(response));
            }
            let answer = self.read(response, REFUSAL_MAX, began).await?;
            Ok(Err(answer.refusal()))
        };
        self.in_time(opened).await
    }

    async fn in_time<T>(&self, answered: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let began = Instant::now();
        let answer = tokio::time::timeout(self.config.request_deadline, answered).await;
        answer.unwrap_or_else(|_| {
            self.hear(false, began);
            Err(Fault::Timeout)
        })
    }

    /// Waits until the credentials may be no good any more.
    pub(super) async fn doubted(&self) -> Doubt {
        self.doubts.notified().await;
        if self.refused.load(Ordering::Relaxed) {
            Doubt::Refused
        } else {
            Doubt::Unanswered
        }
    }

    /// From now on, requests are put through this client. Who paused tries again soon.
    pub(super) fn replace(&self, client: kube::Client) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        self.returns.send_replace(());
    }

    /// How long the API server has answered nothing but that something is wrong with it.
    pub(super) fn silence(&self) -> Option<Duration> {
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        silence.lasts(Instant::now())
    }

    /// Whether the API server may just have started: what it denies now it may allow in a moment.
    pub(super) fn is_settling(&self) -> bool {
        let returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        returned.is_some_and(|returned| returned.elapsed() < self.config.settling)
    }

    /// A pause before something is tried again. It ends early, and says so, where the API server was silent for a while and answers
    /// somebody: but not at the same moment for all.
    pub(super) async fn rest(&self, pause: Duration) -> bool {
        let mut returns = self.returns.subscribe();
        let until = tokio::time::Instant::now() + pause;
        tokio::select! {
            () = tokio::time::sleep_until(until) => false,
            _ = returns.changed() => {
                let soon = tokio::time::Instant::now() + RETURN.mul_f64(share(self.random()));
                tokio::time::sleep_until(soon.min(until)).await;
                true
            }
        }
    }

    /// Whether what was asked then has been answered by an API server that is well.
    fn hear(&self, is_well: bool, asked: Instant) {
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_well {
            return silence.begin(asked);
        }
        let Some(silence) = silence.end(Instant::now()) else {
            return;
        };
        if silence >= RESTART {
            *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        // One that comes and goes hurries nobody.
        if silence >= SILENT {
            self.returns.send_replace(());
        }
    }

    /// The pause before another attempt; never shorter than what the server asked for, and not the same for all.
    pub(super) fn pause(&self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        let own = self.config.backoff.pause(attempt, self.random());
        match retry_after {
            Some(asked) => asked + own.min(asked / 2 + self.config.backoff.first),
            None => own,
        }
    }

    pub(super) fn random(&self) -> u64 {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.number()
    }

    async fn whole(&self, request: Request<Bytes>, bytes_max: usize) -> Result<Answer, Fault> {
        let began = Instant::now();
        let response = self.send(request).await?;
        self.read(response, bytes_max, began).await
    }

    async fn read(
        &self,
        response: Response<Body>,
        bytes_max: usize,
        asked: Instant,
    ) -> Result<Answer, Fault> {
        let (parts, body) = response.into_parts();
        let code = parts.status.as_u16();
        let answer = Limited::new(body, bytes_max).collect().await.map(|body| Answer {
            code,
            headers: parts.headers,
            body: body.to_bytes(),
        });
        if code >= 500 {
            self.hear(answer.as_ref().is_ok_and(Answer::is_from_behind), asked);
        }
        answer.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Fault::TooLarge(bytes_max)
            } else {
                Fault::Broken(chain(&*error))
            }
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, Fault> {
        let method = request.method().clone();
        let resource = request.uri().path().to_owned();
        let began = Instant::now();
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = client.send(request.map(Body::from)).await;
        let (code, took) = (
            sent.as_ref().ok().map(|response| response.status().as_u16()),
            began.elapsed(),
        );
        // What is wrong with a server that fails is in the rest of its answer.
        if code.is_none_or(|code| code < 500) {
            self.hear(code.is_some(), began);
        }
        self.metrics.request(&method, code, took);
        tracing::debug!(target: "way", %method, resource, code, ?took, "asked the API server");
        let response = sent.map_err(fault).inspect_err(|_| self.doubts.notify_one())?;
        if response.status() == http::StatusCode::UNAUTHORIZED {
            self.refused.store(true, Ordering::Relaxed);
            self.doubts.notify_one();
            self.rights
                .report(Right::CREDENTIALS, "the API server does not accept them");
        } else if self.refused.swap(false, Ordering::Relaxed) {
            self.rights.granted(&Right::CREDENTIALS);
        }
        Ok(response)
    }
}

fn fault(error: kube::Error) -> Fault {
    match error {
        kube::Error::Auth(error) => Fault::NotSent(chain(&error)),
        kube::Error::Service(error) => {
            let unconnected = error
                .downcast_ref::<hyper_util::client::legacy::Error>()
                .is_some_and(hyper_util::client::legacy::Error::is_connect);
            let refused = error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
            if unconnected || refused || error.is::<tower::buffer::error::Closed>() {
                Fault::NotSent(chain(&*error))
            } else {
                Fault::Broken(chain(&*error))
            }
        }
        error => Fault::Broken(chain(&error)),
    }
}

/// An error with what caused it: "client error (Connect)" alone helps nobody.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// A GET of a path and a query, as the hub itself.
pub(super) fn get(path_and_query: &str, accept: &'static str) -> Result<Request<Bytes>, http::Error> {
    Request::get(path_and_query)
        .header(header::ACCEPT, accept)
        .body(Bytes::new())
}

/// Bytes of the answer that says why there is no watch.
const REFUSAL_MAX: usize = 1 << 20;
/// So long must the API server have been silent for its return to end pauses.
const SILENT: Duration = Duration::from_secs(3);
/// No API server starts anew in less.
const RESTART: Duration = Duration::from_secs(1);
/// Within this time of its return all who paused try again.
const RETURN: Duration = Duration::from_secs(1);

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8)
}
