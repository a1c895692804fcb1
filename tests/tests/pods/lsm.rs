//! Contexts and profiles of security modules.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::json;
use tests::fixture::{App, with};
use tests::harness::Skip;

use crate::common::has_apparmor;

tests::cases!("lsm":
    ignored_where_there_is_none,
    profiles_that_are_not_loaded_are_refused,
    values_are_checked_in_any_case,
);

const NONE: [&str; 0] = [];
const SELINUX: &str = "os/linux/selinux-context";
const APPARMOR: &str = "os/linux/apparmor-profile";

fn asking(name: &str, value: serde_json::Value) -> App {
    let isolators = json!([{ "name": name, "value": value }]);
    App::seeing("a", NONE).change(|image| image.app("isolators", isolators))
}

fn ignored_where_there_is_none() -> Result<()> {
    with(|fixture| {
        let context =
            json!({ "user": "system_u", "role": "system_r", "type": "container_t", "level": "s0" });
        let mut there_is_none = Vec::new();
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            there_is_none.push((SELINUX, context, "SELinux"));
        }
        if !has_apparmor() {
            there_is_none.push((APPARMOR, json!({ "profile": "any" }), "AppArmor"));
        }
        for (name, value, module) in there_is_none {
            let pod = fixture.pod([asking(name, value)]);
            let finished = pod.run()?.expect(0)?;
            let line = format!("isolator {name} is ignored: this host has no {module}");
            ensure!(finished.stderr.contains(&line), "no {line:?} of {finished}");
            let strict = pod.option("--strict-isolators");
            strict.run()?.expect_refusal(&[name, "this host has no"])?;
        }
        Ok(())
    })
}

fn profiles_that_are_not_loaded_are_refused() -> Result<()> {
    if !has_apparmor() {
        bail!(Skip("this host has no AppArmor".into()));
    }
    with(|fixture| {
        let app = asking(APPARMOR, json!({ "profile": "nobody-has-this-one" }));
        fixture.pod([app]).run()?.expect_refusal(&[
            APPARMOR,
            "nobody-has-this-one",
            "not loaded",
        ])?;
        Ok(())
    })
}

fn values_are_checked_in_any_case() -> Result<()> {
    with(|fixture| {
        for (name, value, field) in [
            (
                SELINUX,
                json!({ "user": "u", "role": "r", "type": "t" }),
                "level",
            ),
            (SELINUX, json!("u:r:t:s0"), "user"),
            (APPARMOR, json!({ "profile": "" }), "profile"),
            (APPARMOR, json!({ "profile": 3 }), "profile"),
        ] {
            fixture
                .pod([asking(name, value)])
                .run()?
                .expect_refusal(&[name, field])?;
        }
        Ok(())
    })
}
