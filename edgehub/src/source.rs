//! What the cloud says of the cluster behind it ([`hub_core::source`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_core::catch_up::SOURCE;
use hub_core::message::Operation;
use hub_core::service::{BoxError, Matcher, Reply, Request, Router};
use hub_core::source::{PATH, SourceState};

use crate::link::Board;

/// The route of that message.
pub(crate) fn routes(board: Arc<Board>) -> Router {
    let told = tower::service_fn(move |request: Request| {
        let heard = hear(&board, &request);
        async move { heard }
    });
    let matcher = Matcher::any().source(SOURCE).operation(Operation::Update);
    Router::new().route(matcher.prefix(PATH), told)
}

fn hear(board: &Board, request: &Request) -> Result<Reply, BoxError> {
    let SourceState { silent_ms } = request.message.content.decode("the state of the source")?;
    // Relative, as the clocks may differ. A time before this machine's own is as long ago as can be told.
    let silent = |ms| {
        let now = Instant::now();
        now.checked_sub(Duration::from_millis(ms)).unwrap_or(now)
    };
    board.source_is(silent_ms.map(silent));
    Ok(Reply::Done)
}
