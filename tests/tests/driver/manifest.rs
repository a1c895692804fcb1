//! Pod and image manifests as other stage0s write them.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::driver::{AppSpec, PodSpec};

use crate::common::{both, out, seeing, seen, spec};

tests::cases!("manifest":
    app_section_of_the_image_applies,
    mount_point_without_volume,
    unknown_fields_and_isolators,
    read_only_root,
    two_apps_of_one_image,
    broken_ones_are_explained,
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
