//! Exits, and the responses to queries.

use containerd_shim_protos::protobuf::Message as _;

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    model::{Endpoint, NetworkNamespace, Owner, Owners, Transport},
    observe::record::PortKey,
};

/// Check that Exits reports what go-runc would, of the requested container.
#[tokio::test]
async fn exits_are_reported_as_go_runc_does() {
    let served = serve(1 << 20).await;
    let request = api::ExitsRequest { container_id: "web".into(), ..Default::default() };
    let mut stream =
        served.client().await.exits(context::Context::default(), &request).await.expect("a stream");
    let first = within(stream.recv()).await.expect("no error").expect("a first batch");
    assert!(first.exits.is_empty());
    let neighbour = event("db", exit(9, None).body);
    let ends = [Some(Ended::Code(5)), Some(Ended::Signal(9)), None];
    let mut events: Vec<_> =
        ends.into_iter().zip(1..).map(|(ended, pid)| exit(pid, ended)).collect();
    events.push(neighbour);
    served.event_log.append(&mut events);
    served.event_log.close();
    let mut received = Vec::new();
    while let Some(batch) = within(stream.recv()).await.expect("no error") {
        received.extend(
            batch
                .exits
                .into_iter()
                .map(|exit| (exit.pid, exit.status, exit.timestamp_ns, exit.exec_id)),
        );
    }
    assert_eq!(
        received,
        [(1, 5), (2, 137), (3, 255)].map(|(pid, status)| (pid, status, 6, "probe".to_owned()))
    );
}

/// Check that Processes answers with the living processes, and refuses an unknown container.
#[tokio::test]
async fn processes_are_the_living_ones() {
    let web = Arc::new(Container {
        id: "web".into(),
        cgroup: "/default/web".into(),
        ..Container::default()
    });
    let living = vec![(web, Arc::new(process(7)))];
    let served = serve_with(1 << 20, Scripted { living, ..Scripted::default() }).await;
    let client = served.client().await;
    let request =
        |id: &str| api::ProcessesRequest { container_id: id.into(), ..Default::default() };
    let answer = client
        .processes(context::with_duration(DEADLINE), &request("web"))
        .await
        .expect("an answer");
    assert_eq!((answer.epoch.as_str(), answer.seq), ("e1", 9));
    assert_eq!(
        answer.idle.iter().map(|container| container.id.as_str()).collect::<Vec<_>>(),
        ["web"]
    );
    let process = &answer.processes.first().expect("one").process;
    assert_eq!((process.pid, process.cgroup.as_str(), process.args.len()), (7, "/default/web", 3));
    match client.processes(context::with_duration(DEADLINE), &request("db")).await {
        Err(ttrpc::Error::RpcStatus(status)) => assert_eq!(status.code(), Code::NOT_FOUND),
        other => panic!(
            "{} processes of an unknown container",
            other.map_or(0, |answer| answer.processes.len())
        ),
    }
}

/// Check that processes which do not fit into one page are all in a list of several, each once and
/// with all its arguments, and that a page that was never given out is refused.
#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let web = Arc::new(Container { id: "web".into(), ..Container::default() });
    let long = |pid| {
        let mut long = process(pid);
        let args = Args::from_nul_separated(&b"0123456\0".repeat(512));
        long.image = Arc::new(Image { args: Some(args), ..(*long.image).clone() });
        (web.clone(), Arc::new(long))
    };
    let served = serve_with(
        1 << 20,
        Scripted { living: (1..=2000).map(long).collect(), ..Scripted::default() },
    )
    .await;
    let client = served.client().await;
    let (mut pids, mut pages, mut page) = (Vec::new(), 0, String::new());
    loop {
        let request = api::ProcessesRequest { page, ..Default::default() };
        let answer = client.processes(context::with_duration(DEADLINE), &request).await;
        let answer = answer.expect("an answer");
        assert!(answer.compute_size() < 2 * PAGE_MIN as u64);
        for entry in &answer.processes {
            let process = &entry.process;
            assert!(!process.args_truncated && process.args.len() == 512);
            pids.push(process.pid);
        }
        pages += 1;
        page = answer.next;
        if page.is_empty() {
            break;
        }
    }
    assert!(pids.into_iter().eq(1..=2000));
    assert!(pages > 10, "{pages} pages");
    let request = api::ProcessesRequest { page: "x".to_owned(), ..Default::default() };
    match client.processes(context::with_duration(DEADLINE), &request).await {
        Err(ttrpc::Error::RpcStatus(status)) => {
            assert_eq!(status.code(), Code::INVALID_ARGUMENT);
            assert_eq!(status.message, "page \"x\" was never in a response");
        }
        other => panic!("{:?}", other.map(|answer| answer.next)),
    }
}

