//! The numbers of system calls on each architecture whose programs run on this one.

use libseccomp::{ScmpArch, ScmpSyscall};

/// A way of programs to call the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    /// That of this program.
    Native,
    /// 32-bit programs on x86-64.
    X86,
    /// Programs with 32-bit pointers on x86-64: the native calls, and a bit of their numbers set.
    X32,
}

/// The bit of numbers of [`Abi::X32`].
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// What stands for a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) number: u32,
    /// Its first argument, when the call of that number is several.
    pub(super) selector: Option<u64>,
}

/// `socketcall` and `ipc` of [`Abi::X86`], by how libseccomp numbers what they do: 100 and 200 below the negative first
/// argument.
const SOCKETCALL: (u32, i32) = (102, -100);
const IPC: (u32, i32) = (117, -200);

/// What [`Abi::X86`] can do by `socketcall` and `ipc`, and since Linux 4.3 and 5.1 by a call of its own
/// (`arch/x86/entry/syscalls/syscall_32.tbl`). `accept`, `send`, `recv`, `semop` and `semtimedop` have none.
const OWN_CALLS: [(i32, u32); 27] = [
    (-101, 359),
    (-102, 361),
    (-103, 362),
    (-104, 363),
    (-106, 367),
    (-107, 368),
    (-108, 360),
    (-111, 369),
    (-112, 371),
    (-113, 373),
    (-114, 366),
    (-115, 365),
    (-116, 370),
    (-117, 372),
    (-118, 364),
    (-119, 337),
    (-120, 345),
    (-202, 393),
    (-203, 394),
    (-211, 400),
    (-212, 401),
    (-213, 399),
    (-214, 402),
    (-221, 397),
    (-222, 398),
    (-223, 395),
    (-224, 396),
];

impl Abi {
    fn architecture(self) -> ScmpArch {
        match self {
            Self::Native => ScmpArch::native(),
            Self::X86 => ScmpArch::X86,
            Self::X32 => ScmpArch::X32,
        }
    }

    /// The numbers of a call, by its name; none when there is no such call, or this libseccomp does not know it: lists
    /// are made with other versions.
    pub(super) fn numbers(self, name: &str) -> Vec<Number> {
        let Ok(call) = ScmpSyscall::from_name_by_arch(name, self.architecture()) else {
            return Vec::new();
        };
        let call = i32::from(call);
        if let Ok(number) = u32::try_from(call) {
            let selector = None;
            return vec![Number { number, selector }];
        }
        let several = match call {
            -120..=-101 if self == Self::X86 => SOCKETCALL,
            -224..=-201 if self == Self::X86 => IPC,
            _ => return Vec::new(),
        };
        let (number, zero) = several;
        let selector = u64::try_from(zero - call).ok();
        let own = OWN_CALLS.iter().find(|(known, _)| *known == call);
        let own = own.map(|&(_, number)| Number {
            number,
            selector: None,
        });
        [Number { number, selector }]
            .into_iter()
            .chain(own)
            .collect()
    }
}
