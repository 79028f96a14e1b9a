//! Which devices have something that the cloud has not heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::device::Device;
use super::name::DeviceId;

/// The names of devices with something to tell, kept by the task that writes and read by the one that sends.
#[derive(Debug, Default)]
pub(super) struct Owing {
    /// And when the oldest value came that waits.
    all: Mutex<BTreeMap<DeviceId, Option<i64>>>,
    changed: Mutex<BTreeSet<DeviceId>>,
    pub(super) woken: Notify,
}

impl Owing {
    /// The device is now this; None when it is gone.
    pub(super) fn note(&self, id: &DeviceId, device: Option<&Device>) {
        if let Some(device) = device.filter(|device| device.owes()) {
            lock(&self.all).insert(id.clone(), device.owed_since_ms());
            if lock(&self.changed).insert(id.clone()) {
                self.woken.notify_one();
            }
        } else {
            lock(&self.all).remove(id);
        }
    }

    /// The devices that were noted since this was asked last.
    pub(super) fn take_changed(&self) -> BTreeSet<DeviceId> {
        std::mem::take(&mut lock(&self.changed))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<DeviceId> {
        lock(&self.all).keys().cloned().collect()
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        lock(&self.all).len()
    }

    /// When the oldest value came that waits: Unix time in milliseconds. A state has no time of its own.
    pub(super) fn since_ms(&self) -> Option<i64> {
        lock(&self.all).values().flatten().min().copied()
    }
}

/// A panic leaves what was whole before and after each step.
fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
