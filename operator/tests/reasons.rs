//! `docs/troubleshooting.md` against the code: every condition type, every reason and every
//! reason of an Event has a row, and no row is of something that is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where reasons are given.
const SOURCES: [&str; 3] =
    ["src/cluster/controllers", "src/cluster/ledger", "src/cluster/conditions.rs"];

/// Words in CamelCase that are no reasons: kinds, words of conditions, and Kubernetes' own.
const OTHER_WORDS: [&str; 12] = [
    "Chaincode",
    "Channel",
    "Connections",
    "ContainerCreating",
    "False",
    "LedgerNetwork",
    "None",
    "Organization",
    "PodInitializing",
    "PodScheduled",
    "True",
    "Unknown",
];

fn operator() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> String {
    std::fs::read_to_string(operator().join("../docs/troubleshooting.md")).unwrap()
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_file() {
        found.push(path.to_owned());
        return;
    }
    for entry in std::fs::read_dir(path).unwrap() {
        files(&entry.unwrap().path(), found);
    }
}

/// The program's lines of a file: no comments, and nothing of a test module at its end.
fn program(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let end = text.find("\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every word of at least three letters that stands in quotes by itself and begins with a capital.
fn quoted_words(text: &str) -> BTreeSet<String> {
    let pieces = text.split('"');
    let is_word = |piece: &&str| {
        piece.len() > 2
            && piece.starts_with(|first: char| first.is_ascii_uppercase())
            && piece.chars().all(|letter| letter.is_ascii_alphabetic())
            && piece.chars().any(|letter| letter.is_ascii_lowercase())
    };
    pieces.filter(is_word).map(str::to_owned).collect()
}

fn words_of_code() -> BTreeSet<String> {
    let mut paths = Vec::new();
    for source in SOURCES {
        files(&operator().join(source), &mut paths);
    }
    let is_program = |path: &&PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".rs") && !name.ends_with("tests.rs")
    };
    let texts = paths.iter().filter(is_program).map(|path| program(path));
    let mut words: BTreeSet<String> = texts.flat_map(|text| quoted_words(&text)).collect();
    words.retain(|word| !OTHER_WORDS.contains(&word.as_str()));
    words
}

/// The first cells of the page's tables, where these are one word of code.
fn words_of_page(page: &str) -> BTreeSet<String> {
    let cell = |line: &str| {
        let cell = line.strip_prefix("| `")?.split_once("` |")?.0;
        let is_word = cell.starts_with(|first: char| first.is_ascii_uppercase())
            && cell.chars().all(|letter| letter.is_ascii_alphabetic());
        is_word.then(|| cell.to_owned())
    };
    page.lines().filter_map(cell).collect()
}

#[test]
fn every_word_of_a_condition_or_event_is_explained() {
    let (code, page) = (words_of_code(), words_of_page(&page()));
    assert!(code.len() > 40, "{code:?}");
    let missing: Vec<_> = code.difference(&page).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md has no row for {missing:?}");
}

#[test]
fn nothing_is_explained_that_nothing_says() {
    let (code, page) = (words_of_code(), words_of_page(&page()));
    let stale: Vec<_> = page.difference(&code).collect();
    assert!(stale.is_empty(), "docs/troubleshooting.md has rows that no code says: {stale:?}");
}

#[test]
fn a_row_that_is_missing_is_noticed() {
    let words = quoted_words(r#"Finding::no(kind::PEERS, "Lost", "all are gone")"#);
    assert_eq!(words.into_iter().collect::<Vec<_>>(), ["Lost"]);
    let page = "| `Found` | here |\n| `weft.dev/paused` | no word |\n| Lost | not in code |\n";
    assert_eq!(words_of_page(page).into_iter().collect::<Vec<_>>(), ["Found"]);
}
