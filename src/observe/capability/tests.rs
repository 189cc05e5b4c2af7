use super::*;

fn no(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

/// Check that each combination of probes gives the best source, and each worse one's reason.
#[test]
fn each_category_says_by_what_and_why_not_more() {
    let of = |bpf, connector, proc| {
        Capabilities::from_probes(&Probes { bpf, udp: true, connector, proc })
    };
    insta::assert_snapshot!(of(Ok(()), Ok(()), Ok(())).render_summary(), @r"
        lifecycle  supported    bpf   every start and exit, counted in the kernel
        file       unavailable  none  files are not observed: that would slow down every system call of the node
        network    partial      bpf   every TCP and UDP port that opens and closes; no connections
        process    supported    bpf   every exec with its arguments, executable and identity, read in the kernel
    ");
    insta::assert_snapshot!(of(no("refused"), Ok(()), Ok(())).render_summary(), @r"
        lifecycle  partial      connector  starts and exits are told, losses are noticed and not counted (bpf: refused)
        file       unavailable  none       files are not observed: that would slow down every system call of the node
        network    partial      sock_diag  TCP ports by the kernel's list of sockets: short-lived ones are missed (bpf: refused)
        process    partial      connector  arguments of short-lived processes are missed (bpf: refused)
    ");
    insta::assert_snapshot!(of(no("refused"), no("CAP_NET_ADMIN is missing"), Ok(())).render_summary(), @r"
        lifecycle  partial      poll       only what lives at a look, without exit status (bpf: refused; connector: CAP_NET_ADMIN is missing)
        file       unavailable  none       files are not observed: that would slow down every system call of the node
        network    partial      sock_diag  TCP ports by the kernel's list of sockets: short-lived ones are missed (bpf: refused)
        process    partial      poll       only what lives at a look (bpf: refused; connector: CAP_NET_ADMIN is missing)
    ");
    insta::assert_snapshot!(of(no("refused"), no("no"), no("hidden")).render_summary(), @r"
        lifecycle  unavailable  none  bpf: refused; connector: no; proc: hidden
        file       unavailable  none  files are not observed: that would slow down every system call of the node
        network    unavailable  none  bpf: refused
        process    unavailable  none  bpf: refused; connector: no; proc: hidden
    ");
    insta::assert_snapshot!(of(no("refused"), Ok(()), no("hidden")).render_summary(), @r"
        lifecycle  unavailable  none  bpf: refused; proc: hidden
        file       unavailable  none  files are not observed: that would slow down every system call of the node
        network    unavailable  none  bpf: refused
        process    unavailable  none  bpf: refused; proc: hidden
    ");
}

/// Check that asking by category and asking for all agree, in the order of every listing.
#[test]
fn categories_are_all_there_in_order() {
    let all = Capabilities::from_probes(&Probes {
        bpf: Ok(()),
        udp: false,
        connector: Ok(()),
        proc: Ok(()),
    });
    assert_eq!(all.categories().iter().map(|it| it.category).collect::<Vec<_>>(), Category::ALL);
    assert!(all.category(Category::Network).reason.contains("UDP is listed only"));
    for category in Category::ALL {
        assert_eq!(all.category(category).category, category);
        assert_eq!(all.is_supported(category), all.support(category) == Support::Supported);
    }
    assert_eq!(all.to_table_rows()[3][..3], ["process", "supported", "bpf"]);
}
