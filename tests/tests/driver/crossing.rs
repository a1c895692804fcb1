//! Entering a pod.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tests::driver::{Call, Driver, Pod, Run};
use tests::probe::Seen;
use tests::process::{Running, run};

use crate::common::{both, server, spec, wait_server};

tests::cases!("crossing":
    program_runs_in_the_pod,
    entered_program_is_in_the_pods_cgroup,
    an_app_is_entered,
    enter_of_the_store,
    status_and_streams_are_the_programs,
    output_is_not_kept_open,
    refuses_what_is_not_a_pod,
    missing_program_is_an_error,
    many_at_once,
);

/// A running pod with the server and the probe in the stage1 root.
fn with_pod(test: impl Fn(&Driver, &Pod) -> Result<()>) -> Result<()> {
    both(|driver, overlay| {
        let pod = driver.pod_in_run(spec(driver, overlay, [server()])?)?;
        pod.put("probe", fs::read(tests::harness::probe())?, 0o755)?;
        let Run { process } = pod.start(&["--net=none"])?;
        wait_server(driver)?;
        test(driver, &pod)?;
        pod.stop(&[])?.expect(0)?;
        process.finish()?.expect(0)?;
        Ok(())
    })
}

fn seen(stdout: &str) -> Result<Seen> {
    serde_json::from_str(stdout.trim()).with_context(|| format!("no report: {stdout}"))
}

fn namespace(pid: i32, name: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/{pid}/ns/{name}"))?
        .to_string_lossy()
        .into_owned())
}

fn program_runs_in_the_pod() -> Result<()> {
    with_pod(|_, pod| {
        let seen = seen(&pod.cross(None, &["/probe"])?.expect(0)?.stdout)?;
        let pid1 = pod.pid1()?;
        for name in ["pid", "uts", "ipc", "net", "mnt"] {
            assert_eq!(seen.namespaces[name], namespace(pid1, name)?, "{name}");
        }
        ensure!(
            seen.names("/")?.contains(&"rkt".to_owned()),
            "not the stage1 root: {:?}",
            seen.names("/")?
        );
        assert_eq!(seen.hostname, format!("rkt-{}", pod.uuid));
        assert_eq!(seen.cwd.to_str(), Some("/"));
        let fds: Vec<_> = seen.fds.keys().copied().collect();
        assert_eq!(fds, [0, 1, 2], "{:?}", seen.fds);
        Ok(())
    })
}

fn entered_program_is_in_the_pods_cgroup() -> Result<()> {
    with_pod(|_, pod| {
        let words = ["/probe", "do", "print", "ready", "+", "echo-line"];
        let mut process = Running::start(pod.enter(Call::OfPod, &[], &words)?, Stdio::piped())?;
        process.wait_output("ready")?;
        let enter = process.pid().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{enter}/task/{enter}/children"))?;
        let lines = fs::read_to_string(format!("/proc/{}/cgroup", children.trim()))
            .context("the program's cgroups")?;
        let (path, pod_lines) = (
            pod.read("subcgroup")?,
            fs::read_to_string(format!("/proc/{}/cgroup", pod.pid1()?))?,
        );
        let inside = |line: &str| {
            line.splitn(3, ':')
                .nth(2)
                .is_some_and(|cgroup| cgroup.starts_with(&path))
        };
        // In each hierarchy that the pod uses.
        for (line, of_pod) in lines.lines().zip(pod_lines.lines()) {
            ensure!(
                inside(line) || !inside(of_pod),
                "{line} is not below {path}"
            );
        }
        std::io::Write::write_all(&mut process.stdin().context("stdin")?, b"go on\n")?;
        process.finish()?.expect(0)?;
        Ok(())
    })
}

