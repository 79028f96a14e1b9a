//! What mappers report goes to the node's twins.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{ReportError, Reports};
use crate::twin::{DeviceId, DeviceState, TwinError, Twins, Value, Which};

impl Reports for Twins {
    /// Only what the device is. What it should be is the cloud's to say, and what a mapper knows of that may be older.
    fn values<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        values: Vec<(String, String)>,
    ) -> BoxFuture<'a, Result<(), ReportError>> {
        async move {
            let device = DeviceId::new(namespace, name).map_err(invalid)?;
            let values = values
                .iter()
                .map(|(name, value)| (&**name, Value::new(value.as_str())));
            self.report(&device, values).await.map(drop).map_err(refused)
        }
        .boxed()
    }

    fn state<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        state: String,
    ) -> BoxFuture<'a, Result<(), ReportError>> {
        async move {
            let device = DeviceId::new(namespace, name).map_err(invalid)?;
            let state = DeviceState::parse(&state).map_err(invalid)?;
            let set = self.set_state(&Which::Id(device), state).await;
            set.map(drop).map_err(refused)
        }
        .boxed()
    }
}

fn invalid(error: impl ToString) -> ReportError {
    ReportError::Invalid(error.to_string())
}

fn refused(error: TwinError) -> ReportError {
    match error {
        TwinError::Store(_) | TwinError::Stopped => ReportError::Unavailable(error.to_string()),
        TwinError::Rejected(_) | TwinError::NoDevice | TwinError::SeveralDevices(_) => invalid(error),
    }
}
