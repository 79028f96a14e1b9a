//! A program as an operator runs it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::world::within;

/// A running program and what it says, on both outputs, line by line.
pub(crate) struct Program {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    /// What was read so far.
    pub(crate) said: Vec<String>,
}

impl Program {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        read(child.stdout.take().unwrap(), sender.clone());
        read(child.stderr.take().unwrap(), sender);
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Starts it with a configuration file.
    pub(crate) fn configured(program: &str, config: &Path, more: &[&str]) -> Self {
        let config = config.display().to_string();
        let arguments: Vec<&str> = ["--config", &config]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        Self::start(program, &arguments)
    }

    /// The next line with this text.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        let found = async {
            while let Some(line) = self.lines.recv().await {
                self.said.push(line);
                if let Some(line) = self.said.last().filter(|line| line.contains(text)) {
                    return Some(line.clone());
                }
            }
            None
        };
        let found = within(text, found).await;
        found.unwrap_or_else(|| panic!("it ended without {text:?}: {:#?}", self.said))
    }

    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, and reads what it still has to say.
    pub(crate) async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = within("the program's end", self.child.wait()).await.unwrap();
        while let Some(line) = self.lines.recv().await {
            self.said.push(line);
        }
        (status, self.said)
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        within("its end", self.child.kill()).await.unwrap();
    }

    /// Asks it to stop, as systemd does; it must end in good order.
    pub(crate) async fn stop(self, signal: &str) -> Vec<String> {
        self.signal(signal).await;
        let (status, said) = self.ended().await;
        assert_eq!(status.code(), Some(0), "{said:#?}");
        said
    }
}

fn read(output: impl AsyncRead + Send + Unpin + 'static, sender: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}
