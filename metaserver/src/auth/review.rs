//! Reviews (`kubectl auth can-i`, `kubectl auth whoami`): questions that are answered and never stored. By the cloud while it is
//! there; else from the roles and keys held here, where they say enough.

use bytes::Bytes;
use hub_core::api::{AUTHENTICATED, ApiRequest, ApiResponse, Status, UpstreamError, User, Verb};
use hub_core::node::NODES_GROUP;
use hub_core::object::GroupVersionResource;
use hub_core::rbac::review::{access, info, rules, subject, wanted, whoami};
use hub_core::rbac::{Attributes, Rbac};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::token::Refused;
use super::unknown;
use crate::accept::Offer;
use crate::api::{Api, Asked};
use crate::fault::{self, away};
use crate::reply::{self, Reply, Source};

impl Api {
    /// The answer to a review; None for what is none, and on the embedded cluster, which answers itself.
    pub(crate) async fn review(
        &self,
        asked: &Asked,
        verb: Verb,
        body: &Bytes,
    ) -> Option<Result<Reply, Status>> {
        let resource = &asked.kind.resource;
        let is_review = matches!(&*resource.group, "authentication.k8s.io" | "authorization.k8s.io");
        if !is_review || verb != Verb::Create || asked.subresource.is_some() || self.authoritative() {
            return None;
        }
        Some(self.answer_review(asked, body).await)
    }

    async fn answer_review(&self, asked: &Asked, body: &Bytes) -> Result<Reply, Status> {
        let form = asked.form(Offer::Object)?;
        let review: Value = serde_json::from_slice(body).map_err(|error| fault::bad(error.to_string()))?;
        if !review.is_object() {
            return Err(fault::bad("a review is an object"));
        }
        let own = |answer: Value| {
            reply::from(
                reply::object(201, Bytes::from(answer.to_string()), form),
                Source::Own,
            )
        };
        let caller = asked.client.caller.clone();
        match (&*asked.kind.resource.resource, caller.user()) {
            // What the caller showed is known here; the cloud may only have heard of it.
            ("selfsubjectreviews", Some(user)) => return Ok(own(whoami(&user, &self.now()))),
            ("selfsubjectaccessreviews", Some(user)) => {
                let status = self.access_of(&user, &review).await?;
                return Ok(own(with_status(review, status)));
            }
            ("selfsubjectrulesreviews", Some(user)) => {
                let roles = self.known_roles()?;
                let mut answer = rules(&roles, &user, &review)?;
                answer["status"]["incomplete"] = true.into();
                answer["status"]["evaluationError"] = "this node knows of roles only".into();
                return Ok(own(answer));
            }
            _ => {}
        }
        match self.cloud.call(asked.request(Verb::Create, body.clone())).await {
            Ok(response) => Ok(reply::passed(response, asked.client.status_form())),
            Err(UpstreamError::Unreachable) => self.review_here(asked, review).await.map(own),
            Err(error) => Err(away(&error, Verb::Create, &asked.kind, None)),
        }
    }

    /// Without the cloud.
    async fn review_here(&self, asked: &Asked, review: Value) -> Result<Value, Status> {
        let status = match &*asked.kind.resource.resource {
            "selfsubjectreviews" => return Ok(whoami(&self.node(), &self.now())),
            "selfsubjectaccessreviews" => self.decide(&self.node(), &wanted(&review, None)?)?,
            "subjectaccessreviews" => self.decide(&subject(&review)?, &wanted(&review, None)?)?,
            "localsubjectaccessreviews" => {
                let wanted = wanted(&review, asked.namespace.as_deref())?;
                self.decide(&subject(&review)?, &wanted)?
            }
            "tokenreviews" => self.token_status(&review).await?,
            _ => return Err(fault::cloud_away("the cloud cannot be reached")),
        };
        Ok(with_status(review, status))
    }

    /// What somebody may do: the cloud knows of more than roles.
    async fn access_of(&self, user: &User, review: &Value) -> Result<Value, Status> {
        let wanted = wanted(review, None)?;
        let mut spec = review["spec"].clone();
        spec["user"] = user.name.as_str().into();
        spec["groups"] = user.groups.clone().into();
        spec["uid"] = user.uid.as_str().into();
        spec["extra"] = json!(user.extra);
        let asked =
            json!({ "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": spec });
        let resource = GroupVersionResource::new("authorization.k8s.io", "v1", "subjectaccessreviews");
        let request = ApiRequest::resource(Verb::Create, resource, None, None)
            .with_body("application/json", asked.to_string());
        let answer = self
            .cloud
            .call(request)
            .await
            .ok()
            .filter(ApiResponse::is_success);
        let answer = answer.and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
        match answer {
            Some(mut answer) if answer["status"].is_object() => Ok(answer["status"].take()),
            _ => self.decide(user, &wanted),
        }
    }

    fn decide(&self, user: &User, wanted: &Attributes<'_>) -> Result<Value, Status> {
        let roles = self.known_roles()?;
        let is_node = user.groups.iter().any(|group| group == NODES_GROUP);
        let status = access(&roles, user, wanted);
        if is_node && status["allowed"] == false {
            return Err(unknown(
                "what a node may do beyond its roles only the cloud knows",
            ));
        }
        Ok(status)
    }

    async fn token_status(&self, review: &Value) -> Result<Value, Status> {
        let spec = &review["spec"];
        let token = spec["token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| fault::bad("token is required for TokenReview in authentication"))?;
        let audiences = spec["audiences"].as_array().into_iter().flatten();
        let audiences: Vec<String> = audiences.filter_map(Value::as_str).map(str::to_owned).collect();
        match self.check_token(token, &audiences).await {
            Ok(claims) => {
                let meant = |audience: &&String| audiences.is_empty() || audiences.contains(audience);
                let audiences: Vec<&String> = claims.aud.iter().filter(meant).collect();
                Ok(json!({ "authenticated": true, "user": info(&claims.user()), "audiences": audiences }))
            }
            Err(Refused::Bad(why)) => {
                Ok(json!({ "user": {}, "error": format!("invalid bearer token, {why}") }))
            }
            Err(Refused::Unknown(why)) => Err(unknown(why)),
        }
    }

    fn known_roles(&self) -> Result<std::sync::Arc<Rbac>, Status> {
        self.roles()
            .ok_or_else(|| unknown("the roles of the cluster are not known on this node yet"))
    }

    fn node(&self) -> User {
        let node = self.guard.config.node.as_deref().unwrap_or_default();
        User {
            name: format!("system:node:{node}"),
            groups: vec![NODES_GROUP.into(), AUTHENTICATED.into()],
            ..User::default()
        }
    }

    fn now(&self) -> String {
        let now = OffsetDateTime::from_unix_timestamp(self.guard.unix_s());
        now.ok()
            .and_then(|now| now.format(&Rfc3339).ok())
            .unwrap_or_default()
    }
}

/// In the order in which such objects are written.
fn with_status(mut review: Value, status: Value) -> Value {
    if review["metadata"].is_null() {
        review["metadata"] = json!({});
    }
    review["status"] = status;
    review
}
