//! Paths in images that lead out of the app's root to whoever follows them naively, and files of pods that do.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, FlockOperation, Mode, flock, mkfifoat};
use tests::fixture::{App, Fixture, with};
use tests::image::{Entry, dir, symlink};
use tests::process::BOUND;

use crate::common::{new_uuid, status};

tests::cases!("hostile":
    symlinks_at_the_api_file_systems,
    symlinked_etc,
    symlinked_hosts_and_resolv_conf,
    symlinked_device_nodes,
    volume_target_through_symlinks,
    volume_target_with_dots,
    volume_target_through_proc,
    working_directory_through_symlinks,
    symlink_loop_is_an_error,
    records_of_processes,
);

/// A prefix that climbs out of any root that is only a directory.
const UP: &str = "/../../../../../../../../../..";

/// Host files that must stay as they are.
fn sentinels() -> Vec<(&'static str, Option<Vec<u8>>)> {
    [
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/passwd",
        "/etc/group",
        "/etc/mtab",
        "/etc/machine-id",
    ]
    .map(|path| {
        // /etc/mtab is a link to what changes all the time.
        let link = fs::read_link(path)
            .ok()
            .map(|target| target.into_os_string().into_encoded_bytes());
        (path, link.or_else(|| fs::read(path).ok()))
    })
    .into()
}

fn with_sentinels(test: impl FnOnce(&Fixture) -> Result<()>) -> Result<()> {
    let before = sentinels();
    let result = with(test);
    for (path, content) in sentinels() {
        ensure!(
            before.contains(&(path, content)),
            "{path} of the host is changed"
        );
    }
    result
}

fn symlinks_at_the_api_file_systems() -> Result<()> {
    with_sentinels(|fixture| {
        // The targets exist on the host and in the stage1 root, where a naive mount would land.
        let entries = [
            symlink("proc", &format!("{UP}/proc")),
            symlink("sys", &format!("{UP}/sys")),
            symlink("dev", &format!("{UP}/dev")),
            symlink("run", "../../../run"),
        ];
        let app = App::seeing("a", ["--stat", "/dev/null"]).change(|image| image.with(entries));
        // Refusing such an image is fine; doing something outside the app's root is not.
        let finished = fixture.pod([app]).run()?;
        if finished.code() == 0 {
            assert_eq!(fixture.seen("a")?.stat("/dev/null")?.kind, 'c');
        }
        Ok(())
    })
}

fn symlinked_etc() -> Result<()> {
    with_sentinels(|fixture| {
        for target in [
            format!("{UP}/etc"),
            "../../../etc".into(),
            "/real-etc".into(),
        ] {
            let app = App::seeing("a", ["--stat", "/etc", "--list", "/real-etc"]).change(|image| {
                let image = image
                    .without("etc/passwd")
                    .without("etc/group")
                    .without("etc");
                image.with([symlink("etc", &target), dir("real-etc/", 0o755)])
            });
            // Unresolvable inside the root in two of the cases: no user to look up, so by number.
            let finished = fixture.pod([app]).option("--dns=192.0.2.1").run()?;
            if finished.code() == 0 && target == "/real-etc" {
                let seen = fixture.seen("a")?;
                ensure!(
                    seen.names("/real-etc")?.contains(&"resolv.conf".to_owned()),
                    "{:?}",
                    seen.looks
                );
            }
        }
        Ok(())
    })
}

fn symlinked_hosts_and_resolv_conf() -> Result<()> {
    with_sentinels(|fixture| {
        let entries = [
            symlink("etc/hosts", &format!("{UP}/etc/hosts")),
            symlink("etc/resolv.conf", &format!("{UP}/etc/resolv.conf")),
            symlink("etc/hostname", &format!("{UP}/etc/hostname")),
            symlink("etc/mtab", &format!("{UP}/etc/mtab")),
        ];
        let app = App::seeing("a", [] as [&str; 0]).change(|image| image.with(entries));
        fixture
            .pod([app])
            .option("--dns=192.0.2.1")
            .option("--hosts-entry=192.0.2.7=db")
            .run()?;
        Ok(())
    })
}

fn symlinked_device_nodes() -> Result<()> {
    with_sentinels(|fixture| {
        let entries = [
            dir("dev/", 0o755),
            symlink("dev/null", &format!("{UP}/etc/passwd")),
            symlink("dev/pts", &format!("{UP}/etc")),
            symlink("dev/shm", "/tmp"),
            symlink("dev/console", "/etc/passwd"),
        ];
        let app = App::seeing(
            "a",
            [
                "--stat",
                "/dev/null",
                "--stat",
                "/dev/pts",
                "--stat",
                "/dev/console",
            ],
        );
        let seen = fixture.see(app.change(|image| image.with(entries)))?;
        assert_eq!(seen.stat("/dev/null")?.device, (1, 3));
        assert_eq!(seen.stat("/dev/pts")?.kind, 'd');
        assert_eq!(seen.stat("/dev/console")?.kind, 'c');
        Ok(())
    })
}

