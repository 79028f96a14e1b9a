//! What a mapper is told: all that is its own, in order, whoever was away.

use crate::mapper::{TestMapper, node, registration};
use crate::node::{Node, lamp, model, put};

#[tokio::test]
async fn a_mapper_gets_the_devices_of_its_protocol_on_this_node_with_their_models() {
    let mut here = Node::start().await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    here.put("DeviceModel", "unused", model("percent")).await;
    here.put("Device", "mine", lamp("edge-1", "dali", "20")).await;
    here.put("Device", "other", lamp("edge-1", "modbus", "20")).await;
    here.put("Device", "far", lamp("edge-2", "dali", "20")).await;
    let mapper = here.path("mapper.sock");
    let answer = node(&here.socket())
        .mapper_register(registration("dali", &mapper))
        .await
        .unwrap()
        .into_inner();
    let models: Vec<_> = answer.model_list.iter().map(|model| &*model.name).collect();
    let devices: Vec<_> = answer.device_list.iter().map(|device| &*device.name).collect();
    assert_eq!((models, devices), (vec!["lamp"], vec!["mine"]));
    let device = answer.device_list[0].clone();
    assert_eq!(device.namespace, "shop");
    let spec = device.spec.unwrap();
    assert_eq!(spec.device_model_reference, "lamp");
    assert_eq!(spec.properties[0].desired.clone().unwrap().value, "20");
    let mut nothing = registration("dali", &mapper);
    nothing.with_data = false;
    let answer = node(&here.socket())
        .mapper_register(nothing)
        .await
        .unwrap()
        .into_inner();
    assert!(answer.device_list.is_empty());
}

#[tokio::test]
async fn what_comes_changes_and_goes_is_told_in_order() {
    let mut here = Node::start().await;
    let mut mapper = TestMapper::listen(&here.path("mapper.sock"));
    node(&here.socket())
        .mapper_register(registration("dali", &mapper.socket))
        .await
        .unwrap();
    here.put("Device", "lamp", lamp("edge-1", "dali", "20")).await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    assert_eq!(
        mapper.told(2).await,
        ["create model shop/lamp", "register shop/lamp desired=20"],
        "it waits for its model"
    );
    here.put("Device", "lamp", lamp("edge-1", "dali", "80")).await;
    assert_eq!(mapper.next().await, "update shop/lamp desired=80");
    here.put("DeviceModel", "lamp", model("lux")).await;
    assert_eq!(
        mapper.told(2).await,
        ["update model shop/lamp", "update shop/lamp desired=80"]
    );
    here.put("Device", "lamp", lamp("edge-2", "dali", "80")).await;
    assert_eq!(
        mapper.told(2).await,
        ["remove shop/lamp", "remove model shop/lamp"],
        "it moved to another node"
    );
    here.put("Device", "lamp", lamp("edge-1", "dali", "80")).await;
    assert_eq!(
        mapper.told(2).await,
        ["create model shop/lamp", "register shop/lamp desired=80"]
    );
    here.delete("devices", "lamp").await;
    assert_eq!(
        mapper.told(2).await,
        ["remove shop/lamp", "remove model shop/lamp"]
    );
}

#[tokio::test]
async fn a_mapper_that_was_away_is_told_how_things_are_now() {
    let mut here = Node::start().await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    here.put("Device", "old", lamp("edge-1", "dali", "1")).await;
    here.put("Device", "kept", lamp("edge-1", "dali", "1")).await;
    let socket = here.path("mapper.sock");
    node(&here.socket())
        .mapper_register(registration("dali", &socket))
        .await
        .unwrap();
    // It hangs: nobody listens at its socket.
    here.delete("devices", "old").await;
    for desired in ["2", "3", "4"] {
        here.put("Device", "kept", lamp("edge-1", "dali", desired)).await;
    }
    here.put("Device", "new", lamp("edge-1", "dali", "1")).await;
    let mut mapper = TestMapper::listen(&socket);
    assert_eq!(mapper.next().await, "remove shop/old");
    // The new one comes twice, if it was tried before: as new, and as it is.
    let mut told = mapper.told(2).await;
    while !["register shop/new desired=1", "update shop/kept desired=4"]
        .iter()
        .all(|call| told.iter().any(|told| told == call))
    {
        told.push(mapper.next().await);
    }
    assert!(told.len() <= 3, "{told:?}");
}

