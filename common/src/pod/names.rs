//! What is in the folders of a pod.

use std::fs;
use std::io;
use std::path::Path;

/// The names in a folder of the contract; none when it is not there.
///
/// # Errors
/// When it is no folder.
pub fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}
