//! Sparse files as GNU tar writes them into PAX archives (formats 0.0, 0.1 and 1.0). The tar crate
//! reads only the older format, which has an entry type of its own.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};

/// Most pieces of data that a file may consist of.
const MAX_PIECES: usize = 1 << 20;
/// The size of an archive's blocks, to which a map in front of the data is padded.
const BLOCK: usize = 512;

/// The records of one entry that describe a sparse file.
#[derive(Debug, Default)]
pub(super) struct Records {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    version: Option<(u64, u64)>,
    numbers: Vec<u64>,
    invalid: bool,
}

/// A sparse file.
#[derive(Debug)]
pub(super) struct Description {
    /// Its real name.
    pub name: Vec<u8>,
    size: u64,
    /// Offset and length of each piece of data; without it the map is in front of the data.
    map: Option<Vec<(u64, u64)>>,
}

impl Records {
    /// Adds the record `GNU.sparse.KEY`.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        match key {
            b"name" => self.name = Some(value.to_owned()),
            b"size" | b"realsize" => self.size = number(),
            b"major" => self.version = number().map(|n| (n, 0)),
            b"minor" => self.version = self.version.zip(number()).map(|((n, _), m)| (n, m)),
            b"offset" | b"numbytes" => match number() {
                Some(number) => self.numbers.push(number),
                None => self.invalid = true,
            },
            b"map" => match value.split(|b| *b == b',').map(decimal).collect() {
                Some(numbers) => self.numbers = numbers,
                None => self.invalid = true,
            },
            _ => {}
        }
    }

    /// What the records say together, if they are about a sparse file.
    pub(super) fn description(self) -> Result<Option<Description>> {
        let Some(size) = self.size else {
            return Ok(None);
        };
        let map = match self.version {
            Some((1, 0)) => None,
            Some((0, _)) | None => Some(pairs(&self.numbers)),
            Some((major, minor)) => bail!("sparse file of the unknown format {major}.{minor}"),
        };
        if self.invalid {
            bail!("sparse file with an invalid map");
        }
        let Some(name) = self.name else {
            bail!("sparse file without a name");
        };
        Ok(Some(Description { name, size, map }))
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn pairs(numbers: &[u64]) -> Vec<(u64, u64)> {
    numbers
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect()
}

/// The size and the content of the file, holes read as zeros.
pub(super) fn expand<'a>(
    mut data: impl Read + 'a,
    description: &Description,
) -> Result<(u64, Box<dyn Read + 'a>)> {
    let map = match &description.map {
        Some(map) => map.clone(),
        None => read_map(&mut data).context("read the map of a sparse file")?,
    };
    let mut end = 0;
    let mut pieces = Vec::new();
    for (offset, length) in map {
        let hole = offset.checked_sub(end);
        let next = offset
            .checked_add(length)
            .filter(|next| *next <= description.size);
        let (Some(hole), Some(next)) = (hole, next) else {
            bail!("sparse file with an invalid map");
        };
        pieces.push(Piece { hole, data: length });
        end = next;
    }
    pieces.push(Piece {
        hole: description.size - end,
        data: 0,
    });
    pieces.reverse();
    let expanded = Expanded { data, pieces };
    Ok((description.size, Box::new(expanded)))
}

/// The map in front of the data: the number of pieces, then offset and length of each, a line each.
fn read_map(data: &mut impl Read) -> Result<Vec<(u64, u64)>> {
    let mut numbers = Vec::new();
    let mut number = Vec::new();
    loop {
        let mut block = [0; BLOCK];
        data.read_exact(&mut block)?;
        for byte in block {
            if byte != b'\n' {
                number.push(byte);
                continue;
            }
            let value = decimal(&number).context("it has something that is no number")?;
            number.clear();
            numbers.push(value);
            let count = usize::try_from(numbers[0])
                .ok()
                .filter(|c| *c <= MAX_PIECES);
            let count = count.context("it has too many pieces")?;
            if numbers.len() == 1 + 2 * count {
                return Ok(pairs(&numbers[1..]));
            }
        }
        if number.len() > BLOCK {
            bail!("it has something that is no number");
        }
    }
}

/// Some zeros, then some data.
struct Piece {
    hole: u64,
    data: u64,
}

struct Expanded<R> {
    data: R,
    /// The pieces that are left, the next one last.
    pieces: Vec<Piece>,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.pieces.last_mut() {
            let left = if piece.hole > 0 {
                piece.hole
            } else {
                piece.data
            };
            let want = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            if piece.hole > 0 {
                buffer[..want].fill(0);
                piece.hole -= want as u64;
                return Ok(want);
            }
            if piece.data > 0 {
                let count = self.data.read(&mut buffer[..want])?;
                piece.data -= count as u64;
                return Ok(count);
            }
            self.pieces.pop();
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(records: &[(&str, &str)]) -> Result<Option<Description>> {
        let mut all = Records::default();
        for (key, value) in records {
            all.add(key.as_bytes(), value.as_bytes());
        }
        all.description()
    }

    fn content(data: &[u8], records: &[(&str, &str)]) -> Result<Vec<u8>> {
        let description = described(records)?.unwrap();
        let (size, mut reader) = expand(data, &description)?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        assert_eq!(content.len() as u64, size);
        Ok(content)
    }

    #[test]
    fn every_format() {
        let name = ("name", "file");
        let zero = [
            name,
            ("size", "10"),
            ("numblocks", "2"),
            ("offset", "2"),
            ("numbytes", "3"),
        ];
        let zero = [&zero[..], &[("offset", "8"), ("numbytes", "1")]].concat();
        assert_eq!(content(b"abcd", &zero).unwrap(), b"\0\0abc\0\0\0d\0");
        let one = [name, ("size", "10"), ("map", "2,3,8,1")];
        assert_eq!(content(b"abcd", &one).unwrap(), b"\0\0abc\0\0\0d\0");
        let new = [("major", "1"), ("minor", "0"), name, ("realsize", "10")];
        let mut data = b"2\n2\n3\n8\n1\n".to_vec();
        data.resize(512, 0);
        data.extend(b"abcd");
        assert_eq!(content(&data, &new).unwrap(), b"\0\0abc\0\0\0d\0");
    }

    #[test]
    fn other_entries_are_not_sparse() {
        assert!(described(&[]).unwrap().is_none());
    }

    #[test]
    fn hostile_maps_are_refused() {
        let name = ("name", "file");
        for map in ["5,3,2,1", "0,11", "18446744073709551615,2", "x"] {
            assert!(
                content(b"abcd", &[name, ("size", "10"), ("map", map)]).is_err(),
                "{map}"
            );
        }
        let new = [("major", "1"), ("minor", "0"), name, ("realsize", "10")];
        for data in ["99999999999999999999\n", "4294967295\n", "1\nx\n"] {
            let mut data = data.as_bytes().to_vec();
            data.resize(512, 0);
            assert!(content(&data, &new).is_err());
        }
        assert!(described(&[name, ("size", "1"), ("major", "2"), ("minor", "0")]).is_err());
    }
}
