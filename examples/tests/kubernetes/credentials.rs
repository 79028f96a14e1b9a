//! Tokens, certificates and authorities that change under a running cloud.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloudhub::cluster::{Cluster, Credentials, KubeCluster, KubeClusterConfig};
use http_body_util::BodyExt;
use hub_core::backoff::Backoff;
use hub_core::credentials::{CredentialFiles, certificate_pem};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use hub_core::testing::TestCa;
use hub_core::transport::{TlsServer, TlsVersions};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::server::{Seen, Server};
use crate::view::{View, within};

/// What stands before the scripted API server: it lets in who shows what is good just now.
struct Gate {
    server: Server,
    inner: Arc<Inner>,
    address: SocketAddr,
    folder: TempDir,
    _accepting: AbortOnDropHandle<()>,
}

struct Inner {
    tls: Mutex<TlsServer>,
    /// The token that is good. Without one, a certificate of the authority is asked for.
    token: Mutex<Option<String>>,
    connections: Mutex<JoinSet<()>>,
}

impl Gate {
    async fn new(ca: &TestCa) -> Self {
        let server = Server::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            tls: Mutex::new(tls(ca)),
            token: Mutex::default(),
            connections: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, inner.clone(), server.client()));
        Self {
            server,
            inner,
            address,
            folder: tempfile::tempdir().unwrap(),
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    fn accept_only(&self, token: &str) {
        *self.inner.token.lock().unwrap() = Some(token.to_owned());
        self.cut();
    }

    /// The server gets a certificate of this authority, and trusts those of no other.
    fn change_to(&self, ca: &TestCa) {
        *self.inner.tls.lock().unwrap() = tls(ca);
        self.cut();
    }

    fn cut(&self) {
        self.inner.connections.lock().unwrap().abort_all();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A cloud that knows the server by the file `ca.crt`, and itself by this.
    async fn cluster(&self, user: serde_json::Value) -> KubeCluster {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
            "clusters": [{ "name": "it", "cluster": {
                "server": format!("https://{}", self.address), "certificate-authority": self.file("ca.crt") } }],
            "users": [{ "name": "it", "user": user }],
        });
        let path = self.file("config");
        std::fs::write(&path, config.to_string()).unwrap();
        let limits = KubeClusterConfig {
            backoff: Backoff {
                first: Duration::from_millis(2),
                max: Duration::from_millis(20),
            },
            credentials_pause: Duration::from_millis(10),
            // Nobody waits for the clock here.
            credentials_interval: Duration::from_secs(3600),
            ..KubeClusterConfig::default()
        };
        KubeCluster::connect(Credentials::File { path, server: None }, limits)
            .await
            .unwrap()
    }

    /// Holds what is there, and hears of what changes when `change` was done, though nothing is answered before `mend` was.
    async fn heals(&self, cluster: &KubeCluster, change: impl FnOnce(), mend: impl FnOnce()) {
        self.server.put("a", "x", "1").await;
        let all = Scope::all(GroupVersionResource::core("configmaps"));
        let mut view = View::of(cluster, all);
        view.synced().await;
        change();
        self.server.put("b", "x", "1").await;
        within("the end of the answers", async {
            while cluster.get(key("a")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(view.names(), ["a"]);
        mend();
        view.until("what came meanwhile", |view| view.names() == ["a", "b"])
            .await;
        assert_eq!((view.restarts, view.gone.len()), (0, 0));
        assert_eq!(cluster.missing_rights(), []);
        let name = |seen: &Seen| seen.headers["user-agent"].to_str().unwrap().to_owned();
        let unnamed = self
            .server
            .seen(|_| true)
            .into_iter()
            .filter(|seen| !name(seen).starts_with("cloudcore/"));
        assert_eq!(unnamed.count(), 0);
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(GroupVersionResource::core("configmaps"), Some("default"), name)
}

fn tls(ca: &TestCa) -> TlsServer {
    TlsServer::optional_client(
        ca.server(&["127.0.0.1"]),
        ca.certificate(),
        TlsVersions::default(),
    )
    .unwrap()
}

async fn accept(listener: TcpListener, inner: Arc<Inner>, client: kube::Client) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (gate, client) = (inner.clone(), client.clone());
        inner.connections.lock().unwrap().spawn(async move {
            let config = gate.tls.lock().unwrap().config();
            let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else {
                return;
            };
            let shows_certificate = stream.get_ref().1.peer_certificates().is_some();
            let service = service_fn(move |request| {
                let (gate, client) = (gate.clone(), client.clone());
                async move { Ok::<_, Infallible>(gate.answer(client, request, shows_certificate).await) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Inner {
    async fn answer(
        &self,
        client: kube::Client,
        request: Request<Incoming>,
        shows_certificate: bool,
    ) -> Response<Body> {
        let token = self.token.lock().unwrap().clone();
        let shown = request.headers().get("authorization").cloned();
        let is_good = match token {
            Some(token) => shown.is_some_and(|shown| shown == format!("Bearer {token}").as_str()),
            None => shows_certificate,
        };
        if !is_good {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401, "reason": "Unauthorized" });
            let mut answer = Response::new(Body::from(status.to_string().into_bytes()));
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            return answer;
        }
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let request = Request::from_parts(parts, Body::from(body));
        client.send(request).await.unwrap()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_token_that_was_rotated_is_read_from_its_file_as_soon_as_the_old_one_is_refused() {
    let ca = TestCa::new();
    let gate = Gate::new(&ca).await;
    write(&gate.file("ca.crt"), &certificate_pem(ca.certificate()));
    // As an editor leaves it.
    write(&gate.file("token"), "first\n");
    gate.accept_only("first");
    let cluster = gate.cluster(json!({ "tokenFile": gate.file("token") })).await;
    let change = || gate.accept_only("second");
    gate.heals(&cluster, change, || write(&gate.file("token"), "second\n"))
        .await;
}

#[tokio::test]
async fn a_plugin_is_run_again_when_what_it_gave_is_refused() {
    let ca = TestCa::new();
    let gate = Gate::new(&ca).await;
    write(&gate.file("ca.crt"), &certificate_pem(ca.certificate()));
    write(&gate.file("issued"), "first");
    gate.accept_only("first");
    let version = "client.authentication.k8s.io/v1";
    let script = format!(
        r#"printf '{{"apiVersion":"{version}","kind":"ExecCredential","status":{{"token":"%s"}}}}' "$(cat '{}')""#,
        gate.file("issued").display()
    );
    let user = json!({ "exec": { "apiVersion": version, "command": "sh", "args": ["-c", script], "interactiveMode": "Never" } });
    let cluster = gate.cluster(user).await;
    let change = || gate.accept_only("second");
    gate.heals(&cluster, change, || write(&gate.file("issued"), "second"))
        .await;
}

#[tokio::test]
async fn authority_and_certificate_are_replaced_under_a_running_cloud() {
    let (before, after) = (TestCa::new(), TestCa::new());
    let gate = Gate::new(&before).await;
    let files = CredentialFiles::new(gate.file("client.crt"), gate.file("client.key"));
    let put = |ca: &TestCa| {
        files.store(&ca.client("cloudcore", "kubeedge")).unwrap();
        write(&gate.file("ca.crt"), &certificate_pem(ca.certificate()));
    };
    put(&before);
    let user =
        json!({ "client-certificate": gate.file("client.crt"), "client-key": gate.file("client.key") });
    let cluster = gate.cluster(user).await;
    gate.heals(&cluster, || gate.change_to(&after), || put(&after))
        .await;
}
