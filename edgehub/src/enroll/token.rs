//! The text of a join token: `<hex SHA-256 of the CA certificate>.<JWT>`, four parts between dots.

use sha2::{Digest, Sha256};

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    hash: String,
    jwt: String,
}

/// The text is no join token. The operator's move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token is malformed ({0}); copy the whole of it: four parts between dots, the first of 64 hexadecimal digits"
)]
pub struct TokenFormatError(&'static str);

impl JoinToken {
    /// Reads the text; whitespace around it does not matter.
    pub fn parse(text: &str) -> Result<Self, TokenFormatError> {
        let text = text.trim();
        if text.len() > LENGTH_MAX {
            return Err(TokenFormatError("it is too long"));
        }
        if text.split('.').count() != 4 {
            return Err(TokenFormatError("it does not have four parts"));
        }
        let (hash, jwt) = text.split_once('.').ok_or(TokenFormatError("it has one part"))?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TokenFormatError("its first part is not a hash"));
        }
        let base64url = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=');
        if !jwt.bytes().all(base64url) {
            return Err(TokenFormatError("it has characters that no token has"));
        }
        Ok(Self {
            hash: hash.to_ascii_lowercase(),
            jwt: jwt.to_owned(),
        })
    }

    /// What the server wants to see.
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// The hash of the CA that it was made for.
    pub fn ca_hash(&self) -> &str {
        &self.hash
    }

    /// Whether it was made for this CA; the CA's own hash, if not.
    pub fn check_ca(&self, ca: &[u8]) -> Result<(), String> {
        use std::fmt::Write as _;
        let mut found = String::new();
        for byte in Sha256::digest(ca) {
            let _ = write!(found, "{byte:02x}");
        }
        if found == self.hash { Ok(()) } else { Err(found) }
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// More than any token has.
const LENGTH_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_token_knows_its_authority() {
        let token = JoinToken::parse(&format!(" {ABC}.x.y.z-_\n")).unwrap();
        assert_eq!(token.jwt(), "x.y.z-_");
        assert_eq!(token.check_ca(b"abc"), Ok(()));
        assert!(token.check_ca(b"abd").is_err());
        assert!(
            !format!("{token:?}").contains("x.y"),
            "the secret is not for logs"
        );
    }

    #[test]
    fn anything_else_is_malformed() {
        let long = format!("{ABC}.x.y.{}", "z".repeat(LENGTH_MAX));
        for bad in [
            "",
            "x.y.z",
            "a.x.y.z",
            &format!("{ABC}.x.y"),
            &format!("{ABC}.x.y.z.z"),
            &format!("{ABC}.x.y.z z"),
            &format!("{ABC}.x\r\n.y.z"),
            &long,
        ] {
            assert!(JoinToken::parse(bad).is_err(), "{bad}");
        }
    }
}
