//! Paths of `/proc` and `/sys` that are hidden or read-only, and read-only roots with volumes on them.

use anyhow::{Result, ensure};
use rustix::io::Errno;
use tests::fixture::{App, with};
use tests::image::dir;
use tests::probe::{Outcome, Seen};

tests::cases!("paths":
    hidden,
    read_only,
    unprotected_when_asked,
    nested_volumes_on_a_read_only_root,
    volumes_in_sys_are_seen,
    nothing_is_invented,
);

/// Those that a kernel may lack, apart.
const HIDDEN_FILES: [&str; 5] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/kallsyms",
    "/proc/config.gz",
];
const HIDDEN_DIRS: [&str; 5] = [
    "/proc/acpi",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/power",
    "/sys/module",
];
const READ_ONLY: [&str; 4] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger",
    "/sys/kernel/uevent_helper",
];
const USERS: [&str; 2] = ["0", "1234"];

fn looks<'a>(verb: &'a str, paths: &[&'a str]) -> Vec<&'a str> {
    paths.iter().flat_map(|path| [verb, path]).collect()
}

fn is_missing(outcome: &Outcome) -> bool {
    *outcome == Outcome::Error(Errno::NOENT.raw_os_error())
}

fn hidden() -> Result<()> {
    for user in USERS {
        with(|fixture| {
            let words = [
                looks("--read", &HIDDEN_FILES),
                looks("--list", &HIDDEN_DIRS),
            ]
            .concat();
            let seen = fixture.see(App::seeing("a", words).option(format!("--user={user}")))?;
            for path in HIDDEN_FILES {
                let found = seen.look("read", path)?;
                let empty = *found == Outcome::Text(String::new());
                ensure!(empty || is_missing(found), "{path}: {found:?}");
            }
            for path in HIDDEN_DIRS {
                let found = seen.look("list", path)?;
                let empty = *found == Outcome::Names(Vec::new());
                ensure!(empty || is_missing(found), "{path}: {found:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn read_only() -> Result<()> {
    for user in USERS {
        with(|fixture| {
            let words = looks("--write", &READ_ONLY);
            let seen = fixture.see(App::seeing("a", words).option(format!("--user={user}")))?;
            for path in READ_ONLY {
                ensure!(
                    matches!(seen.look("write", path)?, Outcome::Error(_)),
                    "{path} is writable for {user}"
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn options(seen: &Seen, path: &str) -> String {
    let mount = seen.mount(path);
    mount.map_or_else(String::new, |fields| fields[5].to_owned())
}

/// Looks only: a write would be one to the host's kernel.
fn unprotected_when_asked() -> Result<()> {
    with(|fixture| {
        let words = ["--list", "/sys/module", "--stat", "/proc/kallsyms"];
        fixture
            .pod([App::seeing("a", words)])
            .option("--insecure-options=paths")
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        for path in ["/proc", "/sys"] {
            let options = options(&seen, path);
            ensure!(options.starts_with("rw"), "{path}: {options}");
        }
        let inside = |line: &&String| {
            let path = line.split(' ').nth(4).unwrap_or_default();
            path.starts_with("/proc/")
        };
        let covers: Vec<_> = seen.mounts.iter().filter(inside).collect();
        ensure!(covers.is_empty(), "{covers:#?}");
        ensure!(!seen.names("/sys/module")?.is_empty());
        Ok(())
    })
}

fn nested_volumes_on_a_read_only_root() -> Result<()> {
    with(|fixture| {
        let writes = ["/new", "/a/new", "/a/b/new", "/a/b/c/new"];
        let app = App::seeing("a", looks("--write", &writes))
            .change(|image| image.with([dir("a/", 0o755), dir("out/", 0o755)]))
            .option("--readonly-rootfs")
            .option("--mount=volume=c,target=/a/b/c")
            .option("--mount=volume=a,target=/a")
            .option("--mount=volume=b,target=/a/b");
        fixture
            .pod([app])
            .option("--volume=a,kind=empty")
            .option(format!("--volume=b,kind=host,readOnly=true,source={}", {
                let source = fixture.dir("b")?;
                std::fs::create_dir(source.join("c"))?;
                source.display().to_string()
            }))
            .option("--volume=c,kind=empty")
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        let read_only = Outcome::Error(Errno::ROFS.raw_os_error());
        for (path, expected) in [
            ("/new", &read_only),
            ("/a/new", &Outcome::Writable),
            ("/a/b/new", &read_only),
            ("/a/b/c/new", &Outcome::Writable),
        ] {
            assert_eq!(seen.look("write", path)?, expected, "{path}");
        }
        Ok(())
    })
}

fn volumes_in_sys_are_seen() -> Result<()> {
    with(|fixture| {
        let source = fixture.dir("module")?;
        std::fs::write(source.join("own"), "")?;
        let app = App::seeing("a", ["--list", "/sys/module"])
            .option("--mount=volume=m,target=/sys/module");
        let finished = fixture
            .pod([app])
            .option(format!("--volume=m,kind=host,source={}", source.display()))
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        ensure!(seen.names("/sys/module")? == ["own"], "{finished}");
        Ok(())
    })
}

fn nothing_is_invented() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", ["--stat", "/tmp", "--stat", "/run"])
            .change(|image| image.without("tmp"));
        let seen = fixture.see(app)?;
        for path in ["/tmp", "/run"] {
            ensure!(seen.mount(path).is_none(), "{path}: {:?}", seen.mount(path));
        }
        ensure!(is_missing(seen.look("stat", "/tmp")?));
        Ok(())
    })
}
