//! The programs' files and flags, as an operator who comes from KubeEdge gives them.

use std::path::Path;

use examples::cloud::Addresses;
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::Api;
use crate::process::Program;

const CLOUDCORE: &str = env!("CARGO_BIN_EXE_cloudcore");
const EDGECORE: &str = env!("CARGO_BIN_EXE_edgecore");

/// What a program prints, when all is well.
async fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a program says before it refuses to start.
async fn refused(program: &str, file: &Path) -> Vec<String> {
    let (status, said) = Program::configured(program, file, &[]).ended().await;
    assert!(!status.success(), "{said:#?}");
    said
}

fn written(folder: &TempDir, text: &str) -> std::path::PathBuf {
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn what_a_program_prints_of_its_configuration_can_be_given_to_it() {
    let folder = tempfile::tempdir().unwrap();
    for (program, kind) in [(CLOUDCORE, "CloudCore"), (EDGECORE, "EdgeCore")] {
        for example in ["--defaultconfig", "--minconfig", "--defaultconfig=true"] {
            let text = printed(program, &[example]).await;
            let name = example.trim_end_matches("=true");
            assert!(text.starts_with(&format!("# With {name} ")), "{text}");
            assert!(
                text.contains(&format!("\nkind: {kind}\n")) && text.ends_with("\n\n\n"),
                "{text}"
            );
            let file = written(&folder, &text);
            let effective = printed(program, &["--config", file.to_str().unwrap(), "config"]).await;
            let again = written(&folder, &effective);
            assert_eq!(
                printed(program, &["--config", again.to_str().unwrap(), "config"]).await,
                effective
            );
        }
    }
}

#[tokio::test]
async fn the_flags_of_kubeedge_s_units_and_scripts_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, "");
    let config = format!("--config={}", file.display());
    for program in [CLOUDCORE, EDGECORE] {
        for flags in [
            &["--v=4"][..],
            &["-v", "4", "--logtostderr=true", "--vmodule=hub=4"],
            &[
                "-v4",
                "--logtostderr",
                "--log-flush-frequency=5s",
                "--stderrthreshold=2",
            ],
            &[
                "--alsologtostderr",
                "--log_dir=/var/log/kubeedge",
                "--skip_headers",
                "--one-output=true",
            ],
        ] {
            let arguments = [flags, &[config.as_str(), "config"]].concat();
            assert!(
                printed(program, &arguments).await.contains("apiVersion"),
                "{flags:?}"
            );
        }
        assert!(
            printed(program, &["--version"])
                .await
                .contains(env!("CARGO_PKG_VERSION"))
        );
        assert!(printed(program, &["--help"]).await.contains("--defaultconfig"));
    }
}

#[tokio::test]
async fn a_key_without_effect_is_warned_of_once_and_a_mistake_is_refused_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    for (program, key, part) in [
        (CLOUDCORE, "cloudHub", "router"),
        (EDGECORE, "edgeHub", "serviceBus"),
    ] {
        let file = written(
            &folder,
            &format!("modules:\n  {part}: {{enable: true, port: 1}}\n"),
        );
        let (status, said) = Program::configured(program, &file, &["config"]).ended().await;
        let warned: Vec<_> = said.iter().filter(|line| line.contains("WARN")).collect();
        let wanted = format!("modules.{part} has no effect here");
        assert!(
            status.success() && warned.len() == 1 && warned[0].contains(&wanted),
            "{said:#?}"
        );

        for (content, wanted) in [
            (
                format!("modules:\n  {key}:\n    websocket: {{enable: perhaps}}\n"),
                format!(
                    "config.yaml:3:25: modules.{key}.websocket.enable: expected true or false, got \"perhaps\""
                ),
            ),
            (
                format!("modules:\n  {key}:\n    websockets: {{enable: true}}\n"),
                format!(
                    "config.yaml:3:5: modules.{key}.websockets: there is no such key; did you mean modules.{key}.websocket?"
                ),
            ),
            ("modules: [\n".into(), "not YAML".into()),
        ] {
            let said = refused(program, &written(&folder, &content)).await;
            assert!(
                said.iter().any(|line| line.contains(&wanted)),
                "{wanted}: {said:#?}"
            );
        }
        let said = refused(program, Path::new("/nowhere/config.yaml")).await;
        assert!(
            said.iter().any(|line| line.contains("/nowhere/config.yaml")),
            "{said:#?}"
        );
    }
}

#[tokio::test]
async fn a_node_that_can_never_join_is_told_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, "modules: {edgeHub: {token: nodot}}\n");
    let data = folder.path().join("data").display().to_string();
    let (status, said) = Program::configured(EDGECORE, &file, &["--data-dir", &data])
        .ended()
        .await;
    assert!(!status.success(), "{said:#?}");
    let wanted = "config.yaml:1:28: modules.edgeHub.token: the token is malformed";
    assert!(said.iter().any(|line| line.contains(wanted)), "{said:#?}");

    let file = written(&folder, "");
    let (status, said) = Program::configured(EDGECORE, &file, &["--data-dir", &data])
        .ended()
        .await;
    assert!(!status.success(), "{said:#?}");
    let wanted = "modules.edgeHub.tlsCaFile: ";
    assert!(
        said.iter()
            .any(|line| line.contains(wanted) && line.contains("token")),
        "{said:#?}"
    );
}

#[tokio::test]
async fn a_hub_that_is_switched_off_leaves_the_rest_running() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let file = written(
        &folder,
        "modules:\n  edged: {hostnameOverride: edge-1}\n  edgeHub: {enable: false}\n  metaManager: {metaServer: {enable: true, server: \
         '127.0.0.1:0'}}\n",
    );
    let mut edge = Program::configured(EDGECORE, &file, &["--data-dir", &data]);
    let ready = edge.line("edgecore is ready").await;
    edge.line("modules.edgeHub.enable is false").await;
    let api = Addresses::parse(&ready).api.unwrap();
    assert_eq!(Api(api).get("/healthz").await.status, 200);
    edge.signal("-TERM").await;
    assert!(edge.ended().await.0.success());

    let file = written(
        &folder,
        "modules: {cloudHub: {enable: false}}\ncommonConfig: {monitorServer: {bindAddress: ''}}\nedgeTunnel: {standalone: {server: \
         '127.0.0.1:0'}}\n",
    );
    let mut cloud = Program::configured(CLOUDCORE, &file, &["--standalone", "--data-dir", &data]);
    let at = Addresses::parse(&cloud.line("cloudcore is ready").await);
    assert!(
        at.websocket.is_none() && at.https.is_none() && at.api.is_some(),
        "{at:?}"
    );
    cloud.signal("-TERM").await;
    assert!(cloud.ended().await.0.success());
}
