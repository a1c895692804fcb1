//! `--dns-conf-mode`.

use std::fs;

use anyhow::{Result, ensure};
use tests::driver::AppSpec;
use tests::image::file;
use tests::probe::{Outcome, Seen};

use crate::common::{seeing, seen, spec};

tests::cases!("dns":
    resolv_conf_of_each_mode,
    hosts_of_each_mode,
    image_with_its_own_files,
    no_mode_is_the_default,
);

const STAGE0_RESOLV: &str = "nameserver 192.0.2.53\n";
const STAGE0_HOSTS: &str = "127.0.0.1 localhost\n192.0.2.7 db\n";
const OWN: &str = "# the image's own\n";

/// Runs an app with a mode; stage0's files are always there.
fn run(mode: Option<&str>, app: AppSpec) -> Result<Seen> {
    let mut report = None;
    tests::driver::with(|driver| {
        let name = app.name.clone();
        let pod = driver.pod_in_run(spec(driver, true, [app])?)?;
        pod.put("etc/rkt-resolv.conf", STAGE0_RESOLV, 0o644)?;
        pod.put("etc/rkt-hosts", STAGE0_HOSTS, 0o644)?;
        let mode = mode.map(|mode| format!("--dns-conf-mode={mode}"));
        let options: Vec<_> = ["--net=none"].into_iter().chain(mode.as_deref()).collect();
        pod.run(&options)?.expect(0)?;
        report = Some(seen(driver, &name)?);
        Ok(())
    })?;
    Ok(report.expect("the test has run"))
}

fn own_files() -> AppSpec {
    let mut app = seeing("own");
    app.image = app.image.with([
        file("etc/resolv.conf", 0o644, OWN),
        file("etc/hosts", 0o644, OWN),
    ]);
    app
}

fn resolv_conf_of_each_mode() -> Result<()> {
    let of = |mode: &str| run(Some(&format!("resolv={mode},hosts=default")), seeing("a"));
    assert_eq!(of("stage0")?.text("/etc/resolv.conf")?, STAGE0_RESOLV);
    assert_eq!(
        of("host")?.text("/etc/resolv.conf")?,
        fs::read_to_string("/etc/resolv.conf")?
    );
    for mode in ["none", "default"] {
        match of(mode)?.look("read", "/etc/resolv.conf")? {
            Outcome::Text(text) => ensure!(!text.contains("nameserver"), "{mode}: {text}"),
            other => assert_eq!(
                other,
                &Outcome::Error(rustix::io::Errno::NOENT.raw_os_error()),
                "{mode}"
            ),
        }
    }
    Ok(())
}

fn hosts_of_each_mode() -> Result<()> {
    let of = |mode: &str| run(Some(&format!("resolv=default,hosts={mode}")), seeing("a"));
    assert_eq!(of("stage0")?.text("/etc/hosts")?, STAGE0_HOSTS);
    assert_eq!(
        of("host")?.text("/etc/hosts")?,
        fs::read_to_string("/etc/hosts")?
    );
    let seen = of("default")?;
    let fallback = seen.text("/etc/hosts")?;
    ensure!(
        fallback.contains("localhost") && fallback.contains(&seen.hostname),
        "{fallback}"
    );
    Ok(())
}

fn image_with_its_own_files() -> Result<()> {
    let seen = run(Some("resolv=stage0,hosts=stage0"), own_files())?;
    assert_eq!(seen.text("/etc/resolv.conf")?, STAGE0_RESOLV);
    assert_eq!(seen.text("/etc/hosts")?, STAGE0_HOSTS);
    for mode in ["resolv=none,hosts=default", "resolv=default,hosts=default"] {
        let seen = run(Some(mode), own_files())?;
        assert_eq!(seen.text("/etc/resolv.conf")?, OWN, "{mode}");
        assert_eq!(seen.text("/etc/hosts")?, OWN, "{mode}");
    }
    Ok(())
}

fn no_mode_is_the_default() -> Result<()> {
    let seen = run(None, own_files())?;
    assert_eq!(seen.text("/etc/resolv.conf")?, OWN);
    assert_eq!(seen.text("/etc/hosts")?, OWN);
    Ok(())
}
