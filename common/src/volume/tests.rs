use super::*;
use serde_json::{Value, json};

/// Plans a pod with one app `a`, and gives its volumes and mounts as text.
fn plan(
    volumes: Value,
    mounts: Value,
    points: Value,
    converted: bool,
) -> Result<(Volumes, Vec<String>)> {
    let id = format!("sha512-{}", "0".repeat(128));
    let app = json!({"exec": ["/a"], "user": "0", "group": "0", "mountPoints": points});
    let app = json!({"name": "a", "image": {"id": id}, "app": app, "mounts": mounts});
    let pod: PodManifest = serde_json::from_value(json!({
        "acVersion": "0.8.11", "acKind": "PodManifest", "apps": [app], "volumes": volumes,
    }))?;
    let runtime = &pod.apps[0];
    let app = runtime.app.as_ref().unwrap();
    let volumes = Volumes::plan(
        &pod,
        [AppVolumes {
            runtime,
            app,
            converted,
        }],
    )?;
    let text = |m: &VolumeMount| {
        format!(
            "{} {}{}",
            m.volume,
            m.target,
            if m.read_only { " ro" } else { "" }
        )
    };
    let mounts = volumes.mounts.values().flatten().map(text).collect();
    Ok((volumes, mounts))
}

#[test]
fn by_name_by_mount_and_per_app() {
    let (volumes, mounts) = plan(
        json!([{"name": "data", "kind": "host", "source": "/d", "readOnly": true},
               {"name": "tmp", "kind": "empty", "mode": "1777", "uid": 5}]),
        json!([{"volume": "tmp", "path": "/x/y//z"},
               {"volume": "own", "path": "/own", "appVolume": {"name": "own", "kind": "empty"}}]),
        json!([{"name": "data", "path": "/data"}, {"name": "z", "path": "/x/y/z/", "readOnly": true}]),
        false,
    )
    .unwrap();
    assert_eq!(mounts, ["a.own /own", "data /data ro", "tmp /x/y/z ro"]);
    let keys: Vec<_> = volumes.volumes.iter().map(|v| v.key.as_str()).collect();
    assert_eq!(keys, ["a.own", "data", "tmp"]);
    let tmp = Source::Empty {
        mode: 0o1777,
        uid: 5,
        gid: 0,
        filled_from: None,
    };
    assert_eq!(volumes.volumes[2].source, tmp);
    assert!(volumes.warnings.is_empty());
}

#[test]
fn a_mount_point_without_a_volume_gets_an_empty_one() {
    let points = json!([{"name": "volume-data", "path": "/data"}]);
    let (volumes, mounts) = plan(json!([]), json!([]), points, true).unwrap();
    assert_eq!(mounts, ["a.implicit.volume-data /data"]);
    let filled_from = Some(("a".to_owned(), PathBuf::from("/data")));
    assert_eq!(
        volumes.volumes[0].source,
        Source::Empty {
            mode: 0o755,
            uid: 0,
            gid: 0,
            filled_from
        }
    );
    assert_eq!(volumes.warnings.len(), 1);
}

#[test]
fn contradictions_are_errors() {
    let two = json!([{"name": "v", "kind": "empty"}]);
    let error = |mounts| {
        format!(
            "{:#}",
            plan(two.clone(), mounts, json!([]), false).unwrap_err()
        )
    };
    let mount = |path| json!({"volume": "v", "path": path});
    for path in [
        "/proc",
        "/proc/sys/x",
        "//dev/./null",
        "/dev/pts/0",
        "/dev",
        "/sys/",
    ] {
        let error = error(json!([mount(path)]));
        assert!(
            error.starts_with(&format!("app a: no volume can be mounted at {path}: ")),
            "{error}"
        );
    }
    assert_eq!(
        error(json!([mount("/a"), mount("/./a/")])),
        "app a: two volumes are mounted at /a"
    );
    assert_eq!(
        error(json!([mount("/")])),
        "app a: a volume cannot be mounted at the root of an app"
    );
    assert_eq!(
        error(json!([{"volume": "w", "path": "/a"}])),
        "app a: there is no volume w"
    );
}
