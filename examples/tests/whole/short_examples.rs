//! The short examples print what they promise, and end.

use tokio::process::Command;

use crate::world::within;

async fn output(program: &str) -> String {
    let output = Command::new(program).kill_on_drop(true).output();
    let output = within("the example's end", output).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{program}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn hello_shows_a_change_of_the_cluster_as_an_event_on_the_node() {
    let said = output(env!("CARGO_BIN_EXE_hello")).await;
    assert!(
        said.starts_with("Added {") && said.contains("from the cloud"),
        "{said}"
    );
}

#[tokio::test]
async fn handler_answers_a_node_and_its_layer_sees_every_message() {
    let said = output(env!("CARGO_BIN_EXE_handler")).await;
    assert!(said.contains("edge-1 sends \"office/thermometer\""), "{said}");
    assert!(
        said.contains("at 21.5 °C the cloud says: all is well")
            && said.contains("at 34 °C the cloud says: open a window"),
        "{said}"
    );
}
