//! Capability sets and no-new-privileges, for root and for an ordinary user.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{App, Fixture, with};
use tests::probe::Outcome;

tests::cases!("capabilities": only_one_set, unknown_name; both ways:
    sets,
    unrestricted,
    no_new_privileges,
    pods_root_is_out_of_reach,
);

const NONE: [&str; 0] = [];
const CHOWN: u64 = 1 << 0;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const MKNOD: u64 = 1 << 27;

/// The specification's 14: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
/// net_raw, sys_chroot, mknod, audit_write, setfcap.
const DEFAULT: u64 = 0xa804_25fb;

const USERS: [(&str, &str); 2] = [("root", "0"), ("other", "1234")];

/// An app of root's and one of an ordinary user's, both with these options and isolators.
fn apps(name: &str, options: &[&str], isolators: &Value) -> Vec<App> {
    let app = |(user, id): (&str, &str)| {
        let app = App::seeing(&format!("{name}-{user}"), NONE)
            .change(|image| image.app("isolators", isolators.clone()))
            .option(format!("--user={id}"));
        options.iter().fold(app, |app, option| app.option(*option))
    };
    USERS.map(app).into()
}

/// The bounding set of both, and what of it each has.
fn expect_bounded(fixture: &Fixture, name: &str, set: u64) -> Result<()> {
    for (user, _) in USERS {
        let sets = fixture.seen(&format!("{name}-{user}"))?.capabilities;
        let has = if user == "root" { set } else { 0 };
        let found = [
            sets.bounding,
            sets.effective,
            sets.permitted,
            sets.ambient,
            sets.inheritable,
        ];
        let found = found.map(|set| format!("{set:x}"));
        let expected = [set, has, has, 0, 0].map(|set| format!("{set:x}"));
        assert_eq!(found, expected, "{name} of {user}");
    }
    Ok(())
}

fn sets() -> Result<()> {
    let none = json!([]);
    let set = |name: &str, set: Value| json!([{ "name": format!("os/linux/capabilities-{name}-set"), "value": { "set": set } }]);
    let retain = ["--caps-retain=CAP_CHOWN,CAP_NET_ADMIN"];
    let remove = ["--caps-remove=CAP_MKNOD,CAP_CHOWN"];
    // An empty set to retain leaves nothing, one to remove leaves the default.
    let cases: [(&str, &[&str], Value, u64); 6] = [
        ("default", &[], none.clone(), DEFAULT),
        ("retained", &retain, none.clone(), CHOWN | NET_ADMIN),
        ("removed", &remove, none, DEFAULT & !(MKNOD | CHOWN)),
        (
            "of-image",
            &[],
            set("retain", json!(["CAP_NET_BIND_SERVICE"])),
            NET_BIND_SERVICE,
        ),
        ("nothing", &[], set("retain", json!([])), 0),
        ("no-less", &[], set("remove", json!([])), DEFAULT),
    ];
    with(|fixture| {
        let all = cases
            .iter()
            .flat_map(|(name, options, isolators, _)| apps(name, options, isolators));
        let finished = fixture.pod(all).run()?.expect(0)?;
        ensure!(!finished.stderr.contains("isolator"), "{finished}");
        for (name, _, _, set) in &cases {
            expect_bounded(fixture, name, *set)?;
        }
        Ok(())
    })
}

fn unrestricted() -> Result<()> {
    with(|fixture| {
        // What the caller itself has no more nobody can give; some of it is the most that a pod can have.
        let isolators = json!([{ "name": "os/linux/capabilities-retain-set", "value": { "set": ["CAP_CHOWN"] } }]);
        let pod = fixture.pod(apps("a", &[], &isolators));
        let finished = pod
            .option("--insecure-options=capabilities")
            .run()?
            .expect(0)?;
        let told =
            "isolator os/linux/capabilities-retain-set is ignored: capabilities are not restricted";
        ensure!(finished.stderr.contains(told), "{finished}");
        for (user, _) in USERS {
            let sets = fixture.seen(&format!("a-{user}"))?.capabilities;
            let bounding = sets.bounding;
            ensure!(
                bounding & DEFAULT == DEFAULT && bounding & SYS_ADMIN != 0,
                "{user}: {bounding:x}"
            );
            let has = if user == "root" { bounding } else { 0 };
            assert_eq!(sets.effective, has, "{user}");
        }
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
    let asking = |on: bool| json!([{ "name": "os/linux/no-new-privileges", "value": on }]);
    with(|fixture| {
        let cases = [
            ("on", asking(true)),
            ("off", asking(false)),
            ("none", json!([])),
        ];
        let all = cases
            .iter()
            .flat_map(|(name, isolators)| apps(name, &[], isolators));
        let finished = fixture.pod(all).run()?.expect(0)?;
        ensure!(!finished.stderr.contains("isolator"), "{finished}");
        for (name, flag) in [("on", "1"), ("off", "0"), ("none", "0")] {
            for (user, _) in USERS {
                let status = fixture.seen(&format!("{name}-{user}"))?.status;
                assert_eq!(status["NoNewPrivs"], flag, "{name} of {user}");
                // The default filter is there all the same.
                assert_eq!(status["Seccomp"], "2", "{name} of {user}");
            }
        }
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
