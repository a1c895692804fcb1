//! Security modules, which this machine may lack: AppArmor and SELinux, each with a policy of `tests/vm/policies`. What is
//! here is common to their tests.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::probe::Seen;
use tests::vm::{Config, Report, Status};

use super::protection::{app, pod};

pub(super) const CURRENT: [&str; 2] = ["--read", "/proc/self/attr/current"];

/// What an app was confined to.
pub(super) fn current(seen: &Seen) -> Result<String> {
    let text = seen.text("/proc/self/attr/current")?;
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}

/// Steps that run a pod of a user's app with these isolators, and enter it meanwhile.
pub(super) fn enter(config: Config, isolators: &Value) -> Config {
    let mut app = app("held", "1234", &[], isolators);
    let exec = "/probe do write /shared/up x + wait-file /shared/go";
    app["app"]["exec"] = exec.split(' ').collect();
    let command = "exec /payload/stage0 enter $(cat /shared/uuid)";
    config
        .text("held.json", &pod(&[app]))
        .text("enter", &format!("{command} /probe read {}", CURRENT[1]))
        .start("held", "sh /payload/run held --uuid-file-save=/shared/uuid")
        .step("held-up", "/payload/probe wait-file /shared/up")
        .step("enter", "sh /payload/enter")
        .step("held-go", "touch /shared/go")
        .join("held")
}

/// Waits until the pod is ready.
const UP: &str = r#"
/payload/probe wait-file /shared/sandbox || exit
pod=/var/lib/stage0/pods/run/$(cat /shared/sandbox)
for file in "$pod" "$pod/ppid" "$pod/stage1/rootfs/rkt/supervisor-status"; do
    /payload/probe wait-file "$file" || exit
done
"#;

/// Adds an app to a pod that runs without one, starts it, and stops the pod when the app has reported.
const ADD: &str = r#"
uuid=$(cat /shared/sandbox)
/payload/stage0 app add --mount=volume=shared,target=/shared "$uuid" "example.com/$1" --name=added \
    -- see --out /shared/added.json --read /proc/self/attr/current &&
    /payload/stage0 app start --app=added "$uuid" &&
    /payload/probe wait-file /shared/added.json
/payload/stage0 stop "$uuid"
"#;

/// Steps that run a pod, with these lines of a script before it, to which an app of this image is added after other steps.
pub(super) fn add(
    config: Config,
    before: &str,
    image: &str,
    meanwhile: impl FnOnce(Config) -> Config,
) -> Config {
    let sandbox =
        "app sandbox --uuid-file-save=/shared/sandbox --volume=shared,kind=host,source=/shared";
    let config = config
        .text(
            "sandbox",
            &format!("{before}exec /payload/stage0 {sandbox}\n"),
        )
        .text("sandbox-up", UP)
        .text("add", ADD)
        .start("sandbox", "sh /payload/sandbox")
        .step("sandbox-up", "sh /payload/sandbox-up");
    meanwhile(config)
        .step("add", &format!("sh /payload/add {image}"))
        .join("sandbox")
        .step("sandbox-added", "cat /shared/added.json")
}

/// That a step has been refused, with this line.
pub(super) fn expect_refusal(report: &Report, step: &str, line: &str) -> Result<()> {
    let output = report.expect(step, &Status::Exited(254))?;
    ensure!(output.contains(line), "no {line:?} in {output}");
    Ok(())
}
