//! The cloud's process, seen from outside: memory and processor time as the kernel counts them.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running `cloudcore`.
pub struct Cloud {
    pid: u32,
    /// Stops with us when we started it.
    child: Option<Child>,
}

/// What a process used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Resident memory, bytes.
    pub resident: u64,
    /// Processor time, user and system.
    pub cpu: Duration,
}

impl Cloud {
    /// Watches a process that runs already.
    pub fn attach(pid: u32) -> Self {
        Self { pid, child: None }
    }

    /// Starts `program` with `arguments` and waits until a line of its log says `ready`; that line comes back too.
    pub async fn start(program: PathBuf, arguments: &[String], ready: &str) -> io::Result<(Self, String)> {
        let mut child = Command::new(program)
            .args(arguments)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child
            .id()
            .ok_or_else(|| io::Error::other("the cloud ended at once"))?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("no standard error"))?;
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = lines.next_line().await? {
            if line.contains(ready) {
                // Its log must go somewhere, or it would wait for us.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok((
                    Self {
                        pid,
                        child: Some(child),
                    },
                    line,
                ));
            }
        }
        Err(io::Error::other("the cloud ended before it was ready"))
    }

    /// Ends a cloud that we started, without a warning (SIGKILL), and waits until it is gone.
    pub async fn kill(mut self) -> io::Result<()> {
        match &mut self.child {
            Some(child) => child.kill().await,
            None => Err(io::Error::other("this cloud was not started here")),
        }
    }

    /// What it used so far.
    pub fn usage(&self) -> io::Result<Usage> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid))?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
        // The name in parentheses may hold spaces; fields are counted from behind it (proc(5): 14 and 15 are utime and stime).
        let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
        let user = number(fields.nth(11));
        let system = number(fields.next());
        Ok(Usage {
            resident: number(statm.split_whitespace().nth(1)) * PAGE,
            cpu: Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND),
        })
    }
}

/// Linux on the machines we know: 4 KiB pages, 100 ticks a second (sysconf would need `unsafe` or another crate).
const PAGE: u64 = 4096;
const TICKS_PER_SECOND: u64 = 100;
