//! Capability sets and no-new-privileges, the isolators that are enforced so far.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::fixture::{App, with};
use tests::probe::Outcome;

tests::cases!("capabilities":
    default_set,
    of_an_ordinary_user,
    retained,
    removed,
    of_the_image,
    unrestricted,
    only_one_set,
    unknown_name,
    no_new_privileges,
    pods_root_is_out_of_reach,
);

const NONE: [&str; 0] = [];
const CHOWN: u64 = 1 << 0;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const MKNOD: u64 = 1 << 27;

/// The specification's 14: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
/// net_raw, sys_chroot, mknod, audit_write, setfcap.
const DEFAULT: u64 = 0xa804_25fb;

fn assert_bounded(app: App, set: u64) -> Result<()> {
    with(|fixture| {
        let finished = fixture.pod([app.clone()]).run()?.expect(0)?;
        let capabilities = fixture.seen("a")?.capabilities;
        assert_eq!(
            format!("{:x}", capabilities.bounding),
            format!("{set:x}"),
            "bounding"
        );
        assert_eq!(
            format!("{:x}", capabilities.effective),
            format!("{set:x}"),
            "effective"
        );
        assert_eq!(
            format!("{:x}", capabilities.permitted),
            format!("{set:x}"),
            "permitted"
        );
        assert_eq!(capabilities.ambient, 0);
        ensure!(!finished.stderr.contains("isolator"), "{finished}");
        Ok(())
    })
}

fn default_set() -> Result<()> {
    assert_bounded(App::seeing("a", NONE), DEFAULT)
}

fn of_an_ordinary_user() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(
            App::seeing("a", NONE)
                .option("--user=alice")
                .option("--caps-retain=CAP_NET_BIND_SERVICE"),
        )?;
        assert_eq!(seen.capabilities.bounding, NET_BIND_SERVICE);
        assert_eq!(
            (
                seen.capabilities.effective,
                seen.capabilities.permitted,
                seen.capabilities.ambient
            ),
            (0, 0, 0)
        );
        Ok(())
    })
}

fn retained() -> Result<()> {
    assert_bounded(
        App::seeing("a", NONE).option("--caps-retain=CAP_CHOWN,CAP_NET_ADMIN"),
        CHOWN | NET_ADMIN,
    )
}

fn removed() -> Result<()> {
    assert_bounded(
        App::seeing("a", NONE).option("--caps-remove=CAP_MKNOD,CAP_CHOWN"),
        DEFAULT & !(MKNOD | CHOWN),
    )
}

fn of_the_image() -> Result<()> {
    let isolators = json!([{ "name": "os/linux/capabilities-retain-set", "value": { "set": ["CAP_NET_BIND_SERVICE"] } }]);
    assert_bounded(
        App::seeing("a", NONE).change(|image| image.app("isolators", isolators)),
        NET_BIND_SERVICE,
    )
}

fn unrestricted() -> Result<()> {
    with(|fixture| {
        let own = std::fs::read_to_string("/proc/self/status")?;
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .unwrap_or_default()
            .trim()
            .to_owned();
        let pod = fixture
            .pod([App::seeing("a", NONE)])
            .option("--insecure-options=capabilities");
        pod.run()?.expect(0)?;
        let bounding = fixture.seen("a")?.capabilities.bounding;
        // What the caller itself has no more nobody can give.
        ensure!(
            bounding & DEFAULT == DEFAULT && bounding & 1 << 21 != 0,
            "{bounding:x}, of {own}"
        );
        Ok(())
    })
}

fn only_one_set() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", NONE)
            .option("--caps-retain=CAP_CHOWN")
            .option("--caps-remove=CAP_MKNOD");
        fixture
            .pod([app])
            .run()?
            .expect_refusal(&["--caps-retain", "--caps-remove"])?;
        Ok(())
    })
}

fn unknown_name() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", NONE).option("--caps-retain=CAP_OF_TOMORROW");
        fixture
            .pod([app])
            .run()?
            .expect_refusal(&["CAP_OF_TOMORROW"])?;
        Ok(())
    })
}

fn no_new_privileges() -> Result<()> {
    with(|fixture| {
        let isolators = json!([{ "name": "os/linux/no-new-privileges", "value": true }]);
        let apps = [
            App::seeing("without", NONE),
            App::seeing("with", NONE).change(|image| image.app("isolators", isolators)),
        ];
        let finished = fixture.pod(apps).run()?.expect(0)?;
        ensure!(!finished.stderr.contains("isolator"), "{finished}");
        assert_eq!(fixture.seen("without")?.status["NoNewPrivs"], "0");
        assert_eq!(fixture.seen("with")?.status["NoNewPrivs"], "1");
        Ok(())
    })
}

fn pods_root_is_out_of_reach() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing(
            "a",
            ["--list", "/proc/1/root", "--list", "/proc/1/cwd"],
        ))?;
        for path in ["/proc/1/root", "/proc/1/cwd"] {
            ensure!(
                matches!(seen.look("list", path)?, Outcome::Error(_)),
                "{path}: {:?}",
                seen.look("list", path)?
            );
        }
        Ok(())
    })
}
