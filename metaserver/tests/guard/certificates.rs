//! HTTPS, and clients that show certificates.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hub_core::credentials::certificate_pem;
use hub_core::testing::tools;
use hub_core::transport::{Identity, provider};
use metaserver::{AuthConfig, Listen, Serving, ServingConfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Mood, Node, soon};
use crate::world::{self, MINE, OTHERS, auth, binding, claims, role};

/// Who signs the certificates of clients.
struct Clients {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Clients {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn client(&self, name: &str, group: &str, until: SystemTime) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(86_400)).into();
        params.not_after = until.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }
}

struct World {
    node: Node,
    issuer: world::Issuer,
    clients: Clients,
    serving: Serving,
    address: String,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (issuer, clients) = (world::Issuer::new("k1"), Clients::new());
        let file = folder.path().join("clients.crt");
        world::write(&file, &certificate_pem(&clients.certificate));
        let auth = AuthConfig {
            client_ca: Some(file),
            files_interval: Duration::ZERO,
            ..auth()
        };
        let node = world::node(auth, &issuer).await;
        node.cloud.put("roles", role("other", &["get", "list"]));
        node.cloud
            .put("rolebindings", binding("other", "Group", "readers"));
        let config = ServingConfig {
            interval: Duration::from_millis(20),
            ..ServingConfig::new(folder.path().join("pki"))
        };
        // Nothing is asked of the cloud for it.
        node.cloud.mood(Mood::Unreachable);
        let serving = Serving::open(config, SystemTime::now()).unwrap();
        node.cloud.mood(Mood::Up);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (meta, listen) = (node.meta.clone(), Listen::Tls(listener, serving.clone()));
        tokio::spawn(async move { meta.serve_on(listen, std::future::pending()).await });
        Self {
            node,
            issuer,
            clients,
            serving,
            address,
            folder,
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        world::write(&path, text);
        path.display().to_string()
    }

