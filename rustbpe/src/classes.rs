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
}
