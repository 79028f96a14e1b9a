//! The generated code of the device mapper interface is that of its proto file.

use std::path::Path;

#[test]
fn the_generated_code_is_that_of_the_proto_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let files = protox::compile([root.join("proto/dmi.proto")], [root.join("proto")]).unwrap();
    let mut code = tonic_prost_build::configure()
        .btree_map(".")
        .build_transport(false)
        .out_dir(folder.path());
    for message in READ_FROM_OBJECTS {
        code = code.type_attribute(
            message,
            "#[derive(serde::Deserialize)] #[serde(default, rename_all = \"camelCase\")]",
        );
    }
    for (field, attribute) in NAMED_OTHERWISE {
        code = code.field_attribute(field, format!("#[serde({attribute})]"));
    }
    code.compile_fds(files).unwrap();
    let made = std::fs::read_to_string(folder.path().join("v1beta1.rs")).unwrap();
    let path = root.join("src/dmi/v1beta1.rs");
    if std::env::var_os("WRITE_PROTO").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == made,
        "run WRITE_PROTO=1 cargo test -p edgehub --test dmi_proto"
    );
}

/// What has the same fields in a Device or DeviceModel of the cluster.
const READ_FROM_OBJECTS: [&str; 17] = [
    "ModelProperty",
    "DeviceMethod",
    "TwinProperty",
    "PushMethod",
    "PushMethodHTTP",
    "PushMethodMQTT",
    "PushMethodOTEL",
    "DBMethod",
    "DBMethodInfluxdb2",
    "Influxdb2DataConfig",
    "Influxdb2ClientConfig",
    "DBMethodRedis",
    "RedisClientConfig",
    "DBMethodTDEngine",
    "TDEngineClientConfig",
    "DBMethodMySQL",
    "MySQLClientConfig",
];

/// Where the cluster's objects have another name for a field, or another shape.
const NAMED_OTHERWISE: [(&str, &str); 7] = [
    ("PushMethod.anomalyDetection", "skip"),
    ("PushMethodHTTP.hostname", "rename = \"hostName\""),
    ("PushMethodHTTP.requestpath", "rename = \"requestPath\""),
    ("PushMethodOTEL.endpointURL", "rename = \"endpointURL\""),
    ("DBMethod.tdengine", "rename = \"TDEngine\""),
    (
        "DBMethodTDEngine.tdEngineClientConfig",
        "rename = \"TDEngineClientConfig\"",
    ),
    ("TDEngineClientConfig.dbname", "rename = \"dbName\""),
];
