use std::{collections::HashMap, fs, path::Path, time::Duration};

use proptest::prelude::*;

use super::*;

/// The containerd namespace of the containers in these tests.
const NAMESPACE: &str = "dev";

fn load_file(name: &str, text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    Config::load_with(Some(&path), |_| None)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn annotations(entries: &[(&str, &str)]) -> HashMap<String, String> {
    pairs(entries)
        .into_iter()
        .map(|(key, value)| (format!("{ANNOTATION_PREFIX}{key}"), value))
        .collect()
}

/// Check that every key is read from TOML.
#[test]
fn every_key_can_be_set_in_toml() {
    let config = load_file(
        "config.toml",
        r#"
        observe = false
        source = "connector"
        bus = "none"
        ring_size = 65536
        argv_max = "1KiB"
        redact = ["token-[0-9]+", "a,b"]
        redact_mode = "strict"
        journal_max = "1MiB"
        idle_after = "2m"
        probe_socket = "/run/probe.sock"
        metrics_address = "[::1]:9464"
        liveness_interval = "500ms"
        last_seen_interval = "1h"
        history_size = "64MiB"
        history_age = "48h"
        locked = ["redact", "observe"]
        allow = ["dev/bus", "argv_max", "argv_max"]
        "#,
    )
    .unwrap();
    let expected = Settings {
        observe: false,
        source: SourceChoice::Connector,
        bus: BusEvents::None,
        ring_size: 65536,
        argv_max: 1024,
        redact: vec!["token-[0-9]+".into(), "a,b".into()],
        redact_mode: RedactMode::Strict,
        journal_max: 1 << 20,
        idle_after: Duration::from_secs(120),
        probe_socket: Some("/run/probe.sock".into()),
        metrics_address: Some("[::1]:9464".into()),
        liveness_interval: Duration::from_millis(500),
        last_seen_interval: Duration::from_secs(3600),
        history_size: 64 << 20,
        history_age: Duration::from_secs(48 * 3600),
        locked: vec![Key::Observe, Key::Redact],
        allow: vec![
            AllowedKey { namespace: None, key: Key::ArgvMax },
            AllowedKey { namespace: Some("dev".into()), key: Key::Bus },
        ],
    };
    assert_eq!(*config.settings(), expected);
}

/// Check that a file named `*.json` is read as JSON.
#[test]
fn a_json_file_is_read_as_json() {
    let config =
        load_file("config.json", r#"{"observe": "off", "ring_size": 4096, "locked": ["bus"]}"#)
            .unwrap();
    assert!(!config.settings().observe);
    assert_eq!(config.settings().ring_size, 4096);
    assert_eq!(config.settings().locked, [Key::Bus]);
}

/// Check that an unknown key is an error that names key and file.
#[test]
fn an_unknown_key_is_named_with_its_file() {
    let error = load_file("config.toml", "ringsize = 1").unwrap_err().to_string();
    assert!(
        error.contains("ringsize in /") && error.contains("config.toml: no such key"),
        "{error}"
    );
}

/// Check that a value out of range is an error that names the key, the file, the value and the
/// values that are accepted.
#[test]
fn a_wrong_value_is_named_with_key_and_file() {
    for (text, value) in
        [("ring_size = 5000", "5000"), ("ring_size = \"8MiB\"", "8MiB"), ("ring_size = -1", "-1")]
    {
        let error = load_file("config.toml", text).unwrap_err().to_string();
        assert!(error.contains("config.toml") && error.contains("power of two"), "{error}");
        assert!(error.contains("ring_size in /") && error.contains(value), "{error}");
    }
    for text in ["redact = [1]", "observe = {}", "idle_after = 1.5", "idle_after = 2024-01-01"] {
        let error = load_file("config.toml", text).unwrap_err().to_string();
        assert!(error.contains("not a string, an integer, a boolean or a list"), "{error}");
    }
}

/// Check that a pattern of the host that does not compile, or is too large when compiled, is an
/// error with the file, the line, the pattern and the reason, wherever the pattern is written.
#[test]
fn a_pattern_that_does_not_compile_is_named_with_its_line() {
    let toml = "bus = \"none\"\nredact = [\n  'fine', # (\n  '--token (\\S+',\n]\n";
    let json = "{\n\"redact\": [\"fine\",\n\"--token (\\\\S+\"]}";
    for (name, text, line) in [
        ("config.toml", toml, 4),
        ("config.json", json, 3),
        ("config.toml", "redact = '--token (\\S+'", 1),
    ] {
        let error = load_file(name, text).unwrap_err().to_string();
        let expected = format!(
            r#"{name}, line {line}: the pattern "--token (\\S+" does not compile: unclosed group"#
        );
        assert!(error.starts_with("redact in /") && error.ends_with(&expected), "{error}");
    }
    let error = load_file("config.toml", r"redact = '(a{100}){100}'").unwrap_err().to_string();
    assert!(error.ends_with("exceeds size limit of 65536 bytes."), "{error}");
    let variable = |name: &str| (name == "LOOKOUT_REDACT").then(|| "(".to_owned());
    let error = Config::load_with(None, variable).unwrap_err().to_string();
    assert!(error.contains("(LOOKOUT_REDACT): the pattern \"(\" does not compile"), "{error}");
}

/// Check that a container's pattern that does not compile leaves its other settings in effect.
#[test]
fn a_containers_pattern_need_not_compile() {
    let added = annotations(&[("redact", "(\nfine"), ("idle_after", "3s")]);
    let (settings, warnings) = Config::default().for_container(NAMESPACE, &[], &added);
    assert_eq!((settings.redact.len(), warnings.len()), (2, 0));
    assert_eq!(settings.idle_after, Duration::from_secs(3));
}

/// Check that text that is not valid TOML is a syntax error.
#[test]
fn a_broken_file_is_named() {
    assert!(matches!(load_file("config.toml", "observe = "), Err(ConfigError::Syntax { .. })));
    assert!(matches!(load_file("config.json", "observe = 1"), Err(ConfigError::Syntax { .. })));
}

/// Check that a named file must exist and the default file need not.
#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let missing = Path::new("/nonexistent/config.toml");
    assert!(matches!(
        Config::load_with(Some(missing), |_| None),
        Err(ConfigError::Missing { path }) if path == missing
    ));
    let by_environment =
        Config::load_with(None, |name| (name == "LOOKOUT_CONFIG").then(|| "/nonexistent/c".into()));
    assert!(matches!(by_environment, Err(ConfigError::Missing { .. })));
    if !Path::new(DEFAULT_FILE).exists() {
        assert_eq!(Config::load_with(None, |_| None).unwrap(), Config::default());
    }
}

/// Check that the environment overrides the file, and that the origin of each value is known.
#[test]
fn the_environment_overrides_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "bus = \"none\"\nargv_max = 512").unwrap();
    let environment = |name: &str| match name {
        "LOOKOUT_CONFIG" => Some(path.display().to_string()),
        "LOOKOUT_BUS" => Some("processes".to_owned()),
        "LOOKOUT_SOURCE" => Some(String::new()),
        _ => None,
    };
    let config = Config::load_with(None, environment).unwrap();
    assert_eq!(config.settings().bus, BusEvents::Processes);
    assert_eq!(*config.origin(Key::Bus), Origin::Environment("LOOKOUT_BUS".into()));
    assert_eq!(*config.origin(Key::ArgvMax), Origin::File(path.clone()));
    assert_eq!(*config.origin(Key::Source), Origin::Default);
    let error = Config::load_with(None, |name| (name == "LOOKOUT_OBSERVE").then(|| "maybe".into()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"observe in the environment (LOOKOUT_OBSERVE): "maybe" is not on or off"#
    );
}

