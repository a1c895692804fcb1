//! Pods with user namespaces: what their apps find in their roots and volumes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{CWD, FileType, makedev, mknodat};
use tests::fixture::{App, with};
use tests::image::{Image, character_device};

tests::cases!("users_roots":
    an_image_may_have_no_etc,
    devices_are_closed,
);

/// stage0 makes `/etc` then, for its `mtab`, and the pod puts its own files there.
fn an_image_may_have_no_etc() -> Result<()> {
    with(|fixture| {
        for (name, option) in [("over", "--no-overlay=false"), ("plain", "--no-overlay")] {
            let out = format!("/out/{name}.json");
            let words = "--read /etc/hosts --stat /etc --stat /etc/mtab --stat /etc/new";
            let steps = format!("do write /etc/new x + see --out {out} {words}");
            let app = App::probe(name, steps.split(' ').map(str::to_owned)).change(|image| {
                let files = ["etc", "etc/passwd", "etc/group"];
                files.into_iter().fold(image, Image::without)
            });
            let pod = fixture.pod([app]).option("--private-users").option(option);
            pod.run()?.expect(0)?;
            let seen = fixture.seen(name)?;
            for path in ["/etc", "/etc/mtab", "/etc/new"] {
                let node = seen.stat(path)?;
                assert_eq!((node.uid, node.gid), (0, 0), "{path} with {option}");
            }
            let hosts = seen.text("/etc/hosts")?;
            ensure!(hosts.contains("localhost"), "{hosts}");
        }
        Ok(())
    })
}

/// Makes a device node that everybody may open.
pub(crate) fn null_device(path: &Path) -> Result<()> {
    mknodat(
        CWD,
        path,
        FileType::CharacterDevice,
        0o666.into(),
        makedev(1, 3),
    )?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o666),
    )?)
}

/// The host's devices, whatever the permissions of the nodes say, but for those that are mounted as such.
fn devices_are_closed() -> Result<()> {
    with(|fixture| {
        let volume = fixture.dir("volume")?;
        null_device(&volume.join("null"))?;
        let words = "do mknod /null c 1 3 + mknod /volume/null c 1 3 + mknod /zero c 1 5 + mknod /dev/null c 1 3";
        let app = App::probe("a", words.split(' ').map(str::to_owned))
            .change(|image| image.with([character_device("null", 0o666, 1, 3)]))
            .option("--mount=volume=volume,target=/volume")
            .option("--mount=volume=zero,target=/zero");
        let pod = |app: App| {
            fixture
                .pod([app])
                .option(format!(
                    "--volume=volume,kind=host,source={}",
                    volume.display()
                ))
                .option("--volume=zero,kind=host,source=/dev/zero,readOnly=true")
        };
        let finished = pod(app.clone()).run()?.expect(0)?;
        for path in ["/null", "/volume/null", "/zero", "/dev/null"] {
            let opened = format!(" {path}: 17, opened");
            ensure!(finished.stdout.contains(&opened), "{finished}");
        }
        for option in ["--no-overlay=false", "--no-overlay"] {
            let pod = pod(app.clone()).option("--private-users").option(option);
            let finished = pod.run()?.expect(0)?;
            for path in ["/null", "/volume/null"] {
                let closed = format!(" {path}: 17, 13");
                ensure!(finished.stdout.contains(&closed), "{finished}");
            }
            for path in ["/zero", "/dev/null"] {
                let opened = format!(" {path}: 17, opened");
                ensure!(finished.stdout.contains(&opened), "{finished}");
            }
            let told = "volume zero: a device that is to be read only can be written to";
            ensure!(finished.stderr.contains(told), "{finished}");
            ensure!(!finished.stderr.contains("CAP_SYS_ADMIN"), "{finished}");
        }
        let mighty = app.option("--caps-retain=CAP_SYS_ADMIN");
        let finished = pod(mighty).option("--private-users").run()?.expect(0)?;
        ensure!(
            finished.stderr.contains("with CAP_SYS_ADMIN it can"),
            "{finished}"
        );
        Ok(())
    })
}
