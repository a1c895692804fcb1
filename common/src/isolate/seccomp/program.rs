//! Makes the program that the kernel runs for each system call (seccomp(2), bpf(4)).
//!
//! libseccomp takes 10 ms and more for a list of some hundred calls, at the start of each pod; this takes less than
//! one. The program finds a number by halving, where libseccomp's compares it with each in turn; a test has both give
//! the same answers.

use std::collections::BTreeMap;

use nix::libc;

use super::calls::{Abi, X32_BIT};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It is made.
    Allow,
    /// It fails with this error.
    Errno(i32),
    /// It ends the process with SIGSYS.
    Kill,
}

/// What becomes of a call, by its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// The first case counts whose arguments, by their places, are all the same.
    pub(super) cases: Vec<(Vec<(u8, u64)>, Action)>,
    pub(super) otherwise: Action,
}

impl From<Action> for Rule {
    fn from(otherwise: Action) -> Self {
        let cases = Vec::new();
        Rule { cases, otherwise }
    }
}

/// A filter: what becomes of each call.
pub(super) struct Filter {
    default: Action,
    /// The rules for the numbers of each kind of program.
    rules: Vec<(Abi, BTreeMap<u32, Rule>)>,
}

impl Filter {
    /// A filter in which every call has this action.
    pub(super) fn new(default: Action) -> Self {
        // 32-bit programs run in containers elsewhere, so they do here.
        let abis: &[Abi] = if cfg!(target_arch = "x86_64") {
            &[Abi::Native, Abi::X32, Abi::X86]
        } else {
            &[Abi::Native]
        };
        let rules = abis.iter().map(|abi| (*abi, BTreeMap::new())).collect();
        Self { default, rules }
    }

    /// Gives the call a rule of its own, one for all its arguments or several. A call that is part of another one is
    /// allowed there, and not refused when the other is allowed.
    pub(super) fn add(&mut self, name: &str, rule: &Rule) {
        for (abi, rules) in &mut self.rules {
            for found in abi.numbers(name) {
                let Some(selector) = found.selector else {
                    rules.insert(found.number, rule.clone());
                    continue;
                };
                let whole = || Rule::from(self.default);
                let several = rules.entry(found.number).or_insert_with(whole);
                // Further arguments are in the memory of the process, where no filter can see them.
                if several.otherwise == self.default {
                    several.cases.push((vec![(0, selector)], rule.otherwise));
                }
            }
        }
    }

    /// The program, as an array of `struct sock_filter`.
    pub(super) fn program(&self) -> Vec<u8> {
        let mut code = vec![load(ARCHITECTURE)];
        let of = |wanted| {
            let rules = self.rules.iter().find(|(abi, _)| *abi == wanted);
            rules.map(|(abi, rules)| search(&self.ranges(rules), *abi))
        };
        let native = match (of(Abi::Native).unwrap_or_default(), of(Abi::X32)) {
            (native, Some(x32)) => {
                let mut both = at_least(X32_BIT, native.len());
                both.extend(native.into_iter().chain(x32));
                both
            }
            (native, None) => native,
        };
        let sections = [(NATIVE, Some(native)), (X86, of(Abi::X86))];
        for (architecture, section) in sections {
            let Some(section) = section else { continue };
            code.push(jump(EQUAL, architecture, 1, 0));
            code.push(jump_over(section.len() + 1));
            code.push(load(NUMBER));
            code.extend(section);
        }
        // A call of an architecture that is not named is one that no rule could judge.
        code.push(give(Action::Kill));
        code.iter().flat_map(bytes).collect()
    }

    /// The rules by the first number that each holds for, up to that of the next.
    fn ranges(&self, rules: &BTreeMap<u32, Rule>) -> Vec<(u32, Rule)> {
        let mut ranges = vec![(0, Rule::from(self.default))];
        for (number, rule) in rules {
            if ranges.last().is_some_and(|(first, _)| first == number) {
                ranges.pop();
            }
            if ranges.last().is_none_or(|(_, last)| last != rule) {
                ranges.push((*number, rule.clone()));
            }
            if *rule != Rule::from(self.default) {
                ranges.push((number + 1, self.default.into()));
            }
        }
        ranges
    }
}

/// Where the kernel's `struct seccomp_data` has them.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64` and the like (`linux/audit.h`): the machine of ELF, 64-bit, little-endian.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
const X86: u32 = 0x4000_0003;

/// The conditions of jumps.
const EQUAL: u32 = libc::BPF_JEQ;
const AT_LEAST: u32 = libc::BPF_JGE;

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    // Codes have 16 bits; libc has them in 32.
    let code = u16::try_from(code).unwrap_or_default();
    libc::sock_filter { code, jt, jf, k }
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump(condition: u32, value: u32, jt: u8, jf: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, jt, jf, value)
}

fn jump_over(instructions: usize) -> libc::sock_filter {
    let distance = u32::try_from(instructions).unwrap_or(u32::MAX);
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, distance)
}

fn give(action: Action) -> libc::sock_filter {
    let value = match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        Action::Errno(number) => libc::SECCOMP_RET_ERRNO | (number.unsigned_abs() & 0xffff),
    };
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn bytes(instruction: &libc::sock_filter) -> Vec<u8> {
    let code = instruction.code.to_ne_bytes().into_iter();
    let jumps = [instruction.jt, instruction.jf];
    code.chain(jumps)
        .chain(instruction.k.to_ne_bytes())
        .collect()
}

/// Jumps over what follows when the value is at least `bound`. A condition can only jump over 255 instructions.
fn at_least(bound: u32, over: usize) -> Vec<libc::sock_filter> {
    match u8::try_from(over) {
        Ok(over) => vec![jump(AT_LEAST, bound, over, 0)],
        Err(_) => vec![jump(AT_LEAST, bound, 0, 1), jump_over(over)],
    }
}

/// Finds the range of a number and does what is said there.
fn search(ranges: &[(u32, Rule)], abi: Abi) -> Vec<libc::sock_filter> {
    if let [(_, rule)] = ranges {
        return decide(rule, abi);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = search(low, abi);
    let mut code = at_least(high[0].0, below.len());
    code.extend(below);
    code.extend(search(high, abi));
    code
}

/// Does what a rule says of the arguments.
fn decide(rule: &Rule, abi: Abi) -> Vec<libc::sock_filter> {
    let mut code = Vec::new();
    for (arguments, action) in &rule.cases {
        // Where an argument is a number of 32 bits, the kernel has not looked at more either.
        let halves: Vec<_> = arguments
            .iter()
            .flat_map(|(place, value)| {
                let offset = ARGUMENTS + 8 * u32::from(*place);
                let (low, high) = (*value & 0xffff_ffff, *value >> 32);
                let high = (abi == Abi::Native).then_some((offset + 4, high));
                [(offset, low)].into_iter().chain(high)
            })
            .collect();
        for (number, (offset, value)) in halves.iter().enumerate() {
            // Each comparison has two instructions, and the action one.
            let rest = 2 * (halves.len() - number) - 1;
            code.push(load(*offset));
            let (value, rest) = (u32::try_from(*value), u8::try_from(rest));
            code.push(jump(
                EQUAL,
                value.unwrap_or_default(),
                0,
                rest.unwrap_or_default(),
            ));
        }
        code.push(give(*action));
    }
    code.push(give(rule.otherwise));
    code
}