/// Check the precedence: annotations over options over the host's configuration.
#[test]
fn annotations_override_options_and_options_the_host() {
    let host = "argv_max = 512\nring_size = 4096\nbus = \"none\"\nallow = [\"bus\"]";
    let config = load_file("config.toml", host).unwrap();
    let options = pairs(&[("ring_size", "8192"), ("bus", "ports")]);
    let (settings, warnings) =
        config.for_container(NAMESPACE, &options, &annotations(&[("bus", "processes")]));
    assert_eq!(
        (settings.argv_max, settings.ring_size, settings.bus),
        (512, 8192, BusEvents::Processes)
    );
    assert_eq!(warnings, []);
}

/// Check that options and annotations cannot change a locked key, with a warning for each attempt.
#[test]
fn a_locked_key_cannot_be_changed_by_a_container() {
    let config =
        load_file("config.toml", "locked = [\"observe\", \"redact\"]\nredact = [\"x\"]").unwrap();
    let (settings, warnings) = config.for_container(
        NAMESPACE,
        &pairs(&[("observe", "off"), ("locked", "bus")]),
        &annotations(&[("observe", "off"), ("redact", "y"), ("locked", "")]),
    );
    assert_eq!(settings, *config.settings());
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "observe: locked by the host's configuration",
            "locked: only the host's configuration can set it",
            "io.lookout.locked: only the host's configuration can set it",
            "io.lookout.observe: locked by the host's configuration",
            "io.lookout.redact: locked by the host's configuration",
        ]
    );
}

