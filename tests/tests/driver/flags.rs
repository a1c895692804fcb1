//! Options of the run entrypoint in every Go spelling.

use anyhow::{Result, ensure};
use tests::driver::AppSpec;

use crate::common::{both, seeing, seen, spec};

tests::cases!("flags":
    every_go_spelling,
    none_at_all,
    network,
    hostname,
    ipc,
    debug,
    console_has_the_apps_lines,
    unknown_ones_are_errors,
    values_of_booleans_never_take_a_word,
    uuid_is_needed,
);

/// The options of one call each, as stage0s spell them.
const SPELLINGS: [&[&str]; 10] = [
    &[
        "--net=none",
        "--interactive=false",
        "--local-config=/etc/rkt",
        "--hostname=h",
        "--ipc=private",
    ],
    &[
        "-net=none",
        "-interactive=false",
        "-local-config=/etc/rkt",
        "-hostname=h",
        "-ipc=private",
    ],
    &[
        "--net",
        "none",
        "--local-config",
        "/etc/rkt",
        "--hostname",
        "h",
        "--ipc",
        "private",
    ],
    &[
        "-net",
        "none",
        "-local-config",
        "/etc/rkt",
        "-hostname",
        "h",
        "-ipc",
        "auto",
    ],
    &["--debug=true", "--net=none", "--hostname=h"],
    &["--debug=0", "--net=none", "--hostname=h"],
    &["-debug", "--net=none", "--mds-token=", "--hostname=h"],
    &[
        "--net=none",
        "--mutable=false",
        "--hostname=h",
        "--dns-conf-mode=resolv=none,hosts=default",
    ],
    &[
        "--disable-capabilities-restriction",
        "--disable-paths",
        "--disable-seccomp",
        "--net=none",
        "--hostname=h",
    ],
    &[
        "--disable-capabilities-restriction=true",
        "--disable-paths=false",
        "--disable-seccomp=t",
        "--hostname=h",
    ],
];

fn every_go_spelling() -> Result<()> {
    tests::driver::with(|driver| {
        for options in SPELLINGS {
            let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
            let finished = pod.run(options)?;
            ensure!(finished.code() == 0, "{options:?}: {finished}");
            assert_eq!(seen(driver, "a")?.hostname, "h", "{options:?}");
        }
        Ok(())
    })
}

fn none_at_all() -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [seeing("a")])?)?;
        pod.run(&[])?.expect(0)?;
        assert_eq!(seen(driver, "a")?.hostname, format!("rkt-{}", pod.uuid));
        Ok(())
    })
}

fn host_namespace(name: &str) -> Result<String> {
    Ok(std::fs::read_link(format!("/proc/self/ns/{name}"))?
        .to_string_lossy()
        .into_owned())
}

fn network() -> Result<()> {
    tests::driver::with(|driver| {
        for (network, shared) in [("none", false), ("host", true)] {
            let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
            pod.run(&[&format!("--net={network}")])?.expect(0)?;
            assert_eq!(
                seen(driver, "a")?.namespaces["net"] == host_namespace("net")?,
                shared,
                "--net={network}"
            );
        }
        let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
        pod.run(&["--net=mynet"])?
            .expect_refusal(&["init: ", "network mynet is not configured"])?;
        Ok(())
    })
}

fn hostname() -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
        pod.run(&["--net=none", "--hostname=some.host-name"])?
            .expect(0)?;
        assert_eq!(seen(driver, "a")?.hostname, "some.host-name");
        Ok(())
    })
}

fn ipc() -> Result<()> {
    tests::driver::with(|driver| {
        for (mode, shared) in [("auto", false), ("private", false), ("parent", true)] {
            let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
            pod.run(&["--net=none", &format!("--ipc={mode}")])?
                .expect(0)?;
            assert_eq!(
                seen(driver, "a")?.namespaces["ipc"] == host_namespace("ipc")?,
                shared,
                "--ipc={mode}"
            );
        }
        let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
        pod.run(&["--net=none", "--ipc=shared"])?
            .expect_refusal(&["ipc", "shared"])?;
        Ok(())
    })
}

fn debug() -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod_in_run(spec(
            driver,
            true,
            [AppSpec::probe("an-app", &["exit", "0"])],
        )?)?;
        let finished = pod.run(&["--net=none", "--debug"])?.expect(0)?;
        for part in ["an-app.service", "systemd-nspawn"] {
            ensure!(
                finished.stderr.contains(part),
                "no {part:?} in the plan: {finished}"
            );
        }
        Ok(())
    })
}

fn console_has_the_apps_lines() -> Result<()> {
    both(|driver, overlay| {
        let talker = |name| {
            AppSpec::probe(
                name,
                &["do", "print", "on stdout", "+", "eprint", "on stderr"],
            )
        };
        let pod = driver.pod_in_run(spec(driver, overlay, [talker("one"), talker("two")])?)?;
        let finished = pod.run(&["--net=none"])?.expect(0)?;
        for app in ["one", "two"] {
            let mut lines = finished.console(app);
            lines.sort_unstable();
            assert_eq!(lines, ["on stderr", "on stdout"], "{finished}");
        }
        Ok(())
    })
}

fn refused(options: &[&str], part: &str) -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod_in_run(spec(driver, true, [seeing("a")])?)?;
        pod.run(options)?.expect_refusal(&["init: ", part])?;
        ensure!(seen(driver, "a").is_err(), "the app ran all the same");
        Ok(())
    })
}

fn unknown_ones_are_errors() -> Result<()> {
    refused(&["--net=none", "--no-such-flag"], "no-such-flag")?;
    refused(&["--net=none", "-x=1"], "x")?;
    refused(&["--net=none", "--debug=perhaps"], "debug")?;
    refused(
        &["--net=none", "--dns-conf-mode=resolv=sometimes"],
        "sometimes",
    )
}

fn values_of_booleans_never_take_a_word() -> Result<()> {
    // `true` is the UUID then, and the UUID is one word too many.
    refused(&["--debug", "true"], "true")
}

fn uuid_is_needed() -> Result<()> {
    tests::driver::with(|driver| {
        let pod = driver.pod(spec(driver, false, [seeing("a")])?)?;
        for words in [&["--net=none"][..], &["--net=none", "not-a-uuid"]] {
            let mut command = pod.command("run", tests::driver::Call::OfPod, words)?;
            command.env("RKT_LOCK_FD", "9");
            tests::process::run(command)?.expect_refusal(&["init: "])?;
        }
        Ok(())
    })
}
