//! What was read of a stream last, for all who are to have it: each remembers how far it has come. So what is kept is
//! bounded, however many there are.

/// How much is kept, in bytes.
pub(super) const SIZE: usize = 128 * 1024;

/// The last bytes of a stream. Positions in it count from the stream's beginning.
pub(super) struct Ring {
    bytes: Box<[u8]>,
    end: u64,
    /// The position that the first of the bytes has, or had.
    origin: u64,
}

impl Ring {
    /// An empty one.
    pub(super) fn new() -> Self {
        Ring {
            bytes: vec![0; SIZE].into_boxed_slice(),
            end: 0,
            origin: 0,
        }
    }

    /// The position behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The position of the first byte that is still there.
    pub(super) fn start(&self) -> u64 {
        self.end.saturating_sub(SIZE as u64).max(self.origin)
    }

    /// Forgets all bytes, which everybody has: as long as they are few at a time the same memory is used for all of them.
    pub(super) fn forget(&mut self) {
        self.origin = self.end;
    }

    /// Where bytes are to be read to, `limit` of them at most. They take the place of the oldest.
    pub(super) fn space(&mut self, limit: usize) -> &mut [u8] {
        let at = self.index(self.end);
        let length = limit.min(SIZE - at);
        &mut self.bytes[at..at + length]
    }

    /// Notes that `count` bytes were read to where [`Ring::space`] said.
    pub(super) fn advance(&mut self, count: usize) {
        self.end += count as u64;
    }

    /// What there is from a position on, or the first part of it; nothing at the end.
    pub(super) fn from(&self, position: u64) -> &[u8] {
        let left = usize::try_from(self.end - position).unwrap_or(SIZE);
        let at = self.index(position);
        &self.bytes[at..at + left.min(SIZE - at)]
    }

    fn index(&self, position: u64) -> usize {
        usize::try_from((position - self.origin) % SIZE as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_took_across_its_seam() {
        let mut ring = Ring::new();
        let mut position = 0;
        let mut next = 0_u8;
        for round in 0..40 {
            let length = 9_000 + round;
            let mut left = length;
            while left > 0 {
                let space = ring.space(left);
                for byte in space.iter_mut() {
                    *byte = next;
                    next = next.wrapping_add(1);
                }
                let count = space.len();
                ring.advance(count);
                left -= count;
            }
            let mut seen = 0;
            while position < ring.end() {
                let bytes = ring.from(position);
                let first = u8::try_from(position % 256).unwrap();
                assert_eq!(bytes[0], first);
                seen += bytes.len();
                position += bytes.len() as u64;
            }
            assert_eq!(seen, length);
        }
        assert_eq!(ring.end() - ring.start(), SIZE as u64);
        assert!(ring.from(ring.end()).is_empty());
    }

    #[test]
    fn what_is_forgotten_leaves_its_place() {
        let mut ring = Ring::new();
        let mut seen = Vec::new();
        for line in [&b"one"[..], b"two", b"three"] {
            let space = ring.space(line.len());
            space.copy_from_slice(line);
            let position = ring.end();
            ring.advance(line.len());
            seen.extend_from_slice(ring.from(position));
            ring.forget();
            assert_eq!(
                (ring.start(), ring.from(ring.end())),
                (ring.end(), &b""[..])
            );
        }
        assert_eq!(seen, b"onetwothree");
        assert!(ring.bytes.starts_with(b"three\0"));
        assert_eq!(ring.space(SIZE).len(), SIZE);
    }
}
