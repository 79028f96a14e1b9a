//! The messages of a catch-up ([`hub_core::catch_up`]): what a returning node lacks.

use std::sync::Arc;

use hub_core::catch_up::{self, Buckets, Have, Refused, Versions};
use hub_core::message::Content;
use hub_core::service::{BoxError, Matcher, Reply, Request, Router};
use hub_core::session::Lane;

use crate::upstream::{Upstream, route};

/// The handlers of a catch-up.
pub(crate) fn routes(upstream: &Arc<Upstream>) -> Router {
    let about = |resource: &str| Matcher::any().source(catch_up::SOURCE).prefix(resource);
    let router = Router::new();
    let router = route(router, about(catch_up::HAVE), upstream, have);
    let router = route(router, about(catch_up::BUCKETS_OF), upstream, buckets);
    route(router, about(catch_up::VERSIONS_OF), upstream, versions)
}

async fn have(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let have: Have = request.message.content.decode("what a node has")?;
    let (mut wanted, mut refused) = (Vec::new(), Vec::new());
    for text in &have.scopes {
        let refusal = match text.scope() {
            None => Some("this is no scope".to_owned()),
            Some(scope) => match upstream.authorizer.check_scope(&request.node, &scope).await {
                Ok(()) => {
                    wanted.push((text.clone(), scope));
                    None
                }
                Err(status) => Some(status.message),
            },
        };
        refused.extend(refusal.map(|reason| Refused {
            scope: text.clone(),
            reason,
        }));
    }
    let differ = upstream
        .downstream
        .have(request.node.clone(), have, wanted, refused)
        .await?;
    Ok(answer(&request, Content::encode(&differ)))
}

async fn buckets(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let buckets: Buckets = request.message.content.decode("digests of buckets")?;
    let differ = upstream.downstream.buckets(request.node.clone(), buckets).await?;
    Ok(answer(&request, Content::encode(&differ)))
}

async fn versions(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let versions: Versions = request.message.content.decode("versions")?;
    upstream
        .downstream
        .versions(request.node.clone(), versions)
        .await?;
    Ok(answer(&request, Content::ok()))
}

fn answer(request: &Request, content: Content) -> Reply {
    Reply::Answer(request.message.response(content), Lane::Urgent)
}
