//! Debian's packages for a test, unpacked into a folder. The machine's own are left alone, and nothing is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::run;

/// What there is in a release of Debian's.
pub(super) struct Apt {
    /// Where archives come to lie.
    archives: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// Reads what there is: in the machine's own release, or in the one that `suite` names. Keeps everything below `folder`.
    pub(super) fn new(folder: &Path, suite: Option<&str>) -> Self {
        let state = folder.join("apt");
        let archives = state.join("archives");
        for made in ["lists/partial", "cache/archives/partial", "archives"] {
            std::fs::create_dir_all(state.join(made)).expect("a test's folder is writable");
        }
        std::fs::write(state.join("status"), "").expect("a test's folder is writable");
        let state = state.display();
        let mut options = vec![
            format!("Dir::State={state}"),
            format!("Dir::State::status={state}/status"),
            format!("Dir::Cache={state}/cache"),
            "Debug::NoLocking=1".into(),
            "APT::Sandbox::User=".into(),
        ];
        if let Some(suite) = suite {
            let sources = format!("{state}/one.sources");
            let text = format!(
                "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {suite}\nComponents: main\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            );
            std::fs::write(&sources, text).expect("a test's folder is writable");
            options.push(format!("Dir::Etc::sourcelist={sources}"));
            options.push("Dir::Etc::sourceparts=/dev/null".into());
        }
        let apt = Self { archives, options };
        apt.call("apt-get", &["update"]);
        apt
    }

    /// The packages that these cannot do without, one a line among other words.
    pub(super) fn needed(&self, packages: &[&str]) -> String {
        let mut arguments = vec![
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
        ];
        arguments.extend(packages);
        self.call("apt-cache", &arguments)
    }

    /// Unpacks packages, and no others, below a folder.
    pub(super) fn unpack(&self, packages: &[&str], folder: &Path) {
        let mut arguments = vec!["download"];
        arguments.extend(packages);
        self.call("apt-get", &arguments);
        let archives = std::fs::read_dir(&self.archives).expect("the folder was made for them");
        for archive in archives.filter_map(Result::ok) {
            run(Command::new("dpkg").arg("-x").arg(archive.path()).arg(folder));
        }
    }

    fn call(&self, tool: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(tool);
        command.current_dir(&self.archives).arg("-qq");
        for option in &self.options {
            command.args(["-o", option]);
        }
        run(command.args(arguments))
    }
}
