//! The stage1 as another stage0 sees it: driven by the contract alone, see [`tests::driver`].

mod apps;
mod apps_undone;
mod crossing;
mod dns;
mod end;
mod enter_races;
mod files;
mod flags;
mod gc;
mod logs;
mod manifest;
mod start;
mod stop;
mod users;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = [
        apps::cases(),
        apps_undone::cases(),
        crossing::cases(),
        dns::cases(),
        enter_races::cases(),
        end::cases(),
        files::cases(),
        flags::cases(),
        gc::cases(),
        logs::cases(),
        manifest::cases(),
        start::cases(),
        stop::cases(),
        users::cases(),
    ];
    tests::harness::main(
        Path::new(env!("CARGO_BIN_EXE_probe")),
        &["stage0", "stage1.aci"],
        cases.into_iter().flatten().collect(),
    )
}

mod common {
    //! Pods that most tests use.

    use std::path::PathBuf;

    use anyhow::{Context, Result};
    use tests::driver::{AppSpec, Driver, PodSpec};
    use tests::probe::Seen;

    /// Both ways to lay out a pod.
    pub(crate) fn both(test: impl Fn(&Driver, bool) -> Result<()>) -> Result<()> {
        for overlay in [true, false] {
            tests::driver::with(|driver| test(driver, overlay))
                .with_context(|| format!("overlay: {overlay}"))?;
        }
        Ok(())
    }

    /// The directory that apps see as `/out`.
    pub(crate) fn out(driver: &Driver) -> Result<PathBuf> {
        let out = driver.path("out");
        std::fs::create_dir_all(&out)?;
        Ok(out)
    }

    /// A pod of these apps with `/out`.
    pub(crate) fn spec(
        driver: &Driver,
        overlay: bool,
        apps: impl IntoIterator<Item = AppSpec>,
    ) -> Result<PodSpec> {
        Ok(PodSpec::new(overlay, apps).with_volume("out", &out(driver)?, "/out"))
    }

    /// An app that makes `/out/ready` and then lives until it is told to end; it ends with status 0.
    pub(crate) fn server() -> AppSpec {
        AppSpec::probe(
            "server",
            &[
                "do",
                "write",
                "/out/ready",
                "",
                "+",
                "until-term",
                "+",
                "write",
                "/out/stopped",
                "",
            ],
        )
    }

    /// Waits for the server to be ready.
    pub(crate) fn wait_server(driver: &Driver) -> Result<()> {
        tests::wait::for_path(&out(driver)?.join("ready"), Some(tests::process::BOUND))
    }

    /// An app that reports to `/out/NAME.json`.
    pub(crate) fn seeing(name: &str) -> AppSpec {
        AppSpec::probe(name, &["see", "--out", &format!("/out/{name}.json")])
    }

    /// What it has reported.
    pub(crate) fn seen(driver: &Driver, name: &str) -> Result<Seen> {
        let path = out(driver)?.join(format!("{name}.json"));
        let json =
            std::fs::read(&path).with_context(|| format!("read the report {}", path.display()))?;
        Ok(serde_json::from_slice(&json)?)
    }
}
