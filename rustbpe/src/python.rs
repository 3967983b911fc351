//! The crate as the Python module `nanochat._rustbpe`. Texts are borrowed from Python and worked on without its lock.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyString};

use crate::count::PieceCounts;
use crate::encode::Encoder;
use crate::pools::Pools;
use crate::split::{Invalid, Splitter};
use crate::train::{Merging, BYTES};

/// Text counted at once: enough to share out to threads, little beside the counts.
const BATCH_BYTES: usize = 16 << 20;

/// Merges between two calls of `progress`.
const REPORT_EVERY: usize = 256;

impl From<Invalid> for PyErr {
    fn from(error: Invalid) -> Self {
        PyValueError::new_err(error.0)
    }
}

fn on_threads<R: Send>(
    py: Python<'_>,
    pools: &Pools,
    threads: Option<usize>,
    work: impl FnOnce() -> R + Send,
) -> PyResult<R> {
    let pool = pools
        .get(threads)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(py.detach(|| pool.install(work)))
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

    /// Read texts from an iterable to its end and count their pieces.
    fn feed(&mut self, py: Python<'_>, texts: &Bound<'_, PyAny>) -> PyResult<()> {
        if texts.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("feed takes an iterable of texts, not one text"));
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for text in texts.try_iter()? {
            let text: PyBackedStr = text?.extract()?;
            bytes += text.len();
            batch.push(text);
            if bytes >= BATCH_BYTES {
                self.count(py, &batch)?;
                (batch, bytes) = (Vec::new(), 0);
            }
        }
        self.count(py, &batch)
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

impl Trainer {
    fn count(&mut self, py: Python<'_>, batch: &[PyBackedStr]) -> PyResult<()> {
        let Self {
            splitter,
            counts,
            pools,
        } = self;
        on_threads(py, pools, None, || counts.add(splitter, batch))?.map_err(PyErr::from)
    }
}

/// Text to ids.
#[pyclass(module = "nanochat._rustbpe", name = "Encoder", frozen)]
struct PyEncoder {
    encoder: Encoder,
    pools: Pools,
}

#[pymethods]
impl PyEncoder {
    /// `tokens`: the bytes of each token in the order of their ids.
    #[new]
    fn new(pattern: &str, tokens: Vec<Vec<u8>>) -> Result<Self, Invalid> {
        Ok(Self {
            encoder: Encoder::new(pattern, &tokens)?,
            pools: Pools::default(),
        })
    }

    /// The ids of a text.
    fn encode(&self, py: Python<'_>, text: PyBackedStr) -> Result<Vec<u32>, Invalid> {
        py.detach(|| self.encoder.encode(&text))
    }

    /// The ids of each text; `threads` None: as many as there are processors.
    #[pyo3(signature = (texts, threads=None))]
    fn encode_batch(&self, py: Python<'_>, texts: Vec<PyBackedStr>, threads: Option<usize>) -> PyResult<Vec<Vec<u32>>> {
        match threads {
            Some(0) => Err(PyValueError::new_err("threads must be 1 or more")),
            _ => on_threads(py, &self.pools, threads, || self.encoder.encode_batch(&texts))?.map_err(PyErr::from),
        }
    }
}

#[pymodule]
fn _rustbpe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Trainer>()?;
    module.add_class::<PyEncoder>()
}
