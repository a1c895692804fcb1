//! Logs in the form of Kubernetes, in files of the host.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Signal, kill_process};
use tests::fixture::{App, Fixture, with};
use tests::process::BOUND;

use crate::common::{need_mapped_owners, process_of_pod};

tests::cases!("logs_kubernetes":
    lines_of_both_streams,
    a_file_that_is_rotated,
    a_new_file_is_asked_for,
    starts_append,
    pods_with_user_namespaces,
    links_lead_nowhere_outside,
    annotations_are_checked,
);

const MODE: &str = "--pod-annotation=coreos.com/rkt/experiment/logmode=k8s-plain";
const PATH: &str = "coreos.com/rkt/experiment/kubernetes-log-path";

fn directory(fixture: &Fixture) -> Result<String> {
    let dir = fixture.dir("k8s")?;
    let name = "coreos.com/rkt/experiment/kubernetes-log-dir";
    Ok(format!("--pod-annotation={name}={}", dir.display()))
}

fn app(name: &str, steps: &str) -> App {
    App::probe(name, format!("do {steps}").split(' '))
        .option(format!("--annotation={PATH}={name}/0.log"))
        .option("--user=alice")
}

/// The lines of a file, without their times.
fn lines(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let parse = |line: &str| {
        let (time, rest) = line.split_once(' ').context("no time")?;
        // 2026-01-31T23:59:59.123456789Z
        assert!(time.len() == 30 && time.ends_with('Z'), "{line}");
        Ok(rest.to_owned())
    };
    text.lines().map(parse).collect()
}

fn lines_of_both_streams() -> Result<()> {
    with(|fixture| {
        fs::write(fixture.out("long"), [b'x'; 20_000])?;
        let dir = directory(fixture)?;
        let pod = fixture.pod([
            app("a", "print one + eprint error + print two + exit 3"),
            app("b", "read /out/long"),
        ]);
        let policy = "--pod-annotation=stage1/exit-policy=until-all";
        pod.option(MODE)
            .option(dir)
            .option(policy)
            .run()?
            .expect(3)?;
        let mut said = lines(&fixture.path("k8s/a/0.log"))?;
        // The two streams are read one after the other.
        said.sort_unstable();
        assert_eq!(said, ["stderr F error", "stdout F one", "stdout F two"]);
        let said = lines(&fixture.path("k8s/b/0.log"))?;
        let parts = [16_384, 20_000 - 16_384].map(|n| format!("stdout P {}", "x".repeat(n)));
        assert!(said == parts, "{said:?}");
        Ok(())
    })
}

/// Has the file of an app moved away between two lines of it.
fn rotate(then: impl FnOnce(&str, &Path) -> Result<()>) -> Result<()> {
    with(|fixture| {
        let dir = directory(fixture)?;
        let steps = "print one + write /out/said x + wait-file /out/go + print two";
        let pod = fixture.pod([app("a", steps)]).option(MODE).option(dir);
        let (uuid, running) = pod.start_prepared(&[])?;
        tests::wait::for_path(&fixture.out("said"), Some(BOUND))?;
        let file = fixture.path("k8s/a/0.log");
        // The file is there before the app starts.
        tests::wait::for_written(&file, Some(BOUND), |file| {
            fs::metadata(file).is_ok_and(|stat| stat.len() > 0)
        })?;
        let rotated = fixture.path("k8s/a/0.log.1");
        fs::rename(&file, &rotated)?;
        then(&uuid, &file)?;
        fs::write(fixture.out("go"), "")?;
        running.finish()?.expect(0)?;
        assert_eq!(lines(&rotated)?, ["stdout F one"]);
        assert_eq!(lines(&file)?, ["stdout F two"]);
        Ok(())
    })
}

fn a_file_that_is_rotated() -> Result<()> {
    rotate(|_, _| Ok(()))
}

fn a_new_file_is_asked_for() -> Result<()> {
    rotate(|uuid, file| {
        kill_process(process_of_pod(uuid, "iottymux")?, Signal::HUP)?;
        // It is there before there is anything to write.
        tests::wait::for_path(file, Some(BOUND))
    })
}

fn starts_append() -> Result<()> {
    with(|fixture| {
        let sandbox = fixture.sandbox(&[MODE.to_owned(), directory(fixture)?])?;
        sandbox.run(&app("a", "print again"))?;
        sandbox.ended("a")?;
        sandbox.app("start", "a", &[])?.expect(0)?;
        sandbox.ended("a")?;
        let uuid = sandbox.uuid.clone();
        // The end of the pod is that of the program that writes.
        sandbox.stop()?;
        let file = fixture.path("k8s/a/0.log");
        assert_eq!(lines(&file)?, ["stdout F again", "stdout F again"]);
        assert_eq!(fixture.text(["logs", &uuid])?, "");
        Ok(())
    })
}

/// The files are of the host's root, as they are without.
fn pods_with_user_namespaces() -> Result<()> {
    with(|fixture| {
        need_mapped_owners(fixture)?;
        let dir = directory(fixture)?;
        let pod = fixture
            .pod([app("a", "print one + eprint error")])
            .option(MODE)
            .option(&dir)
            .option("--private-users");
        pod.run()?.expect(0)?;
        let options = [MODE.to_owned(), dir, "--private-users".to_owned()];
        let sandbox = fixture.sandbox(&options)?;
        sandbox.run(&app("a", "print added"))?;
        sandbox.ended("a")?;
        sandbox.stop()?;
        let file = fixture.path("k8s/a/0.log");
        let mut said = lines(&file)?;
        // The two streams are read one after the other.
        said.sort_unstable();
        assert_eq!(said, ["stderr F error", "stdout F added", "stdout F one"]);
        for path in [&*file, file.parent().context("no parent")?] {
            let stat = fs::metadata(path)?;
            assert_eq!((stat.uid(), stat.gid()), (0, 0), "{}", path.display());
        }
        Ok(())
    })
}

fn links_lead_nowhere_outside() -> Result<()> {
    with(|fixture| {
        let (dir, outside) = (directory(fixture)?, fixture.dir("outside")?);
        fs::write(outside.join("0.log"), "theirs\n")?;
        std::os::unix::fs::symlink(&outside, fixture.path("k8s/a"))?;
        let pod = fixture
            .pod([app("a", "print one")])
            .option(MODE)
            .option(dir);
        // It starts or not, but writes nothing there.
        pod.run()?;
        assert_eq!(fs::read(outside.join("0.log"))?, b"theirs\n");
        Ok(())
    })
}

fn annotations_are_checked() -> Result<()> {
    with(|fixture| {
        let dir = directory(fixture)?;
        let none = || App::probe("a", ["print", "one"]);
        let outside = || none().option(format!("--annotation={PATH}=../x"));
        let cases = [
            (
                app("a", "exit 0"),
                vec![MODE.to_owned()],
                "kubernetes-log-dir: k8s-plain needs it",
            ),
            (
                none(),
                vec![MODE.to_owned(), dir.clone()],
                "kubernetes-log-path: k8s-plain needs it",
            ),
            (
                outside(),
                vec![MODE.to_owned(), dir.clone()],
                "\"../x\" must be",
            ),
            (
                none(),
                vec![MODE.replace("k8s-plain", "k8s")],
                "unknown mode \"k8s\"",
            ),
        ];
        for (app, options, said) in cases {
            let pod = fixture.pod([app]);
            let pod = options
                .into_iter()
                .fold(pod, |pod, option| pod.option(option));
            pod.run()?.expect_refusal(&[said])?;
        }
        Ok(())
    })
}
