//! A real broker, and somebody who hears all of it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use edgehub::twin::MqttTls;
use hub_core::credentials::{CredentialFiles, certificate_pem};
use hub_core::testing::TestCa;
use hub_core::testing::tools::Mosquitto;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// A mosquitto on a port of its own.
pub(crate) struct Broker {
    pub(crate) port: u16,
    /// Over TLS, for clients with a certificate.
    tls_port: u16,
    folder: TempDir,
    process: Option<Child>,
}

/// A `mosquitto_sub` of everything under `$hw`.
pub(crate) struct Listener {
    process: Child,
    lines: mpsc::UnboundedReceiver<(String, String)>,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        // Brought before anything else: it takes its time when it must be downloaded.
        tokio::task::spawn_blocking(tools).await.unwrap();
        // Both at a time, or they may be the same.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, tls_port] = free.map(|listener| listener.local_addr().unwrap().port());
        let folder = tempfile::tempdir().unwrap();
        let ca = TestCa::new();
        let pem = |name: &str| folder.path().join(name);
        std::fs::write(pem("ca.pem"), certificate_pem(ca.certificate())).unwrap();
        for (name, identity) in [("broker", ca.server(&["127.0.0.1"])), ("node", ca.node("edge-1"))] {
            let files = CredentialFiles::new(pem(&format!("{name}.pem")), pem(&format!("{name}.key")));
            files.store(&identity).unwrap();
        }
        let mut broker = Self {
            port,
            tls_port,
            folder,
            process: None,
        };
        broker.again().await;
        broker
    }

    /// Starts it, with what it kept.
    pub(crate) async fn again(&mut self) {
        let folder = self.folder.path();
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\nuser root\n\
             listener {} 127.0.0.1\ncafile {folder}/ca.pem\ncertfile {folder}/broker.pem\nkeyfile {folder}/broker.key\n\
             require_certificate true\n",
            self.port,
            self.tls_port,
            folder = folder.display()
        );
        let file = folder.join("mosquitto.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = tools().command("mosquitto");
        command
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        crate::within("the broker", async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Ends in good order, so that it keeps what it has for those who are away.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = process.id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-TERM", &id])
                    .status()
                    .unwrap()
                    .success()
            );
            process.wait().unwrap();
        }
    }

    pub(crate) fn server(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Over TLS, and what that needs.
    pub(crate) fn tls(&self) -> (String, MqttTls) {
        let file = |name: &str| self.folder.path().join(name);
        let tls = MqttTls {
            ca: file("ca.pem"),
            identity: CredentialFiles::new(file("node.pem"), file("node.key")),
            socket: file("mqtt.sock"),
        };
        (format!("ssl://127.0.0.1:{}", self.tls_port), tls)
    }

    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        let mut command = self.client("mosquitto_pub");
        let status = command
            .args(["-q", "1", "-t", topic, "-m", payload])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Hears everything from when this resolves.
    pub(crate) async fn listen(&self) -> Listener {
        let mut command = self.client("mosquitto_sub");
        command
            .args(["-q", "1", "-t", "$hw/#", "-t", "hello", "-F", "%t %p"])
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let output = process.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let (topic, payload) = line.split_once(' ').unwrap_or((&line, ""));
                if sender.send((topic.into(), payload.into())).is_err() {
                    return;
                }
            }
        });
        let mut listener = Listener { process, lines };
        // It is there once it hears what is said.
        crate::within("the listener", async {
            loop {
                self.publish("hello", "there");
                let heard = tokio::time::timeout(Duration::from_millis(200), listener.lines.recv()).await;
                if heard.is_ok() {
                    return;
                }
            }
        })
        .await;
        listener
    }

    fn client(&self, program: &str) -> Command {
        let mut command = tools().command(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Listener {
    /// The next message on a topic; others are skipped.
    pub(crate) async fn on(&mut self, topic: &str) -> Value {
        let found = async {
            loop {
                let (heard, payload) = self.lines.recv().await.unwrap();
                if heard == topic {
                    return serde_json::from_str(&payload).unwrap();
                }
            }
        };
        crate::within(topic, found).await
    }

    /// The next messages of a device, by the ends of their topics.
    pub(crate) async fn of(&mut self, device: &str, count: usize) -> Vec<(String, Value)> {
        let prefix = format!("$hw/events/device/{device}/");
        let mut found = Vec::new();
        crate::within(device, async {
            while found.len() < count {
                let (heard, payload) = self.lines.recv().await.unwrap();
                if let Some(rest) = heard.strip_prefix(&prefix)
                    && rest.matches('/').count() > 1
                {
                    found.push((
                        rest.to_owned(),
                        serde_json::from_str(&payload).unwrap_or(Value::Null),
                    ));
                }
            }
        })
        .await;
        found
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tools() -> &'static Mosquitto {
    let folder = env!("CARGO_TARGET_TMPDIR");
    assert!(Path::new(folder).is_dir());
    Mosquitto::find(folder)
}
