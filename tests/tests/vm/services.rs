//! Pods as services of the host's systemd, by the unit that the project ships.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::vm::{Config, Guest, Init, Report, Status};

use super::bench::Bench;
use super::protection::{app, pod};

/// Puts stage0 and its unit where a package would.
const INSTALL: &str = "
cp /payload/stage0 /usr/bin/stage0 &&
    mkdir -p /usr/lib/stage0 /etc/stage0 /var/log/journal &&
    cp /payload/stage1.aci /usr/lib/stage0/ &&
    cp /payload/stage0@.service /payload/stage0@serve.socket /etc/systemd/system/ &&
    cp /payload/*.conf /etc/stage0/
";

/// The properties of a service that the tests look at, `NAME=VALUE` a line; and its main process.
const SHOW: &str = r#"
systemctl show "stage0@$1" --property=ActiveState,SubState,Result,ExecMainStatus,StatusText,ControlGroup
main=$(systemctl show "stage0@$1" --property=MainPID --value)
[ "$main" = 0 ] || [ "$main" = "$(cat /var/lib/stage0/pods/run/*/ppid)" ] && echo main is right
"#;

/// What the app of the only machine has written, as its journal has it.
const JOURNAL_OF: &str = "
machine=$(machinectl list --no-legend | cut -d' ' -f1)
exec journalctl -q -o cat -M $machine STAGE1_APP=app
";

/// The app of these pods.
const OPTIONS: &str =
    "--volume=shared,kind=host,source=/shared --mount=volume=shared,target=/shared example.com/app";
const NOTIFIES: &str = "--annotation=appc.io/executor/supports-systemd-notify=true";

/// The file that describes a pod to the unit.
fn conf(options: &str, steps: &str) -> String {
    format!("# The words of `stage0 run`.\nPOD={OPTIONS} {options} -- do {steps}\n")
}

/// A step that shows the state of a service.
fn show(config: Config, step: &str, name: &str) -> Config {
    config.step(step, &format!("sh /payload/show {name}"))
}

fn bench(guest: Guest) -> Result<Bench> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/stage0@.service");
    let unit = std::fs::read_to_string(&unit).with_context(|| unit.display().to_string())?;
    let mut bench = Bench::new(guest)?;
    bench.config = bench
        .config
        .text("stage0@.service", &unit)
        .text("install", INSTALL)
        .text("show", SHOW)
        .text("journal-of", JOURNAL_OF);
    Ok(bench)
}

fn expect_state(report: &Report, step: &str, lines: &[&str]) -> Result<()> {
    let output = report.expect(step, &Status::Exited(0))?;
    for line in lines {
        ensure!(
            output.lines().any(|seen| seen == *line),
            "step {step}: no {line:?} in\n{output}"
        );
    }
    Ok(())
}

pub(crate) fn a_service_is_ready_when_its_pod_is_and_stops_it_in_order(guest: Guest) -> Result<()> {
    let bench = bench(guest)?;
    let ready = "write /shared/web-up x + wait-file /shared/web-go + notify READY=1 + print serving \
        + until-term + print closing + write /shared/web-closed x";
    let slow = "write /shared/slow-up x + until-term + print closing";
    let report = bench.finish(|config| {
        let config = config
            .text("serve.conf", "POD=--pod-manifest=/shared/serve.json\n")
            .text("serve.json", &serving())
            .text("web.conf", &conf(NOTIFIES, ready))
            .text("slow.conf", &conf(NOTIFIES, slow))
            .text("failing.conf", &conf("", "print fails + exit 5"))
            .text("unready.conf", &conf(NOTIFIES, "print fails + exit 6"))
            .step("install", "sh /payload/install")
            .step("verify", "systemd-analyze verify stage0@web.service");
        let config = serve_steps(slow_steps(web_steps(config)));
        let config = match guest.init {
            Init::Systemd257 => main_steps(config),
            _ => config,
        };
        failing_steps(config)
            .step("pods", "/payload/stage0 list --no-legend")
            .step("machines", "machinectl list --no-legend")
            .step("cgroups-left", "find /sys/fs/cgroup -name *rkt*")
            .step("journal-left", "find /var/log/journal -type l")
            .step("mounts-left", "grep stage0 /proc/mounts")
    })?;
    report.expect("install", &Status::Exited(0))?;
    assert_eq!(report.expect("verify", &Status::Exited(0))?, "");
    expect_web(&report)?;
    expect_slow(&report)?;
    expect_serve(&report)?;
    expect_failing(&report)?;
    if guest.init == Init::Systemd257 {
        expect_main(&report)?;
    }
    for none in ["pods", "machines", "cgroups-left", "journal-left"] {
        assert_eq!(report.expect(none, &Status::Exited(0))?, "", "{none}");
    }
    report.expect("mounts-left", &Status::Exited(1)).map(drop)
}

