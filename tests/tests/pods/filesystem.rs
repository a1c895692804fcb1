//! What the app's own root holds: the image's files and nobody else's; and its namespaces.

use anyhow::Result;
use rustix::io::Errno;
use tests::fixture::{App, with};
use tests::image::{dir, file, symlink};
use tests::probe::Outcome;

tests::cases!("filesystem": ; both ways:
    root_is_the_image_and_nothing_else,
    root_may_be_bare,
    root_is_writable_and_starts_clean,
    root_is_read_only_when_asked,
    root_is_the_same_without_overlay,
    each_app_has_its_own_root,
    namespaces_are_the_pods,
    network_of_the_host,
    only_the_pods_processes_are_seen,
    files_in_run_are_kept,
    mtab_is_linked,
);

const NONE: [&str; 0] = [];

fn root_is_the_image_and_nothing_else() -> Result<()> {
    with(|fixture| {
        let app = App::seeing(
            "a",
            ["--stat", "/file", "--stat", "/link", "--stat", "/private"],
        )
        .change(|image| {
            image.with([
                file("file", 0o4750, "content").owned(12, 34),
                symlink("link", "file"),
                dir("private/", 0o2700).owned(56, 78),
            ])
        });
        let seen = fixture.see(app)?;
        let known = [
            "dev", "etc", "file", "link", "out", "private", "probe", "proc", "run", "sys", "tmp",
            "var",
        ];
        for name in seen.names("/")? {
            assert!(known.contains(&name.as_str()), "{name} is not of the image");
        }
        let node = seen.stat("/file")?;
        assert_eq!(
            (node.kind, node.mode, node.uid, node.gid),
            ('-', 0o4750, 12, 34)
        );
        assert_eq!(seen.stat("/link")?.target.as_deref(), Some("file".as_ref()));
        let node = seen.stat("/private")?;
        assert_eq!(
            (node.kind, node.mode, node.uid, node.gid),
            ('d', 0o2700, 56, 78)
        );
        Ok(())
    })
}

fn root_may_be_bare() -> Result<()> {
    with(|fixture| {
        let app = App::seeing(
            "a",
            [
                "--stat",
                "/etc",
                "--stat",
                "/dev/null",
                "--stat",
                "/proc/self",
            ],
        );
        let bare = |image: tests::image::Image| {
            ["tmp", "etc", "etc/passwd", "etc/group"]
                .iter()
                .fold(image, |image, path| image.without(path))
        };
        let seen = fixture.see(app.change(bare))?;
        for path in ["/etc", "/dev/null", "/proc/self"] {
            seen.stat(path)?;
        }
        Ok(())
    })
}

fn root_is_writable_and_starts_clean() -> Result<()> {
    with(|fixture| {
        for _ in 0..2 {
            let app = App::seeing(
                "a",
                ["--stat", "/new", "--write", "/new", "--write", "/etc/new"],
            );
            let seen = fixture.see(app)?;
            assert_eq!(
                seen.look("stat", "/new")?,
                &Outcome::Error(Errno::NOENT.raw_os_error())
            );
            assert_eq!(seen.look("write", "/new")?, &Outcome::Writable);
            assert_eq!(seen.look("write", "/etc/new")?, &Outcome::Writable);
        }
        Ok(())
    })
}

fn root_is_read_only_when_asked() -> Result<()> {
    with(|fixture| {
        let app = App::seeing(
            "a",
            [
                "--write",
                "/new",
                "--write",
                "/etc/new",
                "--write",
                "/dev/null",
                "--write",
                "/out/new",
            ],
        );
        let seen = fixture.see(
            app.change(|image| image.with([dir("out/", 0o755)]))
                .option("--readonly-rootfs=true"),
        )?;
        let read_only = Outcome::Error(Errno::ROFS.raw_os_error());
        assert_eq!(seen.look("write", "/new")?, &read_only);
        assert_eq!(seen.look("write", "/etc/new")?, &read_only);
        assert_eq!(seen.look("write", "/dev/null")?, &Outcome::Writable);
        assert_eq!(
            seen.look("write", "/out/new")?,
            &Outcome::Writable,
            "volumes are not the root"
        );
        Ok(())
    })
}

