//! Programs that can't be executed and directories that aren't there are explained, on the console, by what is missing.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::fixture::{App, Fixture, probe_image, with};
use tests::image::{Entry, dir, file, symlink};
use tests::process::Finished;

tests::cases!("missing":
    program,
    program_in_path,
    interpreter,
    loader,
    target_of_a_symlink,
    program_is_a_directory,
    program_is_not_executable,
    working_directory,
    working_directory_is_a_file,
    app_section,
);

/// Runs a pod whose app has this command and these files; it must fail, as an app, not as stage0.
fn run(
    fixture: &Fixture,
    exec: &[&str],
    entries: impl IntoIterator<Item = Entry>,
) -> Result<Finished> {
    let image = probe_image("a").app("exec", json!(exec)).with(entries);
    let finished = fixture
        .pod([App::probe("a", [] as [&str; 0]).image(image)])
        .run()?;
    ensure!(
        ![0, 254].contains(&finished.code()),
        "an app's failure expected of {finished}"
    );
    let uuid = fixture.only_pod()?;
    let status = fixture.stage0(["status", &uuid])?.expect(0)?.stdout;
    let line = format!("app-a={}", finished.code());
    ensure!(
        status.lines().any(|other| other == line),
        "no {line} in {status}"
    );
    Ok(finished)
}

fn explains(finished: &Finished, path: &str) -> Result<()> {
    let line = format!("Error: Unable to open \"{path}\": No such file or directory");
    ensure!(
        finished.stdout.lines().any(|other| other.ends_with(&line)),
        "no line {line:?} on the console of {finished}"
    );
    Ok(())
}

fn program() -> Result<()> {
    with(|fixture| explains(&run(fixture, &["/not/there", "x"], [])?, "/not/there"))
}

fn program_in_path() -> Result<()> {
    with(|fixture| explains(&run(fixture, &["notthere"], [])?, "notthere"))
}

fn interpreter() -> Result<()> {
    with(|fixture| {
        let script = file("script", 0o755, "#! /usr/bin/notthere -x\nprint(1)\n");
        explains(&run(fixture, &["/script"], [script])?, "/usr/bin/notthere")
    })
}

fn loader() -> Result<()> {
    with(|fixture| {
        // Any dynamically linked program will do; its loader is not in the image.
        let program = fs::read("/bin/true").context("read /bin/true")?;
        let text = String::from_utf8_lossy(&program);
        ensure!(
            text.contains("/lib64/ld-linux-x86-64.so.2"),
            "/bin/true is not dynamically linked"
        );
        explains(
            &run(fixture, &["/true"], [file("true", 0o755, program)])?,
            "/lib64/ld-linux-x86-64.so.2",
        )
    })
}

fn target_of_a_symlink() -> Result<()> {
    with(|fixture| {
        let finished = run(fixture, &["/link"], [symlink("link", "/probe.not-there")])?;
        ensure!(
            finished.stdout.contains("Error: Unable to open \"/"),
            "{finished}"
        );
        Ok(())
    })
}

fn program_is_a_directory() -> Result<()> {
    with(|fixture| {
        let finished = run(fixture, &["/directory"], [dir("directory/", 0o755)])?;
        ensure!(finished.stdout.contains("/directory"), "{finished}");
        Ok(())
    })
}

fn program_is_not_executable() -> Result<()> {
    with(|fixture| {
        let finished = run(fixture, &["/text"], [file("text", 0o644, "text")])?;
        ensure!(
            finished.stdout.contains("/text") && finished.stdout.contains("Permission denied"),
            "{finished}"
        );
        Ok(())
    })
}

fn refuses_working_directory(entries: impl IntoIterator<Item = Entry>, reason: &str) -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", [] as [&str; 0]).option("--working-dir=/desk/here");
        let finished = fixture
            .pod([app.change(|image| image.with(entries))])
            .run()?;
        ensure!(
            ![0, 254].contains(&finished.code()),
            "an app's failure expected of {finished}"
        );
        let explained = finished
            .stdout
            .lines()
            .any(|line| line.contains("/desk/here") && line.contains(reason));
        ensure!(
            explained,
            "no line with the path and {reason:?} on the console of {finished}"
        );
        ensure!(fixture.seen("a").is_err(), "the app ran all the same");
        Ok(())
    })
}

fn working_directory() -> Result<()> {
    refuses_working_directory([], "No such file or directory")
}

fn working_directory_is_a_file() -> Result<()> {
    refuses_working_directory(
        [dir("desk/", 0o755), file("desk/here", 0o755, "")],
        "Not a directory",
    )
}

fn app_section() -> Result<()> {
    with(|fixture| {
        let mut image = probe_image("a");
        image.app = serde_json::Value::Null;
        fixture
            .pod([App::seeing("a", [] as [&str; 0]).image(image.clone())])
            .run()?
            .expect_refusal(&["example.com/a", "--exec"])?;
        // With a command of the user's it needs none.
        fixture.see(
            App::seeing("a", [] as [&str; 0])
                .image(image)
                .option("--exec=/probe"),
        )?;
        Ok(())
    })
}
