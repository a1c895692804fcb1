//! AppArmor profiles of apps.

use anyhow::{Context, Result};
use rustix::io::Errno;
use serde_json::{Value, json};
use tests::probe::Outcome;
use tests::vm::{Guest, Report, Status};

use super::bench::Bench;
use super::protection::{OPEN, RUN, USERS, app, pod, run, seen};
use super::security::{CURRENT, add, current, enter, expect_refusal};

const LOAD: &str = "
mount -t securityfs securityfs /sys/kernel/security &&
    dd bs=1M if=/payload/policy of=/sys/kernel/security/apparmor/.replace
";

const LOADED: &str = "stage1-test";
const UNKNOWN: &str = "nobody-has-this-one";
const ENFORCED: &str = "stage1-test (enforce)";

/// Adds an app that is refused, and ends with the status of that unless something has changed: in the roots, not in the
/// layers of overlays, to which folders are copied when something is made in them.
const REFUSED: &str = r#"
uuid=$(cat /shared/sandbox)
pod=/var/lib/stage0/pods/run/$uuid
state() {
    find "$pod" ! -path "$pod/overlay/*" ! -path "*/journal/*" | sort
    cat "$pod/pod" /proc/mounts
    /payload/stage0 app list "$uuid"
}
state >/shared/before
/payload/stage0 app add "$uuid" example.com/unknown
status=$?
state >/shared/after
diff /shared/before /shared/after && exit "$status"
"#;

fn asking(profile: &str) -> Value {
    json!([{ "name": "os/linux/apparmor-profile", "value": { "profile": profile } }])
}

pub(crate) fn profiles_are_applied_or_refused(guest: Guest) -> Result<()> {
    let bench = Bench::new(guest)?
        .image("confined", asking(LOADED))?
        .image("unknown", asking(UNKNOWN))?;
    let (loaded, mapped) = (loaded()?, users("mapped-"));
    let absent = app("absent", "0", &[], &asking(UNKNOWN));
    let report = bench.finish(|config| {
        let config = config
            .security("apparmor")
            .text("load", LOAD)
            .text("run", RUN)
            .text("refused", REFUSED)
            .text("loaded.json", &pod(&loaded))
            .text("mapped.json", &pod(&mapped))
            .text("absent.json", &pod(&[absent]))
            .step("open", OPEN)
            .step("load", "sh /payload/load");
        let config = enter(config, &asking(LOADED));
        let config = add(config, "", "confined", |config| {
            config.step("refused", "sh /payload/refused")
        });
        let names = ["root", "other", "free"];
        let config = run(config, "loaded", "--strict-isolators", &names);
        let names = ["mapped-root", "mapped-other"];
        let config = run(config, "mapped", "--private-users", &names);
        run(config, "absent", "", &[])
    })?;
    report.expect("load", &Status::Exited(0))?;
    report.expect_text("enter", ENFORCED)?;
    report.expect("add", &Status::Exited(0))?;
    assert_eq!(current(&seen(&report, "sandbox", "added")?)?, ENFORCED);
    for (pod, app, profile) in [
        ("loaded", "root", ENFORCED),
        ("loaded", "other", ENFORCED),
        ("loaded", "free", "unconfined"),
        ("mapped", "mapped-root", ENFORCED),
        ("mapped", "mapped-other", ENFORCED),
    ] {
        report.expect(pod, &Status::Exited(0))?;
        expect_confined(&report, pod, app, profile)?;
    }
    for (step, app) in [("absent", "absent"), ("refused", "unknown")] {
        let what = "os/linux/apparmor-profile: profile";
        let line = format!("app {app}: {what}: {UNKNOWN:?} is not loaded");
        expect_refusal(&report, step, &line)?;
    }
    Ok(())
}

/// An app of each user, with the profile, that tells what it is confined to and what it can write.
fn users(prefix: &str) -> Vec<Value> {
    let apps =
        USERS.map(|(name, user)| app(&format!("{prefix}{name}"), user, &looks(), &asking(LOADED)));
    apps.into()
}

fn looks() -> Vec<&'static str> {
    let writes = ["--write", "/tmp/forbidden", "--write", "/tmp/other"];
    [CURRENT.as_slice(), &writes].concat()
}

/// One of them cannot have new privileges; beside them there is one without the profile.
fn loaded() -> Result<Vec<Value>> {
    let mut apps = users("");
    let isolators = apps[1]["app"]["isolators"].as_array_mut();
    let with_nnp = json!({ "name": "os/linux/no-new-privileges", "value": true });
    isolators.context("isolators")?.push(with_nnp);
    apps.push(app("free", "0", &looks(), &json!([])));
    Ok(apps)
}

/// The profile denies to write one file.
fn expect_confined(report: &Report, pod: &str, app: &str, profile: &str) -> Result<()> {
    let seen = seen(report, pod, app)?;
    assert_eq!(current(&seen)?, profile, "{app}");
    let forbidden = match profile {
        ENFORCED => Outcome::Error(Errno::ACCESS.raw_os_error()),
        _ => Outcome::Writable,
    };
    assert_eq!(seen.look("write", "/tmp/forbidden")?, &forbidden, "{app}");
    assert_eq!(seen.look("write", "/tmp/other")?, &Outcome::Writable);
    Ok(())
}
