//! Escaping, judged by systemd's own parsers: what they make of escaped text is what went in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod systemd;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use common::cgroup::Hierarchies;
use common::unit::{LINE_MAX, Unit, escape};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

const ESCAPE: &str = "/usr/bin/systemd-escape";
const NSPAWN: &str = "/usr/bin/systemd-nspawn";
const UNIT: &str = "words.service";

/// What parsers have been known to trip over.
#[rustfmt::skip]
const ODD: &[&str] = &[
    // Blanks and controls.
    "", " ", "  ", "\t", "\n", "\r", "\r\n", "\u{b}", "\u{c}", "\u{1}", "\u{1b}[0m", "\u{7f}",
    // What is expanded.
    "%", "%%", "%n", "%I", "%h", "% ", "%é", "$", "$$", "$HOME", "${HOME}", "$1", "`x`",
    // Quotes and escapes.
    "\"", "'", "\"\"", "''", "\\", "\\\\", "\\n", "\\x41", "\\x00", "\\101", "\\u00e9", "\\s", "\\;",
    // What separates, comments or starts something.
    ";", " ; ", "&", "|", "#", "=", "[Service]", "-", "--", "@", ":", "+", "!", "!!", "-@:+!", "/", ".", "..", "*", "~",
    // Beyond ASCII: letters, controls, blanks, marks, noncharacters, the ends of ranges.
    "é", "ß", "日本", "😀", "👩‍👧", "e\u{301}", "\u{80}", "\u{85}", "\u{9f}", "\u{a0}", "\u{2028}", "\u{2029}", "\u{200b}",
    "\u{202e}", "\u{feff}", "\u{fffd}", "\u{fdd0}", "\u{fffe}", "\u{ffff}", "\u{1fffe}", "\u{10ffff}", "\u{e000}", "\u{d7ff}",
];

fn load(units: BTreeMap<String, String>) -> systemd::Loaded {
    let names: Vec<_> = units.keys().cloned().collect();
    systemd::load(&units, &names)
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(ODD).prop_map(str::to_owned),
        2 => any::<char>().prop_map(String::from),
        1 => "[a-z]{1,4}",
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat().replace('\0', ""))
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Command lines as the unit of an app has them.
fn check_words(lists: &[Vec<String>]) -> Result<(), TestCaseError> {
    let mut unit = Unit::new(UNIT).section("Service").set("Type", "oneshot");
    for list in lists {
        unit = unit.set(
            "ExecStart",
            format!(":!/program -- {}", escape::words(list)),
        );
    }
    let loaded = load(BTreeMap::from([(UNIT.to_owned(), unit.to_string())]));
    let found = loaded.commands(UNIT);
    for (list, found) in lists.iter().zip(&found) {
        prop_assert_eq!(
            found.split_at(2),
            (&["/program".to_owned(), "--".to_owned()][..], &list[..])
        );
    }
    prop_assert_eq!(found.len(), lists.len(), "{}", loaded.messages);
    Ok(())
}

#[test]
fn odd_words_reach_the_program() {
    if !systemd::missing_systemd() {
        let alone = ODD.iter().map(|odd| vec![(*odd).to_owned()]);
        let together = ODD.iter().map(|odd| (*odd).to_owned()).collect();
        check_words(&alone.chain([together]).collect::<Vec<_>>()).unwrap();
    }
}

#[test]
fn a_line_of_the_greatest_length_is_read_and_a_longer_one_is_not() {
    if systemd::missing_systemd() {
        return;
    }
    let unit = |length: usize| {
        let start = ":!/program ";
        let word = "x".repeat(length - "ExecStart=\n".len() - start.len() - "\"\"".len());
        let unit = Unit::new(UNIT).section("Service").set("Type", "oneshot");
        unit.set("ExecStart", format!("{start}{}", escape::word(&word)))
    };
    let load = |unit: &Unit| load(BTreeMap::from([(UNIT.to_owned(), unit.to_string())]));
    let (longest, longer) = (unit(LINE_MAX), unit(LINE_MAX + 1));
    assert_eq!(
        (longest.too_long(), longer.too_long()),
        (None, Some("ExecStart"))
    );
    assert_eq!(load(&longest).commands(UNIT)[0][1].len(), LINE_MAX - 24);
    assert_eq!(load(&longer).state(UNIT), "error");
}

#[test]
fn long_words_of_every_kind_are_read() {
    if !systemd::missing_systemd() {
        let long = ODD
            .iter()
            .filter(|odd| !odd.is_empty())
            .map(|odd| vec![odd.repeat(20_000 / odd.len())]);
        check_words(&long.collect::<Vec<_>>()).unwrap();
    }
}

