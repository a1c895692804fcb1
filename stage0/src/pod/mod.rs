//! Pods on disk: their directories, states and locks, and their life from prepare to gc.
//!
//! A pod is a directory that is renamed from one [`Place`] to the next as its life goes on. What state it is in is never
//! written down: it follows from the place, the lock on the directory and whether processes of the pod live, so any
//! process may die at any point and the next command sees the truth.

pub mod change;
pub mod delete;
pub mod dns;
pub mod entrypoint;
pub mod gc;
pub mod life;
pub mod lock;
pub mod mounts;
pub mod overlay;
pub mod place;
pub mod prepare;
pub mod process;
pub mod report;
pub mod run;
pub mod stage1;
pub mod state;
pub mod undo;
pub mod users;
pub mod wait;

pub use place::{Place, Pods};
pub use state::{Pod, Seen, State};
