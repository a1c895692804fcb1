//! What the image needs to know of an ELF file.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use goblin::elf::{Elf, SectionHeader};

use crate::command;

/// The facts of one ELF file.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Names of the libraries that the loader looks for
    pub(crate) needed: Vec<String>,
    /// The loader, if the file is a program that wants one
    pub(crate) interpreter: Option<String>,
    /// Whether symbols or debug information can be stripped
    pub(crate) symbols: bool,
}

/// Whether `data` begins like an ELF file.
pub(crate) fn is_elf(data: &[u8]) -> bool {
    data.starts_with(goblin::elf::header::ELFMAG)
}

/// Reads an ELF file.
pub(crate) fn facts(data: &[u8]) -> Result<Facts> {
    let elf = Elf::parse(data).context("read the ELF file")?;
    let debug =
        |section: &SectionHeader| elf.shdr_strtab.get_at(section.sh_name) == Some(".debug_info");
    Ok(Facts {
        needed: elf.libraries.iter().map(|&name| name.to_owned()).collect(),
        interpreter: elf.interpreter.map(str::to_owned),
        symbols: !elf.syms.is_empty() || elf.section_headers.iter().any(debug),
    })
}

/// The file without symbols and debug information; as it is where there is nothing to take away.
pub(crate) fn stripped(data: Vec<u8>) -> Result<Vec<u8>> {
    if !facts(&data)?.symbols {
        return Ok(data);
    }
    let folder = tempfile::tempdir().context("create a folder for strip")?;
    let path = folder.path().join("program");
    fs::write(&path, data).with_context(|| format!("write {}", path.display()))?;
    command::output(Command::new("strip").arg("--strip-all").arg(&path))?;
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_symbols_until_stripped() {
        let data = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(is_elf(&data));
        assert!(facts(&data).unwrap().symbols);
        let small = stripped(data).unwrap();
        assert!(!facts(&small).unwrap().symbols);
        assert_eq!(stripped(small.clone()).unwrap(), small);
    }

    #[test]
    fn libraries_of_a_dynamic_program() {
        let facts = facts(&fs::read("/bin/sh").unwrap()).unwrap();
        assert!(
            facts.needed.iter().any(|name| name == "libc.so.6"),
            "{facts:?}"
        );
        assert!(facts.interpreter.is_some());
    }
}
