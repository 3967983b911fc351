//! The crate as the Python module `nanochat._rustbpe`. Texts are borrowed from Python and worked on without its lock.

use std::sync::Arc;
use std::thread;

use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyString};

use crate::count::PieceCounts;
use crate::encode::Encoder;
use crate::pools::{Pool, Pools};
use crate::split::{Invalid, Splitter};
use crate::train::{Merging, BYTES};
use crate::words::WordCounts;

/// Text counted at once, for each thread: much beside the pieces in it that are new, little beside the counts.
const BATCH_BYTES: usize = 8 << 20;

/// With more threads than that a batch grows no more.
const MOST_BATCHES: usize = 8;

/// Merges between two calls of `progress`.
const REPORT_EVERY: usize = 256;

create_exception!(
    _rustbpe,
    Unusable,
    PyValueError,
    "A pattern that is none or cannot cut a text, or tokens that are no vocabulary."
);

impl From<Invalid> for PyErr {
    fn from(error: Invalid) -> Self {
        Unusable::new_err(error.0)
    }
}

fn pool_of(pools: &Pools, threads: Option<usize>) -> PyResult<Arc<Pool>> {
    pools
        .get(threads)
        .map_err(|error| PyRuntimeError::new_err(format!("no threads can be started: {error}")))
}

/// Counts the pieces of texts, then merges them into tokens.
#[pyclass(module = "nanochat._rustbpe")]
struct Trainer {
    splitter: Splitter,
    counts: PieceCounts,
    pools: Pools,
}

#[pymethods]
impl Trainer {
    #[new]
    fn new(pattern: &str) -> Result<Self, Invalid> {
        Ok(Self {
            splitter: Splitter::new(pattern)?,
            counts: PieceCounts::default(),
            pools: Pools::default(),
        })
    }

    /// Read texts from an iterable to its end and count their pieces: a batch is counted while the next one is read.
    fn feed(&mut self, py: Python<'_>, texts: &Bound<'_, PyAny>) -> PyResult<()> {
        if texts.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("feed takes an iterable of texts, not one text"));
        }
        let mut texts = texts.try_iter()?;
        let Self {
            splitter,
            counts,
            pools,
        } = self;
        let pool = pool_of(pools, None)?;
        let limit = BATCH_BYTES * pool.current_num_threads().min(MOST_BATCHES);
        let mut batch = read(&mut texts, limit)?;
        while !batch.is_empty() {
            let (counted, next) = thread::scope(|scope| {
                let counting = scope.spawn(|| pool.install(|| counts.add(splitter, &batch)));
                let next = read(&mut texts, limit);
                (py.detach(|| counting.join()), next)
            });
            counted.map_err(|_| PyRuntimeError::new_err("counting ended in a fault of the program"))??;
            batch = next?;
        }
        Ok(())
    }

    /// How many distinct pieces have been counted.
    #[getter]
    fn distinct_pieces(&self) -> usize {
        self.counts.len()
    }

    /// Bytes of the texts that the pattern matched nowhere.
    #[getter]
    fn bytes_left_out(&self) -> u64 {
        self.counts.left_out()
    }

    /// Make at most so many merges; all tokens, bytes first, in the order of their ids. Fewer where no pair is left.
    ///
    /// `progress` is called with the merges made, now and then; what it raises ends the work.
    #[pyo3(signature = (merges, progress=None))]
    fn train<'py>(
        &self,
        py: Python<'py>,
        merges: usize,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let mut merging = py.detach(|| Merging::new(&self.counts))?;
        loop {
            let made = merging.tokens().len() - BYTES;
            if let Some(progress) = progress {
                progress.call1((made,))?;
            }
            py.check_signals()?;
            let limit = REPORT_EVERY.min(merges - made);
            if limit == 0 || !py.detach(|| merging.advance(limit)) {
                break;
            }
        }
        Ok(merging.tokens().iter().map(|token| PyBytes::new(py, token)).collect())
    }
}