/// What systemd makes of a text that it cannot quote: blanks at the ends go.
fn as_read(text: &str) -> String {
    let noncharacter = |c| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) % 0x10000 >= 0xfffe;
    let text = text
        .replace(char::is_control, " ")
        .replace(noncharacter, "\u{fffd}");
    text.trim_matches(' ').to_owned()
}

/// Descriptions, one unit for each; the next line of the unit must stand, too.
fn check_texts(texts: &[String]) -> Result<(), TestCaseError> {
    let name = |i| format!("text{i}.service");
    let units = texts.iter().enumerate().map(|(i, text)| {
        let unit = Unit::new(name(i)).section("Unit");
        let unit = unit.set("Description", escape::text(text));
        let unit = unit.section("Service").set("ExecStart", "/program");
        (name(i), unit.to_string())
    });
    let loaded = load(units.collect());
    for (i, text) in texts.iter().enumerate() {
        let name = name(i);
        let found = loaded.values(&name, "Description").next();
        let expected = match as_read(text) {
            // What systemd describes a unit by that has no description.
            text if text.is_empty() => name.clone(),
            text => text,
        };
        prop_assert_eq!(found, Some(expected.as_str()), "{:?}", text);
        prop_assert_eq!(loaded.commands(&name), [["/program"]]);
    }
    Ok(())
}

#[test]
fn odd_texts_are_read() {
    if !systemd::missing_systemd() {
        check_texts(&ODD.iter().map(|odd| (*odd).to_owned()).collect::<Vec<_>>()).unwrap();
    }
}

proptest! {
    #![proptest_config(config(8))]

    #[test]
    fn all_words_reach_the_program(lists in vec(vec(text(), 0..6), 1..300)) {
        if !systemd::missing_systemd() {
            check_words(&lists)?;
        }
    }

    #[test]
    fn all_texts_are_read(texts in vec(text(), 1..60)) {
        if !systemd::missing_systemd() {
            check_texts(&texts)?;
        }
    }

    #[test]
    fn names_are_those_of_systemd_escape(texts in vec(text(), 1..150)) {
        if !systemd::missing(ESCAPE) {
            let output = Command::new(ESCAPE).arg("--").args(&texts).output().unwrap();
            let names: Vec<_> = texts.iter().map(|text| escape::unit_name(text)).collect();
            prop_assert_eq!(names.join(" ") + "\n", String::from_utf8(output.stdout).unwrap());
        }
    }
}

/// Whether the test is run by root; says so when it is not.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can do this");
    }
    root
}

/// nspawn has no way to print what it has understood; but it fails when the source of a mount is not there.
/// It needs root, and leaves cgroups below the caller's: so this test enters one of its own meanwhile.
#[test]
fn paths_with_colons_are_nspawns() {
    if systemd::missing(NSPAWN) || !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("usr/lib")).unwrap();
    let mut runner = TestRunner::new(config(3));
    let cgroup = format!("/escape-test-{}", std::process::id());
    let cgroups = Hierarchies::read(Path::new("/proc")).unwrap();
    let entered = cgroups.clone().enter(Path::new(&cgroup), None).unwrap();
    let odd = ODD.iter().map(|odd| (*odd).to_owned()).collect();
    let result = check_binds(dir.path(), odd);
    result.unwrap();
    runner
        .run(&vec(text(), 1..60), |names| check_binds(dir.path(), names))
        .unwrap();
    drop(entered);
}

fn check_binds(dir: &Path, names: Vec<String>) -> Result<(), TestCaseError> {
    let names = names
        .iter()
        .map(|name| format!("d{}", name.replace('/', ":")));
    let mut binds = Vec::new();
    for (i, name) in names.filter(|name| name.len() < 256).enumerate() {
        let source = dir.join("sources").join(i.to_string()).join(name);
        std::fs::create_dir_all(&source).unwrap();
        let source = escape::colon(source.to_str().unwrap());
        binds.push(format!("--bind={source}:/mnt/{i}:rbind"));
    }
    let output = Command::new(NSPAWN)
        .args(["--quiet", "--register=no", "--keep-unit", "--settings=no"])
        .args(["--link-journal=no", "--directory"])
        .arg(dir.join("root"))
        .args(binds)
        .arg("/nothing")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    prop_assert!(said.contains("execv(/nothing) failed"), "{}", said);
    Ok(())
}
