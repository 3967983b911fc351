//! The split patterns of GPT-2 and GPT-4 without a regular expression: the same cuts in one pass over the bytes.
//!
//! Each function names the alternative of the pattern that it stands for. Every character is in some piece, so nothing
//! is ever left out, and no run is too long.

use crate::classes::{classes, letters_of, Class, ASCII};

/// A pattern that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpt {
    /// GPT-2's.
    Two,
    /// GPT-4's, with numbers of at most so many digits.
    Four {
        /// 3 in GPT-4; 2 in ours.
        digits: usize,
        /// White space at the end of the text is one piece, line ends or not (`\s++$`).
        whole_tail: bool,
    },
}

const KNOWN: [(&str, Gpt); 5] = [
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Gpt::Four {
            digits: 2,
            whole_tail: false,
        },
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Gpt::Four {
            digits: 3,
            whole_tail: false,
        },
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        Gpt::Four {
            digits: 3,
            whole_tail: true,
        },
    ),
    (
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        Gpt::Two,
    ),
    (
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        Gpt::Two,
    ),
];

impl Gpt {
    /// Which of the known patterns this is, to the letter.
    pub fn of(pattern: &str) -> Option<Self> {
        KNOWN.iter().find(|(known, _)| *known == pattern).map(|&(_, gpt)| gpt)
    }

    /// Hand the range of each piece to `each`, in order.
    #[inline]
    pub fn spans(self, text: &str, mut each: impl FnMut(usize, usize)) {
        let text = Text::new(text);
        let mut start = 0;
        while start < text.bytes.len() {
            let end = match self {
                Self::Two => text.two(start),
                Self::Four { digits, whole_tail } => text.four(start, digits, whole_tail),
            };
            each(start, end);
            start = end;
        }
    }
}

/// A text and what is looked up for its characters.
struct Text<'t> {
    bytes: &'t [u8],
    classes: &'static [Class],
}

/// What stands at a place: its class and its bytes. At the end of the text, nothing of no bytes.
type Found = (Option<Class>, usize);

const BEYOND: Found = (None, 0);