fn root_is_the_same_without_overlay() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--stat", "/file", "--write", "/new"])
            .change(|image| image.with([file("file", 0o4750, "content").owned(12, 34)]));
        fixture.pod([app]).option("--no-overlay").run()?.expect(0)?;
        let seen = fixture.seen("a")?;
        let node = seen.stat("/file")?;
        assert_eq!((node.mode, node.uid, node.gid), (0o4750, 12, 34));
        assert_eq!(seen.look("write", "/new")?, &Outcome::Writable);
        assert!(
            !seen.mounts.iter().any(|line| line.contains("overlay")),
            "{:#?}",
            seen.mounts
        );
        Ok(())
    })
}

/// An app that reports while the other one lives: numbers of namespaces are used again.
fn meeting(name: &'static str, other: &str) -> App {
    let (up, done) = (format!("/out/{other}.up"), format!("/out/{other}.done"));
    let report = format!("/out/{name}.json");
    let looks = ["--stat", "/of-a", "--stat", "/of-b"];
    let words = [
        "do",
        "write",
        &format!("/out/{name}.up"),
        "",
        "+",
        "wait-file",
        &up,
        "+",
        "see",
        "--out",
        &report,
    ];
    let then = [
        "+",
        "write",
        &format!("/out/{name}.done"),
        "",
        "+",
        "wait-file",
        &done,
    ];
    App::probe(name, words.into_iter().chain(looks).chain(then))
        .change(|image| image.with([file(&format!("of-{name}"), 0o644, "")]))
}

fn each_app_has_its_own_root() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([meeting("a", "b"), meeting("b", "a")])
            .run()?
            .expect(0)?;
        let (a, b) = (fixture.seen("a")?, fixture.seen("b")?);
        let absent = Outcome::Error(Errno::NOENT.raw_os_error());
        a.stat("/of-a")?;
        b.stat("/of-b")?;
        assert_eq!(a.look("stat", "/of-b")?, &absent);
        assert_eq!(b.look("stat", "/of-a")?, &absent);
        assert_ne!(a.namespaces["mnt"], b.namespaces["mnt"]);
        Ok(())
    })
}

fn host_namespace(name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("every kernel has it");
    link.to_string_lossy().into_owned()
}

fn namespaces_are_the_pods() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::seeing("a", NONE), App::seeing("b", NONE)])
            .run()?
            .expect(0)?;
        let (a, b) = (fixture.seen("a")?, fixture.seen("b")?);
        for name in ["pid", "uts", "ipc", "net", "mnt"] {
            assert_ne!(a.namespaces[name], host_namespace(name), "{name}");
        }
        for name in ["pid", "uts", "ipc", "net"] {
            assert_eq!(a.namespaces[name], b.namespaces[name], "{name}");
        }
        Ok(())
    })
}

fn network_of_the_host() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::seeing("a", NONE)])
            .option("--net=host")
            .run()?
            .expect(0)?;
        assert_eq!(fixture.seen("a")?.namespaces["net"], host_namespace("net"));
        Ok(())
    })
}

fn only_the_pods_processes_are_seen() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing("a", NONE))?;
        assert_eq!(seen.processes.get(&1).map(String::as_str), Some("systemd"));
        assert!(seen.processes.len() < 15, "{:?}", seen.processes);
        Ok(())
    })
}

fn files_in_run_are_kept() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--read", "/run/of-image", "--write", "/run/new"])
            .change(|image| image.with([dir("run/", 0o755), file("run/of-image", 0o644, "kept")]));
        let seen = fixture.see(app)?;
        assert_eq!(seen.text("/run/of-image")?, "kept");
        assert_eq!(seen.look("write", "/run/new")?, &Outcome::Writable);
        Ok(())
    })
}

fn mtab_is_linked() -> Result<()> {
    with(|fixture| {
        let own = App::seeing("b", ["--read", "/etc/mtab"])
            .change(|image| image.with([file("etc/mtab", 0o644, "own")]));
        fixture
            .pod([App::seeing("a", ["--stat", "/etc/mtab"]), own])
            .run()?
            .expect(0)?;
        let node = fixture.seen("a")?;
        assert_eq!(
            node.stat("/etc/mtab")?.target.as_deref(),
            Some("../proc/self/mounts".as_ref())
        );
        assert_eq!(fixture.seen("b")?.text("/etc/mtab")?, "own");
        Ok(())
    })
}
