//! System call filters: what they let through, what they answer, and that they bring no no_new_privs with them.

use anyhow::{Result, ensure};
use nix::libc;
use serde_json::{Value, json};
use tests::fixture::{App, with};

tests::cases!("seccomp": wrong_requests; both ways:
    default_lets_programs_of_today_run,
    default_refuses,
    default_answers_unknown_calls_as_an_old_kernel,
    default_follows_capabilities,
    switched_off,
    retained,
    removed,
    names_without_effect_are_told,
    ended_by_sigsys,
    of_an_ordinary_user_without_no_new_privileges,
    with_no_new_privileges,
    executing_stays_possible_and_is_told,
    everything,
    nothing_of_ours_meets_the_filter,
);

const NONE: [&str; 0] = [];

/// Has no effect and fails with another error than those of filters when it is let through.
const VMSPLICE: i64 = libc::SYS_vmsplice;

fn call(numbers: &[i64]) -> App {
    let numbers = numbers.iter().map(i64::to_string);
    App::probe("a", ["call".to_owned()].into_iter().chain(numbers))
}

/// Runs the app once as root and once as an ordinary user, for whom its calls must end alike; gives what they ended with.
fn answers(app: App, pod_options: &[&str]) -> Result<Vec<String>> {
    let mut answers = Vec::new();
    with(|fixture| {
        let other = app.clone().called("other").option("--user=1234");
        let apps = fixture.pod([app.clone(), other]);
        let pod = pod_options
            .iter()
            .fold(apps, |pod, option| pod.option(*option));
        let finished = pod.run()?.expect(0)?;
        let of = |app: &str| -> Vec<String> {
            let lines = finished.console(app).into_iter();
            let lines = lines.filter_map(|line| line.strip_prefix("call ")?.split_once(": "));
            lines.map(|(_, answer)| answer.trim().to_owned()).collect()
        };
        answers = of("a");
        assert_eq!(answers, of("other"), "of root and of another");
        Ok(())
    })?;
    Ok(answers)
}

fn isolator(app: App, name: &str, value: Value) -> App {
    let isolators = json!([{ "name": name, "value": value }]);
    app.change(|image| image.app("isolators", isolators))
}

fn default_lets_programs_of_today_run() -> Result<()> {
    let calls = [
        libc::SYS_clone3,
        libc::SYS_openat2,
        libc::SYS_faccessat2,
        libc::SYS_statx,
        libc::SYS_rseq,
        libc::SYS_epoll_pwait2,
        libc::SYS_pidfd_open,
        libc::SYS_close_range,
    ];
    let answers = answers(call(&calls), &[])?;
    assert_eq!(answers.len(), calls.len(), "{answers:?}");
    for answer in &answers {
        ensure!(answer != "EPERM" && answer != "ENOSYS", "{answers:?}");
    }
    Ok(())
}

fn default_refuses() -> Result<()> {
    let calls = [
        VMSPLICE,
        libc::SYS_kexec_load,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
    ];
    assert_eq!(answers(call(&calls), &[])?, ["EPERM"; 4]);
    Ok(())
}

/// Unknown to the list that the default is taken from: io_uring as well.
fn default_answers_unknown_calls_as_an_old_kernel() -> Result<()> {
    let calls = [100_000, libc::SYS_io_uring_setup];
    assert_eq!(answers(call(&calls), &[])?, ["ENOSYS"; 2]);
    Ok(())
}

fn default_follows_capabilities() -> Result<()> {
    // kcmp(2) of a process 0, which there is not.
    let app = call(&[libc::SYS_kcmp]);
    assert_eq!(answers(app.clone(), &[])?, ["EPERM"]);
    let app = app.option("--caps-retain=CAP_SYS_PTRACE");
    assert_eq!(answers(app, &[])?, ["ESRCH"]);
    Ok(())
}

fn switched_off() -> Result<()> {
    let answers = answers(call(&[VMSPLICE]), &["--insecure-options=seccomp"])?;
    ensure!(answers != ["EPERM"], "{answers:?}");
    Ok(())
}

fn retained() -> Result<()> {
    // What the probe itself needs, and one more.
    let set = ["@systemd/system-service", "vmsplice"];
    let app = isolator(
        call(&[VMSPLICE, libc::SYS_swapon]),
        "os/linux/seccomp-retain-set",
        json!({ "set": set, "errno": "EXDEV" }),
    );
    let answers = answers(app, &[])?;
    ensure!(
        answers.len() == 2 && answers[0] != "EXDEV" && answers[1] == "EXDEV",
        "{answers:?}"
    );
    Ok(())
}

