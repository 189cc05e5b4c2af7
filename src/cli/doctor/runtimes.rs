//! The OCI runtimes on `PATH`, and whether their versions have known container escapes.

use std::process::{Command, Stdio};

use serde::Serialize;

/// The runtimes that are looked for. runc is the one that containers use by default.
const NAMES: [&str; 2] = ["runc", "crun"];

/// A fault by which a container can take over the host, or write to files of the host.
struct Escape {
    runtime: &'static str,
    cve: &'static str,
    /// The first version that has the fault; empty if it is the first of all.
    since: &'static str,
    /// The first version without the fault in each line of releases that was repaired, from old to
    /// new. Lines before them were not repaired, and lines after them never had the fault.
    fixed: &'static [&'static str],
}

/// From the advisories and release notes that `docs/security.md` names.
const ESCAPES: &[Escape] = &[
    Escape { runtime: "runc", cve: "CVE-2019-5736", since: "", fixed: &["1.0.0-rc7"] },
    Escape { runtime: "runc", cve: "CVE-2021-30465", since: "", fixed: &["1.0.0-rc95"] },
    Escape { runtime: "runc", cve: "CVE-2024-21626", since: "1.0.0-rc93", fixed: &["1.1.12"] },
    Escape { runtime: "runc", cve: "CVE-2025-31133", since: "", fixed: NOVEMBER_2025 },
    Escape { runtime: "runc", cve: "CVE-2025-52565", since: "1.0.0-rc3", fixed: NOVEMBER_2025 },
    Escape { runtime: "runc", cve: "CVE-2025-52881", since: "", fixed: NOVEMBER_2025 },
    Escape { runtime: "runc", cve: "CVE-2026-119101", since: "", fixed: NOVEMBER_2026 },
    Escape { runtime: "crun", cve: "CVE-2025-24965", since: "", fixed: &["1.20"] },
    Escape { runtime: "crun", cve: "CVE-2026-88264", since: "", fixed: &["1.30"] },
    Escape { runtime: "crun", cve: "CVE-2026-88265", since: "", fixed: &["1.30"] },
    Escape { runtime: "crun", cve: "CVE-2026-115520", since: "", fixed: &["1.31"] },
];

const NOVEMBER_2025: &[&str] = &["1.2.8", "1.3.3", "1.4.0-rc.3"];
const NOVEMBER_2026: &[&str] = &["1.3.7", "1.4.4", "1.5.3", "1.6.0-rc.2"];

/// A runtime that was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct FoundRuntime {
    name: &'static str,
    /// The version as the runtime prints it; absent if it prints none that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The known escapes of this version.
    escapes: Vec<KnownEscape>,
    /// Whether a distribution has built it, which may have repaired it without a new version.
    may_be_patched: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct KnownEscape {
    cve: &'static str,
    /// The first versions without it, one for each line of releases.
    fixed: &'static [&'static str],
}

/// The runtimes on `PATH`.
pub(super) fn find() -> Vec<FoundRuntime> {
    NAMES.into_iter().filter_map(|name| Some(FoundRuntime::new(name, &ask(name)?))).collect()
}

/// What `RUNTIME --version` prints; `None` if there is no such program.
fn ask(name: &str) -> Option<String> {
    let mut command = Command::new(name);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
    #[expect(clippy::disallowed_methods, reason = "the command has no reaper")]
    let output = command.output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl FoundRuntime {
    /// `printed` is the output of `RUNTIME --version`, such as `runc version 1.1.5+ds1`.
    fn new(name: &'static str, printed: &str) -> Self {
        let words = printed.lines().next().unwrap_or_default().split_whitespace();
        let text = words.skip_while(|word| *word != "version").nth(1);
        let parsed = text.and_then(Version::parse);
        let Some((text, (version, suffix))) = text.zip(parsed) else {
            return Self { name, version: None, escapes: Vec::new(), may_be_patched: false };
        };
        let has = |escape: &&Escape| escape.runtime == name && escape.is_in(version);
        let escapes = ESCAPES.iter().filter(has);
        let escapes = escapes.map(|&Escape { cve, fixed, .. }| KnownEscape { cve, fixed });
        // Only what is safe to print.
        let version = text.chars().filter(char::is_ascii_graphic).take(64).collect();
        Self {
            name,
            version: Some(version),
            escapes: escapes.collect(),
            may_be_patched: !suffix.is_empty(),
        }
    }

    /// One sentence about the known escapes; `None` if there are none.
    pub(super) fn warning(&self) -> Option<String> {
        let version = self.version.as_ref().filter(|_| !self.escapes.is_empty())?;
        let escape =
            |escape: &KnownEscape| format!("{} (fixed in {})", escape.cve, escape.fixed.join(", "));
        let escapes: Vec<String> = self.escapes.iter().map(escape).collect();
        let hint = if self.may_be_patched {
            ". It may be patched by the distribution: see its security tracker"
        } else {
            ": update it"
        };
        let (name, escapes) = (self.name, escapes.join(", "));
        Some(format!("{name} {version} has known container escapes: {escapes}{hint}"))
    }

    /// The name and the version, for a list.
    pub(super) fn label(&self) -> String {
        let version = self.version.as_deref().unwrap_or("(unknown version)");
        format!("{} {version}", self.name)
    }
}

impl Escape {
    fn is_in(&self, version: Version) -> bool {
        let parse = |text: &str| Version::parse(text).map(|(version, _)| version);
        let fixed: Vec<Version> = self.fixed.iter().filter_map(|text| parse(text)).collect();
        let repaired = fixed.iter().find(|fixed| fixed.line() == version.line());
        let has_begun = parse(self.since).is_none_or(|since| version >= since);
        has_begun && repaired.or(fixed.first()).is_some_and(|fixed| version < *fixed)
    }
}

/// A version. Its order is that of releases: a candidate comes before its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    /// The number of the release candidate; `u32::MAX` for a release.
    candidate: u32,
}

