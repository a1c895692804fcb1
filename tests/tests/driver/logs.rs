//! `stage0 logs` for pods of another stage0: it needs of them what the contract says of the journal, and no more.

use std::process::{Command, Stdio};

use anyhow::Result;
use tests::driver::{AppSpec, Driver};
use tests::process::Running;

use crate::common::{both, spec};

tests::cases!("logs":
    of_pods_of_another_stage0,
);

fn logs(driver: &Driver, words: &[&str]) -> Result<Running> {
    let mut command = Command::new(tests::harness::build_dir().join("stage0"));
    command.arg("--dir").arg(driver.data());
    command.arg("logs").args(words);
    Running::start(command, Stdio::null())
}

fn of_pods_of_another_stage0() -> Result<()> {
    both(|driver, overlay| {
        let app = AppSpec::probe("a", &["do", "print", "first", "+", "until-term"]);
        let pod = driver.pod_in_run(spec(driver, overlay, [app])?)?;
        let run = pod.start(&["--net=none"])?;
        let following = logs(driver, &["-f", &pod.uuid])?;
        following.wait_output("first\n")?;
        pod.stop(&[])?.expect(0)?;
        run.process.finish()?.expect(0)?;
        let said = "first\ngot SIGTERM\n";
        assert_eq!(following.finish()?.expect(0)?.stdout, said);
        let all = logs(driver, &["--app=a", &pod.uuid])?;
        assert_eq!(all.finish()?.expect(0)?.stdout, said);
        // After a reboot only the upper layer is there: the host's journalctl reads it.
        pod.unmount()?;
        let all = logs(driver, &[&pod.uuid])?;
        assert_eq!(all.finish()?.expect(0)?.stdout, said);
        pod.mount_stage1()?;
        let mut names: Vec<_> = std::fs::read_dir(driver.data())?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        names.sort_unstable();
        assert_eq!(names, ["pods"], "something was made in its data directory");
        Ok(())
    })
}
