//! Digests of content, checked while it is read.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// A running digest.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-256, what OCI images use.
    Sha256(Sha256),
    /// SHA-384.
    Sha384(Sha384),
    /// SHA-512, what appc images use.
    Sha512(Sha512),
}

impl Hasher {
    /// The hasher for an algorithm; only those that no one is known to break are supported.
    pub fn new(algorithm: &DigestAlgorithm) -> Result<Self> {
        Ok(match algorithm {
            DigestAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            DigestAlgorithm::Sha384 => Self::Sha384(Sha384::new()),
            DigestAlgorithm::Sha512 => Self::Sha512(Sha512::new()),
            other => bail!("digest algorithm {other}: must be sha256, sha384 or sha512"),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha384(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Result<Digest> {
        let text = match self {
            Self::Sha256(hash) => format!("sha256:{:x}", hash.finalize()),
            Self::Sha384(hash) => format!("sha384:{:x}", hash.finalize()),
            Self::Sha512(hash) => format!("sha512:{:x}", hash.finalize()),
        };
        parse(&text)
    }
}

/// Reads a digest such as `sha256:9f86d0…`.
pub fn parse(text: &str) -> Result<Digest> {
    let digest: Digest = text.parse().with_context(|| format!("digest {text:?}"))?;
    Hasher::new(digest.algorithm())?;
    Ok(digest)
}

/// Passes what it reads to a hasher.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> HashingReader<R> {
    /// Hashes what is read from `inner`.
    pub fn new(inner: R, algorithm: &DigestAlgorithm) -> Result<Self> {
        Ok(Self {
            inner,
            hasher: Hasher::new(algorithm)?,
            count: 0,
        })
    }

    /// Reads what is left, and gives the digest and the size of everything.
    pub fn finish(mut self) -> Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.hasher.finish()?, self.count))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

/// Fails unless the digest is the expected one.
pub fn check(found: &Digest, expected: &Digest) -> Result<()> {
    if found != expected {
        bail!("digest is {found}, expected {expected}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let read = |algorithm| {
            let reader = HashingReader::new(&b"abc"[..], &algorithm).unwrap();
            reader.finish().unwrap()
        };
        let (digest, size) = read(DigestAlgorithm::Sha256);
        assert_eq!(size, 3);
        assert_eq!(
            digest.as_ref(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let (digest, _) = read(DigestAlgorithm::Sha512);
        assert!(
            digest
                .as_ref()
                .starts_with("sha512:ddaf35a193617abacc417349ae204131")
        );
    }

    #[test]
    fn weak_and_malformed_digests_are_refused() {
        for (text, why) in [
            ("md5:900150983cd24fb0d6963f7d28e17f72", "must be sha256"),
            ("sha256:00", "digest \"sha256:00\""),
            ("sha256:../../etc/passwd", "digest"),
            ("nothing", "digest"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
