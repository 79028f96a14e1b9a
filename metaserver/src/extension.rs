//! KubeEdge's own URLs beside Kubernetes' (`edge/pkg/metamanager/metaserver/handlerfactory`, metaServer specification A.6).
//!
//! Logs and changes of Devices are ordinary requests here, and answered as Kubernetes answers them. The others tell the container runtime
//! of KubeEdge's node, or its upgrades, what to do: that is said to whoever asks, so that nobody looks for a mistake of his own.

use http::Method;
use hub_core::api::{Reason, Status};
use hub_core::object::GroupVersionResource;

use crate::request::query;

/// What is answered to a request that only a KubeEdge node can do; None for all others.
pub(crate) fn refused(method: &Method, path: &str) -> Option<Status> {
    if method != Method::POST {
        return None;
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let why = match &parts[..] {
        ["api", "v1", "namespaces", _, "pods", "restart"] => {
            "pods are restarted by the kubelet of this node, which this server does not speak to; delete the pod to have it started anew"
        }
        ["api", "v1", "taskupgrade", "confirm-upgrade"] => {
            "this node takes no part in KubeEdge's upgrade jobs, so none waits to be confirmed"
        }
        ["api", "v1", "pods" | "nodes", "unhold-upgrade"] => {
            "this node holds no upgrades of pods back, so none is to be let go"
        }
        _ => return None,
    };
    Some(not_implemented(why))
}

/// What is answered to a request for a stream into or out of a container; None for all others. Such a stream ends at the kubelet of
/// the pod's node, and the tunnel carries requests with one answer.
pub(crate) fn stream(
    resource: &GroupVersionResource,
    subresource: Option<&str>,
    query_text: &str,
) -> Option<Status> {
    if (&*resource.group, &*resource.resource) != ("", "pods") {
        return None;
    }
    let follows = || {
        query(query_text).any(|(key, value)| {
            key == "follow" && matches!(&*value, "true" | "1" | "True" | "TRUE" | "t" | "T")
        })
    };
    match subresource {
        Some("exec" | "attach" | "portforward") => Some(not_implemented(
            "streams into containers are served by the kubelet of the pod's node, which this server does not speak to; use the node's \
             container runtime there, such as crictl",
        )),
        Some("log") if follows() => Some(not_implemented(
            "logs are not followed through this server; ask for them without follow, or follow them on the pod's node",
        )),
        _ => None,
    }
}

fn not_implemented(why: &str) -> Status {
    let mut status = Status::failure(Reason::InternalError, why);
    (status.code, status.reason) = (501, None);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_kubeedge_node_can_do_is_answered_with_a_sentence() {
        for path in [
            "/api/v1/namespaces/shop/pods/restart",
            "/api/v1/taskupgrade/confirm-upgrade",
            "/api/v1/pods/unhold-upgrade",
            "/api/v1/nodes/unhold-upgrade/",
        ] {
            assert_eq!(refused(&Method::POST, path).unwrap().code, 501, "{path}");
            assert!(
                refused(&Method::GET, path).is_none(),
                "{path} is a name like any other"
            );
        }
        let pods = GroupVersionResource::core("pods");
        for (below, query, refused) in [
            ("exec", "command=ls", true),
            ("portforward", "ports=80", true),
            ("log", "container=c&follow=true", true),
            ("log", "follow=false", false),
            ("status", "", false),
        ] {
            let said = stream(&pods, Some(below), query);
            assert_eq!(
                said.map(|said| said.code),
                refused.then_some(501),
                "{below}?{query}"
            );
        }
        assert!(stream(&GroupVersionResource::core("nodes"), Some("exec"), "").is_none());
        for path in [
            "/api/v1/namespaces/shop/pods",
            "/api/v1/namespaces/shop/pods/web/exec",
            "/api/v1/nodes",
        ] {
            assert!(refused(&Method::POST, path).is_none(), "{path}");
        }
    }
}
