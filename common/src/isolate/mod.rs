//! What the isolators of an app ask for, typed and checked: the step between manifest and plan.

pub mod capability;
pub mod device;
pub mod lsm;
pub mod quantity;
pub mod resource;
pub mod seccomp;
pub mod sysctl;

/// How alike two names must be for one to be meant by the other (Jaro-Winkler similarity, 1 is equal).
const ALIKE: f64 = 0.85;
