//! An API server that a test can spoil: a metaserver over an embedded cluster, behind a layer with bad manners.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use cloudhub::cluster::{Cluster, EmbeddedCluster, EmbeddedConfig, KubeCluster, KubeClusterConfig};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full, StreamBody};
use hub_core::api::{ApiRequest, Verb};
use hub_core::backoff::Backoff;
use hub_core::object::GroupVersionResource;
use hyper::body::Frame;
use hyper::{Method, Request, Response};
use metaserver::{MetaConfig, MetaServer, MetaService, Revisions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// How the server behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// Nobody is there.
    Away,
    /// It thinks for so long first.
    Slow(Duration),
    /// 429, and when to come back.
    Busy,
    /// 503, and when to come back: now.
    Later,
    /// This, with a good code, to whatever is asked.
    Garbage(&'static str),
    /// Half of each answer.
    Cut,
    /// Every version is too old.
    Expired,
    /// 403 to whoever lists or watches what contains this.
    Forbids(&'static str),
    /// Lets nobody act as somebody else.
    NoImpersonation,
    /// Knows no streaming lists, and says so.
    NoStreams,
    /// Its store tells of no progress: it sends no bookmarks, and ends no streaming list.
    NoBookmarks,
    /// A proxy in front says that nobody is there.
    Proxy,
    /// Takes requests and answers none.
    Hangs,
    /// A webhook that is asked about whatever is written is away.
    NoWebhook,
    /// The server of the APIs of this group, which it passes on to, is away.
    NoApi(&'static str),
}

/// A server and its moods.
pub(crate) struct Server {
    pub(crate) truth: EmbeddedCluster,
    pub(crate) spoiled: Arc<Spoiled>,
    client: kube::Client,
    _folder: TempDir,
}

/// What the layer knows.
pub(crate) struct Spoiled {
    mood: Mutex<Mood>,
    /// Counts up: all answers under way end.
    cut: tokio::sync::watch::Sender<u64>,
    seen: Mutex<VecDeque<Seen>>,
    /// How many of them were forgotten.
    forgotten: AtomicUsize,
    /// Requests under way that are no watches, and the most of them there were.
    under_way: Mutex<(usize, usize)>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: hyper::HeaderMap,
}

impl Server {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let truth =
            EmbeddedCluster::open(&folder.path().join("cluster.db"), EmbeddedConfig::default()).unwrap();
        let config = MetaConfig {
            revisions: Revisions::Authoritative,
            ..MetaConfig::default()
        };
        let api = MetaServer::with_config(config, truth.clone(), truth.upstream());
        let spoiled = Arc::new(Spoiled {
            mood: Mutex::new(Mood::Good),
            cut: tokio::sync::watch::Sender::new(0),
            seen: Mutex::default(),
            forgotten: AtomicUsize::new(0),
            under_way: Mutex::default(),
        });
        let (service, layer) = (api.service(), spoiled.clone());
        let client = kube::Client::new(
            tower::service_fn(move |request| layer.clone().answer(service.clone(), request)),
            "default",
        );
        Self {
            truth,
            spoiled,
            client,
            _folder: folder,
        }
    }

    pub(crate) fn cluster(&self) -> KubeCluster {
        self.cluster_with(|_| {})
    }

    /// In a hurry: what takes seconds in the world takes milliseconds here.
    pub(crate) fn cluster_with(&self, change: impl FnOnce(&mut KubeClusterConfig)) -> KubeCluster {
        let mut config = KubeClusterConfig {
            backoff: Backoff {
                first: Duration::from_millis(2),
                max: Duration::from_millis(20),
            },
            watch_linger: Duration::from_millis(50),
            request_deadline: Duration::from_secs(2),
            settling: Duration::ZERO,
            ..KubeClusterConfig::default()
        };
        change(&mut config);
        KubeCluster::new(self.client.clone(), config)
    }

    /// What leads to it, whoever asks.
    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.spoiled.mood.lock().unwrap() = mood;
    }

    /// How many of the requests after the first `after` match, and how many requests there were so far.
    pub(crate) fn counted(&self, after: usize, wanted: impl Fn(&str) -> bool) -> (usize, usize) {
        let seen = self.spoiled.seen.lock().unwrap();
        let forgotten = self.spoiled.forgotten.load(Ordering::Relaxed);
        let new = seen.iter().skip(after.saturating_sub(forgotten));
        let count = new.filter(|seen| wanted(&seen.line)).count();
        (count, forgotten + seen.len())
    }

    /// The most requests that were under way at once since this was asked last.
    pub(crate) fn most_under_way(&self) -> usize {
        let mut under_way = self.spoiled.under_way.lock().unwrap();
        let (now, most) = *under_way;
        under_way.1 = now;
        most
    }

    /// All connections break.
    pub(crate) fn cut(&self) {
        self.spoiled.cut.send_modify(|cuts| *cuts += 1);
    }

    /// What was asked so far and matches.
    pub(crate) fn seen(&self, wanted: impl Fn(&str) -> bool) -> Vec<Seen> {
        let seen = self.spoiled.seen.lock().unwrap();
        seen.iter().filter(|seen| wanted(&seen.line)).cloned().collect()
    }

    /// Creates, replaces or deletes an object at the truth itself.
    pub(crate) async fn change(&self, verb: Verb, resource: &str, name: &str, data: Value) -> Value {
        let resource = GroupVersionResource::core(resource);
        let named = (verb != Verb::Create).then_some(name);
        let mut request = ApiRequest::resource(verb, resource, Some("default"), named);
        if !data.is_null() {
            request = request.with_body("application/json", data.to_string());
        }
        let answer = self.truth.execute(request).await.unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) async fn put(&self, name: &str, label: &str, value: &str) -> Value {
        let body = json!({
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": { "name": name, "namespace": "default", "labels": { "app": label } },
            "data": { "value": value },
        });
        let updated = self.change(Verb::Update, "configmaps", name, body.clone()).await;
        if updated["kind"] == "Status" {
            self.change(Verb::Create, "configmaps", name, body).await
        } else {
            updated
        }
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.change(Verb::Delete, "configmaps", name, Value::Null).await;
    }
}

type Body = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

impl Spoiled {
    async fn answer(
        self: Arc<Self>,
        service: MetaService,
        request: Request<kube::client::Body>,
    ) -> io::Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let line = format!("{} {}", parts.method, parts.uri);
        self.see(&line, &parts.headers);
        let is_watch = line.contains("watch=true");
        let _under_way = (!is_watch).then(|| UnderWay::new(&self));
        let cut = self.cut.subscribe();
        let mood = self.mood.lock().unwrap().clone();
        let resumes = is_watch && line.contains("resourceVersion=");
        match &mood {
            Mood::Good | Mood::Cut | Mood::NoBookmarks => {}
            Mood::Away => return Err(io::ErrorKind::ConnectionRefused.into()),
            Mood::Slow(pause) => tokio::time::sleep(*pause).await,
            Mood::Busy => return Ok(status(429, "TooManyRequests")),
            Mood::Later => {
                let mut answer = status(503, "ServiceUnavailable");
                answer.headers_mut().insert("retry-after", "0".parse().unwrap());
                return Ok(answer);
            }
            Mood::Garbage(text) => return Ok(plain(200, "application/json", text)),
            Mood::Expired if resumes => return Ok(status(410, "Expired")),
            Mood::Expired => {}
            Mood::Forbids(what) if line.contains(what) => return Ok(status(403, "Forbidden")),
            Mood::Forbids(_) => {}
            Mood::NoImpersonation if parts.headers.contains_key("impersonate-user") => {
                return Ok(status(
                    403,
                    "users \"x\" is forbidden: User \"y\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
                ));
            }
            Mood::NoImpersonation => {}
            Mood::NoStreams if line.contains("sendInitialEvents") => return Ok(status(422, "Invalid")),
            Mood::NoStreams => {}
            Mood::Proxy => return Ok(plain(503, "text/html", "<html>no upstream</html>")),
            Mood::Hangs => std::future::pending().await,
            Mood::NoWebhook if parts.method != Method::GET => {
                let text = "Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: connection refused";
                return Ok(status_of(500, "InternalError", text));
            }
            Mood::NoWebhook => {}
            Mood::NoApi(group) if line.contains(&format!("/apis/{group}/")) => {
                let mut answer = plain(503, "text/plain; charset=utf-8", "service unavailable\n");
                answer.headers_mut().insert("audit-id", "1".parse().unwrap());
                return Ok(answer);
            }
            Mood::NoApi(_) => {}
        }
        // Whoever asks may do everything here; who may do what is tried with the real server.
        let names = parts.headers.keys().cloned().collect::<Vec<_>>();
        for name in names {
            if name.as_str().starts_with("impersonate-") {
                parts.headers.remove(name);
            }
        }
        let request = Request::from_parts(parts, Full::new(body));
        let answer: Result<_, Infallible> = service.oneshot(request).await;
        let (mut parts, body) = answer.unwrap().into_parts();
        if let Mood::NoApi(group) = mood
            && line == "GET /apis"
        {
            let document = body.collect().await.unwrap().to_bytes();
            parts.headers.remove("content-length");
            let document = stale(&document, group);
            let frame = Ok(Frame::data(document));
            return Ok(Response::from_parts(
                parts,
                StreamBody::new(futures::stream::iter([frame]).boxed()),
            ));
        }
        let whole = body.into_data_stream().map(|data| {
            let mut data = data.unwrap();
            data.copy_to_bytes(data.remaining())
        });
        let frames = if mood == Mood::Cut {
            halves(whole).boxed()
        } else if mood == Mood::NoBookmarks && is_watch {
            whole.map(|data| Ok(without_bookmarks(&data))).boxed()
        } else {
            whole.map(Ok).boxed()
        };
        let frames = until_cut(frames, cut).map(|data| data.map(Frame::data));
        Ok(Response::from_parts(parts, StreamBody::new(frames.boxed())))
    }

    fn see(&self, line: &str, headers: &hyper::HeaderMap) {
        let mut seen = self.seen.lock().unwrap();
        seen.push_back(Seen {
            line: line.to_owned(),
            headers: headers.clone(),
        });
        if seen.len() > 10_000 {
            seen.pop_front();
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts a request until it is answered.
struct UnderWay(Arc<Spoiled>);

impl UnderWay {
    fn new(spoiled: &Arc<Spoiled>) -> Self {
        let mut under_way = spoiled.under_way.lock().unwrap();
        under_way.0 += 1;
        under_way.1 = under_way.1.max(under_way.0);
        Self(spoiled.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.lock().unwrap().0 -= 1;
    }
}

/// The events of a watch but for those that only name a version.
fn without_bookmarks(events: &[u8]) -> Bytes {
    let lines = events.split_inclusive(|byte| *byte == b'\n');
    let kept = lines.filter(|line| !line.windows(10).any(|part| part == b"\"BOOKMARK\""));
    kept.collect::<Vec<_>>().concat().into()
}

/// The first frame that holds something, in part, and then the connection breaks.
fn halves(whole: impl futures::Stream<Item = Bytes>) -> impl futures::Stream<Item = io::Result<Bytes>> {
    whole
        .map(|data| Ok(data.slice(..data.len() / 2)))
        .take(1)
        .chain(futures::stream::iter([
            Err(io::ErrorKind::ConnectionReset.into()),
        ]))
}

fn until_cut(
    frames: BoxStream<'static, io::Result<Bytes>>,
    cut: tokio::sync::watch::Receiver<u64>,
) -> impl futures::Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some((frames, cut)), |state| async {
        let (mut frames, mut cut) = state?;
        tokio::select! {
            biased;
            _ = cut.changed() => Some((Err(io::ErrorKind::ConnectionReset.into()), None)),
            frame = frames.next() => Some((frame?, Some((frames, cut)))),
        }
    })
}

/// Discovery as it is while the server of a group is away.
fn stale(document: &[u8], group: &str) -> Bytes {
    let mut document: Value = serde_json::from_slice(document).unwrap();
    let groups = document["items"].as_array_mut().unwrap();
    let found = groups.iter_mut().find(|found| found["metadata"]["name"] == group);
    for version in found.unwrap()["versions"].as_array_mut().unwrap() {
        *version = json!({ "version": version["version"], "freshness": "Stale" });
    }
    document.to_string().into()
}

fn status(code: u16, reason: &str) -> Response<Body> {
    status_of(code, reason, &format!("scripted: {reason}"))
}

fn status_of(code: u16, reason: &str, message: &str) -> Response<Body> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    plain(code, "application/json", &body.to_string())
}

fn plain(code: u16, content_type: &str, text: &str) -> Response<Body> {
    let frame = Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())));
    Response::builder()
        .status(code)
        .header("content-type", content_type)
        .body(StreamBody::new(futures::stream::iter([frame]).boxed()))
        .unwrap()
}