/// A pod that is up when its app says so.
fn web_steps(config: Config) -> Config {
    let config = config
        .start("web-start", "systemctl start stage0@web")
        .step("web-up", "/payload/probe wait-file /shared/web-up");
    let config = show(config, "web-starting", "web")
        .step("web-go", "touch /shared/web-go")
        .join("web-start");
    show(config, "web-running", "web")
        .step("web-machine", "machinectl list --no-legend")
        .step("web-journal", "journalctl -q -m -o cat STAGE1_APP=app")
        .step("web-journal-of", "sh /payload/journal-of")
        .step("web-stop", "systemctl stop stage0@web")
        .step("web-closed", "test -e /shared/web-closed")
        .step("web-log", "journalctl -q -o cat -u stage0@web")
        .step("web-stopped", "sh /payload/show web")
}

fn expect_web(report: &Report) -> Result<()> {
    report.expect("web-up", &Status::Exited(0))?;
    expect_state(report, "web-starting", &["ActiveState=activating"])?;
    report.expect("web-start", &Status::Exited(0))?;
    let running = ["ActiveState=active", "SubState=running", "main is right"];
    expect_state(report, "web-running", &running)?;
    report.expect_text("web-running", "StatusText=Container running")?;
    report.expect_text(
        "web-running",
        "ControlGroup=/machine.slice/stage0@web.service",
    )?;
    report.expect_text("web-machine", "rkt-")?;
    // By the link in the host's journal, and by the machine's name.
    report.expect_text("web-journal", "serving")?;
    report.expect_text("web-journal-of", "serving")?;
    report.expect("web-stop", &Status::Exited(0))?;
    report.expect("web-closed", &Status::Exited(0))?;
    report.expect_text("web-log", "closing")?;
    let stopped = ["ActiveState=inactive", "Result=success", "ExecMainStatus=0"];
    expect_state(report, "web-stopped", &stopped)
}

/// One that is stopped before it is up.
fn slow_steps(config: Config) -> Config {
    let config = config
        .step("slow-start", "systemctl start --no-block stage0@slow")
        .step("slow-up", "/payload/probe wait-file /shared/slow-up")
        .step("slow-stop", "systemctl stop stage0@slow")
        .step("slow-log", "journalctl -q -o cat -u stage0@slow");
    show(config, "slow-stopped", "slow")
}

fn expect_slow(report: &Report) -> Result<()> {
    report.expect("slow-stop", &Status::Exited(0))?;
    report.expect_text("slow-log", "closing")?;
    expect_state(report, "slow-stopped", &["ActiveState=inactive"])
}

/// The processes of a unit in a control group of their own below the unit's (systemd 254).
const SUBGROUP: &str = "[Service]\nDelegateSubgroup=main\n";

const DROP_IN: &str = "
folder=/etc/systemd/system/stage0@main.service.d
mkdir $folder && cp /payload/subgroup $folder/subgroup.conf && exec systemctl daemon-reload
";

/// Shows where the pod is, and that the unit's processes were in another one to begin with.
const PLACE: &str = r#"
echo "$(cat /var/lib/stage0/pods/run/*/subcgroup)"
cd "/sys/fs/cgroup/machine.slice/stage0@main.service" && ls -d main && cat main/cgroup.procs
"#;

