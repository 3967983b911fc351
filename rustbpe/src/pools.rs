//! Pools of threads, each started once and kept: one for each number of threads that was asked for.
//!
//! A fork copies a pool but none of its threads, so a forked process starts pools of its own.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// A pool, and the process that its threads run in.
#[derive(Debug)]
pub struct Pool {
    process: u32,
    pool: ManuallyDrop<ThreadPool>,
}

impl Deref for Pool {
    type Target = ThreadPool;

    fn deref(&self) -> &ThreadPool {
        &self.pool
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The copy in a forked process is left alone: to end its threads would wait for locks that they held.
        if self.process == process::id() {
            // SAFETY: nothing uses the field after this.
            unsafe { ManuallyDrop::drop(&mut self.pool) }
        }
    }
}

/// The pools of one owner.
#[derive(Debug, Default)]
pub struct Pools(Mutex<HashMap<usize, Arc<Pool>>>);

impl Pools {
    /// The pool of so many threads; None: one a processor.
    pub fn get(&self, threads: Option<usize>) -> Result<Arc<Pool>, ThreadPoolBuildError> {
        let threads = threads.unwrap_or(0); // rayon's word for "one a processor"
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&threads).filter(|pool| pool.process == process::id()) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool {
            process: process::id(),
            pool: ManuallyDrop::new(ThreadPoolBuilder::new().num_threads(threads).build()?),
        });
        pools.insert(threads, Arc::clone(&pool));
        Ok(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_started_once_for_each_number_of_threads() {
        let pools = Pools::default();
        let two = pools.get(Some(2)).unwrap();
        assert_eq!(two.current_num_threads(), 2);
        assert!(Arc::ptr_eq(&two, &pools.get(Some(2)).unwrap()));
        assert!(!Arc::ptr_eq(&two, &pools.get(Some(3)).unwrap()));
    }
}
