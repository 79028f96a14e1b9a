//! Which messages a KubeEdge edge acknowledges.

use super::{Group, Kind, Message, Operation, Source, Subject};

/// Whether the edge acknowledges this downstream message once it is stored (tunnel specification §4.3).
///
/// The rules are KubeEdge's, evaluated top-down; the first that matches decides.
pub fn needs_ack(message: &Message) -> bool {
    let route = &message.route;
    let resource = route.resource.as_str();

    const NEVER: [&str; 5] = [
        "podlist",
        "membership",
        "twin/cloud_updated",
        "serviceaccounttoken",
        "k8s/ca.crt",
    ];
    if NEVER.iter().any(|part| resource.contains(part)) {
        return false;
    }
    match route.operation {
        Operation::CreateVolume
        | Operation::DeleteVolume
        | Operation::ControllerPublishVolume
        | Operation::ControllerUnpublishVolume
        | Operation::ApplicationResponse
        | Operation::Keepalive
        | Operation::Error => return false,
        _ => {}
    }
    let source = route.source();
    if route.group() == Group::User
        || matches!(source, Source::TaskManager | Source::NodeUpgradeJobController)
    {
        return false;
    }
    // A failure travels as a response without a version: `{"ErrStatus":…}`.
    if route.operation == Operation::Response
        && (message.content.is_ok() || message.content.bytes().starts_with(b"{\"ErrStatus\""))
    {
        return false;
    }
    let Subject::Object { kind, .. } = route.resource.subject() else {
        return true;
    };
    if source == Source::EdgeController {
        let no_ack = match kind {
            Kind::Node => route.operation != Operation::Update,
            Kind::Lease
            | Kind::NodePatch
            | Kind::PodPatch
            | Kind::PodStatus
            | Kind::CertificateSigningRequest => true,
            Kind::Pod => route.operation == Operation::Response,
            _ => false,
        };
        return !no_ack;
    }
    true
}

/// The version in the header as a number, where it is one. KubeEdge panics on others (weak spot P1).
pub fn resource_version_number(message: &Message) -> Option<u64> {
    message.header.resource_version.as_ref()?.number()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, Route};

    fn check(source: &str, operation: &str, resource: &str, content: Content, expected: bool) {
        let message = Message::new(
            Route::new(source, "resource", operation.into(), resource),
            content,
        );
        assert_eq!(needs_ack(&message), expected, "{source} {operation} {resource}");
    }

    #[test]
    fn objects_are_acknowledged_and_answers_to_reports_are_not() {
        let object = || Content::from_json(bytes::Bytes::from_static(b"{\"metadata\":{}}"));
        check("edgecontroller", "insert", "default/pod/a", object(), true);
        check("edgecontroller", "response", "default/pod/a", object(), false);
        check("edgecontroller", "update", "null/node/e", object(), true);
        check("edgecontroller", "response", "null/node/e", object(), false);
        check(
            "edgecontroller",
            "response",
            "default/configmap/c",
            object(),
            true,
        );
        check("edgecontroller", "response", "default/lease/c", object(), false);
        check(
            "edgecontroller",
            "response",
            "default/serviceaccounttoken/c",
            object(),
            false,
        );
        check("devicecontroller", "update", "membership", object(), false);
        check(
            "dynamiccontroller",
            "applicationResponse",
            "ignore/Application/ignore",
            object(),
            false,
        );
        check("dynamiccontroller", "insert", "null/widget/w", object(), true);
        check(
            "edgecontroller",
            "response",
            "default/secret/s",
            Content::ok(),
            false,
        );
    }
}
