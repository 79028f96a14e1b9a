//! What mappers tell, and who may.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use edgehub::dmi::v1beta1::{
    DeviceStatus, MapperInfo, ReportDeviceStatesRequest, ReportDeviceStatusRequest, Twin, TwinProperty,
};
use edgehub::dmi::{Dmi, DmiConfig};
use hub_core::node::NodeId;
use tonic::Code;

use crate::mapper::{node, registration};
use crate::node::{Node, Recorder, lamp, model};

fn report(device: &str, property: &str, value: Option<&str>) -> ReportDeviceStatusRequest {
    let reported = value.map(|value| TwinProperty {
        value: value.into(),
        ..TwinProperty::default()
    });
    ReportDeviceStatusRequest {
        device_name: device.into(),
        device_namespace: "shop".into(),
        reported_device: Some(DeviceStatus {
            twins: vec![Twin {
                property_name: property.into(),
                reported,
                ..Twin::default()
            }],
            ..DeviceStatus::default()
        }),
    }
}

fn state(device: &str, state: &str) -> ReportDeviceStatesRequest {
    ReportDeviceStatesRequest {
        device_name: device.into(),
        device_namespace: "shop".into(),
        state: state.into(),
    }
}

#[tokio::test]
async fn s5_a_mapper_reports_of_this_node_s_devices_and_their_properties_only() {
    let mut here = Node::start().await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    here.put("Device", "mine", lamp("edge-1", "dali", "20")).await;
    here.put("Device", "far", lamp("edge-2", "dali", "20")).await;
    let mut calls = node(&here.socket());
    calls
        .report_device_status(report("mine", "level", Some("19")))
        .await
        .unwrap();
    calls.report_device_states(state("mine", "online")).await.unwrap();
    for (wrong, code) in [
        (report("far", "level", Some("19")), Code::NotFound),
        (report("none", "level", Some("19")), Code::NotFound),
        (report("mine", "colour", Some("19")), Code::InvalidArgument),
        (report("mine", "level", None), Code::InvalidArgument),
        (ReportDeviceStatusRequest::default(), Code::InvalidArgument),
    ] {
        let refused = calls.report_device_status(wrong.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{wrong:?}: {refused}");
    }
    assert_eq!(
        calls
            .report_device_states(state("far", "online"))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    assert_eq!(
        *here.reports.0.lock().unwrap(),
        ["shop/mine level=19", "shop/mine is online"]
    );
}

#[tokio::test]
async fn a_mapper_must_say_who_and_where_it_is() {
    let here = Node::start_with(|config| config.mappers_max = 1).await;
    let mut calls = node(&here.socket());
    let good = registration("dali", &here.path("m.sock"));
    for spoil in [
        |mapper: &mut MapperInfo| mapper.name.clear(),
        |mapper: &mut MapperInfo| mapper.protocol.clear(),
        |mapper: &mut MapperInfo| mapper.address.clear(),
        |mapper: &mut MapperInfo| mapper.address = b"m.sock".to_vec(),
        |mapper: &mut MapperInfo| mapper.address = [b"/".as_slice(), &[b'm'; 200]].concat(),
        |mapper: &mut MapperInfo| mapper.address = vec![0xff],
    ] {
        let mut request = good.clone();
        spoil(request.mapper.as_mut().unwrap());
        assert_eq!(
            calls.mapper_register(request).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    calls.mapper_register(good.clone()).await.unwrap();
    calls.mapper_register(good).await.unwrap();
    let another = registration("modbus", &here.path("m.sock"));
    assert_eq!(
        calls.mapper_register(another).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn mappers_may_call_at_a_rate() {
    let mut here = Node::start_with(|config| (config.calls_per_second, config.calls_burst) = (0, 3)).await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    here.put("Device", "mine", lamp("edge-1", "dali", "20")).await;
    let mut calls = node(&here.socket());
    for _ in 0..3 {
        calls.report_device_states(state("mine", "ok")).await.unwrap();
    }
    let refused = calls.report_device_states(state("mine", "ok")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(here.reports.0.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_dead_program_s_socket_is_replaced_and_a_living_one_s_is_not() {
    let here = Node::start().await;
    let bind = |socket| {
        let node = NodeId::new("edge-1").unwrap();
        let store = Arc::new(here.store.clone());
        Dmi::bind(DmiConfig::new(socket), node, store, Arc::new(Recorder::default()))
    };
    let busy = bind(here.socket()).await.err().unwrap().to_string();
    assert!(busy.contains("another program answers there"), "{busy}");
    let dead = here.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let bound = bind(dead.clone()).await.unwrap();
    assert_eq!(
        std::fs::metadata(&dead).unwrap().permissions().mode() & 0o777,
        0o660
    );
    drop(bound);
    assert!(!dead.exists());
    std::fs::write(&dead, "precious").unwrap();
    let refused = bind(dead).await.err().unwrap().to_string();
    assert!(refused.contains("no socket"), "{refused}");
}
