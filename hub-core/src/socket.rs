//! A Unix socket that a program listens on: replaced when a dead program left it, never taken from a living one, gone with its owner.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A bound socket. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

/// Who may open a socket: permissions of files, such as 0600.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The socket's file.
    pub file: u32,
    /// Folders that are missing and are made.
    pub folder: u32,
}

/// The socket could not be bound. The operator's move.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path, or its permissions.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is in the way.
    #[error("{0}: a file is there that is no socket")]
    NoSocket(PathBuf),
    /// Another program listens.
    #[error("{0}: another program answers there")]
    InUse(PathBuf),
}

impl Access {
    /// The owner only.
    pub const OWNER: Self = Self {
        file: 0o600,
        folder: 0o700,
    };
    /// The owner and its group.
    pub const GROUP: Self = Self {
        file: 0o660,
        folder: 0o755,
    };
    /// Everybody on the machine: whoever listens asks the kernel who calls.
    pub const EVERYBODY: Self = Self {
        file: 0o666,
        folder: 0o755,
    };
}

impl Socket {
    /// Binds it. Folders that are missing are made.
    pub async fn bind(path: &Path, access: Access) -> Result<Self, BindError> {
        let failed = |error| BindError::Io {
            path: path.into(),
            error,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(access.folder);
            builder.create(folder).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => return Err(BindError::NoSocket(path.into())),
            Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(BindError::InUse(path.into())),
            _ => {}
        }
        // Under another name first: by its own name it is never seen with other permissions, and it replaces a dead one at once.
        let mut early = path.as_os_str().to_owned();
        early.push(format!(".{}", std::process::id()));
        let early = PathBuf::from(early);
        let _ = fs::remove_file(&early);
        let listener = UnixListener::bind(&early).map_err(failed)?;
        let placed = fs::set_permissions(&early, Permissions::from_mode(access.file))
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

    /// The next who calls.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
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
