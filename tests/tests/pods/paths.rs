//! Paths of `/proc` and `/sys` that are hidden or read-only, and read-only roots with volumes on them.

use std::path::Path;

use anyhow::{Result, ensure};
use rustix::io::Errno;
use tests::fixture::{App, with};
use tests::image::{dir, symlink};
use tests::probe::{Outcome, Seen};

tests::cases!("paths": ; both ways:
    protected,
    unprotected_when_asked,
    nested_volumes_on_a_read_only_root,
    volumes_in_sys_are_seen,
    no_volume_in_proc,
    nothing_is_invented,
);

/// What this project protects besides what podman does. A kernel may lack some.
const HIDDEN: [&str; 6] = [
    "/proc/kallsyms",
    "/proc/config.gz",
    "/sys/fs/bpf",
    "/sys/kernel/security",
    "/sys/power",
    "/sys/module",
];
const READ_ONLY: [&str; 4] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger",
    "/sys/kernel/uevent_helper",
];
const USERS: [(&str, &str); 2] = [("root", "0"), ("other", "1234")];

/// The paths that podman has under a word: `hidden` or `readOnly`.
fn of_podman(word: &str) -> Result<Vec<String>> {
    let lists: serde_json::Value =
        serde_json::from_str(include_str!("../../data/podman-paths.json"))?;
    Ok(serde_json::from_value(lists[word].clone())?)
}

const NONE: [&str; 0] = [];

fn looks<'a>(verb: &'a str, paths: &[&'a str]) -> Vec<&'a str> {
    paths.iter().flat_map(|path| [verb, path]).collect()
}

fn is_missing(outcome: &Outcome) -> bool {
    *outcome == Outcome::Error(Errno::NOENT.raw_os_error())
}

fn protected() -> Result<()> {
    let hidden = of_podman("hidden")?;
    let hidden: Vec<&str> = hidden.iter().map(String::as_str).chain(HIDDEN).collect();
    let read_only = of_podman("readOnly")?;
    let words = [
        looks("--read", &hidden),
        looks("--list", &hidden),
        looks("--write", &READ_ONLY),
    ]
    .concat();
    with(|fixture| {
        let apps = USERS
            .map(|(name, user)| App::seeing(name, words.clone()).option(format!("--user={user}")));
        fixture.pod(apps).run()?.expect(0)?;
        for (name, _) in USERS {
            let seen = fixture.seen(name)?;
            for path in &hidden {
                expect_hidden(&seen, path)?;
            }
            for path in READ_ONLY {
                let found = seen.look("write", path)?;
                ensure!(matches!(found, Outcome::Error(_)), "{path}: {found:?}");
            }
            for path in read_only.iter().filter(|path| Path::new(path).exists()) {
                let options = options(&seen, path);
                ensure!(options.starts_with("ro"), "{path}: {options:?}");
            }
        }
        Ok(())
    })
}

/// An empty file or an empty folder, or nothing.
fn expect_hidden(seen: &Seen, path: &str) -> Result<()> {
    let (read, list) = (seen.look("read", path)?, seen.look("list", path)?);
    let no_file = *read == Outcome::Text(String::new());
    let no_folder = *list == Outcome::Names(Vec::new());
    ensure!(
        no_file || no_folder || is_missing(read),
        "{path}: {read:?}, {list:?}"
    );
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

fn no_volume_in_proc() -> Result<()> {
    with(|fixture| {
        for target in ["/proc", "/proc/sys", "/dev/null", "/dev", "/sys"] {
            let app = App::seeing("a", NONE).option(format!("--mount=volume=v,target={target}"));
            let pod = fixture.pod([app]).option("--volume=v,kind=empty");
            pod.run()?
                .expect_refusal(&["app a", &format!("no volume can be mounted at {target}")])?;
        }
        // What a link of the image means is known in the pod only.
        let app = App::seeing("a", NONE)
            .change(|image| image.with([symlink("way", "/proc")]))
            .option("--mount=volume=v,target=/way/sys");
        let pod = fixture.pod([app]).option("--volume=v,kind=empty");
        let finished = pod.run()?;
        ensure!(
            finished
                .stdout
                .contains("a link of the image leads to /proc"),
            "{finished}"
        );
        ensure!(fixture.seen("a").is_err(), "the app ran");
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