#[tokio::test]
async fn a_node_that_starts_again_knows_its_mappers_and_tells_them_what_is_new() {
    let mut here = Node::start().await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    here.put("Device", "same", lamp("edge-1", "dali", "1")).await;
    here.put("Device", "changed", lamp("edge-1", "dali", "1")).await;
    let mut mapper = TestMapper::listen(&here.path("mapper.sock"));
    node(&here.socket())
        .mapper_register(registration("dali", &mapper.socket))
        .await
        .unwrap();
    let mut here = here
        .restart(async |store| put(store, "Device", "changed", lamp("edge-1", "dali", "2"), 100).await)
        .await;
    assert_eq!(mapper.next().await, "update shop/changed desired=2");
    here.put("Device", "late", lamp("edge-1", "dali", "7")).await;
    assert_eq!(
        mapper.next().await,
        "register shop/late desired=7",
        "nothing was told twice"
    );
    assert!(mapper.silent());
}

#[tokio::test]
async fn what_a_mapper_refuses_is_told_again_and_not_for_ever() {
    let mut here = Node::start_with(|config| config.attempts_max = 3).await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    let mut mapper = TestMapper::listen(&here.path("mapper.sock"));
    node(&here.socket())
        .mapper_register(registration("dali", &mapper.socket))
        .await
        .unwrap();
    mapper.refuse("register shop/bad");
    here.put("Device", "bad", lamp("edge-1", "dali", "1")).await;
    let told = mapper.told(4).await;
    assert_eq!(told[0], "create model shop/lamp");
    assert!(
        told[1..].iter().all(|call| call == "register shop/bad desired=1"),
        "{told:?}"
    );
    here.put("Device", "good", lamp("edge-1", "dali", "1")).await;
    assert_eq!(
        mapper.next().await,
        "register shop/good desired=1",
        "three times, and it holds up nobody"
    );
    mapper.refuse_nothing();
    here.put("Device", "bad", lamp("edge-1", "dali", "2")).await;
    assert_eq!(
        mapper.told(2).await,
        ["register shop/bad desired=2", "update shop/bad desired=2"]
    );
}

#[tokio::test]
async fn a_mapper_that_lost_a_device_gets_it_anew() {
    let mut here = Node::start().await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    here.put("Device", "lamp", lamp("edge-1", "dali", "1")).await;
    let mut mapper = TestMapper::listen(&here.path("mapper.sock"));
    node(&here.socket())
        .mapper_register(registration("dali", &mapper.socket))
        .await
        .unwrap();
    mapper.refuse("update shop/lamp");
    here.put("Device", "lamp", lamp("edge-1", "dali", "2")).await;
    assert_eq!(
        mapper.told(2).await,
        ["update shop/lamp desired=2", "register shop/lamp desired=2"]
    );
}

#[tokio::test]
async fn more_devices_than_an_answer_holds_follow_in_calls() {
    let mut here = Node::start_with(|config| config.answer_bytes_max = 1000).await;
    here.put("DeviceModel", "lamp", model("percent")).await;
    for number in 0..50 {
        here.put(
            "Device",
            &format!("lamp-{number:02}"),
            lamp("edge-1", "dali", "1"),
        )
        .await;
    }
    let mut mapper = TestMapper::listen(&here.path("mapper.sock"));
    let answer = node(&here.socket())
        .mapper_register(registration("dali", &mapper.socket))
        .await
        .unwrap()
        .into_inner();
    let answered = answer.device_list.len();
    assert!((1..50).contains(&answered), "{answered}");
    let mut all: Vec<_> = answer
        .device_list
        .into_iter()
        .map(|device| format!("register shop/{} desired=1", device.name))
        .collect();
    all.extend(mapper.told(50 - answered).await);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 50);
}
