//! Requests to the Kubernetes API from the metaServer of a node, executed as that node and all at once (tunnel specification §6.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, Target, Verb};
use hub_core::application::{Application, WATCH_SYNC, answer_watch_sync};
use hub_core::message::Content;
use hub_core::node::NodeId;
use hub_core::scope::Scope;
use hub_core::service::{BoxError, Reply, Request};
use hub_core::session::Lane;

use super::Upstream;
use crate::downstream::{Shown, Watch};

/// One application, or all the watches that an edge still wants.
pub(super) async fn handle(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    if request.message.route.resource.as_str() == WATCH_SYNC {
        return watch_sync(upstream, request).await;
    }
    let application = Application::from_content(&request.message.content)?;
    let response = match application.to_request() {
        Err(error) => Status::failure(Reason::BadRequest, error.to_string()).into(),
        Ok(api) => respond(&upstream, &request.node, &application, api).await,
    };
    Ok(Reply::Answer(
        application.answered(&response).to_answer(&request.message),
        Lane::Urgent,
    ))
}

async fn respond(
    upstream: &Upstream,
    node: &NodeId,
    application: &Application,
    mut api: ApiRequest,
) -> ApiResponse {
    let caller = api.user.take();
    let user = match upstream.authorizer.check_for(node, caller, &api).await {
        Ok(user) => user,
        Err(status) => return status.into(),
    };
    // Our own edges know what they hold; of a stock one's clients it is remembered here.
    let is_stock = application.tunnel.is_none();
    if api.verb != Verb::Watch {
        let listed = (is_stock && api.verb == Verb::List)
            .then(|| scope(&api))
            .flatten();
        let as_hub = upstream.config.authorization.unrestricted_requests && user.name == node.user_name();
        // Public keys are no secret, but Kubernetes shows them to service accounts only, and a node is none.
        let is_public = matches!(&api.target, Target::Path(path) if PUBLIC.contains(&&**path));
        api.user = (!as_hub && !is_public).then_some(user);
        let response = upstream.executed(api).await;
        if let Some(scope) = listed.filter(|_| response.is_success()) {
            let (registry, max) = (
                upstream.cluster.registry(),
                upstream.config.downstream.listed_bytes_max,
            );
            if let Some(shown) = Shown::new(scope, &response.body, registry, max) {
                upstream.downstream.shown(node.clone(), shown).await;
            }
        }
        return response;
    }
    let watched = match watch(application, &api) {
        None => Err("only collections and objects can be watched".to_owned()),
        Some(watch) => match upstream.downstream.watch(node.clone(), watch).await {
            Ok(watched) => watched,
            Err(stopping) => Err(stopping.to_string()),
        },
    };
    match watched {
        // Answered at once; the objects follow as messages of their own.
        Ok(()) => ApiResponse::json(200, ""),
        Err(reason) => Status::failure(Reason::NotFound, reason).into(),
    }
}

async fn watch_sync(upstream: Arc<Upstream>, request: Request) -> Result<Reply, BoxError> {
    let applications: BTreeMap<String, Application> = request.message.content.decode("applications by id")?;
    let (mut wanted, mut failed) = (Vec::new(), BTreeMap::new());
    for (id, application) in &applications {
        let refused = match application.to_request() {
            Err(error) => Some(Status::failure(Reason::BadRequest, error.to_string())),
            Ok(api) => match (
                upstream.authorizer.check(&request.node, &api).await,
                watch(application, &api),
            ) {
                (Err(status), _) => Some(status),
                (Ok(()), None) => Some(Status::failure(Reason::BadRequest, "this cannot be watched")),
                (Ok(()), Some(watch)) => {
                    wanted.push(Watch {
                        id: id.clone(),
                        ..watch
                    });
                    None
                }
            },
        };
        if let Some(status) = refused {
            failed.insert(id.clone(), application.answered(&status.into()));
        }
    }
    for (id, reason) in upstream
        .downstream
        .watch_sync(request.node.clone(), wanted)
        .await?
    {
        if let Some(application) = applications.get(&id) {
            let status = Status::failure(Reason::NotFound, reason);
            failed.insert(id, application.answered(&status.into()));
        }
    }
    Ok(Reply::Answer(
        answer_watch_sync(&request.message, Content::encode(&failed)),
        Lane::Urgent,
    ))
}

/// What tokens are checked with (Kubernetes, "ServiceAccount issuer discovery").
const PUBLIC: [&str; 2] = ["/openid/v1/jwks", "/.well-known/openid-configuration"];

/// What a watch asks for.
fn watch(application: &Application, api: &ApiRequest) -> Option<Watch> {
    let versions = form_urlencoded::parse(api.query.as_bytes())
        .filter(|(field, value)| field == "resourceVersion" && !matches!(&**value, "" | "0"));
    Some(Watch {
        id: application.id.clone(),
        scope: scope(api)?,
        since: versions.map(|(_, version)| (&*version).into()).last(),
    })
}

/// The part of the cluster that a request is about, if it is a collection or an object.
fn scope(api: &ApiRequest) -> Option<Scope> {
    let Target::Resource {
        resource,
        namespace,
        name,
        subresource: None,
    } = &api.target
    else {
        return None;
    };
    let mut scope = Scope {
        namespace: namespace.clone(),
        name: name.clone(),
        ..Scope::all(resource.clone())
    };
    for (field, value) in form_urlencoded::parse(api.query.as_bytes()) {
        match &*field {
            "labelSelector" => scope.labels = (&*value).into(),
            "fieldSelector" => scope.fields = (&*value).into(),
            _ => {}
        }
    }
    Some(scope)
}
