//! Every field of a pod manifest with something wrong in it: one line that names the field, and nothing is made.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{Fixture, probe_image, with};

tests::cases!("bad_input":
    fields_of_the_pod,
    fields_of_an_app,
);

/// Where (JSON pointer), what, and what the line says.
pub(crate) type Wrong<'a> = (&'static str, Value, &'a [&'a str]);

fn manifest(id: &str) -> Value {
    json!({
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": [{
            "name": "a",
            "image": { "id": id },
            "app": {
                "exec": ["/probe", "exit", "0"],
                "user": "0",
                "group": "0",
                "supplementaryGIDs": [],
                "workingDirectory": "/",
                "environment": [],
                "eventHandlers": [],
                "mountPoints": [],
                "ports": [],
                "isolators": [],
            },
            "readOnlyRootFS": false,
            "mounts": [],
            "annotations": [],
        }],
        "volumes": [],
        "isolators": [],
        "annotations": [],
        "ports": [],
    })
}

/// Each thing alone must be refused.
pub(crate) fn refused(table: &[Wrong<'_>]) -> Result<()> {
    with(|fixture| {
        let id = fixture.import(&probe_image("a"))?;
        let mut failed = Vec::new();
        for (pointer, value, parts) in table {
            let mut manifest = manifest(&id);
            *manifest.pointer_mut(pointer).context("no such field")? = value.clone();
            if let Err(err) = run(fixture, &manifest, parts) {
                failed.push(format!("{pointer} {value}: {err:#}"));
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })
}

fn run(fixture: &Fixture, manifest: &Value, parts: &[&str]) -> Result<()> {
    let path = fixture.path("manifest.json");
    std::fs::write(&path, manifest.to_string())?;
    let finished = fixture
        .stage0(["run", &format!("--pod-manifest={}", path.display())])?
        .expect_refusal(parts)?;
    let lines = finished.stderr.lines().count();
    ensure!(lines == 1, "{lines} lines of {finished}");
    nothing_made(fixture)
}

/// Nothing on the host, and nothing in a pod's directory that only a start makes.
fn nothing_made(fixture: &Fixture) -> Result<()> {
    let mut left = fixture.leftovers();
    left.retain(|line| !line.contains("/pods/"));
    ensure!(left.is_empty(), "left: {left:?}");
    for (_, uuid) in fixture.pods() {
        let dir = fixture.pod_dir(&uuid)?;
        let root = dir.join("stage1/rootfs");
        let made = ["pid", "ppid", "subcgroup", "sharedVolumes"].map(|name| dir.join(name));
        let written = ["rkt/spec", "rkt/pod-spec"].map(|name| root.join(name));
        let found = made.iter().chain(&written).find(|path| path.exists());
        ensure!(found.is_none(), "{found:?} was made");
    }
    Ok(())
}

fn fields_of_the_pod() -> Result<()> {
    refused(&[
        ("/acVersion", json!("x"), &["acVersion"]),
        ("/acVersion", json!(1), &["acVersion"]),
        ("/acKind", json!("ImageManifest"), &["acKind"]),
        ("/apps", json!({}), &["apps"]),
        ("/volumes", json!("x"), &["volumes"]),
        (
            "/volumes",
            json!([{ "name": "V_", "kind": "empty" }]),
            &["volumes[0].name", "V_"],
        ),
        (
            "/volumes",
            json!([{ "name": "v", "kind": "tape" }]),
            &["volumes[0]", "tape"],
        ),
        (
            "/volumes",
            json!([{ "name": "v", "kind": "host" }]),
            &["volumes[0]", "source"],
        ),
        (
            "/volumes",
            json!([{ "name": "v", "kind": "host", "source": "relative" }]),
            &["volumes[0].source", "relative"],
        ),
        (
            "/volumes",
            json!([{ "name": "v", "kind": "empty", "mode": "9" }]),
            &["volumes[0].mode", "9"],
        ),
        (
            "/volumes",
            json!([{ "name": "v", "kind": "empty", "uid": -1 }]),
            &["volumes[0]", "-1"],
        ),
        (
            "/volumes",
            json!([{ "name": "v", "kind": "empty" }, { "name": "v", "kind": "empty" }]),
            &["volumes[1].name", "v"],
        ),
        (
            "/annotations",
            json!([{ "name": "A B", "value": "" }]),
            &["annotations[0].name", "A B"],
        ),
        (
            "/annotations",
            json!([{ "name": "a", "value": 1 }]),
            &["annotations[0].value"],
        ),
        (
            "/annotations",
            json!([{ "name": "a", "value": "" }, { "name": "a", "value": "" }]),
            &["annotations[1].name"],
        ),
        (
            "/ports",
            json!([{ "name": "P_", "hostPort": 1 }]),
            &["ports[0].name", "P_"],
        ),
        (
            "/ports",
            json!([{ "name": "p", "hostPort": 65536 }]),
            &["ports[0].hostPort", "65536"],
        ),
        (
            "/ports",
            json!([{ "name": "p", "hostPort": "x" }]),
            &["ports[0].hostPort"],
        ),
    ])
}

fn fields_of_an_app() -> Result<()> {
    refused(&[
        ("/apps/0/name", json!("A_"), &["apps[0].name", "A_"]),
        ("/apps/0/name", json!(1), &["apps[0].name"]),
        (
            "/apps/0/image/id",
            json!("md5-1"),
            &["apps[0].image.id", "md5-1"],
        ),
        (
            "/apps/0/readOnlyRootFS",
            json!("yes"),
            &["apps[0].readOnlyRootFS"],
        ),
        ("/apps/0/app/exec", json!("x"), &["apps[0].app.exec"]),
        (
            "/apps/0/app/exec",
            json!([]),
            &["apps[0].app.exec", "empty"],
        ),
        ("/apps/0/app/exec", json!([1]), &["apps[0].app.exec[0]"]),
        ("/apps/0/app/user", json!(""), &["apps[0].app.user"]),
        (
            "/apps/0/app/user",
            json!("nobody-knows"),
            &["nobody-knows", "/etc/passwd"],
        ),
        ("/apps/0/app/group", json!(0), &["apps[0].app.group"]),
        (
            "/apps/0/app/group",
            json!("nobody-knows"),
            &["nobody-knows", "/etc/group"],
        ),
        (
            "/apps/0/app/supplementaryGIDs",
            json!([-1]),
            &["apps[0].app.supplementaryGIDs[0]"],
        ),
        (
            "/apps/0/app/workingDirectory",
            json!("x"),
            &["apps[0].app.workingDirectory", "x"],
        ),
        (
            "/apps/0/app/environment",
            json!([{ "name": "A=B", "value": "" }]),
            &["apps[0].app.environment[0].name", "A=B"],
        ),
        (
            "/apps/0/app/environment",
            json!([{ "name": "A", "value": 1 }]),
            &["apps[0].app.environment[0].value"],
        ),
        (
            "/apps/0/app/eventHandlers",
            json!([{ "name": "at-noon", "exec": ["/x"] }]),
            &["apps[0].app.eventHandlers[0].name", "at-noon"],
        ),
        (
            "/apps/0/app/eventHandlers",
            json!([{ "name": "pre-start", "exec": [] }]),
            &["apps[0].app.eventHandlers[0].exec"],
        ),
        (
            "/apps/0/app/mountPoints",
            json!([{ "name": "m", "path": "x" }]),
            &["apps[0].app.mountPoints[0].path", "x"],
        ),
        (
            "/apps/0/app/mountPoints",
            json!([{ "name": "m", "path": "/x" }, { "name": "m", "path": "/y" }]),
            &["apps[0].app.mountPoints[1].name"],
        ),
        (
            "/apps/0/app/ports",
            json!([{ "name": "p", "protocol": "tcp", "port": 0 }]),
            &["apps[0].app.ports[0].port"],
        ),
        (
            "/apps/0/app/ports",
            json!([{ "name": "p", "protocol": 1, "port": 1 }]),
            &["apps[0].app.ports[0].protocol"],
        ),
        (
            "/apps/0/app/ports",
            json!([{ "name": "p", "protocol": "tcp", "port": 65535, "count": 2 }]),
            &["apps[0].app.ports[0]", "count"],
        ),
        (
            "/apps/0/mounts",
            json!([{ "volume": "none", "path": "/x" }]),
            &["apps[0].mounts[0].volume", "none"],
        ),
        (
            "/apps/0/annotations",
            json!([{ "name": "B B", "value": "" }]),
            &["apps[0].annotations[0].name"],
        ),
    ])
}
