use std::io::Write;

use serde_json::Value;

use super::catalogue::Catalogue;
use super::host::Host;
use super::load::defaults;
use super::*;

fn read<T: Configuration>(yaml: &str) -> Result<Loaded<T>, String> {
    read_with(yaml, &[])
}

fn read_with<T: Configuration>(yaml: &str, env: &[(&str, &str)]) -> Result<Loaded<T>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(yaml.as_bytes())
        .unwrap();
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    // Without the folder, whose name is another each time.
    let show = |error: ConfigError| {
        error
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "")
    };
    load(Some(&path), env).map_err(show)
}

fn cloud(yaml: &str) -> Loaded<CloudCore> {
    read(yaml).unwrap()
}

fn edge(yaml: &str) -> Loaded<EdgeCore> {
    read(yaml).unwrap()
}

fn every_honoured_key_is_a_field<T: Configuration>() {
    let catalogue = T::catalogue();
    let honoured = catalogue.honoured(&catalogue.defaults(&Host::this()));
    assert_eq!(serde_json::to_value(defaults::<T>()).unwrap(), honoured);
    for key in catalogue.keys() {
        if let Fate::Honoured(_) = key.run.fate {
            assert!(
                super::defaults::at(&honoured, &key.path()).is_some(),
                "{} has no default",
                key.path()
            );
        }
    }
}

#[test]
fn every_honoured_key_is_a_field_and_every_field_is_an_honoured_key() {
    every_honoured_key_is_a_field::<CloudCore>();
    every_honoured_key_is_a_field::<EdgeCore>();
}

#[test]
fn the_files_that_kubeedge_prints_are_read_and_say_what_our_defaults_say() {
    let full = cloud(&Catalogue::cloudcore().default_config());
    assert_eq!(full.config, CloudCore::default());
    let full = edge(&Catalogue::edgecore().default_config());
    assert_eq!(full.config, EdgeCore::default());
    let small = cloud(&Catalogue::cloudcore().min_config());
    assert!(!small.config.modules.cloud_hub.enable, "KubeEdge prints it so");
    assert_eq!(small.config.modules.cloud_hub.node_limit, 1000);
    let small = edge(&Catalogue::edgecore().min_config());
    assert!(!small.config.modules.edge_hub.enable);
    assert_eq!(small.config.modules.edged, EdgeCore::default().modules.edged);
}

#[test]
fn a_whole_file_of_defaults_gets_a_word_only_for_parts_that_are_on_and_not_here() {
    let words = cloud(&Catalogue::cloudcore().default_config()).words;
    let begin = |word: &String| word.split(' ').next().unwrap_or_default().to_owned();
    let parts: Vec<_> = words.iter().map(begin).collect();
    assert_eq!(
        parts,
        ["modules.cloudHub.unixsocket", "modules.iptablesManager"],
        "{words:#?}"
    );
    let words = edge(&Catalogue::edgecore().default_config()).words;
    assert!(words.is_empty(), "{words:#?}");
}

#[test]
fn the_effective_configuration_is_itself_a_file() {
    let mut config = CloudCore::default();
    config.modules.cloud_hub.node_limit = 7;
    config.edge_tunnel.standalone.enable = true;
    let again = cloud(&to_yaml(&config).unwrap());
    assert_eq!((again.config, again.words), (config, Vec::new()));
    let mut config = EdgeCore::default();
    config.modules.edged.hostname_override = "12".into();
    config.modules.edged.node_labels = [("a".to_owned(), "true".to_owned())].into();
    config.modules.edge_hub.token = "1.2".into();
    let again = edge(&to_yaml(&config).unwrap());
    assert_eq!((again.config, again.words), (config, Vec::new()));
}

