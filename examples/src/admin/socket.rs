//! The socket's file: made so that nobody else can ever open it, and never taken from a program that lives.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A bound socket. Its file goes with it.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl AdminSocket {
    /// Binds the socket, mode 0600. A file that a dead program left is replaced; a living program keeps its own. Folders that
    /// are missing are made, mode 0700. The error is a sentence for the operator.
    pub async fn bind(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot listen on {}: {error}", path.display());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            let mut builder = fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                return Err(format!(
                    "cannot listen on {}: a file is there that is no socket",
                    path.display()
                ));
            }
            Ok(_) if UnixStream::connect(path).await.is_ok() => {
                return Err(format!(
                    "cannot listen on {}: another program answers there; stop it, or give this one a socket of its own \
                     (edgeTunnel.admin.socket)",
                    path.display()
                ));
            }
            _ => {}
        }
        // Under another name first: by its own name it is never seen with other permissions, and it replaces a dead one at once.
        let mut early = path.as_os_str().to_owned();
        early.push(format!(".{}", std::process::id()));
        let early = PathBuf::from(early);
        let _ = fs::remove_file(&early);
        let listener = UnixListener::bind(&early).map_err(failed)?;
        let placed = fs::set_permissions(&early, Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&early))
            .and_then(|file| fs::rename(&early, path).map(|()| file.ino()));
        match placed {
            Ok(inode) => Ok(Self {
                listener,
                path: path.into(),
                inode,
            }),
            Err(error) => {
                let _ = fs::remove_file(&early);
                Err(failed(error))
            }
        }
    }

    /// The socket at a path, if one is wanted. What the program is for goes on without it too, as where the file system is
    /// read-only; `command` is what cannot ask it then.
    pub async fn wanted(path: &Path, command: &str) -> Option<Self> {
        if path.as_os_str().is_empty() {
            return None;
        }
        match Self::bind(path).await {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("`{command}` cannot ask this process: {error}");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Not that of a successor.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
