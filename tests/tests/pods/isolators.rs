//! Isolators and the like that come later: reported, never silently dropped.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::fixture::{App, with};

tests::cases!("isolators":
    of_the_image_are_reported,
    unknown_ones_are_reported,
    pod_ones_are_reported,
);

/// Each name must be on stderr, with the words that say what becomes of it.
fn reported(stderr: &str, names: &[&str]) -> Result<()> {
    for name in names {
        let reported = stderr.lines().any(|line| {
            line.contains(name) && (line.contains("ignored") || line.contains("not enforced"))
        });
        ensure!(
            reported,
            "isolator {name} is not reported on stderr:\n{stderr}"
        );
    }
    Ok(())
}

fn of_the_image_are_reported() -> Result<()> {
    with(|fixture| {
        let isolators = json!([
            { "name": "resource/network-bandwidth", "value": { "default": true, "limit": "1M" } },
            { "name": "os/unix/sysctl", "value": { "net.core.somaxconn": "10" } },
        ]);
        let app =
            App::seeing("a", [] as [&str; 0]).change(|image| image.app("isolators", isolators));
        let finished = fixture.pod([app]).run()?.expect(0)?;
        reported(
            &finished.stderr,
            &["resource/network-bandwidth", "os/unix/sysctl"],
        )
    })
}

fn unknown_ones_are_reported() -> Result<()> {
    with(|fixture| {
        let isolators = json!([{ "name": "example.com/of-tomorrow", "value": { "any": "thing" } }]);
        let app =
            App::seeing("a", [] as [&str; 0]).change(|image| image.app("isolators", isolators));
        let finished = fixture.pod([app]).run()?.expect(0)?;
        reported(&finished.stderr, &["example.com/of-tomorrow"])
    })
}

fn pod_ones_are_reported() -> Result<()> {
    with(|fixture| {
        let id = fixture.import(&tests::fixture::probe_image("a"))?;
        let manifest = json!({
            "acVersion": "0.8.11",
            "acKind": "PodManifest",
            "apps": [{
                "name": "a",
                "image": { "id": id },
                "app": { "exec": ["/probe", "exit", "0"], "user": "0", "group": "0" },
            }],
            "isolators": [{ "name": "os/linux/no-new-privileges", "value": true }],
        });
        let path = fixture.path("manifest.json");
        std::fs::write(&path, manifest.to_string())?;
        let finished = fixture
            .stage0(["run", &format!("--pod-manifest={}", path.display())])?
            .expect(0)?;
        reported(&finished.stderr, &["os/linux/no-new-privileges"])
    })
}
