//! Pod and image manifests as other stage0s write them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::driver::{AppSpec, PodSpec};

use crate::common::{both, out, seeing, seen, spec};

tests::cases!("manifest":
    app_section_of_the_image_applies,
    mount_point_without_volume,
    unknown_fields_and_isolators,
    read_only_root,
    two_apps_of_one_image,
    broken_ones_are_explained,
    what_is_refused_makes_nothing,
);

fn app_section_of_the_image_applies() -> Result<()> {
    both(|driver, overlay| {
        let mut app = seeing("a");
        app.app = None;
        app.image.app = json!({
            "exec": ["/probe", "see", "--out", "/out/a.json"],
            "user": "alice",
            "group": "staff",
            "workingDirectory": "/etc",
            "environment": [{ "name": "FROM", "value": "image" }],
        });
        std::fs::set_permissions(
            out(driver)?,
            std::os::unix::fs::PermissionsExt::from_mode(0o1777),
        )?;
        let pod = driver.pod_in_run(spec(driver, overlay, [app])?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        let seen = seen(driver, "a")?;
        assert_eq!((seen.uids[0], seen.gids[0]), (1234, 3456));
        assert_eq!(seen.cwd.to_str(), Some("/etc"));
        assert_eq!(seen.env("FROM"), Some("image"));
        Ok(())
    })
}

fn mount_point_without_volume() -> Result<()> {
    both(|driver, overlay| {
        let app = json!({
            "exec": ["/probe", "write", "/srv/data/file", "kept"],
            "user": "0",
            "group": "0",
            "mountPoints": [{ "name": "data", "path": "/srv/data" }],
        });
        let mut probe = AppSpec::probe("a", &[]);
        probe.app = Some(app);
        let pod = driver.pod_in_run(PodSpec::new(overlay, [probe]))?;
        let finished = pod.run(&["--net=none"])?.expect(0)?;
        ensure!(
            finished.stderr.contains("data"),
            "a warning is due: {finished}"
        );
        Ok(())
    })
}

fn unknown_fields_and_isolators() -> Result<()> {
    both(|driver, overlay| {
        let mut app = seeing("a").with("x-field", json!({ "any": 1 }));
        if let Some(section) = &mut app.app {
            section["isolators"] =
                json!([{ "name": "example.com/made-up", "value": { "limit": "64M" } }]);
            section["x-other"] = json!([1, 2]);
        }
        let pod = driver.pod_in_run(spec(driver, overlay, [app])?.with("x-pod", json!(true)))?;
        let finished = pod.run(&["--net=none"])?.expect(0)?;
        let reported = finished
            .stderr
            .lines()
            .any(|line| line.contains("example.com/made-up") && line.contains("ignored"));
        ensure!(reported, "the isolator is dropped silently: {finished}");
        seen(driver, "a")?;
        Ok(())
    })
}

fn read_only_root() -> Result<()> {
    both(|driver, overlay| {
        let app = AppSpec::probe("a", &["see", "--out", "/out/a.json", "--write", "/new"])
            .with("readOnlyRootFS", json!(true));
        let pod = driver.pod_in_run(spec(driver, overlay, [app])?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        let read_only = tests::probe::Outcome::Error(rustix::io::Errno::ROFS.raw_os_error());
        assert_eq!(seen(driver, "a")?.look("write", "/new")?, &read_only);
        Ok(())
    })
}

fn two_apps_of_one_image() -> Result<()> {
    both(|driver, overlay| {
        let mut apps = [seeing("a"), seeing("b")];
        for app in &mut apps {
            app.image = tests::fixture::probe_image("shared");
        }
        let pod = driver.pod_in_run(spec(driver, overlay, apps)?)?;
        pod.run(&["--net=none"])?.expect(0)?;
        let (a, b) = (seen(driver, "a")?, seen(driver, "b")?);
        assert_eq!(
            (a.env("AC_APP_NAME"), b.env("AC_APP_NAME")),
            (Some("a"), Some("b"))
        );
        assert_eq!(a.namespaces["net"], b.namespaces["net"]);
        Ok(())
    })
}

fn broken_ones_are_explained() -> Result<()> {
    tests::driver::with(|driver| {
        for (manifest, part) in [
            ("", "pod"),
            ("{}", "pod"),
            (
                r#"{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"A_"}]}"#,
                "apps[0]",
            ),
        ] {
            let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
            std::fs::write(pod.dir().join("pod"), manifest)?;
            pod.run(&["--net=none"])?
                .expect_refusal(&["init: ", part])?;
        }
        Ok(())
    })
}

/// All files of a directory, by path, with their sizes and times.
fn listing(dir: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let metadata = entry.path().symlink_metadata()?;
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
            let (size, time) = (metadata.size(), metadata.mtime());
            found.insert(format!("{} {size} {time}", entry.path().display()));
        }
    }
    Ok(found)
}

/// A line that names the field, and the pod directory and mounts as before; so there are no cgroups either, whose
/// place init writes there before it makes them.
fn what_is_refused_makes_nothing() -> Result<()> {
    let isolator =
        |name: &str, value: Value| ("isolators", json!([{ "name": name, "value": value }]));
    let set = |names: &[&str]| json!({ "set": names });
    tests::driver::with(|driver| {
        for ((field, value), part) in [
            (("exec", json!([])), "apps[0].app.exec"),
            (("user", json!("nobody-knows")), "/etc/passwd"),
            (
                ("workingDirectory", json!("x")),
                "apps[0].app.workingDirectory",
            ),
            (
                isolator("os/linux/capabilities-retain-set", set(&["CAP_NET_ADMON"])),
                "CAP_NET_ADMIN",
            ),
            (
                isolator("os/linux/seccomp-retain-set", set(&["raed"])),
                "seccomp-retain-set",
            ),
            (
                isolator("os/linux/no-new-privileges", json!(1)),
                "no-new-privileges",
            ),
            (
                isolator("os/linux/selinux-context", json!({})),
                "selinux-context",
            ),
            (
                isolator("os/linux/apparmor-profile", json!({})),
                "apparmor-profile",
            ),
            (
                isolator("resource/memory", json!({ "limit": "1MB" })),
                "resource/memory",
            ),
        ] {
            let mut app = seeing("a");
            app.app.as_mut().context("an app section")?[field] = value;
            let pod = driver.pod_in_run(spec(driver, false, [app])?)?;
            let mounts = || std::fs::read_to_string("/proc/self/mountinfo");
            let before = listing(&pod.dir())?;
            let finished = pod
                .run(&["--net=none"])?
                .expect_refusal(&["init: ", part])?;
            assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
            let made: Vec<_> = listing(&pod.dir())?.difference(&before).cloned().collect();
            ensure!(made.is_empty(), "{part}: {made:#?}");
            let own = pod.dir().display().to_string();
            ensure!(!mounts()?.contains(&own), "{part}: mounts are left");
        }
        Ok(())
    })
}
