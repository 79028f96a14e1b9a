//! Files that are whole or absent, and private.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::PrivateKeyDer;

/// Replaces `path` with `bytes`, mode 0600, and returns once that survives a power cut. Missing folders are made, mode 0700.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder(path);
    create_folder(folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    // Its own name for every process, so that two that start together cannot write into one file.
    let temporary = folder.join(format!(
        ".{}.{}",
        name.to_string_lossy(),
        uuid::Uuid::new_v4().simple()
    ));
    let written = write_new(&temporary, bytes).and_then(|()| rename_durably(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Moves a file within its folder, and returns once that survives a power cut.
pub(super) fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(folder(to))?.sync_all()
}

/// A certificate as PEM text.
pub fn certificate_pem(der: &[u8]) -> String {
    pem_text("CERTIFICATE", der)
}

/// A key as PEM text, in the encoding it has.
pub(super) fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    pem_text(label, key.secret_der())
}

/// Closes a file to everybody but its owner, and makes it where there is none: for those who open it by their own means next, such as
/// databases. What fails is said in the log; whether the file is of use they say themselves.
pub fn make_private(path: &Path) {
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let Ok(file) = made else { return };
    let is_open = |mode: u32| mode & 0o077 != 0;
    let closed = file.metadata().and_then(|found| {
        if is_open(found.permissions().mode()) {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(())
    });
    if let Err(error) = closed {
        tracing::warn!(path = %path.display(), %error, "others on this machine may read this file");
    }
}

/// Waits until no other process holds the lock; dropping the file frees it.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    create_folder(folder(path))?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.lock()?;
    Ok(file)
}

fn create_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn pem_text(label: &str, der: &[u8]) -> String {
    pem::encode_config(
        &Pem::new(label, der),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    )
}
