//! Why the disk refuses changes at the moment.

use std::sync::{Arc, Mutex, PoisonError};

/// What the writer met last. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether that is news: trouble where there was none, or the end of it.
    pub(super) fn set(&self, trouble: Option<String>) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = held.is_some() != trouble.is_some();
        *held = trouble;
        is_news
    }
}
