//! In whose name a node asks: its own, or that of a caller on the node.
//!
//! A node can say anything of its callers, so what it says may only take rights away from it, with one exception that is none: the
//! service account of a pod that it runs, whose token it could have had. The groups of such an account are made here.

use hub_core::api::{ApiRequest, Status, User};
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::rbac::{self, Attributes};

use super::rules::Decision;
use super::{Authorizer, user};
use crate::downstream::Question;

impl Authorizer {
    /// Decides about a request that a node makes for a caller, or for itself. In whose name it is to be executed.
    pub(crate) async fn check_for(
        &self,
        node: &NodeId,
        caller: Option<User>,
        request: &ApiRequest,
    ) -> Result<User, Status> {
        let Some(caller) = caller.filter(|caller| caller.name != node.user_name()) else {
            self.check(node, request).await?;
            return Ok(user(node));
        };
        if let Some((namespace, name)) = caller.service_account() {
            let key = ObjectKey::new(
                GroupVersionResource::core("serviceaccounts"),
                Some(namespace),
                name,
            );
            let runs = self
                .resolve(node, Decision::If(Question::RunsAs(key)))
                .await
                .unwrap_or(false);
            if runs {
                let account = on_node(node, namespace, name);
                self.permitted(&account, request).await?;
                return Ok(account);
            }
        }
        self.check(node, request).await?;
        self.permitted(&caller, request).await?;
        Ok(user(node))
    }

    pub(super) async fn permitted(&self, caller: &User, request: &ApiRequest) -> Result<(), Status> {
        let mut asked = request.clone();
        asked.user = Some(caller.clone());
        if self.cluster().permits(&asked).await {
            return Ok(());
        }
        let selected = rbac::selected_name(request);
        Err(rbac::denial(
            caller,
            &Attributes::of(request, selected.as_deref()),
            "",
        ))
    }
}

/// The user that a service account is to the cluster, when a pod on the node runs as it.
pub(super) fn account_of(node: &NodeId, account: &ObjectKey) -> Option<User> {
    Some(on_node(node, account.namespace.as_deref()?, &account.name))
}

fn on_node(node: &NodeId, namespace: &str, name: &str) -> User {
    let mut account = User::of_service_account(namespace, name);
    // Of what a token says, this alone is known here too.
    account.extra = [(NODE_NAME.to_owned(), vec![node.to_string()])].into();
    account
}

/// As in the tokens of pods.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
