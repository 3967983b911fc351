//! The split pattern: text is cut into pieces, and no token ever reaches across a cut.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};

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

/// A compiled split pattern.
#[derive(Clone, Debug)]
pub struct Splitter {
    regex: Regex,
}

impl Splitter {
    /// Compile a pattern, in the syntax of the fancy-regex crate.
    pub fn new(pattern: &str) -> Result<Self, Invalid> {
        RegexBuilder::new(pattern)
            .backtrack_limit(BACKTRACK_LIMIT)
            .build()
            .map(|regex| Self { regex })
            .map_err(|error| Invalid(format!("the split pattern cannot be compiled: {error}")))
    }

    /// Hand each piece of a text to `each`, in order. What the pattern does not match is in no piece, as in tiktoken.
    ///
    /// From a match on that overflows the library's stack the text is cut block by block (tiktoken refuses such a text).
    pub fn pieces<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) -> Result<(), Invalid> {
        let done = match self.matches(text, &mut each) {
            Ok(()) => return Ok(()),
            Err((done, error)) if text.len() - done <= BLOCK => return Err(error),
            Err((done, _)) => done,
        };
        let mut rest = &text[done..];
        while !rest.is_empty() {
            let mut end = BLOCK.min(rest.len());
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            self.matches(&rest[..end], &mut each).map_err(|(_, error)| error)?;
            rest = &rest[end..];
        }
        Ok(())
    }

    /// The pieces up to the end, or up to a match that failed: where the last good one ended, and why.
    fn matches<'t>(&self, text: &'t str, each: &mut impl FnMut(&'t str)) -> Result<(), (usize, Invalid)> {
        let mut done = 0;
        for found in self.regex.find_iter(text) {
            let found = found.map_err(|error| {
                let message = format!("the split pattern cannot cut this text: {error}");
                (done, Invalid(message))
            })?;
            done = found.end();
            if !found.as_str().is_empty() {
                each(found.as_str());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let splitter = Splitter::new(pattern).unwrap();
        splitter.pieces(text, |piece| pieces.push(piece)).unwrap();
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
        let error = splitter.pieces(&("a".repeat(64) + "cb"), |_| ()).unwrap_err();
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
