//! The row of a Pod: its status in one word (Kubernetes `pkg/printers/internalversion`, printPod).

use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::age;
use super::text::{NONE, at, items, number, text, text_or};

/// The cells of a Pod.
pub(super) fn cells(pod: &Value, now: OffsetDateTime) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                age::human((now - last).whole_seconds())
            )
        }
        _ => summary.restarts.to_string(),
    };
    let address = items(pod, "status.podIPs")
        .first()
        .map(|address| text(address, "ip"));
    let gates = items(pod, "spec.readinessGates");
    let passed = gates
        .iter()
        .filter(|gate| {
            let wanted = text(gate, "conditionType");
            items(pod, "status.conditions")
                .iter()
                .any(|condition| text(condition, "type") == wanted && text(condition, "status") == "True")
        })
        .count();
    let gates = match gates.len() {
        0 => NONE.into(),
        all => format!("{passed}/{all}"),
    };
    vec![
        text(pod, "metadata.name").into(),
        format!("{}/{}", summary.ready, summary.containers).into(),
        summary.reason.into(),
        restarts.into(),
        age::since(at(pod, "metadata.creationTimestamp"), now).into(),
        address
            .unwrap_or_else(|| text_or(pod, "status.podIP", NONE))
            .into(),
        text_or(pod, "spec.nodeName", NONE).into(),
        text_or(pod, "status.nominatedNodeName", NONE).into(),
        gates.into(),
    ]
}

/// What a row of a finished Pod says besides its cells.
pub(super) fn condition(resource: &GroupVersionResource, pod: &Value) -> Option<Value> {
    if !resource.group.is_empty() || &*resource.resource != "pods" {
        return None;
    }
    let (reason, message) = match text(pod, "status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({ "type": "Completed", "status": "True", "reason": reason, "message": message }))
}

struct Summary {
    containers: usize,
    ready: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<OffsetDateTime>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let init = items(pod, "spec.initContainers");
        let restartable = |name: &str| {
            init.iter().any(|container| {
                text(container, "name") == name && text(container, "restartPolicy") == "Always"
            })
        };
        let sidecars = init
            .iter()
            .filter(|container| text(container, "restartPolicy") == "Always")
            .count();
        let mut summary = Self {
            containers: items(pod, "spec.containers").len() + sidecars,
            ready: 0,
            reason: text_or(pod, "status.reason", text(pod, "status.phase")).to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let conditions = items(pod, "status.conditions");
        if conditions.iter().any(|condition| {
            text(condition, "type") == "PodScheduled" && text(condition, "reason") == "SchedulingGated"
        }) {
            summary.reason = "SchedulingGated".into();
        }
        let initializing = summary.initialize(pod, init.len(), &restartable);
        let holds = |kind: &str| {
            conditions
                .iter()
                .any(|condition| text(condition, "type") == kind && text(condition, "status") == "True")
        };
        if !initializing || holds("Initialized") {
            summary.run(pod, &restartable, holds("Ready"));
        }
        let deleted = !text(pod, "metadata.deletionTimestamp").is_empty();
        if deleted && text(pod, "status.reason") == "NodeLost" {
            summary.reason = "Unknown".into();
        } else if deleted && !matches!(text(pod, "status.phase"), "Succeeded" | "Failed") {
            summary.reason = "Terminating".into();
        }
        summary
    }

    /// Init containers, up to the first that has not done its work. Whether there is one.
    fn initialize(&mut self, pod: &Value, total: usize, restartable: &impl Fn(&str) -> bool) -> bool {
        for (index, status) in items(pod, "status.initContainerStatuses").iter().enumerate() {
            self.count(status);
            let (ended, waiting) = (at(status, "state.terminated"), at(status, "state.waiting"));
            let sidecar = restartable(text(status, "name"));
            if !ended.is_null() && number(ended, "exitCode") == 0 {
                continue;
            }
            if sidecar && at(status, "started") == true {
                self.ready += usize::from(at(status, "ready") == true);
                continue;
            }
            self.reason = if !ended.is_null() {
                format!("Init:{}", end(ended))
            } else if !matches!(text(waiting, "reason"), "" | "PodInitializing") {
                format!("Init:{}", text(waiting, "reason"))
            } else {
                format!("Init:{index}/{total}")
            };
            return true;
        }
        false
    }

    fn run(&mut self, pod: &Value, restartable: &impl Fn(&str) -> bool, ready: bool) {
        // From here on only sidecars count among the init containers.
        (self.restarts, self.last_restart) = (0, None);
        for status in items(pod, "status.initContainerStatuses") {
            if restartable(text(status, "name")) {
                self.count(status);
            }
        }
        let mut running = false;
        for status in items(pod, "status.containerStatuses").iter().rev() {
            self.count(status);
            let (ended, waiting) = (at(status, "state.terminated"), at(status, "state.waiting"));
            if !text(waiting, "reason").is_empty() {
                self.reason = text(waiting, "reason").into();
            } else if !ended.is_null() {
                self.reason = end(ended);
            } else if at(status, "ready") == true && !at(status, "state.running").is_null() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }

    fn count(&mut self, status: &Value) {
        self.restarts += number(status, "restartCount");
        let ended = age::parse(at(status, "lastState.terminated.finishedAt"));
        self.last_restart = self.last_restart.max(ended);
    }
}

/// Why a container ended.
fn end(ended: &Value) -> String {
    match (text(ended, "reason"), number(ended, "signal")) {
        ("", 0) => format!("ExitCode:{}", number(ended, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}
