//! Every isolator with something wrong in its value: refused as the other fields of a manifest are.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bad_input::{Wrong, refused};

tests::cases!("bad_isolators":
    isolators_of_an_app,
    isolators_of_the_pod,
);

fn isolator(name: &str, value: Value) -> Value {
    json!([{ "name": name, "value": value }])
}

/// An isolator's value that is refused, and what the line says.
fn isolators_refused(
    pointer: &'static str,
    table: &[(&str, Value, &'static [&'static str])],
) -> Result<()> {
    let table: Vec<Wrong<'_>> = table
        .iter()
        .map(|(name, value, parts)| (pointer, isolator(name, value.clone()), *parts))
        .collect();
    refused(&table)
}

fn isolators_of_an_app() -> Result<()> {
    isolators_refused(
        "/apps/0/app/isolators",
        &[
            ("A B", json!({}), &["apps[0].app.isolators[0].name", "A B"]),
            (
                "os/linux/capabilities-retain-set",
                json!({ "set": ["CAP_NET_ADMON"] }),
                &["capabilities-retain-set", "CAP_NET_ADMIN"],
            ),
            (
                "os/linux/capabilities-retain-set",
                json!({ "set": "CAP_KILL" }),
                &["capabilities-retain-set", "set"],
            ),
            (
                "os/linux/capabilities-remove-set",
                json!([]),
                &["capabilities-remove-set", "set"],
            ),
            (
                "os/linux/no-new-privileges",
                json!("yes"),
                &["no-new-privileges", "yes"],
            ),
            (
                "os/linux/seccomp-retain-set",
                json!({ "set": ["raed"] }),
                &["seccomp-retain-set", "raed"],
            ),
            (
                "os/linux/seccomp-retain-set",
                json!({ "set": [] }),
                &["seccomp-retain-set", "empty"],
            ),
            (
                "os/linux/seccomp-remove-set",
                json!({ "set": ["@none"] }),
                &["seccomp-remove-set", "@none"],
            ),
            (
                "os/linux/seccomp-remove-set",
                json!({ "set": ["read"], "errno": "EFOO" }),
                &["seccomp-remove-set", "EFOO"],
            ),
            (
                "os/linux/selinux-context",
                json!({ "user": "u" }),
                &["selinux-context", "role"],
            ),
            (
                "os/linux/apparmor-profile",
                json!("x"),
                &["apparmor-profile", "profile"],
            ),
            (
                "os/linux/oom-score-adj",
                json!(1001),
                &["oom-score-adj", "1001"],
            ),
            ("os/linux/oom-score-adj", json!({}), &["oom-score-adj"]),
            ("os/linux/cpu-shares", json!(1), &["cpu-shares", "1"]),
            ("os/linux/cpu-shares", json!("many"), &["cpu-shares"]),
            (
                "resource/cpu",
                json!({ "limit": "fast" }),
                &["resource/cpu", "fast"],
            ),
            (
                "resource/cpu",
                json!({ "limit": "-1" }),
                &["resource/cpu", "-1"],
            ),
            (
                "resource/memory",
                json!({ "limit": "1MB" }),
                &["resource/memory", "1MB"],
            ),
            (
                "resource/memory",
                json!({ "limit": "0" }),
                &["resource/memory", "0"],
            ),
            ("resource/memory", json!(5), &["resource/memory"]),
            (
                "resource/memory",
                json!({ "limit": "99999999999999999999E" }),
                &["resource/memory"],
            ),
            (
                "resource/memory",
                json!({ "limit": "1M", "request": "2M" }),
                &["resource/memory", "request"],
            ),
            (
                "resource/network-bandwidth",
                json!({ "limit": "x" }),
                &["resource/network-bandwidth"],
            ),
            (
                "os/linux/no-new-privileges",
                json!({}),
                &["no-new-privileges"],
            ),
            (
                "resource/block-bandwidth",
                json!({ "limit": "x" }),
                &["resource/block-bandwidth"],
            ),
            (
                "resource/block-iops",
                json!({ "limit": "x" }),
                &["resource/block-iops"],
            ),
            (
                "stage1/pids-max",
                json!({ "limit": -1 }),
                &["stage1/pids-max"],
            ),
        ],
    )?;
    let one = |name: &str| json!({ "name": name, "value": { "set": ["CAP_KILL"] } });
    let both = [
        "os/linux/capabilities-retain-set",
        "os/linux/capabilities-remove-set",
    ]
    .map(one);
    let filters = ["os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set"];
    let filters = filters.map(|name| json!({ "name": name, "value": { "set": ["read"] } }));
    let twice = ["os/linux/cpu-shares"; 2].map(|name| json!({ "name": name, "value": 1024 }));
    refused(&[
        (
            "/apps/0/app/isolators",
            json!(both),
            &["apps[0].app.isolators[1].name", "together"],
        ),
        (
            "/apps/0/app/isolators",
            json!(filters),
            &["apps[0].app.isolators[1].name", "together"],
        ),
        (
            "/apps/0/app/isolators",
            json!(twice),
            &["apps[0].app.isolators[1].name", "once"],
        ),
        (
            "/apps/0/app/isolators",
            json!({}),
            &["apps[0].app.isolators"],
        ),
    ])
}

fn isolators_of_the_pod() -> Result<()> {
    isolators_refused(
        "/isolators",
        &[
            (
                "os/unix/sysctl",
                json!({ "kernel.core_pattern": "x" }),
                &["os/unix/sysctl", "core_pattern"],
            ),
            ("os/unix/sysctl", json!([]), &["os/unix/sysctl"]),
            (
                "os/unix/sysctl",
                json!({ "net/../x": "1" }),
                &["os/unix/sysctl"],
            ),
            (
                "resource/memory",
                json!({ "limit": "x" }),
                &["resource/memory", "x"],
            ),
            ("resource/cpu", json!({ "limit": [] }), &["resource/cpu"]),
        ],
    )
}
