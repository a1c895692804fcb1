//! Networks that plugins make, each test on a machine of its own.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, Machine, probe_image, with};

use crate::common::many;
use crate::talk::{accept, address, ask, listening, networks, probe};

tests::cases!("networks":
    pods_and_the_host_talk,
    outgoing_traffic_has_the_hosts_address,
    a_bridge_with_both_families,
    what_they_say_of_names_is_seen_by_all_apps,
    a_namespace_of_somebody_else_stays_as_it_is,
    a_namespace_that_is_covered_is_removed,
    bandwidth_is_limited,
    many_pods_leave_nothing
    ; with users:
    pods_and_the_host_talk,
    a_namespace_of_somebody_else_stays_as_it_is,
    what_they_say_of_names_is_seen_by_all_apps,
);

/// A network of the local configuration, as a list of plugins.
pub(crate) fn configure(
    fixture: &Fixture,
    name: &str,
    version: &str,
    plugins: Value,
) -> Result<String> {
    let dir = fixture.dir("config/net.d")?;
    let list = json!({ "cniVersion": version, "name": name, "plugins": plugins });
    fs::write(dir.join(format!("10-{name}.conflist")), list.to_string())?;
    Ok(format!(
        "--local-config={}",
        fixture.path("config").display()
    ))
}

fn pods_and_the_host_talk() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let host = machine.within(|| Ok(TcpListener::bind("0.0.0.0:0")?))?;
        let port = host.local_addr()?.port();
        let steps = format!(
            "do serve tcp 0.0.0.0:80 /out/up + serve tcp 0.0.0.0:80 /out/up + ask tcp 172.16.28.1:{port} me /out/mark"
        );
        let (uuid, running) = fixture
            .pod([probe("server", &steps)])
            .start_prepared(&["--net=default"])?;
        listening(&fixture.out("up"), 1)?;
        let all = networks(fixture, &uuid)?;
        ensure!(all.len() == 1 && all[0]["netName"] == "default", "{all:?}");
        ensure!(
            all[0]["ifName"] == "eth0" && all[0]["mask"] == "255.255.255.0",
            "{all:?}"
        );
        let server = SocketAddr::new(address(&all[0])?, 80);

        let client = probe("client", &format!("do ask tcp {server} hello /out/asked"));
        let finished = fixture.pod([client]).option("--net").run()?.expect(0)?;
        let line = finished.console("client")[0].to_owned();
        ensure!(line.starts_with("heard hello from 172.16.28."), "{line}");
        ensure!(!line.ends_with(&server.ip().to_string()), "{line}");

        listening(&fixture.out("up"), 2)?;
        let heard = machine.within(|| ask(server, "from outside"))?;
        assert_eq!(heard, "heard from outside from 172.16.28.1");
        let (mut stream, pod) = accept(&host)?;
        assert_eq!(pod.ip(), server.ip());
        writeln!(stream, "welcome")?;
        let finished = running.finish()?.expect(0)?;
        ensure!(
            finished.console("server").contains(&"welcome"),
            "{finished}"
        );
        let list = fixture.text(["list"])?;
        ensure!(
            list.contains(&format!("default:ip4={}", server.ip())),
            "{list}"
        );
        Ok(())
    })
}

/// A router between the machine and the world, which knows no way to pods.
fn outgoing_traffic_has_the_hosts_address() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let (router, world) = (Machine::new()?, Machine::new()?);
        machine.cable(("up0", "10.9.0.1/24"), &router, ("down0", "10.9.0.254/24"))?;
        router.cable(("up0", "10.8.0.254/24"), &world, ("down0", "10.8.0.2/24"))?;
        router.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        machine.run("ip route add default via 10.9.0.254")?;
        world.run("ip route add 10.9.0.0/24 via 10.8.0.254")?;
        let server = world.within(|| Ok(TcpListener::bind("10.8.0.2:80")?))?;
        let running = fixture
            .pod([probe("client", "do ask tcp 10.8.0.2:80 hello /out/mark")])
            .option("--net=default")
            .start()?;
        let (mut stream, client) = accept(&server)?;
        assert_eq!(client.ip().to_string(), "10.9.0.1");
        writeln!(stream, "welcome")?;
        let finished = running.finish()?.expect(0)?;
        assert_eq!(finished.console("client"), ["welcome"]);
        Ok(())
    })
}

pub(crate) fn both_families() -> Value {
    json!([{
        "type": "bridge", "bridge": "both0", "isGateway": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": "10.7.0.0/24" }], [{ "subnet": "fd00:7::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    }])
}

fn a_bridge_with_both_families() -> Result<()> {
    with(|fixture| {
        fixture.machine()?;
        let config = configure(fixture, "both", "0.4.0", both_families())?;
        let options = ["--net=both", "--mds-token=token", config.as_str()];
        let server = probe(
            "server",
            "do see --out /out/server.json + serve tcp [::]:80 /out/up",
        );
        let (uuid, running) = fixture.pod([server]).start_prepared(&options)?;
        listening(&fixture.out("up"), 1)?;
        let all = networks(fixture, &uuid)?;
        let names: Vec<_> = all
            .iter()
            .map(|network| network["netName"].clone())
            .collect();
        assert_eq!(names, ["both", "default-restricted"]);
        let addresses = all[0]["addresses"].as_array().context("addresses")?;
        ensure!(addresses.len() == 2, "{all:?}");
        let ip6 = addresses[1].as_str().and_then(|net| net.split('/').next());
        let server = SocketAddr::new(ip6.context("an address")?.parse()?, 80);
        let client = probe("client", &format!("do ask tcp {server} hello /out/mark"));
        let finished = fixture
            .pod([client])
            .option("--net=both")
            .option(config)
            .run()?
            .expect(0)?;
        let line = finished.console("client")[0].to_owned();
        ensure!(line.starts_with("heard hello from fd00:7::"), "{line}");
        running.finish()?.expect(0)?;
        // The restricted network leads to the host.
        let seen = fixture.seen("server")?;
        let url = "AC_METADATA_URL=http://172.16.29.1:18112/token";
        ensure!(seen.env.iter().any(|line| line == url), "{:?}", seen.env);
        Ok(())
    })
}

