//! Device nodes and API file systems.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use tests::fixture::{App, with};
use tests::harness::Skip;
use tests::image::{dir, file, symlink};
use tests::probe::{Outcome, Seen};

tests::cases!("devices": ; both ways:
    has_the_standard_devices,
    has_the_api_file_systems,
    device_files_of_the_image_do_not_matter,
    others_cannot_be_made_or_opened,
    volumes_are_opened_as_they_are_mounted
    ; with users:
    has_the_standard_devices,
    has_the_api_file_systems,
    device_files_of_the_image_do_not_matter,
);

fn assert_device(seen: &Seen, name: &str, numbers: (u32, u32)) -> Result<()> {
    let node = seen.stat(&format!("/dev/{name}"))?;
    assert_eq!(
        (node.kind, node.device, node.mode),
        ('c', numbers, 0o666),
        "/dev/{name}"
    );
    Ok(())
}

fn has_the_standard_devices() -> Result<()> {
    with(|fixture| {
        let names = [
            "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm",
        ];
        let links = ["fd", "stdin", "stdout", "stderr"];
        let looks = names
            .iter()
            .chain(&links)
            .flat_map(|name| ["--stat".to_owned(), format!("/dev/{name}")]);
        let writes = ["null", "zero", "full", "ptmx"]
            .iter()
            .flat_map(|name| ["--write".to_owned(), format!("/dev/{name}")]);
        let looks: Vec<String> = looks.chain(writes).collect();
        let users = [("root", "0"), ("other", "1234")];
        let apps = users
            .map(|(name, user)| App::seeing(name, looks.clone()).option(format!("--user={user}")));
        fixture.pod(apps).run()?.expect(0)?;
        for (name, _) in users {
            expect_devices(&fixture.seen(name)?).context(name)?;
        }
        Ok(())
    })
}

fn expect_devices(seen: &Seen) -> Result<()> {
    for (name, numbers) in [
        ("null", (1, 3)),
        ("zero", (1, 5)),
        ("full", (1, 7)),
        ("random", (1, 8)),
        ("urandom", (1, 9)),
        ("tty", (5, 0)),
    ] {
        assert_device(seen, name, numbers)?;
    }
    assert_eq!(seen.stat("/dev/console")?.kind, 'c');
    let ptmx = seen.stat("/dev/ptmx")?;
    match ptmx.kind {
        'l' => assert!(
            ptmx.target
                .as_ref()
                .is_some_and(|target| target.ends_with("pts/ptmx"))
        ),
        _ => assert_eq!((ptmx.kind, ptmx.device), ('c', (5, 2))),
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        let node = seen.stat(&format!("/dev/{name}"))?;
        let found = node
            .target
            .as_ref()
            .with_context(|| format!("/dev/{name} is no link"))?;
        assert!(
            found.to_string_lossy().ends_with(target),
            "/dev/{name} -> {}",
            found.display()
        );
    }
    for name in ["null", "zero", "full", "ptmx"] {
        assert_eq!(
            seen.look("write", &format!("/dev/{name}"))?,
            &Outcome::Writable,
            "/dev/{name}"
        );
    }
    assert_eq!(seen.stat("/dev/shm")?.mode, 0o1777);
    Ok(())
}

fn has_the_api_file_systems() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing(
            "a",
            [
                "--write",
                "/dev/shm/x",
                "--list",
                "/proc/self",
                "--list",
                "/sys",
            ],
        ))?;
        for (path, kind) in [
            ("/proc", "proc"),
            ("/sys", "sysfs"),
            ("/dev/pts", "devpts"),
            ("/dev/shm", "tmpfs"),
        ] {
            let mount = seen
                .mount(path)
                .with_context(|| format!("nothing is mounted on {path}: {:#?}", seen.mounts))?;
            let after = mount
                .iter()
                .position(|field| *field == "-")
                .context("mountinfo")?;
            assert_eq!(mount[after + 1], kind, "{path}");
        }
        assert_eq!(seen.look("write", "/dev/shm/x")?, &Outcome::Writable);
        assert!(seen.names("/sys")?.contains(&"kernel".to_owned()));
        Ok(())
    })
}

fn device_files_of_the_image_do_not_matter() -> Result<()> {
    with(|fixture| {
        let entries = [
            dir("dev/", 0o700),
            file("dev/null", 0o600, "no device"),
            symlink("dev/zero", "/etc/passwd"),
        ];
        let app = App::seeing(
            "a",
            [
                "--stat",
                "/dev/null",
                "--stat",
                "/dev/zero",
                "--stat",
                "/dev",
            ],
        );
        let seen = fixture.see(app.change(|image| image.with(entries)))?;
        assert_device(&seen, "null", (1, 3))?;
        assert_device(&seen, "zero", (1, 5))?;
        assert_eq!(seen.stat("/dev")?.mode, 0o755);
        Ok(())
    })
}

/// EPERM, whatever its kind and number.
fn others_cannot_be_made_or_opened() -> Result<()> {
    with(|fixture| {
        let forbidden = [
            ("mem", "c", 1, 1),
            ("kmsg", "c", 1, 11),
            ("loop", "b", 7, 0),
            ("fuse", "c", 10, 229),
        ];
        let mut words = vec!["do".to_owned()];
        for (name, kind, major, minor) in forbidden {
            let step = format!("mknod /tmp/{name} {kind} {major} {minor} +");
            words.extend(step.split(' ').map(str::to_owned));
        }
        // One of the specification's may be made anew, as by any tool that fills a /dev.
        words.extend("mknod /tmp/null c 1 3".split(' ').map(str::to_owned));
        let finished = fixture.pod([App::probe("a", words)]).run()?.expect(0)?;
        let console = finished.console("a");
        for (name, ..) in forbidden {
            ensure!(
                console.contains(&format!("/tmp/{name}: 1, 2").as_str()),
                "{finished}"
            );
        }
        ensure!(console.contains(&"/tmp/null: made, opened"), "{finished}");
        ensure!(!finished.stderr.contains("device"), "{finished}");
        Ok(())
    })
}

fn volumes_are_opened_as_they_are_mounted() -> Result<()> {
    // A device that apps do not have, and that can be opened when nothing is in it. The kernel gives the first free one to
    // who asks for any, so the last one stays free.
    let device = (0..).map(|number| PathBuf::from(format!("/dev/loop{number}")));
    let Some(device) = device.take_while(|device| device.exists()).last() else {
        bail!(Skip("there is no loop device".into()));
    };
    with(|fixture| {
        let looks = ["--read", "/loop", "--write", "/loop"];
        let with_device = |name: &str| {
            App::seeing(name, looks).option(format!("--mount=volume={name},target=/loop"))
        };
        let volume = |name: &str, read_only: bool| {
            let source = device.display();
            format!("--volume={name},kind=host,source={source},readOnly={read_only}")
        };
        fixture
            .pod([with_device("rw"), with_device("ro")])
            .option(volume("rw", false))
            .option(volume("ro", true))
            .run()?
            .expect(0)?;
        for (name, written) in [("rw", Outcome::Writable), ("ro", Outcome::Error(1))] {
            let seen = fixture.seen(name)?;
            assert_eq!(seen.text("/loop")?, "", "{name}");
            assert_eq!(seen.look("write", "/loop")?, &written, "{name}");
        }
        Ok(())
    })
}