    async fn connect(&self, who: Option<&Identity>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(self.serving.authority_file()).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match who {
            Some(who) => config
                .with_client_auth_cert(who.chain.clone(), who.key.clone_key())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    async fn code(&self, who: Option<&Identity>, path: &str, headers: &str) -> u16 {
        let mut stream = self.connect(who).await;
        ask(&mut stream, path, headers).await
    }
}

/// The code of the answer. The connection stays.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str, headers: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\n") && !answer.ends_with(b"}") && !answer.ends_with(b"\r\nok") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

#[tokio::test]
async fn a_certificate_names_user_and_groups_and_is_judged_with_each_request() {
    let world = World::new().await;
    let reader = world.clients.client("ann", "readers", later());
    let stranger = Clients::new().client("ann", "readers", later());
    let expired = world
        .clients
        .client("ann", "readers", SystemTime::now() - Duration::from_secs(60));
    let node = world
        .clients
        .client("system:node:edge-1", "system:nodes", later());
    let other = world
        .clients
        .client("system:node:edge-2", "system:nodes", later());
    soon(async { while world.code(Some(&reader), OTHERS, "").await != 200 {} }).await;
    for mood in [Mood::Up, Mood::Unreachable] {
        world.node.cloud.mood(mood);
        for (who, path, expected) in [
            (Some(&reader), MINE, 403),
            (Some(&stranger), OTHERS, 401),
            (Some(&expired), OTHERS, 401),
            (Some(&node), MINE, 200),
            (Some(&other), MINE, 403),
            (None, MINE, 403),
            (None, "/healthz", 200),
        ] {
            assert_eq!(world.code(who, path, "").await, expected, "{path} {mood:?}");
        }
        let token = format!("authorization: Bearer {}\r\n", world.issuer.sign(&claims()));
        assert_eq!(world.code(None, MINE, &token).await, 200, "{mood:?}");
        assert_eq!(
            world.code(Some(&expired), MINE, &token).await,
            200,
            "one of two suffices"
        );
    }
    // The authorities change while a connection stands: it is not believed any longer.
    let mut stream = world.connect(Some(&reader)).await;
    assert_eq!(ask(&mut stream, OTHERS, "").await, 200);
    world.file("clients.crt", &certificate_pem(&Clients::new().certificate));
    assert_eq!(ask(&mut stream, OTHERS, "").await, 401);
}

#[tokio::test]
async fn k18_t06_a_new_certificate_is_shown_to_newcomers_and_connections_that_stand_go_on() {
    let world = World::new().await;
    let mut standing = world.connect(None).await;
    assert_eq!(ask(&mut standing, "/healthz", "").await, 200);
    let before = standing.get_ref().1.peer_certificates().unwrap()[0].clone();
    let serving = world.serving.clone();
    let keeper = tokio::spawn(async move { serving.keep(|| ["10.96.0.1".parse().unwrap()].into()).await });
    soon(async {
        loop {
            let stream = world.connect(None).await;
            if stream.get_ref().1.peer_certificates().unwrap()[0] != before {
                break;
            }
        }
    })
    .await;
    assert_eq!(ask(&mut standing, "/healthz", "").await, 200);
    keeper.abort();
    // Another process finds it on the disk, and asks nobody.
    let again = Serving::open(
        ServingConfig::new(world.folder.path().join("pki")),
        SystemTime::now(),
    );
    assert_eq!(again.unwrap().authority_file(), world.serving.authority_file());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t12_kubectl_shows_tokens_and_certificates_with_the_cloud_and_without_it() {
    let world = World::new().await;
    let program = tokio::task::spawn_blocking(|| tools::kubectl(env!("CARGO_TARGET_TMPDIR")));
    let program = program.await.unwrap();
    let reader = world.clients.client("ann", "readers", later());
    let certificate = world.file("ann.crt", &certificate_pem(&reader.chain[0]));
    let key = pem::encode(&pem::Pem::new("PRIVATE KEY", reader.key.secret_der()));
    let key = world.file("ann.key", &key);
    let by_certificate = format!("--client-certificate {certificate} --client-key {key}");
    let by_token = format!("--token {}", world.issuer.sign(&claims()));
    let expired = {
        let mut claims = claims();
        claims.exp = world::now() - 60;
        format!("--token {}", world.issuer.sign(&claims))
    };
    for mood in [Mood::Up, Mood::Unreachable] {
        world.node.cloud.mood(mood);
        let run = |arguments: String| kubectl(program, &world, arguments);
        let text = |output: &Output| {
            format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        };
        for (who, namespace, good) in [
            (&by_token, "shop", true),
            (&by_token, "other", false),
            (&by_certificate, "other", true),
            (&by_certificate, "shop", false),
        ] {
            let output = run(format!("{who} -n {namespace} get configmap settings")).await;
            assert_eq!(
                output.status.success(),
                good,
                "{mood:?} {namespace}: {}",
                text(&output)
            );
            let can = run(format!("{who} -n {namespace} auth can-i get configmaps")).await;
            assert!(
                text(&can).starts_with(if good { "yes" } else { "no" }),
                "{mood:?}: {}",
                text(&can)
            );
        }
        let forbidden = run(format!("{by_token} -n other get configmap settings")).await;
        assert!(
            text(&forbidden)
                .contains("User \"system:serviceaccount:shop:agent\" cannot get resource \"configmaps\""),
            "{}",
            text(&forbidden)
        );
        let output = run(format!("{expired} -n shop get configmap settings")).await;
        assert!(
            text(&output).contains("You must be logged in"),
            "{}",
            text(&output)
        );
        let me = run(format!("{by_certificate} auth whoami")).await;
        assert!(
            text(&me).contains("ann") && text(&me).contains("readers"),
            "{}",
            text(&me)
        );
        let list = run(format!("{by_token} -n shop auth can-i --list")).await;
        assert!(text(&list).contains("configmaps"), "{}", text(&list));
    }
}

async fn kubectl(program: &Path, world: &World, arguments: String) -> Output {
    let home = world.folder.path().join("home");
    Command::new(program)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", home)
        .args([
            "--server",
            &format!("https://{}", world.address),
            "--request-timeout",
            "20s",
        ])
        .arg("--certificate-authority")
        .arg(world.serving.authority_file())
        .args(arguments.split(' '))
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}
