//! The library of stage1: what its entrypoints share, and what stage0 needs of it.
//!
//! # Architecture
//!
//! Making a pod has three steps, each in modules of its own:
//! 1. *facts*: [`facts`] reads what the host is like, [`appc`] what the manifests say, [`user`] and [`root`] what
//!    the apps' root file systems hold. Nothing is changed.
//! 2. *plan*: [`plan`] turns facts into values: units ([`mod@unit`]), files, mounts, the call of systemd-nspawn. It is
//!    pure, so nearly everything is tested by comparing its outcome with golden trees.
//! 3. *apply*: [`apply`] writes what the plan says, and takes it back when a step fails.
//!
//! Paths of the contract between stage0 and stage1 come from [`pod`] alone. Roots (`/`, `/proc`, the pod
//! directory) are arguments everywhere.

mod alike;
pub mod annotation;
pub mod appc;
pub mod apply;
pub mod caller;
pub mod cgroup;
pub mod confine;
pub mod copy;
pub mod cri_log;
pub mod env;
pub mod facts;
pub mod flags;
pub mod id_range;
pub mod isolate;
pub mod kernel;
pub mod limits;
pub mod listen;
pub mod load;
pub mod lock;
pub mod main_process;
pub mod net;
pub mod options;
pub mod passed;
pub mod plan;
pub mod pod;
pub mod policy;
pub mod record;
pub mod root;
pub mod spec;
pub mod status;
pub mod stream;
pub mod sys;
pub mod time_span;
pub mod unit;
pub mod usage;
pub mod user;
pub mod user_namespace;
pub mod volume;