fn removed() -> Result<()> {
    let app = isolator(
        call(&[libc::SYS_getpid, libc::SYS_getuid, VMSPLICE]),
        "os/linux/seccomp-remove-set",
        json!({ "set": ["getuid", "@docker/default-blacklist"], "errno": "ENOTTY" }),
    );
    assert_eq!(answers(app, &[])?, ["ok", "ENOTTY", "ENOTTY"]);
    Ok(())
}

fn names_without_effect_are_told() -> Result<()> {
    with(|fixture| {
        let set = json!({ "set": ["vmsplice", "osf_fstat", "_llseek"], "errno": "ENOTTY" });
        let app = isolator(call(&[VMSPLICE]), "os/linux/seccomp-remove-set", set);
        let finished = fixture.pod([app]).run()?.expect(0)?;
        let told = "os/linux/seccomp-remove-set is modified: no system calls of this architecture: _llseek; \
            unknown to this libseccomp: osf_fstat";
        ensure!(finished.stderr.contains(told), "{finished}");
        ensure!(
            finished.console("a").contains(&"call 278: ENOTTY"),
            "{finished}"
        );
        Ok(())
    })
}

fn ended_by_sigsys() -> Result<()> {
    with(|fixture| {
        let app = isolator(
            call(&[libc::SYS_getuid]),
            "os/linux/seccomp-remove-set",
            json!({ "set": ["getuid"] }),
        );
        fixture.pod([app]).run()?.expect(128 + libc::SIGSYS)?;
        Ok(())
    })
}

fn of_an_ordinary_user_without_no_new_privileges() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing("a", NONE).option("--user=alice"))?;
        assert_eq!(
            (
                seen.status["NoNewPrivs"].as_str(),
                seen.status["Seccomp"].as_str()
            ),
            ("0", "2")
        );
        assert_eq!(
            seen.capabilities.effective | seen.capabilities.permitted | seen.capabilities.ambient,
            0
        );
        Ok(())
    })
}

fn with_no_new_privileges() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", NONE).option("--user=alice");
        let seen = fixture.see(isolator(app, "os/linux/no-new-privileges", json!(true)))?;
        assert_eq!(
            (
                seen.status["NoNewPrivs"].as_str(),
                seen.status["Seccomp"].as_str()
            ),
            ("1", "2")
        );
        Ok(())
    })
}

fn executing_stays_possible_and_is_told() -> Result<()> {
    with(|fixture| {
        let app = isolator(
            App::seeing("a", NONE),
            "os/linux/seccomp-remove-set",
            json!({ "set": ["execve"] }),
        );
        let finished = fixture.pod([app]).run()?.expect(0)?;
        ensure!(
            finished.stderr.contains(
                "os/linux/seccomp-remove-set is modified: execve stays allowed, which executes"
            ),
            "{finished}"
        );
        Ok(())
    })
}

fn everything() -> Result<()> {
    let set = json!({ "set": ["@appc.io/all"], "errno": "EXDEV" });
    // No list has this number.
    let app = isolator(call(&[100_000]), "os/linux/seccomp-retain-set", set.clone());
    assert_eq!(answers(app, &[])?, ["ENOSYS"]);
    with(|fixture| {
        // Not even the C library's start is possible then: the program was executed, and ended by that.
        let app = isolator(call(&[100_000]), "os/linux/seccomp-remove-set", set.clone());
        let finished = fixture.pod([app]).run()?;
        ensure!(
            finished
                .stderr
                .contains("is modified: execve stays allowed")
                && !finished.stdout.contains("call"),
            "{finished}"
        );
        Ok(())
    })
}

/// What the C library of a static program calls before its `main`, and to end it: between the filter and the program's
/// first instruction there must be no call of another program.
fn nothing_of_ours_meets_the_filter() -> Result<()> {
    let set = "arch_prctl brk exit_group getrandom mmap mprotect munmap newfstatat prlimit64 readlink readlinkat rseq \
        set_robust_list set_tid_address uname poll write";
    let set: Vec<_> = set.split_whitespace().collect();
    with(|fixture| {
        let app = isolator(
            App::probe("a", ["exit", "3"]),
            "os/linux/seccomp-retain-set",
            json!({ "set": set }),
        );
        fixture.pod([app]).run()?.expect(3)?;
        Ok(())
    })
}

fn wrong_requests() -> Result<()> {
    with(|fixture| {
        for (value, words) in [
            (
                json!({ "set": ["opennat"] }),
                "\"opennat\" is no system call that libseccomp knows",
            ),
            (json!({ "set": ["@x/y"] }), "there is no set \"@x/y\""),
            (
                json!({ "set": ["read"], "errno": "EFOO" }),
                "errno: \"EFOO\" is not the name of an error",
            ),
        ] {
            let app = isolator(call(&[VMSPLICE]), "os/linux/seccomp-retain-set", value);
            fixture
                .pod([app])
                .run()?
                .expect_refusal(&["os/linux/seccomp-retain-set", words])?;
        }
        Ok(())
    })
}
