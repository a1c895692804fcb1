//! What is not there yet, and what was never right, fails with 254 and a clear line, and leaves nothing.

use anyhow::{Result, ensure};
use tests::fixture::{App, Fixture, probe_image, with};

tests::cases!("refusals":
    networks_that_are_not_there,
    usage_errors,
    bad_values,
    duplicate_app_names,
    interactive_pod_of_two_apps,
    broken_pod_manifest,
    manifest_errors_name_the_field,
    help_and_version,
);

/// No pod has come to be; one that its stage1 refused may be kept as exited, for rm and gc to take, but has nothing
/// that lives.
fn nothing_left(fixture: &Fixture) -> Result<()> {
    for (_, uuid) in fixture.pods() {
        let status = fixture.text(["status", &uuid])?;
        ensure!(
            status.lines().any(|line| line == "state=exited"),
            "{status}"
        );
    }
    let found = fixture.leftovers();
    let alive = found
        .iter()
        .any(|line| line.starts_with("process") || line.starts_with("cgroup"));
    ensure!(!alive, "left behind: {found:?}");
    Ok(())
}

/// Nothing is made, so the real host does.
fn networks_that_are_not_there() -> Result<()> {
    with(|fixture| {
        for (option, named) in [
            ("--net=mynet", "network mynet is not configured"),
            ("--net=default,host", "host stands alone"),
            ("--net=mynet:IP", "argument \"IP\" must be KEY=VALUE"),
            (
                "--net-ns=/nowhere/netns",
                "--net-ns=/nowhere/netns: No such file",
            ),
            ("--net-ns=/etc/passwd", "is not a network namespace"),
        ] {
            let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
            pod.option(option).run()?.expect_refusal(&[named])?;
        }
        nothing_left(fixture)
    })
}

fn usage_errors() -> Result<()> {
    with(|fixture| {
        for words in [
            &["no-such-command"][..],
            &["run"],
            &["run", "--no-such-option"],
            &["status"],
            &["image", "import"],
            &["gc", "--grace-period=soon"],
            &["list", "--format", "xml"],
        ] {
            let finished = fixture.stage0(words)?.expect(254)?;
            ensure!(
                !finished.stderr.is_empty() && finished.stdout.is_empty(),
                "{finished}"
            );
        }
        Ok(())
    })
}

fn bad_values() -> Result<()> {
    with(|fixture| {
        for (option, part) in [
            ("--volume=data", "kind"),
            ("--volume=data,kind=tape", "tape"),
            ("--volume=data,kind=host", "source"),
            ("--volume=data,kind=host,source=relative", "relative"),
            ("--volume=Bad_Name,kind=empty", "Bad_Name"),
            ("--volume=data,kind=empty,mode=999", "999"),
            ("--dns=not-an-address", "not-an-address"),
            ("--hosts-entry=nonsense", "nonsense"),
            ("--hostname=bad host", "bad host"),
            ("--set-env=novalue", "novalue"),
            ("--insecure-options=everything", "everything"),
        ] {
            let finished = fixture
                .pod([App::probe("a", ["exit", "0"])])
                .option(option)
                .run()?;
            finished.expect_refusal(&[part])?;
        }
        for (option, part) in [
            ("--environment=NOVALUE", "NOVALUE"),
            ("--mount=volume=data", "target"),
            ("--mount=volume=data,target=relative", "relative"),
            ("--supplementary-gids=many", "many"),
            ("--seccomp=read,write", "mode"),
            ("--seccomp=mode=retain,errno=EFOO,read", "EFOO"),
            ("--seccomp=mode=retain,raed", "raed"),
        ] {
            let finished = fixture
                .pod([App::probe("a", ["exit", "0"]).option(option)])
                .run()?;
            finished.expect_refusal(&[part])?;
        }
        let app = App::probe("Not_A_Name", ["exit", "0"]).image(probe_image("a"));
        fixture.pod([app]).run()?.expect_refusal(&["Not_A_Name"])?;
        nothing_left(fixture)
    })
}

fn duplicate_app_names() -> Result<()> {
    with(|fixture| {
        let apps = [
            App::probe("same", ["exit", "0"]),
            App::probe("same", ["exit", "1"]),
        ];
        fixture.pod(apps).run()?.expect_refusal(&["same"])?;
        nothing_left(fixture)
    })
}

fn interactive_pod_of_two_apps() -> Result<()> {
    with(|fixture| {
        let apps = [
            App::probe("a", ["exit", "0"]),
            App::probe("b", ["exit", "0"]),
        ];
        fixture
            .pod(apps)
            .option("--interactive")
            .run()?
            .expect_refusal(&["interactive"])?;
        nothing_left(fixture)
    })
}

fn run_manifest(fixture: &Fixture, manifest: &str) -> Result<tests::process::Finished> {
    let path = fixture.path("manifest.json");
    std::fs::write(&path, manifest)?;
    fixture.stage0(["run", &format!("--pod-manifest={}", path.display())])
}

fn broken_pod_manifest() -> Result<()> {
    with(|fixture| {
        for manifest in ["", "{", "[]", "{\"acKind\":\"ImageManifest\"}"] {
            run_manifest(fixture, manifest)?.expect_refusal(&["manifest.json"])?;
        }
        nothing_left(fixture)
    })
}

fn manifest_errors_name_the_field() -> Result<()> {
    with(|fixture| {
        let id = fixture.import(&probe_image("a"))?;
        let app = |name: &str, exec: &str| {
            format!(
                r#"{{"name":"{name}","image":{{"id":"{id}"}},"app":{{"exec":{exec},"user":"0","group":"0"}}}}"#
            )
        };
        let pod = |apps: &str| {
            format!(r#"{{"acVersion":"0.8.11","acKind":"PodManifest","apps":[{apps}]}}"#)
        };
        let good = app("good", r#"["/probe"]"#);
        let empty = format!("{good},{}", app("bad", "[]"));
        run_manifest(fixture, &pod(&empty))?
            .expect_refusal(&["apps[1].app.exec", "must not be empty"])?;
        let named = format!("{good},{}", app("Foo_", r#"["/probe"]"#));
        run_manifest(fixture, &pod(&named))?.expect_refusal(&["apps[1].name", "Foo_"])?;
        nothing_left(fixture)
    })
}

fn help_and_version() -> Result<()> {
    with(|fixture| {
        for words in [
            &["--help"][..],
            &["run", "--help"],
            &["image", "--help"],
            &["--version"],
        ] {
            let finished = fixture.stage0(words)?.expect(0)?;
            ensure!(
                !finished.stdout.is_empty() && finished.stderr.is_empty(),
                "{finished}"
            );
        }
        Ok(())
    })
}
