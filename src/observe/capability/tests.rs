use super::*;

fn refused(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

/// Check that each combination of probes selects the best source, and that the reason states why
/// each better source is not available.
#[test]
fn each_category_names_its_backend_and_the_reason() {
    let of = |bpf, connector, proc| {
        Capabilities::from_probes(&Probes { bpf, udp: true, connector, proc })
    };
    insta::assert_snapshot!(of(Ok(()), Ok(()), Ok(())).render_summary(), @r"
        lifecycle  supported    bpf   every start and exit, with losses counted in the kernel
        file       unavailable  none  files are not observed, because that would slow down every system call on the node
        network    partial      bpf   every TCP and UDP port that opens or closes; connections are not observed
        process    supported    bpf   every exec with its arguments, executable and identity, read in the kernel
    ");
    insta::assert_snapshot!(of(refused("refused"), Ok(()), Ok(())).render_summary(), @r"
        lifecycle  partial      connector  starts and exits; losses are detected but not counted (bpf: refused)
        file       unavailable  none       files are not observed, because that would slow down every system call on the node
        network    partial      sock_diag  TCP ports from the kernel's list of sockets; short-lived ports are missed (bpf: refused)
        process    partial      connector  execs, but not the arguments of short-lived processes (bpf: refused)
    ");
    insta::assert_snapshot!(of(refused("refused"), refused("CAP_NET_ADMIN is missing"), Ok(())).render_summary(), @r"
        lifecycle  partial      poll       only processes that are alive during a scan, without exit status (bpf: refused; connector: CAP_NET_ADMIN is missing)
        file       unavailable  none       files are not observed, because that would slow down every system call on the node
        network    partial      sock_diag  TCP ports from the kernel's list of sockets; short-lived ports are missed (bpf: refused)
        process    partial      poll       only processes that are alive during a scan (bpf: refused; connector: CAP_NET_ADMIN is missing)
    ");
    insta::assert_snapshot!(of(refused("refused"), refused("no"), refused("hidden")).render_summary(), @r"
        lifecycle  unavailable  none  bpf: refused; connector: no; proc: hidden
        file       unavailable  none  files are not observed, because that would slow down every system call on the node
        network    unavailable  none  bpf: refused
        process    unavailable  none  bpf: refused; connector: no; proc: hidden
    ");
    insta::assert_snapshot!(of(refused("refused"), Ok(()), refused("hidden")).render_summary(), @r"
        lifecycle  unavailable  none  bpf: refused; proc: hidden
        file       unavailable  none  files are not observed, because that would slow down every system call on the node
        network    unavailable  none  bpf: refused
        process    unavailable  none  bpf: refused; proc: hidden
    ");
}

/// Check that the list has every category in the order of all listings, and that each accessor
/// agrees with it.
#[test]
fn every_category_is_listed_in_order() {
    let all = Capabilities::from_probes(&Probes {
        bpf: Ok(()),
        udp: false,
        connector: Ok(()),
        proc: Ok(()),
    });
    assert_eq!(all.categories().iter().map(|it| it.category).collect::<Vec<_>>(), Category::ALL);
    assert!(all.category(Category::Network).reason.contains("UDP ports are only listed"));
    for category in Category::ALL {
        assert_eq!(all.category(category).category, category);
        assert_eq!(all.is_supported(category), all.support(category) == Support::Supported);
    }
    assert_eq!(all.to_table_rows()[3][..3], ["process", "supported", "bpf"]);
}
