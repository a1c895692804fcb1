//! Escaping: one function for each syntax in which systemd reads foreign text.

use std::fmt::Write;

/// A value in which systemd expands specifiers and nothing else (`Description=`, `SyslogIdentifier=`):
/// `%` is doubled (systemd.unit(5), "Specifiers"). No quoting exists here, so what a line cannot hold is
/// replaced: control characters by spaces, noncharacters by U+FFFD. Blanks at the ends are lost.
pub fn text(s: &str) -> String {
    let plain = |c| match c {
        c if char::is_control(c) => ' ',
        c if is_noncharacter(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let mut out = s.chars().map(plain).collect::<String>().replace('%', "%%");
    // A backslash at the end would join the next line to this one.
    if out.ends_with('\\') {
        out.push(' ');
    }
    out
}

/// One word of a command line (`ExecStart=:PROGRAM WORD…`), kept to the letter: quoted, with the C escapes of
/// systemd.syntax(7), `%` doubled. `$` is left alone, so the command must carry the `:` prefix, which turns
/// the expansion of variables off (systemd.service(5)).
pub fn word(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '%' => out.push_str("%%"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() || is_noncharacter(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write_hex(&mut out, byte);
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Words of a command line, separated by blanks.
pub fn words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    words
        .into_iter()
        .map(|w| word(w.as_ref()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A path in a list whose elements end at a colon (`systemd-nspawn --bind=SOURCE:TARGET:OPTIONS`): `:` and
/// `\` get a backslash (systemd-nspawn(1)).
pub fn colon(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:")
}

/// A string as part of a unit's name, as `systemd-escape` does (systemd.unit(5), "String Escaping for
/// Inclusion in Unit Names").
pub fn unit_name(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for (i, byte) in s.bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'.' if i > 0 => out.push('.'),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b':' | b'_' => out.push(char::from(byte)),
            _ => write_hex(&mut out, byte),
        }
    }
    out
}

/// Characters that Unicode sets aside for good. systemd takes them for invalid UTF-8, and ignores a line with one.
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

fn write_hex(out: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_to_the_letter() {
        assert_eq!(words(["a", "", "b c"]), r#""a" "" "b c""#);
        assert_eq!(word("100% $HOME `x` ; '"), r#""100%% $HOME `x` ; '""#);
        assert_eq!(word("q\"\\\n\t\u{1}é"), "\"q\\\"\\\\\\n\\t\\x01é\"");
        assert_eq!(word("\u{fffe}"), r#""\xef\xbf\xbe""#);
    }

    #[test]
    fn other_syntaxes() {
        assert_eq!(text("50%\nof"), "50%% of");
        assert_eq!(text("\u{ffff}\\"), "\u{fffd}\\ ");
        assert_eq!(colon("/a:b\\c"), "/a\\:b\\\\c");
        assert_eq!(unit_name("rkt-1.2/x"), "rkt\\x2d1.2-x");
        assert_eq!(unit_name(".a"), "\\x2ea");
    }
}
