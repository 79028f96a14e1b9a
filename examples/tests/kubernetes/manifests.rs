//! The manifests in `examples/kubernetes` fit each other: what the Deployment allows is what its configuration needs.

use std::path::{Path, PathBuf};

use examples::config::{CloudCore, Loaded, SyncRecordsMode, load};
use serde_json::Value;

fn configuration() -> CloudCore {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/config.yaml");
    let loaded: Loaded<CloudCore> = load(Some(&file), std::iter::empty()).unwrap();
    loaded.check().unwrap();
    assert_eq!(loaded.words, Vec::<String>::new());
    loaded.config
}

fn pod() -> Value {
    let deployment: Value = serde_saphyr::from_str(include_str!("../../kubernetes/cloudcore.yaml")).unwrap();
    deployment["spec"]["template"]["spec"].clone()
}

#[test]
fn a_pod_of_the_deployment_can_write_wherever_its_configuration_has_it_write() {
    let (pod, config) = (pod(), configuration());
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let volumes = pod["volumes"].as_array().unwrap();
    let is_writable = |name: &Value| {
        volumes
            .iter()
            .any(|volume| volume["name"] == *name && volume["emptyDir"].is_object())
    };
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    let writable: Vec<_> = mounts
        .filter(|mount| is_writable(&mount["name"]))
        .map(|mount| PathBuf::from(mount["mountPath"].as_str().unwrap()))
        .collect();
    assert_eq!(writable.len(), 2);

    let hub = config.modules.cloud_hub;
    let mut written = vec![
        hub.tls_ca_file,
        hub.tls_ca_key_file,
        hub.tls_cert_file,
        hub.tls_private_key_file,
        config.edge_tunnel.admin.socket,
    ];
    let records = config.edge_tunnel.sync_records;
    if records.mode == SyncRecordsMode::File {
        let beside = config.edge_tunnel.standalone.data_dir.join("sync-records.db");
        let is_named = !records.file.as_os_str().is_empty();
        written.push(if is_named { records.file } else { beside });
    }
    for file in written {
        assert!(
            writable.iter().any(|folder| file.starts_with(folder)),
            "{} is on the read-only root",
            file.display()
        );
    }
}

#[test]
fn the_deployment_opens_the_ports_on_which_its_configuration_listens() {
    let (pod, config) = (pod(), configuration());
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let opened =
        |name: &str| ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].clone();
    let hub = config.modules.cloud_hub;
    assert_eq!(opened("websocket"), hub.websocket.port);
    assert_eq!(opened("quic"), hub.quic.port);
    assert_eq!(opened("https"), hub.https.port);
    let metrics = config.common_config.monitor_server.bind_address;
    assert!(metrics.ends_with(&format!(":{}", opened("metrics"))), "{metrics}");
}

#[test]
fn what_the_configuration_keeps_in_the_cluster_is_installed_with_it() {
    let kustomization: Value =
        serde_saphyr::from_str(include_str!("../../kubernetes/kustomization.yaml")).unwrap();
    let installed = kustomization["resources"].as_array().unwrap();
    let mut needed = vec![
        "crds/devices.yaml",
        "crds/devicemodels.yaml",
        "crds/devicestatuses.yaml",
    ];
    if configuration().edge_tunnel.sync_records.mode == SyncRecordsMode::ObjectSync {
        needed.extend(["crds/objectsync.yaml", "crds/clusterobjectsync.yaml"]);
    }
    for file in needed {
        assert!(installed.contains(&file.into()), "{file}");
    }
}
