//! Many simulated edges over real sockets, and what a cloud costs under them.
//!
//! The edges enrol, connect, catch up and acknowledge as ours do; they hold nothing, and
//! say what a kubelet says of its node where that is wanted. The cloud is another process, so that its
//! memory and processor time are its own. Every figure is printed with the load it was measured under.

mod edge;
mod node;
mod process;
mod report;
mod scenario;

pub use edge::{Arrival, Fleet, FleetConfig};
pub use process::{Cloud, Usage};
pub use report::{Report, percentiles};
pub use scenario::{backlog, connect, fan_out, idle, live, storm};