impl Version {
    fn line(self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// Parses `1.1.12`, `1.21`, `v1.0.0-rc93`, `1.4.0-rc.3`, and with a suffix of a distribution
    /// `1.1.5+ds1`, `1.0.0~rc93+ds1`, `1.1.12-0ubuntu2`. Returns the version and the suffix.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let (major, rest) = number(text.strip_prefix('v').unwrap_or(text))?;
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        let (patch, rest) = rest.strip_prefix('.').and_then(number).unwrap_or((0, rest));
        let candidate = rest.strip_prefix(['-', '~']).and_then(|rest| rest.strip_prefix("rc"));
        let candidate = candidate.map(|rest| rest.strip_prefix('.').unwrap_or(rest));
        let (candidate, suffix) = candidate.and_then(number).unwrap_or((u32::MAX, rest));
        Some((Self { major, minor, patch, candidate }, suffix))
    }
}

/// The decimal number that `text` begins with, and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escapes(name: &'static str, printed: &str) -> Vec<&'static str> {
        FoundRuntime::new(name, printed).escapes.iter().map(|escape| escape.cve).collect()
    }

    /// Check the escapes of versions, at the borders of each fault.
    #[test]
    fn a_version_has_the_escapes_that_it_was_not_repaired_of() {
        let later = ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881", "CVE-2026-119101"];
        let with = |first: &[&'static str]| [first, &later].concat();
        for (version, expected) in [
            (
                "1.0.0-rc2",
                vec![
                    "CVE-2019-5736",
                    "CVE-2021-30465",
                    "CVE-2025-31133",
                    "CVE-2025-52881",
                    "CVE-2026-119101",
                ],
            ),
            ("1.0.0-rc6", with(&["CVE-2019-5736", "CVE-2021-30465"])),
            ("1.0.0-rc7", with(&["CVE-2021-30465"])),
            ("1.0.0-rc93", with(&["CVE-2021-30465", "CVE-2024-21626"])),
            ("1.0.0-rc95", with(&["CVE-2024-21626"])),
            ("1.1.11", with(&["CVE-2024-21626"])),
            ("1.1.12", with(&[])),
            ("1.2.7", with(&[])),
            ("1.2.8", vec!["CVE-2026-119101"]),
            ("1.3.2", with(&[])),
            ("1.3.6", vec!["CVE-2026-119101"]),
            ("1.3.7", vec![]),
            ("1.4.0-rc.2", with(&[])),
            ("1.4.0-rc.3", vec!["CVE-2026-119101"]),
            ("1.5.3", vec![]),
            ("1.6.0-rc.1", vec!["CVE-2026-119101"]),
            ("1.6.0", vec![]),
            ("2.0.0", vec![]),
        ] {
            let printed = format!("runc version {version}\ncommit: v{version}-0-gabc\n");
            assert_eq!(escapes("runc", &printed), expected, "{version}");
        }
        assert_eq!(escapes("crun", "crun version 1.19\n").len(), 4);
        assert_eq!(escapes("crun", "crun version 1.20\n").len(), 3);
        assert_eq!(escapes("crun", "crun version 1.31\n"), Vec::<&str>::new());
    }

    /// Check the forms in which distributions write versions, and that the warning names them.
    #[test]
    fn a_version_of_a_distribution_may_be_patched() {
        let found = FoundRuntime::new("runc", "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1\n");
        assert!(found.may_be_patched);
        let warning = found.warning().unwrap();
        assert!(warning.starts_with("runc 1.1.5+ds1 has known container escapes: CVE-2024-21626"));
        assert!(warning.contains("may be patched by the distribution"), "{warning}");
        for (text, candidate, suffix) in [
            ("1.0.0~rc93+ds1-5", 93, "+ds1-5"),
            ("v1.0.0-rc93+dev", 93, "+dev"),
            ("1.1.12-0ubuntu2~22.04.1", u32::MAX, "-0ubuntu2~22.04.1"),
            ("1.21", u32::MAX, ""),
        ] {
            let (version, rest) = Version::parse(text).unwrap();
            assert_eq!((version.candidate, rest), (candidate, suffix), "{text}");
        }
        let plain = FoundRuntime::new("runc", "runc version 1.1.11\n").warning().unwrap();
        assert!(plain.ends_with(": update it"), "{plain}");
    }

    /// Check that output without a version is no warning and no panic.
    #[test]
    fn output_without_a_version_is_unknown() {
        for printed in [
            "",
            "\n",
            "runc\n",
            "runc version",
            "runc version unknown\n",
            "runc version 1\n",
            "runc version 99999999999.1\n",
            "runc version 1.\u{e9}\n",
        ] {
            let found = FoundRuntime::new("runc", printed);
            assert_eq!((&found.version, found.warning()), (&None, None), "{printed:?}");
            assert_eq!(found.label(), "runc (unknown version)");
        }
    }

    /// Check that each entry of the table can be parsed, and that its versions are in order.
    #[test]
    fn the_table_is_consistent() {
        for escape in ESCAPES {
            let parsed = escape.fixed.iter().map(|text| Version::parse(text).unwrap());
            let parsed: Vec<_> = parsed.inspect(|(_, rest)| assert_eq!(*rest, "")).collect();
            assert!(parsed.is_sorted(), "{}", escape.cve);
            assert!(NAMES.contains(&escape.runtime), "{}", escape.cve);
            assert!(escape.since.is_empty() || Version::parse(escape.since).is_some());
        }
    }
}
