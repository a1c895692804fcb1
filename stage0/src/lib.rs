//! stage0: fetches and unpacks images, lays out pod directories and runs a stage1's entrypoints.

pub mod image;
pub mod store;
