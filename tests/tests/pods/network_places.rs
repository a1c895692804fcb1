//! Where networks are configured and plugins are found, and what other stage0s are told of them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, Machine, probe_image, with};
use tests::harness;
use tests::image::unpacked;
use tests::process::run;

use crate::networks::{both_families, configure};
use crate::recorder::{calls, machine, network, plugins, verbs};
use crate::talk::{listening, networks, probe};

tests::cases!("network_places":
    all_are_those_of_the_configuration_and_the_default,
    those_of_other_programs_are_had_when_asked_for,
    plugins_are_found_where_rkt_has_them,
    plugins_of_the_image_do_without_those_of_the_host,
    other_stage0s_are_told,
);

/// Has changes below a folder of the machine stay on it.
fn cover(machine: &Machine, dir: &str) -> Result<()> {
    machine
        .shell(&format!(
            "mkdir -p /run/cover/{dir}/upper /run/cover/{dir}/work && mount -t overlay \
             -o lowerdir=/{dir},upperdir=/run/cover/{dir}/upper,workdir=/run/cover/{dir}/work none /{dir}"
        ))
        .map(drop)
}

/// The names of the networks of a pod that is run to its end.
fn names(fixture: &Fixture, options: &[&str]) -> Result<Vec<String>> {
    let mut pod = fixture.pod([App::probe("a", ["exit", "0"])]);
    for option in options {
        pod = pod.option(*option);
    }
    pod.run()?.expect(0)?;
    let uuid = fixture.only_pod()?;
    let all = networks(fixture, &uuid)?;
    fixture.text(["rm", &uuid])?;
    let name = |network: &Value| network["netName"].as_str().map(str::to_owned);
    all.iter().map(|n| name(n).context("a name")).collect()
}

fn all_are_those_of_the_configuration_and_the_default() -> Result<()> {
    with(|fixture| {
        machine(fixture)?;
        network(
            fixture,
            "10.conflist",
            &plugins("one", "1.0.0", &["recorder"]),
        )?;
        let config = network(
            fixture,
            "20.conflist",
            &plugins("two", "0.4.0", &["second"]),
        )?;
        let names = names(fixture, &["--net=all", &config])?;
        ensure!(names[..2] == ["one", "two"], "{names:?}");
        ensure!(names.contains(&"default".to_owned()), "{names:?}");
        Ok(())
    })
}

fn those_of_other_programs_are_had_when_asked_for() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        cover(machine, "etc")?;
        let list = plugins("theirs", "1.0.0", &["recorder"]).to_string();
        machine.write("/etc/cni/net.d/50-theirs.conflist", 0o644, &list)?;
        let config = format!("--local-config={}", fixture.path("config").display());
        let names = names(fixture, &["--net=theirs", "--cni-networks", &config])?;
        assert_eq!(names, ["theirs", "default-restricted"]);
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        let pod = pod.option("--net=theirs").option(&config);
        pod.run()?.expect_refusal(&["theirs"])?;
        Ok(())
    })
}

fn plugins_are_found_where_rkt_has_them() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        cover(machine, "usr/lib")?;
        machine.shell("mkdir -p /usr/lib/rkt/plugins/net && mv /opt/cni/bin/recorder /usr/lib/rkt/plugins/net/of-rkt")?;
        let list = plugins("list", "1.0.0", &["of-rkt"]);
        let config = network(fixture, "10.conflist", &list)?;
        names(fixture, &["--net=list", &config])?;
        assert_eq!(
            verbs(&calls(machine)?),
            ["ADD of-rkt eth0", "DEL of-rkt eth0"]
        );
        Ok(())
    })
}

