//! The node's socket: replaced when a dead program left it, never taken from a living one, gone with its owner.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The socket could not be bound. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path, or its permissions.
    #[error("mappers cannot be heard on {path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is in the way.
    #[error("mappers cannot be heard on {0}: a file is there that is no socket")]
    NoSocket(PathBuf),
    /// Another program listens.
    #[error(
        "mappers cannot be heard on {0}: another program answers there; does a KubeEdge edgecore run on this node?"
    )]
    InUse(PathBuf),
}

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Binds it. Folders that are missing are made.
    pub(crate) async fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |error| BindError::Io {
            path: path.into(),
            error,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => return Err(BindError::NoSocket(path.into())),
            Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(BindError::InUse(path.into())),
            _ => {}
        }
        // Under another name first: by its own name it is never seen with other permissions, and it replaces a dead one at once.
        let early = path.with_extension(std::process::id().to_string());
        let _ = fs::remove_file(&early);
        let listener = UnixListener::bind(&early).map_err(failed)?;
        let placed = fs::set_permissions(&early, Permissions::from_mode(0o660))
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

    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Not that of a successor.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