/// Check that a mistake in a container's annotations is a warning and leaves the value unchanged.
#[test]
fn a_bad_annotation_never_fails_a_container() {
    let config = load_file("config.toml", "allow = [\"ring_size\", \"bus\"]").unwrap();
    let (settings, warnings) = config.for_container(
        NAMESPACE,
        &[],
        &annotations(&[("ring_size", "17"), ("colour", "red"), ("bus", "processes")]),
    );
    assert_eq!(settings, Settings { bus: BusEvents::Processes, ..config.settings().clone() });
    assert_eq!(warnings.len(), 2);
    assert_eq!(warnings[0].reason, InvalidReason::Unknown);
    assert_eq!(
        warnings[1].to_string(),
        r#"io.lookout.ring_size: "17" is not a power of two from 4KiB to 4MiB"#
    );
}

/// Check that a pod's annotation cannot make the shim open a socket.
#[test]
fn an_annotation_opens_no_socket() {
    let entries = [("probe_socket", "/etc/cron.d/x"), ("metrics_address", "0.0.0.0:1")];
    let (settings, warnings) =
        Config::default().for_container(NAMESPACE, &[], &annotations(&entries));
    assert_eq!(settings, Settings::default());
    assert!(
        warnings.iter().all(|warning| warning.reason == InvalidReason::HostOnly)
            && warnings.len() == 2
    );
}

/// Check that a container can add patterns of secrets and cannot remove the host's.
#[test]
fn a_container_adds_patterns_and_removes_none() {
    let config = load_file("config.toml", "redact = [\"host\"]").unwrap();
    let (settings, _) = config.for_container(
        NAMESPACE,
        &pairs(&[("redact", "one\ntwo")]),
        &annotations(&[("redact", "[0-9]+")]),
    );
    assert_eq!(settings.redact, ["host", "one", "two", "[0-9]+"]);
    let many = "x\n".repeat(17);
    let (settings, warnings) =
        config.for_container(NAMESPACE, &[], &annotations(&[("redact", &many)]));
    assert_eq!((settings.redact.len(), warnings.len()), (1, 1));
}

/// Check for each key what an annotation can do with it: by default, if the host allows it for all
/// containers, and if it allows it for another containerd namespace or this one.
#[test]
fn an_annotation_can_do_what_the_host_allows() {
    use AnnotationUse::{Adds, Free, IfAllowed, Never, Stricter};
    let keys = [
        (Key::Observe, "off", IfAllowed),
        (Key::Source, "poll", IfAllowed),
        (Key::Bus, "none", IfAllowed),
        (Key::RingSize, "4KiB", IfAllowed),
        (Key::ArgvMax, "256", IfAllowed),
        (Key::Redact, "pattern", Adds),
        (Key::RedactMode, "strict", Stricter),
        (Key::JournalMax, "64KiB", IfAllowed),
        (Key::IdleAfter, "1s", Free),
        (Key::ProbeSocket, "/run/x", Never),
        (Key::MetricsAddress, "0.0.0.0:1", Never),
        (Key::LivenessInterval, "1s", Never),
        (Key::LastSeenInterval, "1s", Never),
        (Key::HistorySize, "0", Never),
        (Key::HistoryAge, "1h", Never),
        (Key::Locked, "bus", Never),
        (Key::Allow, "bus", Never),
    ];
    assert_eq!(keys.map(|(key, ..)| key), Key::ALL);
    for (key, value, may) in keys {
        let has_effect = |config: &Config| {
            let set = annotations(&[(key.as_str(), value)]);
            let (settings, warnings) = config.for_container(NAMESPACE, &[], &set);
            assert_eq!(settings == *config.settings(), warnings.len() == 1, "{key}: {warnings:?}");
            warnings.is_empty()
        };
        assert_eq!(key.annotation_use(), may);
        assert_eq!(has_effect(&Config::default()), matches!(may, Free | Stricter | Adds), "{key}");
        let allowing = |entry: String| load_file("config.toml", &format!("allow = [\"{entry}\"]"));
        let Ok(config) = allowing(key.to_string()) else {
            assert!(matches!(may, Free | Stricter | Never), "{key}");
            continue;
        };
        assert!(has_effect(&config), "{key}");
        assert_eq!(has_effect(&allowing(format!("other/{key}")).unwrap()), may == Adds, "{key}");
        assert!(has_effect(&allowing(format!("{NAMESPACE}/{key}")).unwrap()), "{key}");
    }
    assert!(load_file("config.toml", "allow = [\"/bus\"]").is_err());
}

