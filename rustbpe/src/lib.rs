//! Byte-pair encoding for nanochat: training a vocabulary on text, and encoding text with it.
//!
//! In: text and a split pattern. Out: tokens, as bytes in the order of their ids, and the ids of text. Special tokens
//! and the vocabulary's file are not here: `nanochat/text/` has them.

pub mod changes;
pub mod classes;
pub mod count;
pub mod encode;
pub mod gpt;
pub mod memory;
pub mod piece;
pub mod pools;
pub mod split;
pub mod tables;
pub mod train;
pub mod words;

#[cfg(feature = "extension-module")]
mod python;
