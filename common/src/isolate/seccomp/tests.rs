//! Has libseccomp make the same filters, and the programs of both judge all calls.

use std::fs::File;
use std::io::{Read, Seek};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, scmp_cmp,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::*;

fn context(default: ScmpAction) -> ScmpFilterContext {
    let mut context = ScmpFilterContext::new(default).unwrap();
    if cfg!(target_arch = "x86_64") {
        context.add_arch(ScmpArch::X86).unwrap();
        context.add_arch(ScmpArch::X32).unwrap();
    }
    context.set_act_badarch(ScmpAction::KillProcess).unwrap();
    context
}

fn add<'a>(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    names: impl IntoIterator<Item = &'a String>,
) {
    for name in names {
        if let Ok(call) = ScmpSyscall::from_name(name) {
            context.add_rule(action, call).unwrap();
        }
    }
}

fn add_sockets(context: &mut ScmpFilterContext, audit: ScmpAction) {
    let socket = ScmpSyscall::from_name("socket").unwrap();
    let (family, protocol) = AUDIT_SOCKET;
    let not = |arg, value| ScmpArgCompare::new(arg, ScmpCompareOp::NotEqual, value);
    let allow = ScmpAction::Allow;
    let both = [scmp_cmp!($arg0 == family), scmp_cmp!($arg2 == protocol)];
    for (action, comparisons) in [
        (audit, &both[..]),
        (allow, &[not(0, family)]),
        (allow, &[not(2, protocol)]),
    ] {
        let added = context.add_rule_conditional(action, socket, comparisons);
        added.unwrap();
    }
}

fn export(context: &ScmpFilterContext) -> Vec<u8> {
    let mut file = File::from(memfd_create("filter", MemfdFlags::CLOEXEC).unwrap());
    context.export_bpf(&file).unwrap();
    file.rewind().unwrap();
    let mut program = Vec::new();
    file.read_to_end(&mut program).unwrap();
    program
}

fn libseccomps_default(capabilities: &CapsHashSet) -> Vec<u8> {
    let list = sets::default();
    let refuse = ScmpAction::Errno(libc::EPERM);
    let mut context = context(ScmpAction::Errno(libc::ENOSYS));
    add(&mut context, ScmpAction::Allow, &list.allow);
    add(&mut context, refuse, &list.refuse);
    for (capability, names) in &list.for_capability {
        let granted = capabilities.contains(&capability.parse::<Capability>().unwrap());
        let action = if granted { ScmpAction::Allow } else { refuse };
        // What everybody may is not taken away.
        let names = names.iter().filter(|name| !list.allow.contains(name));
        add(&mut context, action, names);
    }
    let personality = ScmpSyscall::from_name("personality").unwrap();
    for allowed in PERSONALITIES {
        let comparison = [scmp_cmp!($arg0 == allowed)];
        let added = context.add_rule_conditional(ScmpAction::Allow, personality, &comparison);
        added.unwrap();
    }
    if capabilities.contains(&Capability::CAP_AUDIT_WRITE) {
        add(&mut context, ScmpAction::Allow, &["socket".to_owned()]);
    } else {
        add_sockets(&mut context, ScmpAction::Errno(libc::EINVAL));
    }
    export(&context)
}

fn libseccomps_pod(capabilities: &CapsHashSet) -> Vec<u8> {
    let mut context = context(ScmpAction::Errno(libc::ENOSYS));
    let mut calls = sets::pod().allowed(capabilities);
    calls.remove("socket");
    let refused = sets::known().filter(|call| call != "socket" && !calls.contains(call));
    let refused: Vec<_> = refused.collect();
    add(&mut context, ScmpAction::Errno(libc::EPERM), &refused);
    add(&mut context, ScmpAction::Allow, &calls);
    add_sockets(&mut context, ScmpAction::Errno(libc::EAFNOSUPPORT));
    export(&context)
}

fn libseccomps_request(request: &Request) -> Vec<u8> {
    let refuse = request
        .errno
        .map_or(ScmpAction::KillProcess, ScmpAction::Errno);
    let (default, action) = match request.mode {
        Mode::Retain => (refuse, ScmpAction::Allow),
        Mode::Remove => (ScmpAction::Allow, refuse),
    };
    let mut context = context(default);
    let names = request.names.iter().filter(|name| *name != EXECUTE);
    add(&mut context, action, names);
    if request.mode == Mode::Retain {
        add(&mut context, action, &[EXECUTE.to_owned()]);
    }
    export(&context)
}

/// What the kernel gives a filter.
#[derive(Debug, Clone, Copy)]
struct Call {
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(self, offset: u32) -> u32 {
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap();
        match offset {
            0 => self.number,
            4 => self.architecture,
            offset => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                low(if offset % 8 == 0 {
                    argument
                } else {
                    argument >> 32
                })
            }
        }
    }
}

