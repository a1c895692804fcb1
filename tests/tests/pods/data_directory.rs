//! File systems that the data directory may be on, mounts of it that take rights away, and one that is full. Each test has a
//! mount namespace of its own, which goes with its last process.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::fixture::{Fixture, probe_image, with};
use tests::image::Packing;
use tests::process::{Finished, Running};

tests::cases!("data_directory":
    pods_run_on_every_file_system,
    pods_run_from_overlays_where_nothing_can_be_executed,
    copies_of_set_user_id_programs_are_told_of,
    a_full_disk_is_told_and_changes_nothing,
    a_disk_that_fills_up_hides_no_failure,
    pods_run_with_a_read_only_etc_in_any_locale_and_time_zone,
);

/// Mounts a file system, and has functions for what the scripts do on it. `$1` is its mount; stage0 is `s`.
const BEGIN: &str = r#"
mkdir -p data && mount $MOUNT data || exit 90
s() { "$STAGE0" --dir "$PWD/data" --stage1 "$STAGE1" "$@"; }
run() { s run --volume=out,kind=host,source="$PWD/out" --mount=volume=out,target=/out "$@"; }
fill() { for size in 64k 4k 1; do dd if=/dev/zero of=data/$size bs=$size 2>/dev/null && exit 91; done; true; }
end() { s gc --grace-period=0s --expire-prepared=0s && ! s list --no-legend | grep . && exit "$1" || exit 92; }
"#;

/// What most pods do.
const RUN: &str = "run $OPTIONS ./app.aci -- do print hello + exit 7; end $?";

/// Starts a script on a mount of the data directory.
fn start(fixture: &Fixture, mount: &str, options: &str, script: &str) -> Result<Running> {
    let image = fixture.path("app.aci");
    if !image.exists() {
        probe_image("app").aci(&image, Packing::Tar)?;
    }
    let stage0 = fixture.command::<&str>([]);
    let words: Vec<_> = stage0.get_args().collect();
    let [_, _, _, stage1] = words[..] else {
        anyhow::bail!("{words:?}");
    };
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation=private", "sh", "-c"])
        .arg(format!("{BEGIN}{script}"))
        .env("MOUNT", mount)
        .env("OPTIONS", options)
        .env("STAGE0", stage0.get_program())
        .env("STAGE1", stage1)
        .current_dir(fixture.path(""));
    Running::start(command, Stdio::null())
}

fn on(fixture: &Fixture, mount: &str, options: &str, script: &str) -> Result<Finished> {
    start(fixture, mount, options, script)?.finish()
}

/// A disk of one of the kinds that the kernel has to have, and whose makers `scripts/setup --test` installs.
fn disk(fixture: &Fixture, kind: &str, megabytes: u64) -> Result<String> {
    let image = fixture.path(&format!("{kind}.img"));
    let file = std::fs::File::create(&image).context("make a disk")?;
    file.set_len(megabytes << 20)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut make = Command::new(format!("mkfs.{kind}"));
    make.arg("-q").arg(&image);
    make.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    tests::process::run(make)?.expect(0)?;
    Ok(format!("-o loop {kind}.img"))
}

fn pods_run_on_every_file_system() -> Result<()> {
    with(|fixture| {
        let mounts = [
            "-t tmpfs -o size=400m tmpfs".to_owned(),
            disk(fixture, "ext4", 400)?,
            disk(fixture, "xfs", 400)?,
            disk(fixture, "btrfs", 400)?,
        ];
        for mount in &mounts {
            for options in ["", "--no-overlay"] {
                let finished = on(fixture, mount, options, RUN)?.expect(7)?;
                ensure!(finished.stdout.contains("hello"), "{mount}: {finished}");
            }
        }
        Ok(())
    })
}

fn pods_run_from_overlays_where_nothing_can_be_executed() -> Result<()> {
    with(|fixture| {
        let mount = "-t tmpfs -o size=400m,noexec,nosuid,nodev tmpfs";
        let finished = on(fixture, mount, "", RUN)?.expect(7)?;
        ensure!(finished.stdout.contains("hello"), "{finished}");
        let finished = on(fixture, mount, "--no-overlay", RUN)?.expect(254)?;
        let line = "/data is mounted noexec: apps can run from overlays there, and not from copies";
        ensure!(finished.stderr.contains(line), "{finished}");
        Ok(())
    })
}

fn copies_of_set_user_id_programs_are_told_of() -> Result<()> {
    with(|fixture| {
        let mount = "-t tmpfs -o size=400m,nosuid tmpfs";
        let line =
            "/data is mounted nosuid: set-user-ID programs and file capabilities have no effect";
        for (options, told) in [("", false), ("--no-overlay", true)] {
            let finished = on(fixture, mount, options, RUN)?.expect(7)?;
            assert_eq!(finished.stderr.contains(line), told, "{finished}");
        }
        Ok(())
    })
}

/// Whatever is being done: importing, preparing, running.
fn a_full_disk_is_told_and_changes_nothing() -> Result<()> {
    with(|fixture| {
        let script = "
fill
run ./app.aci -- exit 0; echo import $?
rm data/64k data/4k
uuid=$(s prepare ./app.aci -- exit 7) || exit 93
fill
s run-prepared $uuid; echo run $?
s list --no-legend
rm data/64k
s run-prepared $uuid; end $?";
        let mount = "-t tmpfs -o size=200m tmpfs";
        let finished = on(fixture, mount, "", script)?.expect(7)?;
        for text in ["import 254", "run 254", "  prepared  "] {
            ensure!(finished.stdout.contains(text), "no {text:?} in {finished}");
        }
        let told = finished.stderr.matches("No space left on device").count();
        ensure!(told == 2, "{finished}");
        Ok(())
    })
}

/// The end of the app cannot be written any more.
fn a_disk_that_fills_up_hides_no_failure() -> Result<()> {
    with(|fixture| {
        let script = "
run --uuid-file-save=out/uuid ./app.aci -- do write /out/up x + until-term + print bye + exit 3 &
pod=$!
\"$PROBE\" wait-file out/up && fill
s stop --uuid-file=out/uuid || exit 94
wait $pod
status=$?
rm data/64k
end $status";
        let probe = tests::harness::probe().display().to_string();
        let script = format!("PROBE={probe}\n{script}");
        let mount = "-t tmpfs -o size=200m tmpfs";
        let finished = on(fixture, mount, "", &script)?;
        let told = finished
            .stdout
            .contains("app app: how it ended could not be noted");
        ensure!(finished.code() == if told { 254 } else { 3 }, "{finished}");
        ensure!(finished.stdout.contains("bye"), "{finished}");
        Ok(())
    })
}

/// And nothing of these reaches the app.
fn pods_run_with_a_read_only_etc_in_any_locale_and_time_zone() -> Result<()> {
    with(|fixture| {
        let script = "
mount --bind /etc /etc && mount -o remount,bind,ro /etc && ! touch /etc/this-test 2>/dev/null || exit 95
export LANG=de_DE.UTF-8 LC_ALL=tr_TR.UTF-8 TZ=Asia/Tokyo
run ./app.aci -- do see --out /out/app.json + exit 7; end $?";
        on(fixture, "-t tmpfs -o size=400m tmpfs", "", script)?.expect(7)?;
        let seen = fixture.seen("app")?;
        let of_caller = |line: &&String| {
            let mut names = ["LANG=", "LC_ALL=", "TZ="].into_iter();
            names.any(|name| line.starts_with(name))
        };
        let leaked = seen.env.iter().find(of_caller);
        ensure!(leaked.is_none(), "{leaked:?}");
        Ok(())
    })
}