/// Runs a pod that mounts a volume with a file `mark` at `target` and reads the mark at `read`.
fn mounts_inside(entries: impl IntoIterator<Item = Entry>, target: &str, read: &str) -> Result<()> {
    with_sentinels(|fixture| {
        fs::write(fixture.dir("data")?.join("mark"), "volume")?;
        let mark = format!("{read}/mark");
        let app = App::seeing("a", ["--read", &mark])
            .change(|image| image.with(entries))
            .option(format!("--mount=volume=data,target={target}"));
        let pod = fixture.pod([app]).option(format!(
            "--volume=data,kind=host,source={}",
            fixture.path("data").display()
        ));
        pod.run()?.expect(0)?;
        assert_eq!(fixture.seen("a")?.text(&mark)?, "volume");
        ensure!(
            !std::path::Path::new(read).exists(),
            "{read} was made on the host"
        );
        Ok(())
    })
}

fn volume_target_through_symlinks() -> Result<()> {
    let entries = [symlink("link", &format!("{UP}/stage1-test-real"))];
    mounts_inside(entries, "/link/below", "/stage1-test-real/below")
}

fn volume_target_with_dots() -> Result<()> {
    mounts_inside(
        [],
        "/etc/../../../../../stage1-test-dots",
        "/stage1-test-dots",
    )
}

fn volume_target_through_proc() -> Result<()> {
    with_sentinels(|fixture| {
        let app = App::seeing("a", [] as [&str; 0])
            .change(|image| image.with([symlink("link", "/proc/1/root/stage1-test-proc")]))
            .option("--mount=volume=data,target=/link");
        // Refused or inside the app: what counts is the host and the pod's own root.
        fixture
            .pod([app])
            .option("--volume=data,kind=empty")
            .run()?;
        ensure!(
            !std::path::Path::new("/stage1-test-proc").exists(),
            "made on the host"
        );
        let uuid = fixture.only_pod()?;
        let root = fixture.pod_dir(&uuid)?.join("stage1/rootfs");
        ensure!(
            !root.join("stage1-test-proc").exists(),
            "made in the stage1 root"
        );
        Ok(())
    })
}

fn working_directory_through_symlinks() -> Result<()> {
    with_sentinels(|fixture| {
        let entries = [
            symlink("link", &format!("{UP}/inside")),
            dir("inside/", 0o755),
        ];
        let app = App::seeing("a", ["--stat", "/inside"])
            .change(|image| image.with(entries))
            .option("--working-dir=/link");
        assert_eq!(fixture.see(app)?.cwd.to_str(), Some("/inside"));
        Ok(())
    })
}

fn symlink_loop_is_an_error() -> Result<()> {
    with_sentinels(|fixture| {
        let app = App::seeing("a", [] as [&str; 0])
            .change(|image| image.with([symlink("one", "/two"), symlink("two", "/one")]))
            .option("--mount=volume=data,target=/one/x");
        let finished = fixture
            .pod([app])
            .option("--volume=data,kind=empty")
            .run()?;
        ensure!(finished.code() != 0, "{finished}");
        let said = format!("{}{}", finished.stdout, finished.stderr);
        ensure!(
            said.contains("/one") && said.contains("ymbolic link"),
            "{finished}"
        );
        Ok(())
    })
}

/// What names a pod's processes leads to another pod's, or is nothing to be read: it is not followed, nor waited for.
fn records_of_processes() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["do", "write", "/out/up", "", "+", "hang"]);
        let running = fixture.pod([app]).option("--no-overlay").start()?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let other = fixture.only_pod()?;
        let theirs = fixture.pod_dir(&other)?;
        for record in ["subcgroup", "ppid"] {
            for kind in ["link", "fifo", "folder"] {
                spoilt_record(fixture, &theirs.join(record), record, kind)
                    .with_context(|| format!("{record} is a {kind}"))?;
            }
        }
        fixture.text(["stop", "--force", &other])?;
        drop(running);
        Ok(())
    })
}

/// Looks at a pod with such a record, while somebody holds its lock and when nobody does.
fn spoilt_record(fixture: &Fixture, theirs: &Path, record: &str, kind: &str) -> Result<()> {
    let uuid = new_uuid()?;
    let path = fixture.data().join("pods/run").join(&uuid);
    fs::create_dir(&path)?;
    let file = path.join(record);
    match kind {
        "link" => std::os::unix::fs::symlink(theirs, &file)?,
        "fifo" => mkfifoat(CWD, &file, Mode::RWXU)?,
        _ => fs::create_dir(&file)?,
    }
    let lock = fs::File::open(&path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let seen = status(fixture, &uuid)?;
    assert_eq!(seen["state"], "running");
    ensure!(!seen.contains_key("pid"), "{seen:?}");
    // Another thread's child may have a copy of the descriptor for a moment.
    flock(&lock, FlockOperation::Unlock)?;
    assert_eq!(status(fixture, &uuid)?["state"], "exited");
    fs::remove_dir_all(&path)?;
    Ok(())
}