#[test]
fn a_file_of_the_helm_chart_is_read() {
    // KubeEdge manifests/charts/cloudcore/templates/configmap_cloudcore.yaml, rendered with its values, names left empty.
    let loaded = cloud(
        "apiVersion: cloudcore.config.kubeedge.io/v1alpha2\nkind: CloudCore\nfeatureGates:\n  requireAuthorization: false\n\
         kubeAPIConfig:\n  kubeConfig: \"\"\n  master: \"\"\nmodules:\n  cloudHub:\n    advertiseAddress:\n    - 192.0.2.10\n    \
         dnsNames:\n    - \n    nodeLimit: 1000\n    tlsCAFile: /etc/kubeedge/ca/rootCA.crt\n    \
         tlsCertFile: /etc/kubeedge/certs/edge.crt\n    tlsPrivateKeyFile: /etc/kubeedge/certs/edge.key\n    unixsocket:\n      \
         address: unix:///var/lib/kubeedge/kubeedge.sock\n      enable: true\n    websocket:\n      address: 0.0.0.0\n      \
         enable: true\n      port: 10000\n    quic:\n      address: 0.0.0.0\n      enable: false\n      maxIncomingStreams: 10000\n      \
         port: 10001\n    https:\n      address: 0.0.0.0\n      enable: true\n      port: 10002\n  cloudStream:\n    enable: true\n    \
         streamPort: 10003\n    tunnelPort: 10004\n  dynamicController:\n    enable: true\n  router:\n    enable: false\n  \
         iptablesManager:\n    enable: true\n    mode: external\n  taskManager:\n    enable: false\n",
    );
    let hub = &loaded.config.modules.cloud_hub;
    assert_eq!(hub.advertise_address, ["192.0.2.10"]);
    assert!(hub.dns_names.is_empty());
    assert_eq!(
        (hub.node_limit, hub.tls_cert_file.to_str()),
        (1000, Some("/etc/kubeedge/certs/edge.crt"))
    );
    assert_eq!(loaded.words.len(), 3, "{:#?}", loaded.words);
}

#[test]
fn keys_of_earlier_releases_are_read_as_what_they_mean_or_named() {
    let old = edge(
        "apiVersion: edgecore.config.kubeedge.io/v1alpha1\nkind: EdgeCore\nmodules:\n  edged:\n    labels: {shop: \"1\"}\n    \
         taints: [{key: edge, effect: NoSchedule}]\n    registerNode: false\n    clusterDNS: \"\"\n    dockerAddress: unix:///x\n    \
         concurrentConsumers: 5\n    cgroupDriver: cgroupfs\n  edgeMesh: {enable: true}\n",
    );
    let edged = &old.config.modules.edged;
    assert_eq!(edged.node_labels["shop"], "1");
    assert_eq!(
        edged.tailored_kubelet_config.register_with_taints[0]["key"],
        "edge"
    );
    assert!(!edged.tailored_kubelet_config.register_node);
    assert_eq!(old.words.len(), 2, "{:#?}", old.words);
    assert!(
        old.words[0].starts_with("modules.edged.{dockerAddress, concurrentConsumers, cgroupDriver} has"),
        "{:?}",
        old.words
    );

    let both = edge("modules: {edged: {registerNode: false, tailoredKubeletConfig: {registerNode: true}}}\n");
    assert!(
        both.config.modules.edged.tailored_kubelet_config.register_node,
        "the present key wins"
    );

    // KubeEdge build/cloud/ha/02-ha-configmap.yaml.example.
    let ha = cloud(
        "modules:\n  edgeController:\n    buffer: {endpointsEvent: 1, queryService: 1024, queryNode: 1024}\n    \
         context: {receiveModule: edgecontroller, sendRouterModule: router}\n    load: {queryEndpointsWorkers: 4}\n",
    );
    assert_eq!(ha.words.len(), 4, "{:#?}", ha.words);
}

#[test]
fn keys_match_in_any_case_and_empty_ones_leave_the_default() {
    let loaded = cloud(
        "modules:\n  cloudhub:\n    NODELIMIT: 1000\n    advertiseAddress: [192.0.2.10]\n    quic: {enable: true}\n    https:\n",
    );
    let hub = &loaded.config.modules.cloud_hub;
    assert_eq!(
        (hub.node_limit, hub.quic.enable, hub.quic.port, hub.https.port),
        (1000, true, 10001, 10002)
    );
    assert_eq!(cloud("").config, CloudCore::default());
}

