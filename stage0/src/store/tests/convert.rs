//! What the configuration of an OCI image becomes.

use common::appc::{ImageManifest, annotation};
use serde_json::json;

use super::Fixture;
use super::archive::Archive;
use super::layout::Layout;

fn layer(name: &str) -> Vec<u8> {
    Archive::new().file(name, "1").bytes()
}

#[test]
fn the_configuration_becomes_a_manifest() {
    let fixture = Fixture::new();
    let layout = Layout::new(&fixture.path("app"));
    let config = json!({
        "created": "2024-01-02T03:04:05.678Z",
        "author": "Somebody",
        "config": {
            "Entrypoint": ["/entry"],
            "Cmd": ["a", "b c"],
            "Env": ["PATH=/bin", "A=1=2", "A=3", "1BAD=x", "ignored"],
            "User": "web:www",
            "WorkingDir": "srv",
            "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "80": {}, "9000-9002/tcp": {}},
            "Volumes": {"/data": {}, "/var/lib/Db": {}, "/var/lib/db": {}},
            "Labels": {
                "maintainer": "me",
                "org.opencontainers.image.url": "https://example.com",
                "org.opencontainers.image.documentation": "nonsense",
            },
            "StopSignal": "SIGQUIT",
        },
    });
    let mut manifest = layout.manifest(config, &layout.plain(vec![layer("x")]));
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "quay.io/team/app:1.2"});
    layout.index(&[manifest]);
    let imported = fixture.import_path(&layout.path).unwrap();
    assert_eq!(
        imported.warnings,
        [
            "annotation documentation is left out: \"nonsense\" must be an http or https URL",
            "environment variable \"1BAD\" is left out: \"1BAD\" must be letters, digits, '_', '.' \
             and '-', with no digit, '.' or '-' first",
        ]
    );
    let found: ImageManifest = fixture.store.manifest(&imported.id).unwrap();
    assert_eq!(found.name.as_str(), "quay.io/team/app");
    assert_eq!(found.label("version"), Some("1.2"));
    assert_eq!(found.label("os"), Some("linux"));
    let app = found.app.as_ref().unwrap();
    assert_eq!(app.exec, ["/entry", "a", "b c"]);
    assert_eq!((app.user.as_str(), app.group.as_str()), ("web", "www"));
    assert_eq!(app.working_directory.as_deref(), Some("/srv"));
    let environment: Vec<_> = app
        .environment
        .iter()
        .map(|v| (v.name.as_str(), v.value.as_str()))
        .collect();
    assert_eq!(environment, [("PATH", "/bin"), ("A", "3")]);
    let ports: Vec<_> = app
        .ports
        .iter()
        .map(|p| (p.name.as_str(), p.protocol.as_str(), p.port, p.count))
        .collect();
    assert_eq!(
        ports,
        [
            ("53-udp", "udp", 53, 1),
            ("80-tcp", "tcp", 80, 1),
            ("8080-tcp", "tcp", 8080, 1),
            ("9000-9002-tcp", "tcp", 9000, 3),
        ]
    );
    let points: Vec<_> = app
        .mount_points
        .iter()
        .map(|p| (p.name.as_str(), p.path.as_str()))
        .collect();
    assert_eq!(
        points,
        [
            ("volume-data", "/data"),
            ("volume-var-lib-db", "/var/lib/Db"),
            ("volume-var-lib-db-1", "/var/lib/db"),
        ]
    );
    assert_eq!(app.user_labels["maintainer"], "me");
    for (name, value) in [
        ("created", "2024-01-02T03:04:05.678Z"),
        ("authors", "Somebody"),
        ("homepage", "https://example.com"),
        ("appc.io/docker/originalname", "quay.io/team/app:1.2"),
        ("appc.io/docker/registryurl", "quay.io"),
        ("appc.io/docker/repository", "team/app"),
        ("appc.io/docker/tag", "1.2"),
        ("appc.io/docker/manifesthash", &digest),
        ("appc.io/docker/entrypoint", r#"["/entry"]"#),
        ("appc.io/docker/cmd", r#"["a","b c"]"#),
        ("appc.io/docker/stopsignal", "SIGQUIT"),
    ] {
        assert_eq!(annotation(&found.annotations, name), Some(value), "{name}");
    }
    assert_eq!(annotation(&found.annotations, "documentation"), None);
}

#[test]
fn users_without_groups() {
    for (user, expected) in [
        ("", ("0", "0")),
        ("redis", ("redis", "redis")),
        ("999", ("999", "999")),
        (":5", ("0", "5")),
        ("7:", ("7", "7")),
    ] {
        let fixture = Fixture::new();
        let layout = Layout::new(&fixture.path("app"));
        layout.index(&[layout.manifest(json!({"config": {"User": user}}), &[])]);
        let id = fixture.import_path(&layout.path).unwrap().id;
        let app = fixture.store.manifest(&id).unwrap().app.unwrap();
        assert_eq!((app.user.as_str(), app.group.as_str()), expected);
    }
}
