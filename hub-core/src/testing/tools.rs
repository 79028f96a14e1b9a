//! Programs that tests need and a machine may lack. They are brought without root, into a folder of the build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
        debian(Path::new(folder), "kubernetes-client", "usr/bin/kubectl")
    })
}

/// The file `program` of a Debian package, unpacked below `folder`.
fn debian(folder: &Path, package: &str, program: &str) -> PathBuf {
    let root = folder.join(package);
    let found = root.join(program);
    if found.exists() {
        return found;
    }
    // Unpacked beside and renamed at the end, so that two tests at once do not see half of it.
    let work = folder.join(format!("{package}.{}", std::process::id()));
    let (state, unpacked) = (work.join("apt"), work.join("unpacked"));
    std::fs::create_dir_all(state.join("lists/partial")).expect("the build's folder is writable");
    let text = |path: &Path| path.display().to_string();
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(&work).arg("-qq");
        for option in [
            format!("Dir::State={}", text(&state)),
            format!("Dir::State::status={}", text(&state.join("status"))),
            format!("Dir::Cache={}", text(&state.join("cache"))),
            "Debug::NoLocking=1".into(),
            "APT::Sandbox::User=".into(),
        ] {
            command.args(["-o", &option]);
        }
        run(command.args(arguments));
    };
    std::fs::write(state.join("status"), "").expect("the build's folder is writable");
    std::fs::create_dir_all(state.join("cache/archives/partial")).expect("the build's folder is writable");
    apt(&["update"]);
    apt(&["download", package]);
    let archive = std::fs::read_dir(&work)
        .expect("the folder was just made")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .expect("apt-get downloaded a package");
    run(Command::new("dpkg").args(["-x", &text(&archive), &text(&unpacked)]));
    // Another test may have been first; then its copy is as good.
    let _ = std::fs::rename(&unpacked, &root);
    let _ = std::fs::remove_dir_all(&work);
    assert!(found.exists(), "Debian's package {package} has no {program}");
    found
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
