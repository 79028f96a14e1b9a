//! What we build on, and what we keep away from: gates that hold on any machine that has cargo.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The two builds there are. Each crypto provider is a C library, and two in one program panic at run time.
const DEFAULT: &[&str] = &["--workspace"];
const RING: &[&str] = &["--workspace", "--no-default-features", "--features", "ring"];

#[test]
fn a_build_has_exactly_one_crypto_provider() {
    let (default, ring) = (Tree::of(DEFAULT), Tree::of(RING));
    assert_eq!(
        default.starting_with(&["ring", "aws-lc-"]),
        ["aws-lc-rs", "aws-lc-sys"]
    );
    assert_eq!(ring.starting_with(&["ring", "aws-lc-"]), ["ring"]);
}

#[test]
fn nothing_links_openssl() {
    for build in [DEFAULT, RING] {
        assert_eq!(
            // `openssl-probe` links nothing: it knows where systems keep their certificates.
            Tree::of(build).starting_with(&["openssl-sys", "native-tls", "boring"]),
            [""; 0]
        );
    }
}

#[test]
fn kubernetes_clients_are_for_the_cloud_alone() {
    for side in ["hub-core", "edgehub", "metaserver"] {
        assert_eq!(
            Tree::of(&["-p", side]).starting_with(&["kube", "k8s-"]),
            [""; 0],
            "{side}"
        );
    }
}

#[test]
fn no_hub_imports_another() {
    for hub in ["cloudhub", "edgehub", "metaserver"] {
        let tree = Tree::of(&["-p", hub]);
        let others: Vec<_> = tree
            .names()
            .filter(|name| MEMBERS.contains(name) && ![hub, "hub-core"].contains(name))
            .collect();
        assert_eq!(others, [""; 0], "{hub}");
    }
    let core = Tree::of(&["-p", "hub-core"]);
    assert_eq!(core.names().filter(|name| MEMBERS.contains(name)).count(), 1);
}

#[test]
fn every_licence_may_be_shipped() {
    for build in [DEFAULT, RING] {
        let tree = Tree::of(build);
        let bad: Vec<_> = tree
            .packages
            .iter()
            .filter(|package| !allowed(&package.licence))
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
    for (expression, expected) in [
        ("GPL-3.0", false),
        ("", false),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("GPL-3.0 OR MIT AND LGPL-3.0", false),
    ] {
        assert_eq!(allowed(expression), expected, "{expression}");
    }
}

#[test]
fn known_holes_are_behind_us() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for (name, floor, advisory) in FLOORS {
        for version in locked(&lock, name) {
            assert!(number(&version) >= number(floor), "{name} {version}: {advisory}");
        }
    }
    assert_eq!(locked(&lock, "bincode"), ["2.0.1"], "3.0 is a tombstone");
    assert!(locked(&lock, "tokio").len() == 1, "one runtime");
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for member in MEMBERS {
        let manifest = std::fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
        assert!(workspace.contains(&format!("\"{member}\"")), "{member}");
    }
}

#[test]
fn the_house_has_the_rooms_on_the_picture() {
    let mut folders: Vec<_> = std::fs::read_dir(root())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    folders.sort();
    assert_eq!(
        folders,
        [
            "cloudhub",
            "docs",
            "edgehub",
            "examples",
            "hub-core",
            "metaserver"
        ]
    );
}

/// The packages of a build, dependencies of tests and build scripts included.
struct Tree {
    packages: BTreeSet<Package>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    licence: String,
}

impl Tree {
    fn of(build: &[&str]) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["tree", "--locked", "--prefix", "none", "--format", "{p}|{l}"])
            .args(build)
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let packages: BTreeSet<_> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| line.trim_end_matches(" (*)").split_once('|'))
            .map(|(package, licence)| Package {
                name: package.split(' ').next().unwrap().to_owned(),
                licence: licence.to_owned(),
            })
            .collect();
        assert!(packages.len() > 50, "{packages:?}");
        Self { packages }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().map(|package| package.name.as_str())
    }

    fn starting_with(&self, starts: &[&str]) -> Vec<&str> {
        let wanted = |name: &&str| starts.iter().any(|start| name.starts_with(start));
        self.names().filter(wanted).collect()
    }
}

/// Whether an SPDX expression lets us choose among [`LICENCES`]. `AND` binds tighter than `OR`; `/` is an old `OR`.
fn allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any(&mut words);
    allowed && words.next().is_none()
}

fn any<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
    let mut allowed = all(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all(words);
    }
    allowed
}

fn all<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
    match words.next() {
        Some("(") => {
            let allowed = any(words);
            words.next_if_eq(&")").is_some() && allowed
        }
        Some(licence) => {
            // An exception only permits more.
            if words.next_if_eq(&"WITH").is_some() {
                words.next();
            }
            LICENCES.contains(&licence)
        }
        None => false,
    }
}

/// The versions of a package in the lock file.
fn locked(lock: &str, name: &str) -> Vec<String> {
    let head = format!("name = \"{name}\"\nversion = \"");
    let versions: Vec<_> = lock
        .split(&head)
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    assert!(!versions.is_empty(), "{name} is not in the lock file");
    versions
}

fn number(version: &str) -> Vec<u64> {
    version
        .split(['.', '+', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

const MEMBERS: [&str; 5] = ["cloudhub", "edgehub", "examples", "hub-core", "metaserver"];

/// Also in `deny.toml`.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The first releases without a hole that peers can reach.
const FLOORS: [(&str, &str, &str); 5] = [
    ("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    ("h2", "0.4.16", "RUSTSEC-2026-0258"),
    ("quinn-proto", "0.11.15", "RUSTSEC-2026-0185"),
    ("rustls-webpki", "0.103.13", "RUSTSEC-2026-0104"),
    ("aws-lc-sys", "0.39.0", "RUSTSEC-2026-0048"),
];
