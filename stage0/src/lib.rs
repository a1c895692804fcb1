//! stage0: fetches and unpacks images, lays out pod directories and runs a stage1's entrypoints.

pub mod cmd;
pub mod image;
pub mod logs;
mod notice;
pub mod pod;
pub mod store;
mod whole;
