//! What the isolators of an app ask for, typed and checked: the step between manifest and plan.

pub mod capability;
pub mod device;
pub mod lsm;
pub mod quantity;
pub mod resource;
pub mod seccomp;
pub mod sysctl;