/// Runs a program as the kernel does, as far as filters use what it can.
fn judge(program: &[u8], call: Call) -> u32 {
    let (mut at, mut value) = (0, 0);
    loop {
        let raw = &program[8 * at..8 * at + 8];
        let code = u32::from(u16::from_ne_bytes([raw[0], raw[1]]));
        let k = u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]);
        at += 1;
        let holds = match code {
            _ if code == libc::BPF_RET => return k,
            _ if code == libc::BPF_LD | libc::BPF_ABS => {
                value = call.word(k);
                continue;
            }
            _ if code == libc::BPF_JMP | libc::BPF_JA => {
                at += k as usize;
                continue;
            }
            _ if code == libc::BPF_JMP | libc::BPF_JEQ => value == k,
            _ if code == libc::BPF_JMP | libc::BPF_JGE => value >= k,
            _ if code == libc::BPF_JMP | libc::BPF_JGT => value > k,
            _ => panic!("instruction {code:#x}"),
        };
        at += usize::from(raw[if holds { 2 } else { 3 }]);
    }
}

fn calls() -> impl Iterator<Item = Call> {
    let x32 = 0x4000_0000;
    let numbers = (0..500)
        .chain(x32..x32 + 600)
        .chain([x32 - 1, i32::MAX as u32]);
    // Parts of socketcall(2) and ipc(2), personalities, and an audit socket, with what only looks like it.
    let first = (0..25).chain([0x20000, 0x20008, 0xffff_ffff, (1 << 32) + 16]);
    let places: Vec<(u64, u64)> = first
        .map(|a| (a, 0))
        .chain([(16, 9), (2, 9), (16, (1 << 32) + 9)])
        .collect();
    let architectures = [0xc000_003e, 0x4000_0003, 0xc000_00b7];
    architectures.into_iter().flat_map(move |architecture| {
        let places = places.clone();
        numbers.clone().flat_map(move |number| {
            let call = move |(a, c)| Call {
                architecture,
                number,
                arguments: [a, 0, c, 0, 0, 0],
            };
            places.clone().into_iter().map(call)
        })
    })
}

#[track_caller]
fn same(ours: &[u8], libseccomps: &[u8]) {
    assert!(
        ours.len() < 8 * 4096,
        "{} bytes: more than the kernel takes",
        ours.len()
    );
    for call in calls() {
        let (ours, theirs) = (judge(ours, call), judge(libseccomps, call));
        assert!(ours == theirs, "{ours:#x}, not {theirs:#x}: {call:x?}");
    }
}

#[test]
fn default_filters_are_libseccomps() {
    let audit = CapsHashSet::from([Capability::CAP_AUDIT_WRITE]);
    for capabilities in [
        CapsHashSet::from(capability::DEFAULT),
        audit,
        CapsHashSet::new(),
    ] {
        let ours = compile(None, &capabilities).unwrap().program;
        same(&ours, &libseccomps_default(&capabilities));
    }
}

#[test]
fn filters_of_pods_are_libseccomps() {
    for capabilities in [CapsHashSet::from(capability::DEFAULT), CapsHashSet::new()] {
        let capabilities = capability::of_pod(&capabilities);
        same(&compile_pod(&capabilities), &libseccomps_pod(&capabilities));
    }
}

#[test]
fn requested_filters_are_libseccomps() {
    let set = |name: &str| sets::named(name).unwrap();
    let names = |names: &str| names.split(' ').map(str::to_owned).collect();
    for (mode, names, errno) in [
        (
            Mode::Retain,
            set("@systemd/system-service"),
            Some(libc::EPERM),
        ),
        (
            Mode::Retain,
            names("read write bind accept semop shmat"),
            None,
        ),
        (
            Mode::Remove,
            set("@docker/default-blacklist"),
            Some(libc::ENOTTY),
        ),
        (
            Mode::Remove,
            names("socket msgget execve mmap socketcall"),
            None,
        ),
        (Mode::Remove, set("@systemd/network-io"), Some(libc::EXDEV)),
    ] {
        let all = false;
        let request = Request {
            mode,
            names,
            all,
            errno,
        };
        let ours = compile(Some(&request), &capability::DEFAULT.into()).unwrap();
        same(&ours.program, &libseccomps_request(&request));
    }
}

#[test]
fn filters_for_everything_have_one_answer() {
    for (mode, expected) in [
        (Mode::Retain, libc::SECCOMP_RET_ALLOW),
        (Mode::Remove, libc::SECCOMP_RET_ERRNO | 18),
    ] {
        let request = Request {
            mode,
            names: [].into(),
            all: true,
            errno: Some(libc::EXDEV),
        };
        let program = compile(Some(&request), &capability::DEFAULT.into())
            .unwrap()
            .program;
        for call in calls().filter(|call| call.architecture == 0xc000_003e) {
            let execve = mode == Mode::Remove && [59, 0x4000_0000 + 520].contains(&call.number);
            let expected = if execve {
                libc::SECCOMP_RET_ALLOW
            } else {
                expected
            };
            assert_eq!(judge(&program, call), expected, "{call:x?}");
        }
    }
}
