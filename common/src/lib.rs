//! The library of stage1.
