use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::*;

fn identity() -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["edge".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: sec1_from_pkcs8(key.serialized_der(), key.public_key_raw())
            .unwrap()
            .into(),
    }
}

fn files(folder: &tempfile::TempDir) -> CredentialFiles {
    let folder = folder.path().join("etc/certs");
    CredentialFiles::new(folder.join("server.crt"), folder.join("server.key"))
}

#[test]
fn what_was_stored_is_loaded_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let (files, identity) = (files(&folder), identity());
    assert!(files.load().unwrap().is_none());
    files.store(&identity).unwrap();
    let loaded = files.load().unwrap().unwrap();
    assert_eq!((loaded.chain, loaded.key), (identity.chain, identity.key));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(mode(&files.certificate), 0o600);
    assert_eq!(mode(files.key.parent().unwrap()), 0o700);
    let names = fs::read_dir(files.key.parent().unwrap()).unwrap().count();
    assert_eq!(names, 2, "no temporary file is left");
    let pem = fs::read_to_string(&files.key).unwrap();
    assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----\n"), "{pem}");
}

#[test]
fn a_crash_between_any_two_steps_leaves_a_certificate_with_its_key() {
    let (old, new) = (identity(), identity());
    for steps in 0..=3 {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        files.store(&old).unwrap();
        if steps >= 1 {
            write_private(&files.next_key(), file::key_pem(&new.key).as_bytes()).unwrap();
        }
        if steps >= 2 {
            write_private(&files.certificate, certificate_pem(&new.chain[0]).as_bytes()).unwrap();
        }
        if steps >= 3 {
            file::rename_durably(&files.next_key(), &files.key).unwrap();
        }
        let expected = if steps < 2 { &old } else { &new };
        for _ in 0..2 {
            let loaded = files.load().unwrap().unwrap();
            assert_eq!(loaded.chain, expected.chain, "after step {steps}");
            assert_eq!(loaded.key, expected.key, "after step {steps}");
        }
    }
}

#[test]
fn a_first_store_cut_off_before_the_certificate_counts_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    write_private(&files.next_key(), file::key_pem(&identity().key).as_bytes()).unwrap();
    assert!(files.load().unwrap().is_none());
}

#[test]
fn one_without_the_other_and_a_foreign_key_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    files.store(&identity()).unwrap();
    write_private(&files.key, file::key_pem(&identity().key).as_bytes()).unwrap();
    assert!(matches!(files.load(), Err(CredentialError::Mismatch { .. })));
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(files.load(), Err(CredentialError::Incomplete { .. })));
    write_private(&files.key, b"hello").unwrap();
    assert!(matches!(files.load(), Err(CredentialError::Malformed { .. })));
    files.store(&identity()).unwrap();
    fs::remove_file(&files.certificate).unwrap();
    assert!(matches!(files.load(), Err(CredentialError::Incomplete { .. })));
}

#[test]
fn sec1_and_pkcs8_are_two_spellings_of_one_key() {
    let key = KeyPair::generate().unwrap();
    let sec1 = sec1_from_pkcs8(key.serialized_der(), key.public_key_raw()).unwrap();
    assert_eq!(
        sec1.secret_sec1_der().len(),
        121,
        "curve and public key are in it"
    );
    let pkcs8 = pkcs8_from_sec1(sec1.secret_sec1_der()).unwrap();
    let again = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.secret_pkcs8_der())).unwrap();
    assert_eq!(again.public_key_raw(), key.public_key_raw());
    assert!(pkcs8_from_sec1(b"hello").is_none());
    assert!(sec1_from_pkcs8(b"hello", &[4; 65]).is_none());
}

#[test]
fn those_that_start_together_end_with_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let made: Vec<_> = std::thread::scope(|scope| {
        let start = || {
            files
                .load_or_store(|| Ok::<_, CredentialError>(identity()))
                .unwrap()
                .chain
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(made.iter().all(|chain| *chain == made[0]));
    assert_eq!(files.load().unwrap().unwrap().chain, made[0]);
}