/// Texts of about so many bytes; fewer at the end.
fn read(texts: &mut Bound<'_, PyIterator>, limit: usize) -> PyResult<Vec<PyBackedStr>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < limit {
        let Some(text) = texts.next() else { break };
        let text: PyBackedStr = text?.extract()?;
        bytes += text.len();
        batch.push(text);
    }
    Ok(batch)
}

/// Text to ids.
#[pyclass(module = "nanochat._rustbpe", name = "Encoder", frozen)]
struct PyEncoder {
    encoder: Encoder,
    id_bytes: usize,
    pools: Pools,
}

#[pymethods]
impl PyEncoder {
    /// `tokens`: the bytes of each token in the order of their ids.
    #[new]
    fn new(pattern: &str, tokens: Vec<Vec<u8>>) -> Result<Self, Invalid> {
        Ok(Self {
            encoder: Encoder::new(pattern, &tokens)?,
            id_bytes: if tokens.len() <= 1 << 16 { 2 } else { 4 },
            pools: Pools::default(),
        })
    }

    /// The ids of a text.
    fn encode(&self, py: Python<'_>, text: PyBackedStr) -> Result<Vec<u32>, Invalid> {
        py.detach(|| self.encoder.encode(&text))
    }

    /// The ids of the texts, one text's behind the other's: their bytes, two or four an id, in the machine's order, and
    /// how many ids each text has. `threads` None: as many as there are processors.
    #[pyo3(signature = (texts, threads=None))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        threads: Option<usize>,
    ) -> PyResult<(Bound<'py, PyByteArray>, Vec<usize>)> {
        if threads == Some(0) {
            return Err(PyValueError::new_err("threads must be 1 or more"));
        }
        let pool = pool_of(&self.pools, threads)?;
        let batch = py.detach(|| pool.install(|| self.encoder.encode_batch(&texts)))?;
        let lengths: Vec<usize> = batch.iter().map(<[u32]>::len).collect();
        let size = lengths.iter().sum::<usize>() * self.id_bytes;
        let ids = PyByteArray::new_with(py, size, |buffer| {
            match self.id_bytes {
                2 => write(buffer, batch.iter(), |id| (id as u16).to_ne_bytes()),
                _ => write(buffer, batch.iter(), u32::to_ne_bytes),
            }
            Ok(())
        })?;
        Ok((ids, lengths))
    }

    /// Bytes of an id in a batch: two where the vocabulary has at most 65,536 tokens, else four.
    #[getter]
    fn id_bytes(&self) -> usize {
        self.id_bytes
    }
}

fn write<'b, const N: usize>(
    buffer: &mut [u8],
    texts: impl Iterator<Item = &'b [u32]>,
    bytes: impl Fn(u32) -> [u8; N],
) {
    let places = buffer.chunks_exact_mut(N);
    for (place, &id) in places.zip(texts.flatten()) {
        place.copy_from_slice(&bytes(id));
    }
}

/// Counts words that stand alone.
#[pyclass(module = "nanochat._rustbpe")]
struct WordCounter {
    counts: WordCounts,
}

#[pymethods]
impl WordCounter {
    /// `joins`: for each code point a byte, 1 where a word beside it is none.
    #[new]
    fn new(joins: &[u8]) -> Self {
        let joins = joins.iter().map(|&byte| byte == 1).collect();
        Self {
            counts: WordCounts::new(joins),
        }
    }

    /// Count the words of a text.
    fn add(&mut self, py: Python<'_>, text: PyBackedStr) {
        let counts = &mut self.counts;
        py.detach(|| counts.add(&text));
    }

    /// The words and how often each occurred, in no particular order.
    fn words(&self, py: Python<'_>) -> Vec<(String, u64)> {
        py.detach(|| self.counts.words())
    }
}

#[pymodule]
fn _rustbpe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Unusable", module.py().get_type::<Unusable>())?;
    module.add_class::<Trainer>()?;
    module.add_class::<PyEncoder>()?;
    module.add_class::<WordCounter>()
}