/// An app that comes later, too; but not one whose image has its own hosts file.
fn what_they_say_of_names_is_seen_by_all_apps() -> Result<()> {
    with(|fixture| {
        fixture.machine()?;
        let mut plugins = both_families();
        plugins[0]["dns"] = json!({ "nameservers": ["10.7.0.1"], "search": ["pods.example"] });
        // The plugin hands on what is configured only without a server of its ipam's own.
        let config = configure(fixture, "both", "1.0.0", plugins)?;
        let options = [
            "--net=both",
            "--hostname=me",
            "--no-overlay",
            config.as_str(),
        ];
        let sandbox = fixture.sandbox(&options)?;
        let looks = ["--read", "/etc/hosts", "--read", "/etc/resolv.conf"];
        let later = App::seeing("later", looks);
        let own = tests::image::file("etc/hosts", 0o644, "192.0.2.9 own\n");
        let other = App::seeing("other", looks).change(|image| image.with([own]));
        sandbox.run_all(&[later, other])?.expect(0)?;
        let seen = fixture.seen("later")?;
        let resolv = seen.text("/etc/resolv.conf")?;
        assert_eq!(
            resolv,
            "# Generated by stage1\nnameserver 10.7.0.1\nsearch pods.example\n"
        );
        let hosts = seen.text("/etc/hosts")?;
        let own = |line: &str| line.starts_with("10.7.0.") && line.ends_with(" me");
        ensure!(
            hosts.lines().any(own) && !hosts.contains("127.0.0.1 me"),
            "{hosts}"
        );
        let other = fixture.seen("other")?;
        assert_eq!(other.text("/etc/hosts")?, "192.0.2.9 own\n");
        assert_eq!(other.text("/etc/resolv.conf")?, resolv);
        Ok(())
    })
}

fn a_namespace_of_somebody_else_stays_as_it_is() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        machine.shell("ip netns add theirs && ip -n theirs link set lo up && ip -n theirs address add 10.6.0.6/32 dev lo")?;
        let steps = "do see --out /out/a.json + serve tcp 10.6.0.6:8080 /out/up";
        let (uuid, running) = fixture
            .pod([probe("a", steps)])
            .start_prepared(&["--net-ns=/run/netns/theirs"])?;
        listening(&fixture.out("up"), 1)?;
        let listeners = machine.shell("ip netns exec theirs cat /proc/net/tcp")?;
        ensure!(listeners.contains("0600060A:1F90"), "{listeners}");
        fixture.stage0(["stop", "--force", &uuid])?.expect(0)?;
        running.finish()?;
        fixture.text(["rm", &uuid])?;
        let addresses = machine.run("ip -n theirs -o address show dev lo")?;
        ensure!(addresses.contains("10.6.0.6/32"), "{addresses}");
        Ok(())
    })
}

/// The first of ip-netns(8) on a host binds the folder of all over itself, with the pod's in it.
fn a_namespace_that_is_covered_is_removed() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let pod = fixture.pod([probe("a", "do exit 0")]);
        pod.option("--net=default").run()?.expect(0)?;
        machine.run("ip netns add theirs")?;
        fixture.text(["rm", &fixture.only_pod()?])?;
        assert_eq!(machine.run("ip netns list")?, "theirs\n");
        let mounts = machine.run("cat /proc/self/mountinfo")?;
        ensure!(!mounts.contains("/netns/rkt-"), "{mounts}");
        machine.is_clean()
    })
}

/// On the cable, and not on loopback.
fn bandwidth_is_limited() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let limit = json!([{ "name": "resource/network-bandwidth", "value": { "default": true, "limit": "1M" } }]);
        let server = probe("server", "do serve tcp 0.0.0.0:80 /out/up")
            .change(|image| image.app("isolators", limit));
        let (uuid, running) = fixture
            .pod([server])
            .start_prepared(&["--net=default", "--strict-isolators"])?;
        listening(&fixture.out("up"), 1)?;
        let cables = machine.run("tc qdisc show")?;
        let limited: Vec<_> = cables
            .lines()
            .filter(|line| line.contains("rate 8Mbit"))
            .collect();
        let devices =
            ["dev veth", "dev bwp"].map(|dev| limited.iter().any(|line| line.contains(dev)));
        ensure!(devices == [true, true], "{cables}");
        let inside = machine.run(&format!("ip netns exec rkt-{uuid} tc qdisc show dev lo"))?;
        ensure!(!inside.contains("tbf"), "{inside}");
        let server = SocketAddr::new(address(&networks(fixture, &uuid)?[0])?, 80);
        machine.within(|| ask(server, "hello"))?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}

/// A hundred unless told otherwise, ten at a time.
fn many_pods_leave_nothing() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let image = fixture.import(&probe_image("a"))?;
        for _ in 0..many(100).div_ceil(10) {
            let pods =
                (0..10).map(|_| fixture.start(["run", "--net=default", &image, "--", "exit", "0"]));
            let pods = pods.collect::<Result<Vec<_>>>()?;
            for running in pods {
                running.finish()?.expect(0)?;
            }
            ensure!(
                machine.leases("default")?.len() == 10,
                "a lease for each pod"
            );
            fixture.text(["gc", "--grace-period=0s"])?;
            fixture.text(["gc", "--grace-period=0s"])?;
            machine.is_clean()?;
        }
        Ok(())
    })
}