/// The stage1 image with plugins, as `image-build --with-cni` has them: from the host's package, which is Debian's as well.
fn image_with_plugins(fixture: &Fixture) -> Result<PathBuf> {
    let image = fixture.path("with-plugins.aci");
    fs::write(&image, unpacked(&harness::build_dir().join("stage1.aci"))?)?;
    let folder = fixture.dir("with-plugins/rootfs/usr/lib/cni")?;
    for plugin in ["ptp", "host-local"] {
        fs::copy(Path::new("/usr/lib/cni").join(plugin), folder.join(plugin))?;
    }
    let mut append = std::process::Command::new("tar");
    append.arg("--append").arg("--file").arg(&image);
    append.arg("--directory").arg(fixture.path("with-plugins"));
    append.args(["--owner=0", "--group=0", "rootfs/usr/lib/cni"]);
    run(append)?.expect(0)?;
    Ok(image)
}

fn plugins_of_the_image_do_without_those_of_the_host() -> Result<()> {
    with(|fixture| {
        let machine = fixture.machine()?;
        let image = image_with_plugins(fixture)?;
        machine.run("mount -t tmpfs none /usr/lib/cni")?;
        let app = fixture.import(&probe_image("a"))?;
        let words = ["run", "--net=default", &app, "--", "exit", "0"];
        let mut command = machine.command(harness::build_dir().join("stage0"));
        command.arg("--dir").arg(fixture.data());
        command.arg("--stage1").arg(image).args(words);
        run(command)?.expect(0)?;
        let uuid = fixture.only_pod()?;
        let all = networks(fixture, &uuid)?;
        let plugin = all[0]["pluginPath"].as_str().unwrap_or_default();
        ensure!(plugin.ends_with("stage1/rootfs/usr/lib/cni/ptp"), "{all:?}");
        assert_eq!(machine.leases("default")?.len(), 1);
        fixture.text(["rm", &uuid])?;
        machine.is_clean()?;
        let finished = fixture.stage0(words)?;
        finished.expect_refusal(&[
            "network default: plugin ptp is in none of ",
            "install Debian's containernetworking-plugins, or use a stage1 image made with image-build --with-cni",
        ])?;
        Ok(())
    })
}

/// A network as the contract has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetInfo {
    net_name: String,
    net_conf: PathBuf,
    plugin_path: PathBuf,
    if_name: String,
    ip: IpAddr,
    args: String,
    mask: IpAddr,
}

/// Field by field, while the pod runs.
fn other_stage0s_are_told() -> Result<()> {
    with(|fixture| {
        fixture.machine()?;
        let config = configure(fixture, "both", "1.0.0", both_families())?;
        let server = probe("a", "do write /out/up x + until-term");
        let pod = fixture.pod([server]).option("--no-overlay");
        let options = ["--net=both:IgnoreUnknown=1;X=y", config.as_str()];
        let (uuid, running) = pod.start_prepared(&options)?;
        listening(&fixture.out("up"), 1)?;
        let path = fixture.pod_dir(&uuid)?.join("net-info.json");
        let infos: Vec<NetInfo> = serde_json::from_slice(&fs::read(&path)?)?;
        ensure!(infos.len() == 2, "{infos:?}");
        let expected = [
            ("both", "eth0", "10.7.0.", "bridge", "IgnoreUnknown=1;X=y"),
            ("default-restricted", "eth1", "172.16.29.", "ptp", ""),
        ];
        for (info, (name, interface, start, plugin, args)) in infos.iter().zip(expected) {
            assert_eq!(
                (info.net_name.as_str(), info.if_name.as_str()),
                (name, interface)
            );
            ensure!(info.ip.to_string().starts_with(start), "{info:?}");
            assert_eq!(info.mask.to_string(), "255.255.255.0");
            assert_eq!(info.args, args);
            let configured: Value = serde_json::from_slice(&fs::read(&info.net_conf)?)?;
            assert_eq!(configured["name"], json!(name));
            assert_eq!(info.plugin_path, Path::new("/usr/lib/cni").join(plugin));
            let mode = info.plugin_path.metadata()?.permissions().mode();
            ensure!(mode & 0o111 != 0, "{info:?}");
        }
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?;
        Ok(())
    })
}