impl<'t> Text<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            bytes: text.as_bytes(),
            classes: classes(),
        }
    }

    /// Where the piece that begins at `start` ends, by GPT-4's pattern.
    #[inline]
    fn four(&self, start: usize, digits: usize, whole_tail: bool) -> usize {
        let (first, width) = self.at(start);
        match first {
            Some(Class::Letter) => return self.letters(start + width),
            Some(Class::Number) => return self.numbers(start + width, digits - 1),
            _ => {}
        }
        if self.bytes[start] == b'\'' {
            if let Some(end) = self.contraction(start + 1, true) {
                return end;
            }
        }
        let after = start + width;
        let (next, next_width) = if first == Some(Class::LineEnd) {
            BEYOND
        } else {
            self.at(after)
        };
        if next == Some(Class::Letter) {
            return self.letters(after + next_width); // [^\r\n\p{L}\p{N}]?+\p{L}+
        }
        if first == Some(Class::Other) {
            return self.line_ends(self.run(after, Class::Other)); // [^\s\p{L}\p{N}]++[\r\n]*
        }
        if next == Some(Class::Other) && self.bytes[start] == b' ' {
            return self.line_ends(self.run(after + next_width, Class::Other));
        }
        self.white(start, true, whole_tail)
    }

    /// Where the piece that begins at `start` ends, by GPT-2's pattern.
    fn two(&self, start: usize) -> usize {
        if self.bytes[start] == b'\'' {
            if let Some(end) = self.contraction(start + 1, false) {
                return end;
            }
        }
        let after = start + usize::from(self.bytes[start] == b' '); // " ?"
        let (class, width) = self.at(after);
        match class {
            Some(class @ (Class::Letter | Class::Number | Class::Other)) => self.run(after + width, class),
            _ => self.white(start, false, false),
        }
    }

    #[inline]
    fn at(&self, place: usize) -> Found {
        match self.bytes.get(place) {
            Some(&byte) if byte < 0x80 => (Some(ASCII[usize::from(byte)]), 1),
            Some(_) => self.beyond_ascii(place),
            None => BEYOND,
        }
    }

    /// A character of two to four bytes, which are known to be UTF-8.
    fn beyond_ascii(&self, place: usize) -> Found {
        let rest = &self.bytes[place..];
        let low = |at: usize| usize::from(rest[at] & 0x3f);
        let first = usize::from(rest[0]);
        let (character, width) = match first {
            ..0xe0 => ((first & 0x1f) << 6 | low(1), 2),
            0xe0..0xf0 => ((first & 0x0f) << 12 | low(1) << 6 | low(2), 3),
            _ => ((first & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4),
        };
        (Some(self.classes[character]), width)
    }

    /// The end of the characters of a class from `place` on; perhaps there are none.
    #[inline]
    fn run(&self, mut place: usize, class: Class) -> usize {
        loop {
            while self
                .bytes
                .get(place)
                .is_some_and(|&byte| byte < 0x80 && ASCII[usize::from(byte)] == class)
            {
                place += 1;
            }
            match self.bytes.get(place) {
                Some(&byte) if byte >= 0x80 => match self.beyond_ascii(place) {
                    (Some(found), width) if found == class => place += width,
                    _ => return place,
                },
                _ => return place,
            }
        }
    }

    /// The end of the letters from `place` on: eight bytes at once while they are ASCII.
    #[inline]
    fn letters(&self, mut place: usize) -> usize {
        while let Some(eight) = self.bytes.get(place..place + 8) {
            let found = letters_of(u64::from_le_bytes(eight.try_into().expect("eight bytes are eight")));
            place += found;
            if found < 8 {
                return if self.bytes[place] < 0x80 {
                    place
                } else {
                    self.run(place, Class::Letter)
                };
            }
        }
        self.run(place, Class::Letter)
    }

    /// `\p{N}` at most so many times.
    fn numbers(&self, mut place: usize, most: usize) -> usize {
        for _ in 0..most {
            match self.at(place) {
                (Some(Class::Number), width) => place += width,
                _ => break,
            }
        }
        place
    }

    fn line_ends(&self, mut place: usize) -> usize {
        while let Some(b'\r' | b'\n') = self.bytes.get(place) {
            place += 1;
        }
        place
    }

    /// The end of `[sdmt]|ll|ve|re` at `place`. Without regard to case, ſ (U+017F) is an s.
    fn contraction(&self, place: usize, any_case: bool) -> Option<usize> {
        let rest = &self.bytes[place..];
        if any_case && rest.starts_with("ſ".as_bytes()) {
            return Some(place + 2);
        }
        let letter = |at: usize| {
            let byte = rest.get(at).copied().unwrap_or(0);
            if any_case {
                byte.to_ascii_lowercase()
            } else {
                byte
            }
        };
        match (letter(0), letter(1)) {
            (b's' | b'd' | b'm' | b't', _) => Some(place + 1),
            (b'l', b'l') | (b'v' | b'r', b'e') => Some(place + 2),
            _ => None,
        }
    }

    /// White space at `start`: up to its last line end (`\s*[\r\n]`); else all, if the text ends with it, or all but its
    /// last character, which goes to what follows (`\s+(?!\S)`); else its one character (`\s+`).
    fn white(&self, start: usize, to_line_end: bool, whole_tail: bool) -> usize {
        let (mut place, mut last, mut line_end) = (start, start, None);
        let at_end = loop {
            match self.at(place) {
                (Some(class @ (Class::Space | Class::LineEnd)), width) => {
                    last = place;
                    place += width;
                    if class == Class::LineEnd {
                        line_end = Some(place);
                    }
                }
                (class, _) => break class.is_none(),
            }
        };
        match line_end {
            Some(end) if to_line_end && !(at_end && whole_tail) => end,
            _ if at_end || last == start => place,
            _ => last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fancy_regex::Regex;

    /// The cuts that the regular expressions make in a text are the cuts made here, for every known pattern.
    struct Oracle(Vec<(Regex, Gpt)>);

    impl Oracle {
        fn new() -> Self {
            Self(
                KNOWN
                    .iter()
                    .map(|&(pattern, gpt)| (Regex::new(pattern).unwrap(), gpt))
                    .collect(),
            )
        }

        fn check(&self, text: &str) {
            for (regex, gpt) in &self.0 {
                let expected: Vec<_> = regex.find_iter(text).map(|found| found.unwrap().range()).collect();
                let mut found = Vec::with_capacity(expected.len());
                gpt.spans(text, |start, end| found.push(start..end));
                assert_eq!(
                    found,
                    expected,
                    "{gpt:?} on {:?}",
                    text.chars().take(60).collect::<String>()
                );
            }
        }
    }

    #[test]
    fn all_texts_of_five_characters_are_cut_as_the_regular_expressions_cut_them() {
        let alphabet = ["a", "7", " ", "\n", "\t", "'", "s", "."];
        let oracle = Oracle::new();
        for length in 1..=5_u32 {
            for number in 0..alphabet.len().pow(length) {
                let letters = (0..length).map(|place| alphabet[number / alphabet.len().pow(place) % alphabet.len()]);
                oracle.check(&letters.collect::<String>());
            }
        }
    }

    #[test]
    fn contractions_are_cut_as_the_regular_expressions_cut_them() {
        let oracle = Oracle::new();
        for first in ('\0'..='\u{7f}').chain(['ſ', 'K', 'é', 'ı', 'İ']) {
            for second in ('\0'..='\u{7f}').chain(['ſ', 'é']) {
                oracle.check(&format!("x'{first}{second}'{first} {second}"));
            }
        }
    }

    #[test]
    fn every_character_is_cut_from_its_neighbours_as_the_regular_expressions_cut_it() {
        let oracle = Oracle::new();
        let mut text = String::new();
        for character in '\0'..=char::MAX {
            for beside in [
                "a", "7", " ", "  ", "\n", "\r\n", "\t", "'", ".", "é", "²", "\u{2003}", "汉",
            ] {
                text.push_str(beside);
                text.push(character);
            }
            text.push(character);
            if text.len() > 10_000 {
                oracle.check(&text);
                text.clear();
            }
        }
        oracle.check(&text);
    }

    #[test]
    fn what_is_another_pattern_is_not_known() {
        assert_eq!(Gpt::of(r"\S+|\s+"), None);
        assert_eq!(Gpt::of(KNOWN[3].0), Some(Gpt::Two));
    }
}
