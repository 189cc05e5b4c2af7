//! What each format makes of a report.

use std::collections::BTreeMap;

use super::{Story, build, exited, process};
use crate::{
    api::{ContainerStart, Kubernetes, Owner, Port, event::Body},
    cli::report::{html, markdown},
    client::json,
    model::is_unsafe_to_print,
};

/// Texts with which a page would break if one were not escaped.
fn hostile() -> Story {
    let mut story = Story::default();
    let texts: [&[u8]; 9] = [
        b"</td></table><script>alert(1)</script>",
        b"\"' onmouseover=alert(1) x=\"",
        b"</style><style>*{display:none}</style>",
        "{{ 7 * 7 }}{% raw %}\u{202e}\u{200b}\u{9b}".as_bytes(),
        b"\xff\xfe<b>\0\x1b[2J",
        b"````\n# heading\n| a | b |\n",
        b"![x](http://example.org/x.png) @someone",
        b"--><!--",
        b"&lt;img src=x&gt;",
    ];
    let mut evil = process(10, 0, &texts);
    evil.executable = Some(b"/bin/<svg/onload=x>".to_vec());
    evil.exec_id = "<i>exec|</i>".into();
    story.process(1, "start", evil.clone());
    story.process(2, "exit", exited(&evil, 3));
    let owner = Owner { pid: 10, executable: evil.executable.clone(), ..Default::default() };
    let port = Port {
        transport: "tcp".into(),
        address: "<u>1</u>".into(),
        owners: vec![owner],
        ..Default::default()
    };
    story.add(3, "port.open", Body::Port(port));
    story.add(
        4,
        "container.start",
        Body::ContainerStart(ContainerStart { init_pid: 10, ..Default::default() }),
    );
    let k8s = Kubernetes { pod_name: "<h1>pod</h1>|".into(), ..Default::default() };
    story.events[0].container.mut_or_insert_default().k8s = Some(k8s).into();
    story.close(9);
    story
}

/// The names of the elements of a page, each with how often it begins. Anything that is not the
/// start of an element, such as `<!`, is an element of that name.
fn elements(page: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for rest in page.split('<').skip(1) {
        let name: String = rest.chars().take_while(|one| !" >\n".contains(*one)).collect();
        *found.entry(name).or_default() += 1;
    }
    found
}

/// Check that a page has the same elements and the same attributes whatever the texts are, and
/// nothing that is unsafe to print. tests/cli reads it with a parser of HTML.
#[test]
fn a_text_is_never_markup() {
    let (hostile, mut plain) = (hostile(), hostile());
    for event in &mut plain.events {
        event.container.mut_or_insert_default().k8s.mut_or_insert_default().pod_name = "pod".into();
        match &mut event.body {
            Some(Body::Process(process)) => {
                (process.args, process.executable) = (vec![b"x".to_vec()], Some(b"x".to_vec()));
                process.exec_id = "x".into();
            }
            Some(Body::Port(port)) => {
                port.owners[0].executable = Some(b"x".to_vec());
                port.address = "x".into();
            }
            _ => {}
        }
    }
    let (hostile, plain) = (hostile.ended(), plain.ended());
    let page = html::page(&hostile).unwrap();
    assert_eq!(elements(&page), elements(&html::page(&plain).unwrap()));
    let is_unsafe = |one: char| one != '\n' && is_unsafe_to_print(one);
    assert!(!page.contains(is_unsafe) && page.contains("{{ 7 * 7 }}"));
    let text = markdown::page(&hostile);
    assert!(!text.contains(is_unsafe), "{text}");
    assert_eq!(text.matches("\n````").count(), 2, "{text}");
    let heads = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(heads(&text), heads(&markdown::page(&plain)), "{text}");
    let cells = |text: &str| text.lines().map(|line| line.matches('|').count()).collect::<Vec<_>>();
    let outside = |text: &str| {
        let parts: Vec<&str> = text.split("````").collect();
        format!("{}{}", parts[0], parts[parts.len() - 1])
    };
    assert_eq!(cells(&outside(&text)), cells(&outside(&markdown::page(&plain))), "{text}");
    assert!(!outside(&text).replace("<code>", "").replace("</code>", "").contains('<'), "{text}");
    let object = json::to_line(&hostile);
    assert!(!object.contains(is_unsafe_to_print));
    assert!(object.contains(r#""escaped":true"#));
}

/// Check what a page says beside the processes.
#[test]
fn a_page_says_what_is_missing() {
    let mut story = build();
    story.events.insert(3, {
        let mut other = Story::default();
        other.gap(10, 4, Some(1));
        other.events.remove(0)
    });
    let report = story.ended();
    let page = html::page(&report).unwrap();
    for text in [
        "default-src &#x27;none&#x27;",
        "1 event lost",
        "seen 9 = delivered 7 + lost 2",
        "repeating-linear-gradient(45deg, var(--hatch)",
        "(fork) make",
        "exec:probe-1",
        "SIGKILL (OOM)",
    ] {
        assert!(page.contains(&text.replace("&#x27;", "'")), "{text}: {page}");
    }
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("url("));
    insta::assert_snapshot!(markdown::page(&report));
}