#[test]
fn a_mistake_is_told_with_file_line_column_key_and_what_was_expected() {
    for (yaml, told) in [
        (
            "modules:\n  edgeHub:\n    heartbeat: fifteen\n",
            "file.yaml:3:16: modules.edgeHub.heartbeat: expected a number of seconds, at least 1, got \"fifteen\"",
        ),
        (
            "modules:\n  edgehub: {websocket: {server: cloud}}\n",
            "file.yaml:2:33: modules.edgeHub.websocket.server: expected host:port, or several separated by commas, got \"cloud\"",
        ),
        (
            "modules:\n  edgeHub:\n    hartbeat: 15\n",
            "file.yaml:3:5: modules.edgeHub.hartbeat: there is no such key; did you mean modules.edgeHub.heartbeat?",
        ),
        (
            "modules:\n- edged\n",
            "file.yaml:2:3: modules: expected keys below it, got a list",
        ),
        (
            "kind: CloudCore\n",
            "file.yaml:1:7: kind: expected EdgeCore: it is the file of another program, got \"CloudCore\"",
        ),
        (
            "modules: {eventBus: {mqttMode: two}}\n",
            "file.yaml:1:32: modules.eventBus.mqttMode: expected a mode from 0 to 2, got \"two\"",
        ),
        (
            "bananas: 1\nmodules: {metaManager: {metaServer: {server: '127.0.0.1:99999'}}}\n",
            "file.yaml:1:1: bananas: there is no such key\nfile.yaml:2:46: modules.metaManager.metaServer.server: expected \
             host:port with a port up to 65535, got \"127.0.0.1:99999\"",
        ),
    ] {
        assert_eq!(read::<EdgeCore>(yaml).unwrap_err(), told, "{yaml}");
    }
    let error = read::<CloudCore>("modules: {cloudHub: {websocket: {port: 65536}}}\n").unwrap_err();
    assert_eq!(
        error,
        "file.yaml:1:40: modules.cloudHub.websocket.port: expected a port from 0 to 65535, got 65536"
    );
    let error = read::<CloudCore>("modules:\n  cloudHub: [\n").unwrap_err();
    assert!(
        error.starts_with("file.yaml:") && error.contains(": not YAML: "),
        "{error}"
    );
}

#[test]
fn a_node_without_certificate_needs_a_token_that_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let file = |token: &str| {
        format!(
            "database: {{dataSource: {}}}\nmodules:\n  edgeHub:\n    tlsCaFile: {}\n    tlsCertFile: {}\n    tlsPrivateKeyFile: \
             {}\n    token: {token}\n",
            path("edgecore.db").display(),
            path("ca.crt").display(),
            path("node.crt").display(),
            path("node.key").display()
        )
    };
    let check = |token: &str| edge(&file(token)).check().map_err(|error| error.to_string());
    let good = format!("{}.a.b.c", "0".repeat(64));
    assert_eq!(check(&good), Ok(()));
    let error = check("nodot").unwrap_err();
    assert!(
        error.contains("file.yaml:7:12: modules.edgeHub.token: the token is malformed"),
        "{error}"
    );
    let error = check("").unwrap_err();
    assert!(
        error.contains("file.yaml:4:16: modules.edgeHub.tlsCaFile: ")
            && error.contains("ca.crt is not there"),
        "{error}"
    );

    // A node that has joined before starts whatever became of its files: it serves what it holds.
    std::fs::write(path("edgecore.tunnel.db"), "").unwrap();
    assert_eq!(check(""), Ok(()));
    std::fs::remove_file(path("edgecore.tunnel.db")).unwrap();
    for name in ["ca.crt", "node.crt", "node.key"] {
        std::fs::write(path(name), "").unwrap();
    }
    assert_eq!(check(""), Ok(()));
    assert_eq!(
        check("a leftover"),
        Ok(()),
        "a token is not looked at when there is a certificate"
    );
}

#[test]
fn a_token_may_lie_in_the_file_that_keadm_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap-edgecore.conf");
    assert_eq!(bootstrap_token(&file), Ok(None));
    std::fs::write(&file, "a.b.c.d\n").unwrap();
    assert_eq!(bootstrap_token(&file), Ok(Some("a.b.c.d".into())));
    std::fs::write(&file, "\n").unwrap();
    assert_eq!(bootstrap_token(&file), Ok(None));
    assert!(bootstrap_token(folder.path()).is_err());
}

