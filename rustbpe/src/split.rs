//! The split pattern: text is cut into pieces, and no token ever reaches across a cut.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};

use crate::gpt::Gpt;

/// Steps back that a pattern may take in one match, so that a bad one does not run for ever. The library's own limit is
/// a million; GPT-4's pattern takes about two for each space of a run.
const BACKTRACK_LIMIT: usize = 10_000_000;

/// Bytes of a block, where a text is too much for the library: its stack ends at a run of a million spaces.
const BLOCK: usize = 1 << 16;

/// A pattern or vocabulary that cannot be used, or text that a pattern cannot be applied to; says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// A split pattern in use: by hand where it is one of GPT's, else by the regex engine.
#[derive(Clone, Debug)]
pub enum Splitter {
    /// Known to `gpt.rs`.
    Known(Gpt),
    /// Any other.
    Regex(Regex),
}

impl Splitter {
    /// Compile a pattern, in the syntax of the fancy-regex crate.
    pub fn new(pattern: &str) -> Result<Self, Invalid> {
        if let Some(known) = Gpt::of(pattern) {
            return Ok(Self::Known(known));
        }
        RegexBuilder::new(pattern)
            .backtrack_limit(BACKTRACK_LIMIT)
            .build()
            .map(Self::Regex)
            .map_err(|error| Invalid(format!("the split pattern cannot be compiled: {error}")))
    }

    /// Hand the range in bytes of each piece of a text to `each`, in order. What the pattern does not match is in no
    /// piece, as in tiktoken.
    #[inline]
    pub fn spans(&self, text: &str, mut each: impl FnMut(usize, usize)) -> Result<(), Invalid> {
        match self {
            Self::Known(gpt) => {
                gpt.spans(text, each);
                Ok(())
            }
            Self::Regex(regex) => in_blocks(regex, text, &mut each),
        }
    }
}

/// From a match on that overflows the library's stack the text is cut block by block (tiktoken refuses such a text).
fn in_blocks(regex: &Regex, text: &str, each: &mut impl FnMut(usize, usize)) -> Result<(), Invalid> {
    let mut done = match matches(regex, text, 0, each) {
        Ok(()) => return Ok(()),
        Err((done, error)) if text.len() - done <= BLOCK => return Err(error),
        Err((done, _)) => done,
    };
    while done < text.len() {
        let mut end = text.len().min(done + BLOCK);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        matches(regex, &text[done..end], done, each).map_err(|(_, error)| error)?;
        done = end;
    }
    Ok(())
}

/// The pieces up to the end, or up to a match that failed: where the last good one ended, and why. The text begins at
/// `offset` of the whole.
fn matches(
    regex: &Regex,
    text: &str,
    offset: usize,
    each: &mut impl FnMut(usize, usize),
) -> Result<(), (usize, Invalid)> {
    let mut done = 0;
    for found in regex.find_iter(text) {
        let found = found.map_err(|error| {
            let message = format!("the split pattern cannot cut this text: {error}");
            (done, Invalid(message))
        })?;
        done = found.end();
        if found.start() < done {
            each(offset + found.start(), offset + done);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let splitter = Splitter::new(pattern).unwrap();
        splitter
            .spans(text, |start, end| pieces.push(&text[start..end]))
            .unwrap();
        pieces
    }

    #[test]
    fn a_text_is_cut_where_the_pattern_says() {
        assert_eq!(cut(r" ?\p{L}+|\s+|\d", "one two  34"), ["one", " two", "  ", "3", "4"]);
    }

    #[test]
    fn text_that_the_pattern_passes_over_and_empty_matches_are_in_no_piece() {
        assert_eq!(cut(r"a*", "aabaac"), ["aa", "aa"]);
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        let error = Splitter::new("(").unwrap_err();
        assert!(error.0.contains("cannot be compiled"), "{error}");
    }

    #[test]
    fn a_pattern_that_never_ends_is_stopped() {
        let splitter = Splitter::new(r"(a|aa)+\1b").unwrap();
        let error = splitter.spans(&("a".repeat(64) + "cb"), |_, _| ()).unwrap_err();
        assert!(error.0.contains("cannot cut this text"), "{error}");
    }

    #[test]
    fn runs_of_any_length_are_cut() {
        let pattern = r"\p{L}+|\s*[\r\n]|\s+(?!\S)|\s+";
        for (spaces, first) in [(500_000, 499_999), (2_000_000, BLOCK)] {
            let text = " ".repeat(spaces) + "x";
            let pieces = cut(pattern, &text);
            assert_eq!((pieces[0].len(), pieces.concat().len()), (first, text.len()));
        }
    }
}
