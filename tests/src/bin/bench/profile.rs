//! What our pod asks for.

use std::path::Path;

use clap::ValueEnum;
use serde_json::{Value, json};

/// Which of our pods are measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// One that asks for nothing, so that its app has the defaults.
    Bare,
    /// That one, and one with every isolator, each of another value than the default.
    Full,
}

/// The manifest of a pod with every isolator that confines it or its app. Event handlers are not part of it: they are
/// programs of the app's own, and take what time they take.
pub(crate) fn full(image: &str, out: &Path) -> Value {
    let quantity = |name: &str, limit: &str| json!({ "name": name, "value": { "limit": limit } });
    let isolators = [
        json!({ "name": "os/linux/capabilities-retain-set", "value": { "set": ["CAP_NET_BIND_SERVICE", "CAP_CHOWN"] } }),
        json!({ "name": "os/linux/no-new-privileges", "value": true }),
        json!({
            "name": "os/linux/seccomp-retain-set",
            "value": { "set": ["@systemd/system-service", "vmsplice"], "errno": "EPERM" },
        }),
        json!({ "name": "os/linux/cpu-shares", "value": 512 }),
        json!({ "name": "os/linux/oom-score-adj", "value": 100 }),
        json!({ "name": "resource/memory", "value": { "limit": "256Mi", "request": "16Mi" } }),
        quantity("resource/cpu", "2"),
        json!({ "name": "resource/block-bandwidth", "value": { "default": true, "limit": "100M" } }),
        json!({ "name": "resource/block-iops", "value": { "default": true, "limit": "10000" } }),
        json!({ "name": "stage1/pids-max", "value": 100 }),
    ];
    json!({
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": [{
            "name": "bench",
            "image": { "id": image },
            "readOnlyRootFS": true,
            "app": {
                "exec": ["/bench", "stamp", "/out/stamp"],
                "user": "0",
                "group": "0",
                "supplementaryGIDs": [100, 200],
                "isolators": isolators,
            },
            "mounts": [{ "volume": "out", "path": "/out" }],
        }],
        "volumes": [{ "name": "out", "kind": "host", "source": out }],
        "isolators": [
            quantity("resource/memory", "512Mi"),
            quantity("resource/cpu", "2"),
            json!({ "name": "stage1/pids-max", "value": 500 }),
            json!({ "name": "os/unix/sysctl", "value": { "kernel.msgmax": "16384" } }),
        ],
    })
}