/// A pod of such a unit.
fn main_steps(config: Config) -> Config {
    let steps = "notify READY=1 + until-term + write /shared/main-closed x";
    let config = config
        .text("subgroup", SUBGROUP)
        .text("main.conf", &conf(NOTIFIES, steps))
        .text("drop-in", DROP_IN)
        .text("place", PLACE)
        .step("main", "sh /payload/drop-in")
        .step("main-start", "systemctl start stage0@main");
    show(config, "main-running", "main")
        .step("main-place", "sh /payload/place")
        .step("main-stop", "systemctl stop stage0@main")
        .step("main-closed", "test -e /shared/main-closed")
        .step("main-stopped", "sh /payload/show main")
}

fn expect_main(report: &Report) -> Result<()> {
    report.expect("main", &Status::Exited(0))?;
    report.expect("main-start", &Status::Exited(0))?;
    let running = ["ActiveState=active", "SubState=running", "main is right"];
    expect_state(report, "main-running", &running)?;
    let place = report.expect("main-place", &Status::Exited(0))?;
    let pod = place.strip_prefix("/machine.slice/stage0@main.service/rkt-");
    // Nobody is in the other one any more.
    let others = pod.and_then(|pod| pod.split_once('\n').map(|(_, others)| others));
    ensure!(others == Some("main\n"), "{place}");
    report.expect("main-stop", &Status::Exited(0))?;
    report.expect("main-closed", &Status::Exited(0))?;
    let stopped = ["ActiveState=inactive", "Result=success", "ExecMainStatus=0"];
    expect_state(report, "main-stopped", &stopped)
}

/// What the first connection starts a pod by. The one of the name has another number than the app's port.
const SOCKETS: &str = "[Socket]
ListenStream=8080
FileDescriptorName=web
[Install]
WantedBy=sockets.target
";

fn serving() -> String {
    let mut server = app("server", "1234", &[], &json!([]));
    let exec = "/probe do answer 0 + answer 0 + until-term";
    server["app"]["exec"] = exec.split(' ').collect();
    let port = json!({ "name": "web", "protocol": "tcp", "port": 80, "socketActivated": true });
    server["app"]["ports"] = json!([port]);
    pod(&[server])
}

const SERVE: &str = r#"
id=$(/payload/stage0 image import /payload/app.aci)
sed "s/@ID@/$id/g" /payload/serve.json >/shared/serve.json
exec systemctl start stage0@serve.socket
"#;

fn serve_steps(config: Config) -> Config {
    let ask = |text: &str| format!("/payload/probe ask tcp 127.0.0.1:8080 {text} /shared/asked");
    config
        .text("stage0@serve.socket", SOCKETS)
        .text("serve", SERVE)
        .step("serve-listen", "sh /payload/serve")
        .step("serve-first", &ask("one"))
        .step("serve-second", &ask("two"))
        .step(
            "serve-stop",
            "systemctl stop stage0@serve.socket stage0@serve.service",
        )
        .step("serve-closed", &ask("three"))
}

fn expect_serve(report: &Report) -> Result<()> {
    report.expect("serve-listen", &Status::Exited(0))?;
    report.expect_text("serve-first", "web [::]:8080 heard one")?;
    report.expect_text("serve-second", "web [::]:8080 heard two")?;
    report.expect("serve-stop", &Status::Exited(0))?;
    let closed = report.output("serve-closed");
    ensure!(closed.contains("Connection refused"), "{closed}");
    Ok(())
}

/// Pods that fail: after they were up, and before.
fn failing_steps(config: Config) -> Config {
    ["failing", "unready"]
        .into_iter()
        .fold(config, |config, name| {
            let config = config.step(name, &format!("systemctl start --wait stage0@{name}"));
            show(config, &format!("{name}-state"), name)
        })
}

fn expect_failing(report: &Report) -> Result<()> {
    for (name, status) in [("failing", 5), ("unready", 6)] {
        let status = format!("ExecMainStatus={status}");
        let failed = ["ActiveState=failed", "Result=exit-code", &status];
        expect_state(report, &format!("{name}-state"), &failed)?;
    }
    report.expect("unready", &Status::Exited(1)).map(drop)
}
