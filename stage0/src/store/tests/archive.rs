//! Tar archives, well-formed and not, entry by entry.

use tar::{Builder, EntryType, Header};

/// An archive that is being written. Names and links are taken as they are.
pub(super) struct Archive {
    builder: Builder<Vec<u8>>,
    prefix: &'static str,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self::below("")
    }

    /// With a prefix before each name.
    fn below(prefix: &'static str) -> Self {
        Self {
            builder: Builder::new(Vec::new()),
            prefix,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    /// For an ACI's files.
    pub(super) fn rootfs() -> Self {
        Self::below("rootfs/").raw("rootfs", EntryType::Directory, 0o755, "", b"")
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        let name = format!("{}{name}", self.prefix);
        self.raw(&name, EntryType::Directory, mode, "", b"")
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.file_mode(name, 0o644, content)
    }

    pub(super) fn file_mode(self, name: &str, mode: u32, content: &str) -> Self {
        let name = format!("{}{name}", self.prefix);
        self.raw(&name, EntryType::Regular, mode, "", content.as_bytes())
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        let name = format!("{}{name}", self.prefix);
        self.raw(&name, EntryType::Symlink, 0o777, target, b"")
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        let (name, target) = (
            format!("{}{name}", self.prefix),
            format!("{}{target}", self.prefix),
        );
        self.raw(&name, EntryType::Link, 0o644, &target, b"")
    }

    pub(super) fn node(mut self, name: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let mut header = self.header(name, kind, 0o666, "");
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.builder.append(&header, &b""[..]).unwrap();
        self
    }

    /// PAX records for the next entry.
    pub(super) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.builder
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub(super) fn raw(
        mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        link: &str,
        content: &[u8],
    ) -> Self {
        let mut header = self.header(name, kind, mode, link);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.builder.append(&header, content).unwrap();
        self
    }

    fn header(&self, name: &str, kind: EntryType, mode: u32, link: &str) -> Header {
        let mut header = Header::new_gnu();
        // The setters refuse what hostile archives have.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        header
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }
}

/// An ACI with the manifest behind the files.
pub(super) fn aci(manifest: &str, entries: Archive) -> Vec<u8> {
    entries
        .raw(
            "manifest",
            EntryType::Regular,
            0o644,
            "",
            manifest.as_bytes(),
        )
        .bytes()
}

/// The manifest of an ACI that has a name, and further fields.
pub(super) fn manifest(name: &str, fields: &str) -> String {
    format!(r#"{{"acKind":"ImageManifest","acVersion":"0.8.11","name":"{name}"{fields}}}"#)
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(data, flate2::Compression::fast());
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut encoder, &mut out).unwrap();
    out
}

pub(super) fn xz(data: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::read::XzEncoder::new(data, 1);
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut encoder, &mut out).unwrap();
    out
}
