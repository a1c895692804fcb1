//! Compression of archives, recognised by content.

use std::io::{self, BufReader, Cursor, Read};

use anyhow::{Context, Result};
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;

/// As many bytes as the longest magic number has.
const MAGIC: usize = 6;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Compression {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A frame, or one of the skippable frames that may come before the first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Reads the uncompressed content of `reader`, and says how it is compressed.
pub fn decoder<'a>(mut reader: impl Read + 'a) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let mut start = Vec::with_capacity(MAGIC);
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let whole = BufReader::with_capacity(1 << 16, Cursor::new(start).chain(reader));
    let decoder: Box<dyn Read> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(XzDecoder::new_multi_decoder(whole)),
        Compression::Zstd => {
            Box::new(zstd::Decoder::with_buffer(whole).context("start decompressing zstd")?)
        }
    };
    Ok((
        compression,
        Box::new(Explained {
            decoder,
            compression,
        }),
    ))
}

/// Says which decompressor found the data wrong: their own messages are as short as "corrupt".
struct Explained<'a> {
    decoder: Box<dyn Read + 'a>,
    compression: Compression,
}

impl Read for Explained<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| {
            let name = match self.compression {
                Compression::None => return error,
                Compression::Gzip => "gzip",
                Compression::Bzip2 => "bzip2",
                Compression::Xz => "xz",
                Compression::Zstd => "zstd",
            };
            io::Error::new(error.kind(), format!("decompress {name}: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn compressed(compression: Compression, data: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => data.to_vec(),
            Compression::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut writer = bzip2::write::BzEncoder::new(Vec::new(), Default::default());
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
            Compression::Xz => {
                let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 6);
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(data, 3).unwrap(),
        }
    }

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Bzip2,
        Compression::Xz,
        Compression::Zstd,
    ];

    #[test]
    fn every_kind_is_recognised_and_read() {
        let data: Vec<u8> = (0..100_000u32)
            .flat_map(|n| (n % 251).to_le_bytes())
            .collect();
        for kind in ALL {
            // Several streams in a row are one file: parallel compressors write them.
            let (first, second) = data.split_at(1000);
            let mut bytes = compressed(kind, first);
            bytes.extend(compressed(kind, second));
            let (found, mut reader) = decoder(bytes.as_slice()).unwrap();
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert_eq!(found, kind);
            assert!(read == data, "{kind:?}");
        }
    }

    #[test]
    fn truncated_data_is_an_error() {
        let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        for kind in ALL.into_iter().skip(1) {
            let bytes = compressed(kind, &data);
            let (_, mut reader) = decoder(&bytes[..bytes.len() / 2]).unwrap();
            let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
            assert!(
                error.to_string().starts_with("decompress "),
                "{kind:?}: {error}"
            );
        }
    }

    #[test]
    fn short_input_is_not_compressed() {
        let (kind, mut reader) = decoder(&b"B"[..]).unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!((kind, read.as_slice()), (Compression::None, &b"B"[..]));
    }
}
