//! The library of stage1.

pub mod annotation;
pub mod appc;
pub mod pod;
