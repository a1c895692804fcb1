//! This project's own annotations (`docs/annotations.md`) with something wrong in them, and fields that contradict each
//! other: refused as the other fields of a manifest are.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bad_input::{Wrong, refused};

tests::cases!("bad_annotations":
    of_an_app,
    of_the_pod,
    contradictions,
);

/// Annotations that are refused at a place, each with its value and what the line says besides the name.
fn annotations_refused(
    pointer: &'static str,
    table: &'static [(&'static str, &'static str, &'static str)],
) -> Result<()> {
    let parts: Vec<[&'static str; 2]> =
        table.iter().map(|(name, _, part)| [*name, *part]).collect();
    let rows = table.iter().zip(&parts);
    let rows = rows.map(|((name, value, _), parts)| {
        let list = json!([{ "name": name, "value": value }]);
        (pointer, list, parts.as_slice())
    });
    refused(&rows.collect::<Vec<Wrong<'_>>>())
}

fn of_an_app() -> Result<()> {
    annotations_refused(
        "/apps/0/annotations",
        &[
            ("stage1/restarts", "always", "stage1/restart"),
            ("stage1/exit-policy", "on-any", "pod"),
            ("stage1/restart", "sometimes", "sometimes"),
            ("stage1/restart", "", "on-failure"),
            ("stage1/restart-delay", "soon", "soon"),
            ("stage1/restart-delay", "0", "10ms"),
            ("stage1/stop-signal", "SIGNOTHING", "SIGNOTHING"),
            ("stage1/stop-signal", "0", "\"0\""),
            ("stage1/stop-timeout", "-1", "-1"),
            ("stage1/start-timeout", "1 fortnight", "fortnight"),
            ("stage1/credential/key", "relative", "relative"),
            ("stage1/credential/key", "/no/such/file", "/no/such/file"),
            ("stage1/credential/key", "/etc", "must be a file"),
            ("stage1/health-exec", "/bin/check", "/bin/check"),
            ("stage1/health-exec", "[]", "[]"),
            ("stage1/health-exec", "[1]", "[1]"),
            ("stage1/health-interval", "30s", "stage1/health-exec"),
        ],
    )
}

fn of_the_pod() -> Result<()> {
    annotations_refused(
        "/annotations",
        &[
            ("stage1/exit-policies", "on-any", "stage1/exit-policy"),
            ("stage1/exit-policy", "never", "never"),
            ("stage1/restart", "always", "app"),
            ("stage1/credential/key", "/etc/hosts", "app"),
        ],
    )
}

fn contradictions() -> Result<()> {
    let volume = |more: Value| {
        let mut volume = json!({ "name": "v", "kind": "empty" });
        let fields = volume.as_object_mut().into_iter();
        fields.for_each(|fields| fields.extend(more.as_object().cloned().unwrap_or_default()));
        json!([volume])
    };
    let variable = json!({ "name": "A", "value": "1" });
    let own = |path: &str| json!({ "volume": "own", "path": path, "appVolume": { "name": "own", "kind": "empty" } });
    let handler = json!({ "name": "pre-start", "exec": ["/x"] });
    let port = json!({ "name": "p", "protocol": "tcp", "port": 80 });
    let app = json!({ "name": "a", "image": { "id": format!("sha512-{}", "0".repeat(128)) } });
    refused(&[
        (
            "/volumes",
            volume(json!({ "source": "/tmp" })),
            &["volumes[0].source"],
        ),
        (
            "/volumes",
            volume(json!({ "kind": "host", "source": "/tmp", "mode": "0755" })),
            &["volumes[0].mode"],
        ),
        (
            "/volumes",
            volume(json!({ "kind": "host", "source": "/tmp", "uid": 1 })),
            &["volumes[0].uid"],
        ),
        (
            "/apps/0/app/environment",
            json!([variable, variable]),
            &["apps[0].app.environment[1].name", "A"],
        ),
        (
            "/apps/0/app/eventHandlers",
            json!([handler, handler]),
            &["apps[0].app.eventHandlers[1].name", "pre-start"],
        ),
        (
            "/apps/0/app/ports",
            json!([port, port]),
            &["apps[0].app.ports[1].name", "p"],
        ),
        (
            "/apps/0/mounts",
            json!([own("/x"), own("/./x/")]),
            &["app a", "two volumes are mounted at /x"],
        ),
        (
            "/apps/0/mounts",
            json!([own("/proc/sys")]),
            &["app a", "no volume can be mounted at /proc/sys"],
        ),
        (
            "/apps/0/mounts",
            json!([own("/")]),
            &["app a", "at the root"],
        ),
        ("/apps", json!([app, app]), &["apps[1].name", "a"]),
    ])
}
