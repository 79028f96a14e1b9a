use crate::api::{ApiRequest, ApiResponse, Status, Target, Verb};
use crate::node::NodeId;
use crate::object::GroupVersionResource;

use super::*;

fn node() -> NodeId {
    NodeId::new("edge1").unwrap()
}

/// As a stock edge sends it: without our field.
fn stock(request: &ApiRequest) -> Application {
    Application {
        tunnel: None,
        ..Application::request(&node(), request)
    }
}

#[test]
fn the_id_and_key_are_those_of_a_recorded_request() {
    let configmaps = GroupVersionResource::core("configmaps");
    let get = stock(&ApiRequest::resource(
        Verb::Get,
        configmaps.clone(),
        Some("default"),
        Some("web-w"),
    ));
    assert_eq!(get.key, "/core/v1/configmaps/default/web-w");
    assert_eq!(
        get.id,
        "dd5b619713953eec5f1f49e4049dcacb295bab5a2f08a5f98350eeeb55350f3d"
    );
    let list = stock(&ApiRequest::resource(
        Verb::List,
        configmaps,
        Some("default"),
        None,
    ));
    assert_eq!(
        list.id,
        "82bf5b11cd55164af8481e0d0981595bfc2f2ddf7c7d54ae05f124f7735c5b76"
    );
    let path = stock(&ApiRequest::new(Verb::Get, Target::Path("/api".into())));
    assert_eq!(
        path.id,
        "39977a7ecc6f58765cb2ba27eb87fb9d859c28a53eab8186508eb060f8ba8204"
    );
}

#[test]
fn a_request_comes_back_from_its_application() {
    let pods = GroupVersionResource::core("pods");
    let body = Bytes::from_static(b"{\"a\":1}");
    let mut list = ApiRequest::resource(Verb::List, pods.clone(), None, None);
    list.query = "labelSelector=app%3Dweb&limit=5".into();
    let requests = [
        list,
        ApiRequest::resource(Verb::Patch, pods.clone(), Some("d"), Some("a"))
            .with_body("application/merge-patch+json", body.clone())
            .with_subresource("status"),
        ApiRequest::resource(Verb::Update, pods.clone(), Some("d"), Some("a"))
            .with_body("application/json", body.clone())
            .with_subresource("status"),
        ApiRequest::resource(Verb::Create, pods.clone(), Some("d"), None).with_body("application/json", body),
        ApiRequest::resource(
            Verb::Get,
            GroupVersionResource::core("namespaces"),
            None,
            Some("d"),
        ),
        ApiRequest::new(Verb::Get, Target::Path("/version".into())),
    ];
    let of_somebody = requests.clone().map(|request| ApiRequest {
        user: Some(User::of_service_account("d", "agent")),
        ..request
    });
    for request in requests.into_iter().chain(of_somebody) {
        let sent = Content::encode(&Application::request(&node(), &request));
        let back = Application::from_content(&sent).unwrap();
        assert_eq!(back.to_request().unwrap(), request);
        let mut plain = stock(&request).to_request().unwrap();
        plain.query = request.query.clone();
        plain.user = request.user.clone();
        assert_eq!(plain, request, "without our field");
    }
}

#[test]
fn answers_and_refusals_come_back_as_they_were() {
    let request = ApiRequest::resource(
        Verb::Get,
        GroupVersionResource::core("pods"),
        Some("d"),
        Some("a"),
    );
    for asked in [Application::request(&node(), &request), stock(&request)] {
        for response in [
            ApiResponse::json(200, "{\"kind\":\"Pod\"}"),
            Status::not_found("", "pods", "a").into(),
        ] {
            let travelled = Application::from_content(&Content::encode(&asked.answered(&response))).unwrap();
            assert_eq!(travelled.to_response(), response);
        }
    }
    let text = ApiResponse {
        code: 404,
        content_type: "text/plain".into(),
        body: "404 page not found".into(),
        warnings: Vec::new(),
    };
    let warned = |response: ApiResponse| ApiResponse {
        warnings: vec![r#"unknown field "dta""#.into()],
        ..response
    };
    let refused: ApiResponse = Status::not_found("", "pods", "a").into();
    for response in [text, warned(ApiResponse::json(200, "{}")), warned(refused)] {
        let travelled = Application::request(&node(), &request).answered(&response);
        let travelled = Application::from_content(&Content::encode(&travelled)).unwrap();
        assert_eq!(travelled.to_response(), response);
    }
}

#[test]
fn a_reason_without_a_status_is_an_error_all_the_same() {
    for (reason, code) in [
        (
            "get current list error: the server could not find the requested resource",
            404,
        ),
        (
            "get current list error: secrets is forbidden: User cannot list resource",
            403,
        ),
        ("converting kubeClient failed", 500),
    ] {
        let json = format!(
            r#"{{"ID":"x","Key":"/a/b","Verb":"list","Option":"e30=","ReqBody":null,"RespBody":"","Status":"Rejected",
            "Reason":"{reason}","Error":{{"ErrStatus":{{"metadata":{{}}}}}},"Timestamp":null}}"#
        );
        let application = Application::from_content(&Content::from_json(json.into())).unwrap();
        assert_eq!(application.to_response().code, code, "{reason}");
    }
}

#[test]
fn nonsense_is_refused() {
    for (verb, key) in [("fly", "/core/v1/pods/null/null"), ("get", "core")] {
        let application = Application {
            verb: verb.into(),
            key: key.into(),
            ..Application::default()
        };
        assert!(application.to_request().is_err());
    }
    assert!(Application::from_content(&Content::string("x")).is_err());
}
