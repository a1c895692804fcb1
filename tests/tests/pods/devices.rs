//! Device nodes and API file systems.

use anyhow::{Context, Result};
use tests::fixture::{App, with};
use tests::image::{dir, file, symlink};
use tests::probe::{Outcome, Seen};

tests::cases!("devices":
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
        let seen = fixture.see(App::seeing("a", looks.chain(writes)))?;
        for (name, numbers) in [
            ("null", (1, 3)),
            ("zero", (1, 5)),
            ("full", (1, 7)),
            ("random", (1, 8)),
            ("urandom", (1, 9)),
            ("tty", (5, 0)),
        ] {
            assert_device(&seen, name, numbers)?;
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
    })
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