#[test]
fn one_way_to_the_cloud_is_needed() {
    let loaded = edge("modules: {edgeHub: {websocket: {enable: false}}}\n");
    let error = loaded.check().unwrap_err().to_string();
    assert!(
        error.contains("file.yaml:1:41: modules.edgeHub.websocket.enable: "),
        "{error}"
    );
    let loaded = cloud("modules: {cloudHub: {advertiseAddress: ['']}}\n");
    let error = loaded.check().unwrap_err().to_string();
    assert!(
        error.contains("file.yaml:1:40: modules.cloudHub.advertiseAddress: "),
        "{error}"
    );
}

#[test]
fn the_environment_has_the_last_word() {
    let env = [
        ("CLOUDCORE__MODULES__CLOUDHUB__NODELIMIT", "7"),
        ("CLOUDCORE__MODULES__CLOUDHUB__ADVERTISEADDRESS", "[a, b]"),
        ("CLOUDCORE__MODULES__CLOUDHUB__HTTPS", "{port: 1}"),
        ("CLOUDCORE_PORT_10000_TCP", "tcp://10.0.0.1:10000"),
        ("OTHER", "x"),
    ];
    let loaded = read_with::<CloudCore>("modules: {cloudHub: {nodeLimit: 3}}\n", &env).unwrap();
    let hub = &loaded.config.modules.cloud_hub;
    assert_eq!((hub.node_limit, hub.https.port), (7, 1));
    assert_eq!(hub.advertise_address, ["a", "b"]);

    let env = [("EDGECORE__MODULES__EDGED__HOSTNAMEOVERRIDE", "0012")];
    let loaded = read_with::<EdgeCore>("", &env).unwrap();
    assert_eq!(
        loaded.config.modules.edged.hostname_override, "0012",
        "a text as it stands"
    );

    let env = [
        ("CLOUDCORE__MODULES__CLOUDHUB__NODELIMIT", "many"),
        ("CLOUDCORE__MODULES__CLOUD", "1"),
    ];
    let error = read_with::<CloudCore>("", &env).unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        lines[0].starts_with("CLOUDCORE__MODULES__CLOUDHUB__NODELIMIT: expected a number of nodes"),
        "{error}"
    );
    assert!(
        lines[1].starts_with("CLOUDCORE__MODULES__CLOUD: there is no such key"),
        "{error}"
    );
}

#[test]
fn keys_without_effect_are_named_once_a_run_and_only_where_they_ask_for_something() {
    let words = |yaml: &str| cloud(yaml).words;
    assert_eq!(
        words("modules: {router: {enable: false, port: 1}}\n"),
        [""; 0],
        "a part that is off"
    );
    assert_eq!(
        words("kubeAPIConfig: {qps: 2500, burst: 5000}\n"),
        [""; 0],
        "defaults"
    );
    assert_eq!(
        words("modules: {dynamicController: {enable: true}}\n"),
        [""; 0],
        "always on here"
    );
    let told = words(
        "modules: {router: {enable: true, port: 1}, edgeController: {enable: false, load: {queryNodeWorkers: 1, patchNodeWorkers: 1}}}\n",
    );
    let begins: Vec<_> = told
        .iter()
        .map(|word| word.split(" has no").next().unwrap())
        .collect();
    assert_eq!(
        begins,
        [
            "modules.edgeController.enable: false",
            "modules.edgeController.load.{queryNodeWorkers, patchNodeWorkers}",
            "modules.router",
        ]
    );
}

#[test]
fn durations_and_numbers_are_compared_by_what_they_mean() {
    let same = "modules: {edged: {tailoredKubeletConfig: {syncFrequency: 60s, oomScoreAdj: -999.0, clusterDNS: null}}}\n";
    assert_eq!(edge(same).words, [""; 0]);
    let other =
        edge("modules: {edged: {tailoredKubeletConfig: {syncFrequency: 61s, clusterDNS: [192.0.2.53]}}}\n");
    assert_eq!(other.words.len(), 1, "{:?}", other.words);
    let value: Value = serde_json::to_value(&other.config).unwrap();
    assert!(
        value["modules"]["edged"]["tailoredKubeletConfig"]
            .get("syncFrequency")
            .is_none()
    );
}
