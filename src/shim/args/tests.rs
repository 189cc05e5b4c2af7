use super::*;

fn parse(arguments: &[&str]) -> Result<Arguments, ArgumentsError> {
    Arguments::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// Check that the forms of Go's flag package are all taken: one dash or two, a space or an equals
/// sign.
#[test]
fn flags_are_taken_in_all_of_gos_forms() {
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
    }
}

/// Check that what is missing or unknown is named.
#[test]
fn a_bad_command_line_is_refused_by_name() {
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
fn version_and_info_need_nothing_else() {
    assert_eq!(parse(&["-v"]).unwrap().verb, Verb::Version);
    assert_eq!(parse(&["-info"]).unwrap().verb, Verb::Info);
}
