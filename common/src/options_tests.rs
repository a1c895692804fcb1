use super::*;

fn options(args: &[&str]) -> Result<RunOptions, String> {
    let flags =
        crate::flags::parse(&FLAGS, args.iter().map(Into::into)).map_err(|e| e.to_string())?;
    RunOptions::from_flags(&flags).map_err(|e| format!("{e:#}"))
}

#[test]
fn defaults_and_values() {
    let o = options(&[]).unwrap();
    assert_eq!(
        (o.network, o.ipc, o.resolv),
        (Network::None, Ipc::Private, ResolvMode::Default)
    );
    assert_eq!((o.local_config.as_str(), o.hostname), ("/etc/rkt", None));
    let o = options(&[
        "--net=host",
        "--dns-conf-mode=resolv=host,hosts=stage0",
        "--ipc=parent",
    ])
    .unwrap();
    assert_eq!((o.network, o.ipc), (Network::Host, Ipc::Parent));
    assert_eq!((o.resolv, o.hosts), (ResolvMode::Host, HostsMode::Stage0));
    let o = options(&["--private-users=65536:65536", "--mds-token=t"]).unwrap();
    assert_eq!(
        o.private_users,
        Some(IdRange {
            shift: 65536,
            count: 65536
        })
    );
    assert_eq!(
        o.metadata_url(&Reached::default()).as_deref(),
        Some("http://127.0.0.1:18112/t")
    );
    let reached = Reached {
        host: Some("fd00::1".parse().unwrap()),
        ..Reached::default()
    };
    assert_eq!(
        o.metadata_url(&reached).as_deref(),
        Some("http://[fd00::1]:18112/t")
    );
    let o = options(&["--net=a:K=v,b", "--cni-networks", "--cni-timeout=5"]).unwrap();
    assert_eq!(o.network.to_string(), "a:K=v,b");
    assert_eq!((o.cni_networks, o.cni_timeout), (true, 5));
    let o = options(&["--net-ns=/run/netns/x"]).unwrap();
    assert_eq!(o.network, Network::Given("/run/netns/x".into()));
}

#[test]
fn each_bad_value_is_named() {
    for (arg, start) in [
        ("--net=a,a", "--net=a,a: network a is named twice"),
        ("--net-ns=x", "--net-ns: \"x\" must be an absolute path"),
        ("--cni-timeout=0", "--cni-timeout=0: must be a number"),
        (
            "--private-users=5",
            "--private-users=5: must be SHIFT:COUNT",
        ),
        (
            "--private-users=4294967295:9",
            "--private-users=4294967295:9: ends after",
        ),
        ("--private-users=1:0", "--private-users=1:0: a pod needs"),
        ("--hostname=a b", "--hostname=a b: must be labels"),
        ("--hostname=-a", "--hostname=-a: must be labels"),
        (
            "--dns-conf-mode=resolv=x",
            "--dns-conf-mode: \"resolv=x\" must be",
        ),
        (
            "--dns-conf-mode=hosts=none",
            "--dns-conf-mode: \"hosts=none\" must be",
        ),
        ("--ipc=host", "--ipc=host: must be auto"),
    ] {
        let error = options(&[arg]).unwrap_err();
        assert!(error.starts_with(start), "{arg}: {error}");
    }
}
