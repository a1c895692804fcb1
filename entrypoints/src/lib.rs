//! The entrypoints of stage1.
