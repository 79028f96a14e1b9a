//! Which devices have something that the cloud has not heard.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::device::Device;
use super::name::DeviceId;

/// The names of devices with something to tell, kept by the task that writes and read by the one that sends.
#[derive(Debug, Default)]
pub(super) struct Owing {
    all: Mutex<BTreeSet<DeviceId>>,
    changed: Mutex<BTreeSet<DeviceId>>,
    pub(super) woken: Notify,
}

impl Owing {
    /// The device is now this; None when it is gone.
    pub(super) fn note(&self, id: &DeviceId, device: Option<&Device>) {
        if device.is_some_and(Device::owes) {
            lock(&self.all).insert(id.clone());
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
    pub(super) fn all(&self) -> BTreeSet<DeviceId> {
        lock(&self.all).clone()
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        lock(&self.all).len()
    }
}

/// A panic leaves a set that was whole before and after each step.
fn lock(set: &Mutex<BTreeSet<DeviceId>>) -> MutexGuard<'_, BTreeSet<DeviceId>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
