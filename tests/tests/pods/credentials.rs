//! Files of the host that apps get as credentials.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use tests::fixture::{App, with};
use tests::probe::Outcome;

tests::cases!("credentials":
    are_the_apps_alone,
    of_a_missing_file_are_refused,
);

const SECRET: &str = "open sesame";

fn are_the_apps_alone() -> Result<()> {
    for (user, id) in [("root", 0), ("alice", 1234)] {
        with(|fixture| {
            let path = fixture.path("key");
            fs::write(&path, SECRET)?;
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
            let (dir, file) = ("/run/credentials/a", "/run/credentials/a/api-key");
            let looks = [
                "--stat", dir, "--stat", file, "--read", file, "--write", file, "--list", dir,
            ];
            let app = App::seeing("a", looks)
                .option(format!(
                    "--annotation=stage1/credential/api-key={}",
                    path.display()
                ))
                .option("--readonly-rootfs=true")
                .option(format!("--user={user}"));
            let hook = ["see", "--out", "/out/hook.json", "--read", file];
            let other = App::seeing("b", ["--list", dir, "--list", "/run/credentials"]);
            let pod = fixture.pod([app.handler("pre-start", hook), other]);
            let finished = pod
                .option("--debug")
                .option("--no-overlay")
                .run()?
                .expect(0)?;
            ensure!(
                !finished.stderr.contains(SECRET),
                "--debug tells the secret"
            );

            let seen = fixture.seen("a")?;
            assert_eq!(seen.env("CREDENTIALS_DIRECTORY"), Some(dir));
            let (node, of_dir) = (seen.stat(file)?, seen.stat(dir)?);
            assert_eq!((node.kind, node.mode, node.uid), ('-', 0o400, id));
            assert_eq!((of_dir.kind, of_dir.mode, of_dir.uid), ('d', 0o500, id));
            assert_eq!(seen.text(file)?, SECRET);
            assert_eq!(seen.names(dir)?, ["api-key"]);
            ensure!(
                matches!(seen.look("write", file)?, Outcome::Error(_)),
                "it can be changed"
            );
            assert_eq!(fixture.seen("hook")?.text(file)?, SECRET);

            let other = fixture.seen("b")?;
            assert_eq!(other.env("CREDENTIALS_DIRECTORY"), None);
            for path in [dir, "/run/credentials"] {
                let missing = Outcome::Error(Errno::ENOENT as i32);
                assert_eq!(other.look("list", path)?, &missing);
            }
            let kept = fixture.pod_dir(&fixture.only_pod()?)?;
            let kept = kept.join("stage1/rootfs/rkt/credentials/a/api-key");
            assert_eq!(fs::metadata(kept)?.permissions().mode() & 0o7777, 0o400);
            Ok(())
        })?;
    }
    Ok(())
}

fn of_a_missing_file_are_refused() -> Result<()> {
    with(|fixture| {
        let path = fixture.path("nowhere");
        let annotation = format!("--annotation=stage1/credential/key={}", path.display());
        let app = App::probe("a", ["exit", "0"]).option(annotation);
        fixture.pod([app]).run()?.expect_refusal(&[
            "stage1/credential/key",
            "nowhere",
            "No such file",
        ])?;
        Ok(())
    })
}
