//! What a peer sends cannot panic us: the fuzzing corpus, and ten thousand mutations of it for each target, on every machine.
//!
//! `FUZZ_MUTATIONS=n` tries that many for each target; `FUZZ_SEED=n` others than usual.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use hub_core::random::Random;
use hub_core::testing::fuzz::TARGETS;

#[test]
fn every_input_of_the_corpus_is_taken_without_a_panic() {
    for (name, target) in TARGETS {
        for (file, input) in corpus(name) {
            assert!(catch_unwind(|| target(&input)).is_ok(), "{name}: {file}");
        }
    }
}

#[test]
fn mutations_of_the_corpus_are_taken_without_a_panic() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (mutations, seed): (u64, u64) = (number("FUZZ_MUTATIONS", 10_000), number("FUZZ_SEED", 1));
    for (name, target) in TARGETS {
        let corpus: Vec<_> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let mut dice = Dice(Random::new(seed));
        for _ in 0..mutations {
            let input = mutation(&corpus, &mut dice);
            assert!(
                catch_unwind(|| target(&input)).is_ok(),
                "{name} panics; put this into its corpus: {:?}",
                input.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let entries = |folder: &str| -> BTreeSet<String> {
        std::fs::read_dir(fuzz().join(folder))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    assert_eq!(entries("fuzz_targets"), names);
    assert_eq!(entries("corpus"), names);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("fuzz_targets/{name}.rs")), "{name}");
        let program = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzz::{name}(data)")), "{name}");
    }
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<_> = std::fs::read_dir(fuzz().join("corpus").join(target))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    assert!(!inputs.is_empty(), "{target}");
    inputs.sort();
    inputs
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// One input with a few things wrong.
fn mutation(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        let other = &corpus[dice.below(corpus.len())];
        match dice.below(8) {
            0 => input.truncate(at),
            1 => input.insert(at, dice.below(256) as u8),
            2 if at < input.len() => input[at] ^= 1 << dice.below(8),
            3 if at < input.len() => input[at] = NASTY[dice.below(NASTY.len())],
            4 => drop(input.drain(at..(at + dice.below(16)).min(input.len()))),
            5 => {
                let from = dice.below(other.len() + 1);
                let piece = other[from..(from + dice.below(64)).min(other.len())].to_vec();
                input.splice(at..at, piece);
            }
            6 => {
                let word = WORDS[dice.below(WORDS.len())];
                let end = (at + dice.below(word.len() + 1)).min(input.len());
                input.splice(at..end, word.bytes());
            }
            7 => {
                let piece = input[at..(at + dice.below(32)).min(input.len())].to_vec();
                input.splice(at..at, piece);
            }
            _ => {}
        }
    }
    input
}

struct Dice(Random);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }
}

const NASTY: &[u8] = &[
    0, 1, 0x7f, 0x80, 0xff, 0xfb, 0xfc, 0xfd, 0xfe, b'"', b'\\', b'{', b'}', b'[', b'\r', b'\n', b'/', b'!',
];

const WORDS: &[&str] = &[
    "null",
    "18446744073709551615",
    "-9223372036854775809",
    "1e400",
    "\\ud800",
    "\u{2028}",
    "{\"header\":{}",
    "[[[[[[[[[[[[[[[[",
    "\"\"",
    " notin ()",
    "!==,",
    "\r\n\r\n",
    "Edge-Tunnel: bincode\r\n",
    "\u{ffff}\u{0}",
    "metadata",
    "//",
];