fn an_app_is_entered() -> Result<()> {
    with_pod(|_, pod| {
        // Where the app is and the pod's own programs are not; in every spelling.
        let inside = |seen: &Seen| -> Result<()> {
            let names = seen.names("/")?;
            ensure!(names.iter().any(|name| name == "probe"), "{names:?}");
            ensure!(!names.iter().any(|name| name == "rkt"), "{names:?}");
            ensure!(
                seen.cgroups
                    .iter()
                    .any(|line| line.ends_with("/app-server.service"))
            );
            Ok(())
        };
        for option in [
            &["--appname=server"][..],
            &["--app=server"],
            &["-appname", "server"],
        ] {
            let finished = run(pod.enter(Call::OfStore, option, &["/probe"])?)?.expect(0)?;
            inside(&seen(&finished.stdout)?)?;
        }
        inside(&seen(
            &pod.cross(Some("server"), &["/probe"])?.expect(0)?.stdout,
        )?)?;
        for other in ["client", "../env/server"] {
            pod.cross(Some(other), &["/probe"])?.expect_refusal(&[
                "enter: ",
                other,
                "no such app",
            ])?;
        }
        Ok(())
    })
}

fn enter_of_the_store() -> Result<()> {
    with_pod(|_, pod| {
        let mut command = pod.enter(Call::OfStore, &[], &["/probe"])?;
        // A user's environment, which is not the pod's.
        command.env("LEAKED_FROM_THE_CALLER", "1");
        let seen = seen(&run(command)?.expect(0)?.stdout)?;
        assert_eq!(seen.namespaces["pid"], namespace(pod.pid1()?, "pid")?);
        ensure!(
            !seen.env.iter().any(|line| line.starts_with("LEAKED_")),
            "{:?}",
            seen.env
        );
        Ok(())
    })
}

fn status_and_streams_are_the_programs() -> Result<()> {
    with_pod(|_, pod| {
        let words = [
            "/probe", "do", "print", "out", "+", "eprint", "err", "+", "exit", "7",
        ];
        let finished = pod.cross(None, &words)?.expect(7)?;
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str()),
            ("out\n", "err\n")
        );
        pod.cross(None, &["/probe", "kill", "KILL"])?.expect(137)?;
        let mut process = Running::start(
            pod.enter(Call::OfPod, &[], &["/probe", "echo-line"])?,
            Stdio::piped(),
        )?;
        std::io::Write::write_all(&mut process.stdin().context("stdin")?, b"question\n")?;
        assert_eq!(process.finish()?.expect(0)?.stdout, "echo: question\n");
        Ok(())
    })
}

fn output_is_not_kept_open() -> Result<()> {
    with_pod(|_, pod| {
        // finish() waits for the end of the streams, not only of the process.
        pod.cross(None, &["/probe", "print", "x"])?.expect(0)?;
        Ok(())
    })
}

fn refuses_what_is_not_a_pod() -> Result<()> {
    with_pod(|driver, pod| {
        let mark = driver.path("made-by-enter");
        for pid in [
            "1".into(),
            std::process::id().to_string(),
            "999999999".into(),
            "0".into(),
            "-1".into(),
            "x".into(),
        ] {
            let words = [
                format!("--pid={pid}"),
                "--".into(),
                "/bin/touch".into(),
                mark.display().to_string(),
            ];
            run(pod.command("enter", Call::OfPod, words)?)?.expect_refusal(&["enter: "])?;
            ensure!(!mark.exists(), "--pid={pid} acted on the host");
        }
        Ok(())
    })
}

fn missing_program_is_an_error() -> Result<()> {
    with_pod(|_, pod| {
        // With the statuses of a shell, so that it can be told from a failure to enter.
        for (program, code, reason) in [
            ("/not/there", 127, "No such file or directory"),
            ("/etc/machine-id", 126, "Permission denied"),
        ] {
            let finished = pod.cross(None, &[program])?.expect(code)?;
            ensure!(
                finished.stderr.contains(program) && finished.stderr.contains(reason),
                "{finished}"
            );
        }
        Ok(())
    })
}

fn many_at_once() -> Result<()> {
    with_pod(|_, pod| {
        let running = (0..8)
            .map(|number| {
                let text = format!("number {number}");
                Running::start(
                    pod.enter(Call::OfStore, &[], &["/probe", "print", &text])?,
                    Stdio::null(),
                )
            })
            .collect::<Result<Vec<_>>>()?;
        for (number, process) in running.into_iter().enumerate() {
            assert_eq!(
                process.finish()?.expect(0)?.stdout,
                format!("number {number}\n")
            );
        }
        Ok(())
    })
}
