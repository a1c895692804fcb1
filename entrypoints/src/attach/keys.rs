//! The keys that end an attachment and leave the app alone.

use anyhow::{Context, Result, bail, ensure};

/// Those of other container tools.
pub(super) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, and how much of it was typed.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<u8>,
    typed: usize,
}

impl Keys {
    /// Reads a list: single characters, or `ctrl-` and one of `a` to `z`, `@`, `[`, `\`, `]`, `^` or `_`.
    pub(super) fn parse(list: &str) -> Result<Self> {
        let keys = list.split(',').map(key).collect::<Result<Vec<_>>>();
        let keys = keys.with_context(|| format!("--detach-keys={list}"))?;
        Ok(Keys { keys, typed: 0 })
    }

    /// Takes what was typed, and adds to `rest` what of it is for the app. Says whether the sequence was typed: what came
    /// after it is for nobody.
    pub(super) fn take(&mut self, typed: &[u8], rest: &mut Vec<u8>) -> bool {
        for byte in typed {
            while self.typed > 0 && *byte != self.keys[self.typed] {
                self.give_up_one(rest);
            }
            if *byte != self.keys[self.typed] {
                rest.push(*byte);
                continue;
            }
            self.typed += 1;
            if self.typed == self.keys.len() {
                self.typed = 0;
                return true;
            }
        }
        false
    }

    /// The first of the keys that were held back is for the app: the longest part of the others may begin the sequence.
    fn give_up_one(&mut self, rest: &mut Vec<u8>) {
        let held = &self.keys[..self.typed];
        let begins = |from: &usize| self.keys.starts_with(&held[*from..]);
        let from = (1..=held.len()).find(begins).unwrap_or(held.len());
        rest.extend_from_slice(&held[..from]);
        self.typed -= from;
    }
}

fn key(name: &str) -> Result<u8> {
    let one = |text: &str| match text.as_bytes() {
        [byte] if byte.is_ascii_graphic() => Some(*byte),
        _ => None,
    };
    match name.strip_prefix("ctrl-").map(one) {
        Some(Some(byte @ (b'a'..=b'z' | b'@' | b'['..=b'_'))) => Ok(byte & 0x1f),
        Some(_) => bail!("there is no key {name:?}"),
        None => {
            let key = one(name);
            ensure!(key.is_some(), "there is no key {name:?}");
            Ok(key.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(list: &str, parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::parse(list).unwrap();
        let mut rest = Vec::new();
        let end = parts.iter().any(|part| keys.take(part, &mut rest));
        (rest, end)
    }

    #[test]
    fn the_sequence_ends_and_all_else_is_for_the_app() {
        assert_eq!(typed(DEFAULT, &[b"ab\x10\x11c"]), (b"ab".to_vec(), true));
        assert_eq!(typed(DEFAULT, &[b"\x10", b"\x11"]), (vec![], true));
        assert_eq!(typed(DEFAULT, &[b"\x10", b"x"]), (b"\x10x".to_vec(), false));
        assert_eq!(typed(DEFAULT, &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(typed(DEFAULT, &[b"\x11\x10"]), (b"\x11".to_vec(), false));
        assert_eq!(typed("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(typed("a,b,a,c", &[b"ababac"]), (b"ab".to_vec(), true));
        assert_eq!(typed("~", &[b"x~"]), (b"x".to_vec(), true));
    }

    #[test]
    fn names_of_keys() {
        assert_eq!(Keys::parse("ctrl-@,ctrl-[,~").unwrap().keys, [0, 27, b'~']);
        for list in ["", "ctrl-", "ctrl-P", "ab", "ctrl-p,", "ctrl-pq", "ä"] {
            let error = format!("{:#}", Keys::parse(list).unwrap_err());
            assert!(
                error.starts_with(&format!("--detach-keys={list}: there is no key")),
                "{error}"
            );
        }
    }
}
