use super::*;

fn parse(arguments: &[&str]) -> Result<Arguments, ArgumentsError> {
    Arguments::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// Check that all forms of Go's flag package are accepted: one dash or two, a space or an equals
/// sign.
#[test]
fn all_forms_of_gos_flag_package_are_accepted() {
    for form in [
        &["-namespace", "k8s.io", "-id", "web", "-debug", "start"][..],
        &["--namespace=k8s.io", "--id=web", "--debug", "start"],
        &["-namespace=k8s.io", "--id", "web", "-debug=true", "start"],
    ] {
        let parsed = parse(form).unwrap();
        assert_eq!(
            (parsed.verb, parsed.namespace.as_str(), parsed.id.as_str()),
            (Verb::Start, "k8s.io", "web")
        );
        assert!(parsed.debug);
        assert_eq!(parsed.log_level(), LevelFilter::DEBUG);
    }
}

/// Check that the level is info unless a flag asks for another, and that `-debug` never logs less.
#[test]
fn the_level_is_info_unless_a_flag_asks_for_another() {
    let level = |flags: &[&str]| {
        let all = [&["-namespace", "default", "-id", "web"], flags].concat();
        parse(&all).unwrap().log_level().to_string()
    };
    assert_eq!(level(&[]), "info");
    assert_eq!(level(&["-log-level", "warn"]), "warn");
    assert_eq!(level(&["-log-level", "nonesuch"]), "info");
    assert_eq!(level(&["-log-level", "trace", "-debug"]), "trace");
    assert_eq!(level(&["-log-level", "error", "-debug"]), "debug");
}

/// Check that the error names the missing or unknown argument.
#[test]
fn the_error_names_the_bad_argument() {
    let refusal = |arguments: &[&str]| parse(arguments).unwrap_err().to_string();
    assert_eq!(refusal(&["-id", "web", "start"]), "shim namespace cannot be empty");
    assert_eq!(refusal(&["-namespace", "default", "start"]), "shim id cannot be empty");
    assert!(refusal(&["-namespace", "default", "-id", "web", "restart"]).contains("restart"));
    assert!(refusal(&["-nonesuch", "start"]).contains("nonesuch"));
    assert!(refusal(&["-namespace", "..", "-id", "web", "start"]).contains("namespace"));
    assert!(refusal(&["-namespace", "default", "-id", "a/b", "start"]).contains("a/b"));
}

/// Check that version and info need neither namespace nor id.
#[test]
fn version_and_info_need_no_other_flags() {
    assert_eq!(parse(&["-v"]).unwrap().verb, Verb::Version);
    assert_eq!(parse(&["-info"]).unwrap().verb, Verb::Info);
}
