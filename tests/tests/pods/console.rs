//! Output, terminals and the options of the pod as a whole.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use tests::fixture::{App, with};
use tests::image::file;
use tests::process::{BOUND, Running};

use crate::attach_terminal::resize;

tests::cases!("console":
    both_streams_of_all_apps,
    long_lines_are_whole,
    output_may_be_discarded,
    interactive_on_a_terminal,
    interactive_with_jobs_and_sizes,
    interactive_without_a_terminal,
    hostname_is_the_pods_uuid_by_default,
    hostname_as_asked,
    ipc_is_private_unless_asked,
    debug_prints_the_plan,
    quiet_without_debug,
    supervisor_status_appears,
);

const NONE: [&str; 0] = [];

fn both_streams_of_all_apps() -> Result<()> {
    with(|fixture| {
        let talks = |name: &str| {
            App::probe(
                name,
                [
                    "do",
                    "print",
                    "to stdout: %n \"é\"",
                    "+",
                    "eprint",
                    "to stderr",
                ],
            )
        };
        let finished = fixture.pod([talks("one"), talks("two")]).run()?.expect(0)?;
        for app in ["one", "two"] {
            let mut lines = finished.console(app);
            lines.sort_unstable();
            assert_eq!(lines, ["to stderr", "to stdout: %n \"é\""], "{finished}");
        }
        Ok(())
    })
}

fn long_lines_are_whole() -> Result<()> {
    with(|fixture| {
        // journald cuts lines at 48 KiB; nothing may get lost at the cuts.
        let text = (0..12_000)
            .map(|number| format!("{number:07} "))
            .collect::<String>();
        let finished = fixture
            .pod([App::probe("a", ["print", text.trim_end()])])
            .run()?
            .expect(0)?;
        let heard = finished.console("a").concat();
        ensure!(
            heard.replace(' ', "") == text.replace(' ', ""),
            "{} of {} bytes arrived",
            heard.len(),
            text.len()
        );
        Ok(())
    })
}

fn output_may_be_discarded() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["do", "print", "unheard", "+", "eprint", "heard"])
            .option("--stdout=null");
        let finished = fixture.pod([app]).run()?.expect(0)?;
        assert_eq!(finished.console("a"), ["heard"]);
        assert!(!finished.stdout.contains("unheard"), "{finished}");
        Ok(())
    })
}

fn interactive_on_a_terminal() -> Result<()> {
    with(|fixture| {
        let app = App::probe(
            "a",
            [
                "do",
                "print",
                "question?",
                "+",
                "echo-line",
                "+",
                "see",
                "--out",
                "/out/a.json",
                "+",
                "exit",
                "4",
            ],
        );
        let command = fixture.pod([app]).option("--interactive").command()?;
        let (running, mut terminal) = Running::on_terminal(&command)?;
        running.wait_output("question?")?;
        terminal.write_all(b"an answer\n")?;
        running.wait_output("echo: an answer")?;
        running.finish()?.expect(4)?;
        let seen = fixture.seen("a")?;
        assert_eq!(seen.terminal.streams, [true; 3], "{:?}", seen.fds);
        ensure!(seen.terminal.controlling, "no controlling terminal");
        Ok(())
    })
}

fn interactive_with_jobs_and_sizes() -> Result<()> {
    with(|fixture| {
        let busybox = std::fs::read("/bin/busybox").context("read /bin/busybox")?;
        let app = App::probe("a", ["exec", "/bin/busybox", "sh", "-i"])
            .change(|image| image.with([file("bin/busybox", 0o755, busybox)]))
            .option("--user=alice");
        let command = fixture.pod([app]).option("--interactive").command()?;
        let (running, mut terminal) = Running::on_terminal(&command)?;
        // What is typed before the app starts is thrown away with whatever else there was.
        running.wait_output("$ ")?;
        let mut say = |text: &str| terminal.write_all(text.as_bytes());
        say("/probe do print begun + until-size 31 71 + echo-line\r")?;
        running.wait_output("begun\r\n")?;
        say("\x1a")?;
        running.wait_output("Stopped")?;
        // The shell answers meanwhile.
        say("/probe print between-$((1+1))\r")?;
        running.wait_output("between-2")?;
        // What comes while the shell reads a line is the shell's.
        say("echo mark$((2+3)); fg\r")?;
        running.wait_output("mark5")?;
        resize(&running, &terminal, 31, 71)?;
        let mut say = |text: &str| terminal.write_all(text.as_bytes());
        say("again\r")?;
        running.wait_output("echo: again")?;
        say("exit 5\r")?;
        running.finish()?.expect(5)?;
        Ok(())
    })
}

fn interactive_without_a_terminal() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["do", "echo-line", "+", "exit", "4"]);
        fixture
            .pod([app])
            .option("--interactive")
            .run()?
            .expect_refusal(&["interactive", "terminal"])?;
        Ok(())
    })
}

fn hostname_is_the_pods_uuid_by_default() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing("a", NONE))?;
        assert_eq!(seen.hostname, format!("rkt-{}", fixture.only_pod()?));
        Ok(())
    })
}

fn hostname_as_asked() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::seeing("a", NONE)])
            .option("--hostname=my-host.example")
            .run()?
            .expect(0)?;
        assert_eq!(fixture.seen("a")?.hostname, "my-host.example");
        Ok(())
    })
}

fn ipc_is_private_unless_asked() -> Result<()> {
    with(|fixture| {
        let host = std::fs::read_link("/proc/self/ns/ipc")?
            .to_string_lossy()
            .into_owned();
        for (mode, shared) in [("auto", false), ("private", false), ("parent", true)] {
            fixture
                .pod([App::seeing("a", NONE)])
                .option(format!("--ipc={mode}"))
                .run()?
                .expect(0)?;
            assert_eq!(
                fixture.seen("a")?.namespaces["ipc"] == host,
                shared,
                "--ipc={mode}"
            );
        }
        Ok(())
    })
}

fn debug_prints_the_plan() -> Result<()> {
    with(|fixture| {
        let finished = fixture
            .pod([App::probe("an-app", ["exit", "0"])])
            .option("--debug")
            .run()?
            .expect(0)?;
        for part in ["an-app.service", "ExecStart=", "systemd-nspawn"] {
            ensure!(
                finished.stderr.contains(part),
                "no {part:?} on stderr of {finished}"
            );
        }
        Ok(())
    })
}

fn quiet_without_debug() -> Result<()> {
    with(|fixture| {
        let finished = fixture
            .pod([App::probe("a", ["print", "hello"])])
            .run()?
            .expect(0)?;
        // nspawn takes this folder away only where /run is a tmpfs, as it is on real hosts.
        let said: Vec<_> = finished
            .stderr
            .lines()
            .filter(|line| !line.contains("/run/systemd/nspawn/propagate/"))
            .collect();
        assert_eq!(said, [""; 0]);
        let others: Vec<_> = finished
            .stdout
            .lines()
            .filter(|line| !line.contains("a[") && !line.is_empty())
            .collect();
        assert_eq!(others, [""; 0]);
        Ok(())
    })
}

fn supervisor_status_appears() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["do", "write", "/out/ready", "", "+", "until-term"]);
        let (uuid, running) = fixture.pod([app]).start_prepared(&[])?;
        tests::wait::for_path(&fixture.out("ready"), Some(BOUND))?;
        let link = fixture
            .pod_dir(&uuid)?
            .join("stage1/rootfs/rkt/supervisor-status");
        tests::wait::for_path(&link, Some(BOUND))?;
        assert_eq!(std::fs::read_link(&link)?.to_str(), Some("ready"));
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?.expect(0)?;
        Ok(())
    })
}
