//! The other half of a test, in a process of its own: a child that does its work until it is killed.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A run of an ignored test of the calling program, `test` by its full name. What it prints can be read, what it complains of cannot.
///
/// # Panics
/// Where a program does not know its own file.
pub fn other_half(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test knows its program"));
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// A child that works until it is killed, and says line by line what it did. Dropped, it is killed too.
#[derive(Debug)]
pub struct Doomed {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Doomed {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("a test's own program can be started");
        let out = child.stdout.take().expect("its output is piped");
        Self {
            child,
            lines: BufReader::new(out).lines(),
        }
    }

    /// The next line that it says.
    ///
    /// # Panics
    /// When it ended by itself.
    pub fn line(&mut self) -> String {
        let line = self.lines.next().expect("the child works until it is killed");
        line.expect("a test's child prints text")
    }

    /// Kills it with SIGKILL, and reads what it had said before and nobody had read; the last line may be cut.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
        self.lines.by_ref().map_while(Result::ok).collect()
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