/// Check that a container adds more patterns than 16 only if the host allows it.
#[test]
fn a_container_adds_many_patterns_if_it_is_allowed() {
    let many = annotations(&[("redact", &"x\n".repeat(64))]);
    for (host, added) in [("", 0), ("allow = \"redact\"", 64)] {
        let config = load_file("config.toml", host).unwrap();
        let (settings, _) = config.for_container(NAMESPACE, &[], &many);
        assert_eq!(settings.redact.len(), added, "{host}");
    }
}

/// Check that a container can make redaction stricter than the host, and not weaker.
#[test]
fn a_container_makes_redaction_only_stricter() {
    let strict = annotations(&[("redact_mode", "strict")]);
    let (settings, warnings) = Config::default().for_container(NAMESPACE, &[], &strict);
    assert_eq!((settings.redact_mode, warnings.len()), (RedactMode::Strict, 0));
    let config = load_file("config.toml", "redact_mode = \"strict\"").unwrap();
    let weaker = pairs(&[("redact_mode", "standard")]);
    let (settings, warnings) = config.for_container(NAMESPACE, &weaker, &HashMap::new());
    assert_eq!(settings.redact_mode, RedactMode::Strict);
    assert_eq!(warnings[0].reason, InvalidReason::Weaker);
}

/// Check which sizes and durations are valid.
#[test]
fn sizes_and_durations_have_units() {
    assert_eq!(value::parse_size("131072"), Some(131_072));
    assert_eq!(value::parse_size("64KiB"), Some(65536));
    assert_eq!(value::parse_size("64 k"), Some(65536));
    assert_eq!(value::parse_size("1MiB"), Some(1 << 20));
    assert_eq!(value::parse_duration("15s"), Some(Duration::from_secs(15)));
    assert_eq!(value::parse_duration("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(value::parse_duration("2m"), Some(Duration::from_secs(120)));
    for bad in ["", "KiB", "-1", "1.5k", "1TiB", "99999999999999999999", "18446744073709551615GiB"]
    {
        assert_eq!(value::parse_size(bad), None, "{bad}");
    }
    for bad in ["", "15", "s", "-1s", "1d", "18446744073709551615h"] {
        assert_eq!(value::parse_duration(bad), None, "{bad}");
    }
}

proptest! {
    /// Check that no text of any key panics, and that an accepted value is shown in a form that is
    /// accepted again, with the same result.
    #[test]
    fn an_accepted_value_can_be_parsed_again(
        index in 0..Key::ALL.len(),
        text in "\\PC{0,40}|[0-9]{1,8}(ms|s|m|KiB|MiB)?|on|auto",
    ) {
        let key = Key::ALL[index];
        let mut settings = Settings::default();
        if settings.set(key, &text).is_ok() {
            let mut again = Settings::default();
            prop_assert!(again.set(key, &settings.show(key)).is_ok());
            prop_assert_eq!(again.show(key), settings.show(key));
        } else {
            prop_assert_eq!(settings, Settings::default());
        }
    }
}
