//! Who may ask this server, and how they show who they are.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hub_core::api::{AUTHENTICATED, User};
use sha2::{Digest, Sha256};

/// Who is let in. The default lets in everybody who can connect, and the cloud knows them as the node: as KubeEdge without its
/// feature gate `requireAuthorization`.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Whether callers must show who they are, and are held to the cluster's roles here.
    pub required: bool,
    /// This node. Who shows its certificate asks as the node itself.
    pub node: Option<String>,
    /// Whether who shows nothing is `system:anonymous`; refused with 401 otherwise.
    pub anonymous: bool,
    /// Who callers without token and certificate are, told apart by the user of the operating system that they run as. Used on
    /// Unix sockets and on plain listeners at a loopback address.
    pub callers: Callers,
    /// Who may have made a service account's token, beside whom the cluster's `/.well-known/openid-configuration` names.
    pub issuers: Vec<String>,
    /// For whom a token must be made. Empty: for one of the issuers.
    pub audiences: Vec<String>,
    /// PEM files with public keys of tokens, beside those that the cluster publishes.
    pub key_files: Vec<PathBuf>,
    /// Where the cluster's published keys are kept for times without it. None keeps them in memory only.
    pub keys_file: Option<PathBuf>,
    /// PEM file with the authorities of client certificates. Read again when it changes.
    pub client_ca: Option<PathBuf>,
    /// Tokens that are known beforehand.
    pub tokens: StaticTokens,
    /// How far this node's clock and that of the cloud may be apart.
    pub clock_skew: Duration,
    /// How long after its end a token is still taken while the cloud is away, where nobody can renew it.
    pub expiry_grace: Duration,
    /// How long the cloud's word about a token that cannot be checked here is believed.
    pub review_ttl: Duration,
    /// How often the cluster's keys are fetched again.
    pub keys_refresh: Duration,
    /// The pause between two attempts to fetch them. Protects the cloud from callers with unknown keys.
    pub keys_pause: Duration,
    /// Tokens whose signature is remembered. Protects memory.
    pub tokens_max: usize,
    /// Bytes of a token; longer ones are refused unread.
    pub token_bytes_max: usize,
    /// How often files (client authorities) are looked at again.
    pub files_interval: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            required: false,
            node: None,
            anonymous: true,
            callers: Callers::default(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            key_files: Vec::new(),
            keys_file: None,
            client_ca: None,
            tokens: StaticTokens::default(),
            clock_skew: Duration::from_secs(10),
            expiry_grace: Duration::ZERO,
            review_ttl: Duration::from_secs(120),
            keys_refresh: Duration::from_secs(3600),
            keys_pause: Duration::from_secs(10),
            tokens_max: 1024,
            token_bytes_max: 16 << 10,
            files_interval: Duration::from_secs(30),
        }
    }
}

/// Who a caller of the same machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerIs {
    /// The node itself.
    Node,
    /// Nobody in particular.
    Anonymous,
    /// A user of the cluster, such as `system:serviceaccount:kube-system:cilium`.
    User(User),
}

impl CallerIs {
    /// `node`, `anonymous` or the name of a user. A service account is in the groups of all of them.
    pub fn parse(text: &str) -> Self {
        match text {
            "node" => Self::Node,
            "anonymous" => Self::Anonymous,
            name => {
                let user = User {
                    name: name.to_owned(),
                    groups: vec![AUTHENTICATED.into()],
                    ..User::default()
                };
                let account = user
                    .service_account()
                    .map(|(namespace, name)| User::of_service_account(namespace, name));
                Self::User(account.unwrap_or(user))
            }
        }
    }
}

/// Callers by the user id that they run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers {
    /// Those that are named.
    pub by_uid: BTreeMap<u32, CallerIs>,
    /// All others, and those that nobody knows of.
    pub others: CallerIs,
}

impl Default for Callers {
    /// Root is the node; others are nobody.
    fn default() -> Self {
        Self {
            by_uid: [(0, CallerIs::Node)].into(),
            others: CallerIs::Anonymous,
        }
    }
}

impl Callers {
    pub(super) fn of(&self, uid: Option<u32>) -> &CallerIs {
        uid.and_then(|uid| self.by_uid.get(&uid)).unwrap_or(&self.others)
    }
}

/// Tokens that are known beforehand, kept as hashes.
#[derive(Clone, Default)]
pub struct StaticTokens(HashMap<[u8; 32], User>);

impl StaticTokens {
    /// Reads a file as `kube-apiserver --token-auth-file` does: `token,user,uid,"group1,group2"` a line. The error names the line,
    /// never what is in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.splitn(4, ',').map(|field| field.trim().trim_matches('"'));
            let mut next = || fields.next().filter(|field| !field.is_empty());
            let (Some(token), Some(name)) = (next(), next()) else {
                return Err(format!("line {} is no token,user,uid,groups", number + 1));
            };
            let uid = next().unwrap_or_default().to_owned();
            let groups = next().unwrap_or_default().split(',').map(str::trim);
            let groups = groups.filter(|group| !group.is_empty());
            let user = User {
                name: name.to_owned(),
                uid,
                groups: groups.chain([AUTHENTICATED]).map(str::to_owned).collect(),
                ..User::default()
            };
            tokens.insert(Sha256::digest(token).into(), user);
        }
        Ok(Self(tokens))
    }

    pub(super) fn get(&self, hash: &[u8; 32]) -> Option<&User> {
        self.0.get(hash)
    }
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticTokens({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tokens_is_read_and_never_shown() {
        let tokens = StaticTokens::parse("# ours\n\nt0k,ann,1,\"a,b\"\nx,bob\n").unwrap();
        let user = tokens.get(&Sha256::digest("t0k").into()).unwrap();
        assert_eq!((&*user.name, &*user.uid), ("ann", "1"));
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(format!("{tokens:?}"), "StaticTokens(2)");
        let error = StaticTokens::parse("secret").unwrap_err();
        assert!(!error.contains("secret") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn a_caller_is_the_node_nobody_or_a_user() {
        assert_eq!(CallerIs::parse("node"), CallerIs::Node);
        assert_eq!(CallerIs::parse("anonymous"), CallerIs::Anonymous);
        let CallerIs::User(user) = CallerIs::parse("system:serviceaccount:a:b") else {
            panic!("no user")
        };
        assert!(user.groups.contains(&"system:serviceaccounts:a".to_owned()));
        let callers = Callers::default();
        assert_eq!(callers.of(Some(0)), &CallerIs::Node);
        assert_eq!(callers.of(Some(1000)), &CallerIs::Anonymous);
        assert_eq!(callers.of(None), &CallerIs::Anonymous, "whom nobody knows");
    }
}
