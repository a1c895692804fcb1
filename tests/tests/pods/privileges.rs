//! What programs gain by being executed: setuid, file capabilities, no-new-privileges; and what they cannot gain.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::fixture::{App, Fixture, with};
use tests::image::{dir, file};

tests::cases!("privileges": bounding_set_of_pid_1; both ways:
    of_setuid_programs,
    of_file_capabilities,
    not_beyond_the_bounding_set,
    chroot_is_not_escaped,
);

const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const CHOWN: u64 = 1;

/// The probe as another file, executed by alice, who prints what the kernel says of the process.
fn gaining(no_new_privileges: bool, capabilities: Option<u64>) -> Result<App> {
    let probe = std::fs::read(tests::harness::probe())?;
    let program = match capabilities {
        None => file("gain", 0o4755, probe),
        Some(set) => file("gain", 0o755, probe).capabilities(set),
    };
    let isolators = json!([{ "name": "os/linux/no-new-privileges", "value": no_new_privileges }]);
    let app = App::probe("a", ["do", "read", "/proc/self/status"]);
    let app = app.change(|image| {
        image
            .app("isolators", isolators)
            .app("exec", json!(["/gain"]))
            .with([program])
    });
    Ok(app.option("--user=alice"))
}

/// A field of the status that an app printed.
fn field(lines: &[&str], name: &str) -> Result<String> {
    let line = lines
        .iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.with_context(|| format!("no {name} in {lines:#?}"))?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Runs it with the default filter, and with none.
fn with_and_without_filter(app: &App, check: impl Fn(&[&str]) -> Result<()>) -> Result<()> {
    for option in ["--insecure-options=none", "--insecure-options=seccomp"] {
        with(|fixture: &Fixture| {
            let finished = fixture.pod([app.clone()]).option(option).run()?.expect(0)?;
            check(&finished.console("a")).context(option)
        })?;
    }
    Ok(())
}

fn of_setuid_programs() -> Result<()> {
    for (forbidden, uids, flag) in [
        (false, "1234 0 0 0", "0"),
        (true, "1234 1234 1234 1234", "1"),
    ] {
        let app = gaining(forbidden, None)?;
        with_and_without_filter(&app, |lines| {
            assert_eq!(field(lines, "NoNewPrivs")?, flag);
            assert_eq!(field(lines, "Uid")?, uids);
            Ok(())
        })?;
    }
    Ok(())
}

fn effective(lines: &[&str]) -> Result<u64> {
    Ok(u64::from_str_radix(&field(lines, "CapEff")?, 16)?)
}

fn of_file_capabilities() -> Result<()> {
    for (forbidden, set) in [(false, NET_BIND_SERVICE), (true, 0)] {
        let app = gaining(forbidden, Some(NET_BIND_SERVICE))?;
        with_and_without_filter(&app, |lines| {
            assert_eq!(effective(lines)?, set, "no-new-privileges {forbidden}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The kernel does not even execute a program that needs what is out of bounds.
fn not_beyond_the_bounding_set() -> Result<()> {
    with(|fixture| {
        let app = gaining(false, Some(NET_ADMIN))?;
        let finished = fixture.pod([app]).run()?;
        ensure!(![0, 254].contains(&finished.code()), "{finished}");
        ensure!(
            finished.stdout.contains("Operation not permitted"),
            "{finished}"
        );
        Ok(())
    })
}

fn bounding_set_of_pid_1() -> Result<()> {
    for (option, has, has_not) in [
        (
            "--caps-retain=CAP_CHOWN",
            CHOWN,
            NET_ADMIN | NET_BIND_SERVICE,
        ),
        ("--caps-retain=CAP_NET_ADMIN", NET_ADMIN, NET_BIND_SERVICE),
    ] {
        with(|fixture| {
            let app = App::probe("a", ["read", "/proc/1/status"]).option(option);
            let finished = fixture.pod([app]).run()?.expect(0)?;
            let bounding = u64::from_str_radix(&field(&finished.console("a"), "CapBnd")?, 16)?;
            ensure!(
                bounding & has == has && bounding & has_not == 0,
                "{option}: {bounding:x}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn chroot_is_not_escaped() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["leave-chroot", "/jail"])
            .change(|image| image.with([dir("jail/", 0o755)]));
        let finished = fixture.pod([app]).run()?.expect(0)?;
        let console = finished.console("a");
        ensure!(
            console.contains(&"jail") && console.contains(&"probe"),
            "{finished}"
        );
        // What the pod's own root has.
        for name in ["init", "rkt", "prepare-app", "opt"] {
            ensure!(!console.contains(&name), "{name}: {finished}");
        }
        Ok(())
    })
}