/// Check that 65,536 ports, some with many owners that have long paths, are all in a list of pages,
/// each once and in their order, and that a page that was never given out is refused.
#[tokio::test]
async fn many_ports_come_in_pages() {
    let web = Arc::new(Container { id: "web".into(), ..Container::default() });
    let executable = Some((*"/x".repeat(2000).as_bytes()).into());
    let image = Some(Arc::new(Image { executable, ..Image::default() }));
    let owner =
        |pid| Owner { image: image.clone(), ..Owner::unknown(ProcessKey::new(pid, 1), None) };
    let port = |number: u32| {
        let (target, port) =
            (u64::from(number >> 15), u16::try_from(number >> 1 & 0x3fff).unwrap());
        let address =
            if port == 0 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let endpoint = Endpoint::new(Transport::Udp, address, port, false);
        let network_namespace = NetworkNamespace { inode: 7, cookie: Some(9) };
        let key = PortKey { listed_only: number & 1 == 1, endpoint, network_namespace };
        let owners = Owners::of(
            (0..if port < 100 { 40 } else { 1 }).map(|pid| ProcessKey::new(pid, 1)).collect(),
            |key| owner(key.pid),
        );
        OpenPort {
            position: PortPosition { target: TargetId(target), key },
            container: web.clone(),
            port: Port { endpoint, network_namespace, owners },
        }
    };
    let mut ports: Vec<OpenPort> = (0..65_536).map(port).collect();
    ports.sort_by_key(|open| open.position);
    let expected: Vec<_> =
        ports.iter().map(|open| (open.port.endpoint.port, open.position.key.listed_only)).collect();
    let served = serve_with(1 << 20, Scripted { ports, ..Scripted::default() }).await;
    let client = served.client().await;
    let (mut listed, mut page) = (Vec::new(), String::new());
    loop {
        let request = api::PortsRequest { page, ..Default::default() };
        let answer = client.ports(context::with_duration(DEADLINE), &request).await;
        let answer = answer.expect("an answer");
        // One port with 32 owners that have paths of 4000 bytes.
        assert!(answer.compute_size() < PAGE_MIN as u64 + 32 * 4100);
        assert_eq!((answer.epoch.as_str(), answer.seq), ("e1", 9));
        listed.extend(
            answer.ports.iter().map(|one| (u16::try_from(one.port.port).unwrap(), one.listed_only)),
        );
        page = answer.next;
        if page.is_empty() {
            break;
        }
    }
    assert!(listed == expected, "{} ports of {}", listed.len(), expected.len());
    let request = api::PortsRequest { page: "x".to_owned(), ..Default::default() };
    match client.ports(context::with_duration(DEADLINE), &request).await {
        Err(ttrpc::Error::RpcStatus(status)) => assert_eq!(status.code(), Code::INVALID_ARGUMENT),
        other => panic!("{:?}", other.map(|answer| answer.next)),
    }
}

/// Check that Capabilities lists every category in order.
#[tokio::test]
async fn capabilities_are_listed_in_order() {
    let served = serve(1 << 20).await;
    let answer = served
        .client()
        .await
        .capabilities(context::with_duration(DEADLINE), &Default::default())
        .await;
    let categories = answer.expect("an answer").categories;
    let listed: Vec<_> = categories
        .iter()
        .map(|capability| (capability.category.as_str(), capability.support.as_str()))
        .collect();
    assert_eq!(
        listed,
        ["lifecycle", "file", "network", "process"].map(|category| (category, "partial"))
    );
}
