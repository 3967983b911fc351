//! Classes of characters: which are letters, numbers and white space, by the tables of the regex engine itself.

use std::sync::OnceLock;

use regex_syntax::hir::{Class as Ranges, HirKind};

/// What a split pattern can tell of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// None of the others.
    #[default]
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s` apart from the line ends.
    Space,
    /// `[\r\n]`
    LineEnd,
}

/// One class a code point: a megabyte, of which a text touches the pages of its scripts.
type Table = Box<[Class]>;

const CODE_POINTS: usize = 0x11_0000;

/// The classes of all characters, worked out at the first call.
pub fn classes() -> &'static [Class] {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![Class::Other; CODE_POINTS].into_boxed_slice();
        for (pattern, class) in [
            (r"\p{L}", Class::Letter),
            (r"\p{N}", Class::Number),
            (r"\s", Class::Space),
            (r"[\r\n]", Class::LineEnd),
        ] {
            mark(&mut table, pattern, class);
        }
        table
    })
}

fn mark(table: &mut [Class], pattern: &str, class: Class) {
    let parsed = regex_syntax::parse(pattern).expect("a pattern of ours is one");
    let HirKind::Class(Ranges::Unicode(ranges)) = parsed.kind() else {
        unreachable!("{pattern} is a class of characters")
    };
    for range in ranges.iter() {
        table[range.start() as usize..=range.end() as usize].fill(class);
    }
}

/// How many of eight bytes, the lowest first, are ASCII letters before one that is none.
#[inline]
pub fn letters_of(bytes: u64) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const CASE: u64 = 0x20 * EACH;
    const HIGHEST: u64 = 0x80 * EACH;
    let low = (bytes | CASE) & !HIGHEST; // without case, and so that sums stay within a byte
    let from_a = low + (0x80 - b'a' as u64) * EACH;
    let past_z = low + (0x7f - b'z' as u64) * EACH;
    let letters = from_a & !past_z & !bytes & HIGHEST;
    ((letters ^ HIGHEST).trailing_zeros() / 8) as usize
}

/// The classes of ASCII.
pub const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\r' | b'\n' => Class::LineEnd,
            b' ' | b'\t' | 0x0b | 0x0c => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use fancy_regex::Regex;

    #[test]
    fn each_of_unicodes_characters_is_in_the_class_that_the_regex_engine_finds() {
        let letter = Regex::new(r"^\p{L}").unwrap();
        let number = Regex::new(r"^\p{N}").unwrap();
        let space = Regex::new(r"^\s").unwrap();
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let text = &*character.encode_utf8(&mut buffer);
            let class = classes()[character as usize];
            assert_eq!(letter.is_match(text).unwrap(), class == Class::Letter, "{character:?}");
            assert_eq!(number.is_match(text).unwrap(), class == Class::Number, "{character:?}");
            let is_space = matches!(class, Class::Space | Class::LineEnd);
            assert_eq!(space.is_match(text).unwrap(), is_space, "{character:?}");
            assert_eq!(matches!(text, "\r" | "\n"), class == Class::LineEnd, "{character:?}");
        }
    }

    #[test]
    fn ascii_has_the_classes_of_all_of_unicode() {
        assert_eq!(ASCII[..], classes()[..128]);
    }

    #[test]
    fn letters_are_counted_up_to_the_first_byte_that_is_none() {
        for byte in 0..=u8::MAX {
            let is_letter = ASCII.get(usize::from(byte)) == Some(&Class::Letter);
            for place in 0..8 {
                let mut bytes = *b"azAZzAmM";
                bytes[place] = byte;
                let expected = if is_letter { 8 } else { place };
                assert_eq!(letters_of(u64::from_le_bytes(bytes)), expected, "{byte} at {place}");
                assert_eq!(letters_of(u64::from_le_bytes([byte; 8])), if is_letter { 8 } else { 0 });
            }
        }
    }
}
