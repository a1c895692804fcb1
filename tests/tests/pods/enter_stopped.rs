//! Entering apps that do not run: with the app's limits all the same.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::fixture::{App, Fixture, with};
use tests::probe::Seen;
use tests::process::BOUND;

use crate::common::status;
use crate::enter_likeness::{enter, forking, likeness};

tests::cases!("enter_stopped":
    like_what_the_app_ran,
    limits_are_in_force,
    its_unit_goes_with_it,
    ends_with_the_pod
    ; with users:
    like_what_the_app_ran,
    limits_are_in_force,
);

/// A pod whose other apps end at once and one of which goes on.
fn with_pod(apps: &[(&str, App)], test: impl Fn(&Fixture, &str) -> Result<()>) -> Result<()> {
    with(|fixture| {
        let stays = App::probe("stays", ["hang"]);
        let running = fixture
            .pod(apps.iter().map(|(_, app)| app.clone()).chain([stays]))
            .option("--no-overlay")
            .start()?;
        for (name, _) in apps {
            // The pod's directory is there once it has been prepared.
            tests::wait::for_path(&fixture.out(&format!("{name}.up")), Some(BOUND))?;
            let uuid = fixture.only_pod()?;
            let dir = fixture.pod_dir(&uuid)?.join("stage1/rootfs/rkt/status");
            tests::wait::for_path(&dir.join(name), Some(BOUND))?;
        }
        let uuid = fixture.only_pod()?;
        test(fixture, &uuid)?;
        fixture.text(["stop", "--force", &uuid])?;
        drop(running);
        Ok(())
    })
}

fn ending(name: &str) -> App {
    App::probe(name, ["write", &format!("/out/{name}.up"), ""])
}

/// Fields that cannot be those of the app's own run: other mounts, and another mount namespace and cgroup.
fn comparable(seen: &Seen) -> Result<std::collections::BTreeMap<String, String>> {
    let mut fields = likeness(seen)?;
    for field in ["mounts", "cgroups", "namespaces"] {
        fields.remove(field);
    }
    // The numbers of mounts and devices are new with each mount.
    let mounts = seen.mounts.iter().map(|line| {
        let fields: Vec<_> = line.split(' ').skip(3).collect();
        fields.join(" ")
    });
    let mounts: Vec<_> = mounts.collect();
    fields.insert("mounts".into(), mounts.join("\n"));
    let namespaces = seen.namespaces.iter().filter(|(name, _)| *name != "mnt");
    fields.insert(
        "namespaces".into(),
        format!("{:?}", namespaces.collect::<Vec<_>>()),
    );
    Ok(fields)
}

fn like_what_the_app_ran() -> Result<()> {
    let kinds: [(&str, &dyn Fn(App) -> App); 3] = [
        ("root", &|app| app.option("--oom-score-adj=500")),
        ("alice", &|app| {
            app.option("--user=alice")
                .option("--supplementary-gids=4567")
        }),
        ("little", &|app| {
            let seccomp = "--seccomp=mode=remove,errno=ENOSYS,chmod";
            let app = app.option("--caps-retain=CAP_CHOWN").option(seccomp);
            app.option("--readonly-rootfs").option("--working-dir=/tmp")
        }),
    ];
    let apps = kinds.iter().map(|(name, change)| {
        // Its child has reported before it ends, which ends the child.
        let (report, up) = (format!("/out/{name}.child.json"), format!("/out/{name}.up"));
        let then = ["wait-file", &report, "+", "write", &up, ""];
        (*name, change(forking(name, &then)))
    });
    let apps: Vec<_> = apps.collect();
    with_pod(&apps, |fixture, uuid| {
        for (name, _) in kinds {
            let child = comparable(&fixture.seen(&format!("{name}.child"))?)?;
            let seen = enter(fixture, uuid, name).context(name)?;
            let scope = format!("/enter-{name}-");
            ensure!(
                seen.cgroups.iter().any(|line| line.contains(&scope)),
                "{:?}",
                seen.cgroups
            );
            let entered = comparable(&seen)?;
            for (field, value) in &child {
                ensure!(
                    entered.get(field) == Some(value),
                    "{name}: {field}: {value} in the app, {:?} entered",
                    entered.get(field)
                );
            }
        }
        Ok(())
    })
}

fn limits_are_in_force() -> Result<()> {
    let pids = json!([{ "name": "stage1/pids-max", "value": 9 }]);
    let app = ending("a")
        .option("--memory=64Mi")
        .change(|image| image.app("isolators", pids.clone()));
    with_pod(&[("a", app)], |fixture, uuid| {
        let enter = |words: &[&str]| {
            let words = ["enter", "--app=a", uuid, "/probe"]
                .into_iter()
                .chain(words.iter().copied());
            fixture.stage0(words)
        };
        enter(&["allocate", "16"])?.expect(0)?;
        enter(&["allocate", "200"])?.expect(137)?;
        let threads = enter(&["threads", "30"])?.expect(0)?;
        ensure!(threads.stdout.contains("threads: 8"), "{threads}");
        // The memory of the machine is a device that no app may have.
        let made = enter(&["mknod", "/tmp/mem", "c", "1", "1"])?.expect(0)?;
        ensure!(made.stdout.contains("/tmp/mem: 1, 2"), "{made}");
        Ok(())
    })
}

fn its_unit_goes_with_it() -> Result<()> {
    with_pod(&[("a", ending("a"))], |fixture, uuid| {
        let pid = &status(fixture, uuid)?["pid"];
        let units = format!("/proc/{pid}/root/run/systemd/transient");
        let entered = fixture.start([
            "enter",
            "--app=a",
            uuid,
            "/probe",
            "do",
            "print",
            "ready",
            "+",
            "wait-file",
            "/out/go",
        ])?;
        entered.wait_output("ready")?;
        let names = fs::read_dir(&units)?.map(|unit| Ok(unit?.path()));
        let mut own = names.collect::<Result<Vec<_>>>()?;
        own.retain(|unit| unit.to_string_lossy().contains("/enter-a-"));
        ensure!(own.len() == 1, "units of the command: {own:?}");
        fs::write(fixture.out("go"), "")?;
        entered.finish()?.expect(0)?;
        tests::wait::for_file(&own[0], Some(BOUND), |unit| !unit.exists())
    })
}

fn ends_with_the_pod() -> Result<()> {
    with(|fixture| {
        let stays = App::probe("stays", ["until-term"]);
        let running = fixture
            .pod([ending("a"), stays])
            .option("--no-overlay")
            .start()?;
        tests::wait::for_path(&fixture.out("a.up"), Some(BOUND))?;
        let uuid = fixture.only_pod()?;
        let status = fixture.pod_dir(&uuid)?.join("stage1/rootfs/rkt/status/a");
        tests::wait::for_path(&status, Some(BOUND))?;
        // It does not end by itself when it is asked to.
        let words = [
            "enter",
            "--app=a",
            &uuid,
            "/probe",
            "do",
            "ignore-term",
            "+",
            "print",
            "ready",
            "+",
            "hang",
        ];
        let entered = fixture.start(words)?;
        entered.wait_output("ready")?;
        fixture.text(["stop", &uuid])?;
        entered.finish()?.expect(137)?;
        running.finish()?.expect(0)?;
        fs::metadata(status).context("the pod's files")?;
        Ok(())
    })
}
