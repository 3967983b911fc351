//! Counting words: runs of lower-case ASCII letters that stand alone. Not pieces, which know nothing of their neighbours.

use crate::count::Table;
use crate::piece::{bytes_of, key};

/// The letters of a word, at least and at most; a piece's key holds them.
const LETTERS: std::ops::RangeInclusive<usize> = 3..=12;

/// How often each word occurred.
#[derive(Debug)]
pub struct WordCounts {
    counts: Table,
    /// Whether a word beside the character is none: a letter or digit of any script, an underscore, an apostrophe.
    joins: Vec<bool>,
}

impl WordCounts {
    /// `joins` by code point; what is beyond its end does not join.
    pub fn new(joins: Vec<bool>) -> Self {
        Self {
            counts: Table::new(0, 14),
            joins,
        }
    }

    /// Count the words of a text.
    pub fn add(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut place = 0;
        while place < bytes.len() {
            if !bytes[place].is_ascii_lowercase() {
                place += 1;
                continue;
            }
            let start = place;
            while bytes.get(place).is_some_and(u8::is_ascii_lowercase) {
                place += 1;
            }
            if LETTERS.contains(&(place - start)) && self.stands_alone(text, start, place) {
                if let Some(key) = key(bytes, start, place) {
                    self.counts.add(key, 1);
                }
            }
        }
    }

    /// The words and their counts, in no particular order.
    pub fn words(&self) -> Vec<(String, u64)> {
        let mut words = Vec::with_capacity(self.counts.len());
        self.counts.each(|key, count| {
            let (bytes, length) = bytes_of(key);
            words.push((String::from_utf8_lossy(&bytes[..length]).into_owned(), count));
        });
        words
    }

    fn stands_alone(&self, text: &str, start: usize, end: usize) -> bool {
        let joins = |beside: Option<char>| beside.is_some_and(|it| self.joins.get(it as usize) == Some(&true));
        !joins(text[..start].chars().next_back()) && !joins(text[end..].chars().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_three_to_twelve_small_letters_with_nothing_that_joins_beside_them() {
        let joins =
            (0..=0x2019_u32).map(|code| char::from_u32(code).is_some_and(|it| it.is_alphanumeric() || it == '’'));
        let mut counts = WordCounts::new(joins.collect());
        counts.add("cat, cat 2dog dog\u{e9} it catcatcatcat catcatcatcatc Cat don’t 汉owl owl汉 (bee");
        let mut words = counts.words();
        words.sort_unstable();
        let expected = [("bee", 1), ("cat", 2), ("catcatcatcat", 1), ("owl", 2)];
        assert_eq!(words, expected.map(|(word, count)| (word.to_string(), count)));
    }
}
