//! Check that redaction takes a time that is linear in the length of the arguments.

use std::time::Instant;

use super::*;

const LENGTH: usize = 16 << 10;

/// Arguments that are made to be slow: each repeats a part up to 16 KiB. `|` separates arguments.
const WORST: [&str; 48] = [
    "token=",
    "token= ",
    "token=$a ",
    "token=/ ",
    "token='/x token=\"/x ",
    "password:",
    "\"password\":\"",
    "a=a",
    "ab=",
    "k=v&",
    "a://",
    "a://b:c",
    "a://@",
    "@",
    "u:p@h/",
    "postgres://u:a?",
    "-p|",
    "-p |",
    "mysql -p|",
    "mysql|-px|",
    "curl|-u|a:b|",
    "--password|",
    "--token=x|",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "ghp_",
    "hf_ ",
    "eyJ.",
    "kV8tR2mQ4xZ1kV8tR2mQ4xZ1",
    "'\"",
    "\\\"",
    "$(",
    "`$(",
    "<(echo ",
    "a<<b\n",
    "sh -c '",
    "authorization: a ",
    "cookie: a=b; ",
    "identified by ",
    "%22%3D",
    "auth('",
    "auth(",
    "a:b",
    "\"name\":\"token\",",
    "$6$",
    "- ",
    "x|",
    "(",
];

/// Ordinary arguments: the command lines of real tools in `tests/data/redaction.tsv`.
fn ordinary() -> Vec<Args> {
    let path = format!("{}/tests/data/redaction.tsv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the file exists");
    text.lines()
        .filter_map(|line| serde_json::from_str::<Vec<String>>(line.splitn(3, '\t').nth(2)?).ok())
        .map(|args| nul_separated(&args.iter().map(String::as_bytes).collect::<Vec<_>>()))
        .collect()
}

fn arguments(first: &[u8], part: &str) -> Args {
    let mut bytes = first.to_vec();
    while bytes.len() < LENGTH {
        bytes.extend(part.replace('|', "\0").bytes());
    }
    bytes.truncate(LENGTH);
    Args::from_nul_separated(&bytes)
}

/// The shortest of some times, in nanoseconds a byte: other work on the machine only adds to it.
fn time(redactor: &Redactor, all: &[Args], rounds: u32) -> f64 {
    let bytes: usize = all.iter().map(|args| args.bytes.len()).sum();
    let times = (0..rounds).map(|_| {
        let copies = all.to_vec();
        let began = Instant::now();
        for args in copies {
            std::hint::black_box(redactor.redact(std::hint::black_box(args)));
        }
        began.elapsed().as_secs_f64() * 1e9 / bytes as f64
    });
    times.fold(f64::MAX, f64::min)
}

/// How much more a byte of each of the worst costs than one of ordinary arguments, the worst first.
fn ratios(mode: RedactMode, rounds: u32) -> Vec<(f64, String)> {
    let redactor = Redactor::new(mode, &[]).expect("no patterns");
    let ordinary = time(&redactor, &ordinary(), rounds);
    println!("{mode:?}: ordinary {ordinary:.1} ns a byte");
    let mut ratios = Vec::new();
    for part in WORST {
        for first in [&b"run\0"[..], b"sh\0-c\0", b"mysql\0"] {
            let name = format!("{:?} {part:?}", String::from_utf8_lossy(first));
            ratios.push((time(&redactor, &[arguments(first, part)], rounds) / ordinary, name));
        }
    }
    ratios.sort_by(|one, other| other.0.total_cmp(&one.0));
    ratios
}

/// Check that the worst arguments of 16 KiB cost about as much a byte as ordinary ones. The limit
/// is ten times that of the documentation: a quadratic step would exceed it by far, and a busy
/// machine does not reach it.
#[test]
fn the_worst_arguments_cost_about_as_much_as_ordinary_ones() {
    for mode in [RedactMode::Standard, RedactMode::Strict] {
        let ratios = ratios(mode, 5);
        println!("{:#?}", &ratios[..5]);
        assert!(ratios[0].0 < 20.0, "{mode:?}: {:?}", &ratios[..5]);
    }
}

/// Check the ratio that the documentation gives.
#[test]
#[ignore = "a measurement, valid only in an optimised build on an idle machine"]
fn the_ratio_of_the_worst_arguments() {
    for mode in [RedactMode::Standard, RedactMode::Strict] {
        let ratios = ratios(mode, 200);
        println!("{:#?}", &ratios[..12]);
        assert!(ratios[0].0 < 2.0, "{mode:?}: {:?}", &ratios[..5]);
    }
}
