//! A disk that is really full: a small file system of its own, in a namespace that ends with the test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs an ignored test of the calling program, `test` by its full name, on a file system of `size` (as `mount -o size=` has it) over an
/// empty folder. The test finds it with [`small_disk`].
///
/// # Panics
/// When that test fails, and when no file system can be mounted: that takes user namespaces, or root.
pub fn on_small_disk(folder: &Path, size: &str, test: &str) {
    let program = std::env::current_exe().expect("a test knows its program");
    let script = "mount -t tmpfs -o size=\"$3\" none \"$1\" || exit 77; exec \"$2\" --ignored --exact \"$4\" --nocapture";
    let mut said = String::new();
    for namespaces in [&["--user", "--map-root-user", "--mount"][..], &["--mount"]] {
        let ran = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", script, "sh"])
            .arg(folder)
            .arg(&program)
            .args([size, test])
            .env(FOLDER, folder)
            .output()
            .expect("unshare is on the machine (util-linux)");
        said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        // 1 is unshare's own failure, 77 that of the mount; a test that fails ends with 101.
        if !matches!(ran.status.code(), Some(1 | 77)) {
            assert!(ran.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
    }
    panic!("no file system can be mounted here; allow user namespaces, or run as root: {said}");
}

/// The small file system of a test that [`on_small_disk`] runs.
///
/// # Panics
/// When something else runs it.
pub fn small_disk() -> PathBuf {
    std::env::var_os(FOLDER)
        .expect("another test mounts the disk and runs this one")
        .into()
}

const FOLDER: &str = "SMALL_DISK";
