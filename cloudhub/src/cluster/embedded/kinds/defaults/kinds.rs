//! The constant defaults of the built-in kinds (Kubernetes `pkg/apis/*/v1/defaults.go` and `zz_generated.defaults.go`).

use hub_core::registry::ResourceKind;

use super::rules::Rule;

/// The rules of a kind, from the object down.
pub(super) fn of(kind: &ResourceKind) -> &'static [Rule] {
    let resource = &kind.resource;
    let named = (&*resource.group, &*resource.resource);
    KINDS
        .iter()
        .find(|(group, plural, _)| (*group, *plural) == named)
        .map_or(&[], |(_, _, rules)| *rules)
}

/// Where the specs of pods stand in a kind.
pub(super) fn pod_spec(kind: &ResourceKind) -> Option<&'static [&'static str]> {
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("", "podtemplates") => Some(&["template", "spec"]),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template", "spec"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template", "spec"]),
        _ => None,
    }
}

const KINDS: &[(&str, &str, &[Rule])] = &[
    (
        "apps",
        "deployments",
        &[
            ("spec.replicas", "1"),
            ("spec.strategy", "{}"),
            ("spec.strategy.type", "\"RollingUpdate\""),
            ("spec.strategy[type=RollingUpdate].rollingUpdate", "{}"),
            ("spec.strategy.rollingUpdate.maxUnavailable", "\"25%\""),
            ("spec.strategy.rollingUpdate.maxSurge", "\"25%\""),
            ("spec.revisionHistoryLimit", "10"),
            ("spec.progressDeadlineSeconds", "600"),
        ],
    ),
    (
        "apps",
        "daemonsets",
        &[
            ("spec.updateStrategy", "{}"),
            ("spec.updateStrategy.type", "\"RollingUpdate\""),
            ("spec.updateStrategy[type=RollingUpdate].rollingUpdate", "{}"),
            ("spec.updateStrategy.rollingUpdate.maxUnavailable", "1"),
            ("spec.updateStrategy.rollingUpdate.maxSurge", "0"),
            ("spec.revisionHistoryLimit", "10"),
        ],
    ),
    (
        "apps",
        "statefulsets",
        &[
            ("spec.replicas", "1"),
            ("spec.podManagementPolicy", "\"OrderedReady\""),
            ("spec.updateStrategy", "{}"),
            ("spec.updateStrategy[type=].rollingUpdate", "{}"),
            ("spec.updateStrategy.type", "\"RollingUpdate\""),
            ("spec.updateStrategy.rollingUpdate.partition", "0"),
            ("spec.persistentVolumeClaimRetentionPolicy", "{}"),
            (
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
                "\"Retain\"",
            ),
            (
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
                "\"Retain\"",
            ),
            ("spec.revisionHistoryLimit", "10"),
            ("spec.updateStrategy.type", "\"RollingUpdate\""),
            ("spec.updateStrategy[type=RollingUpdate].rollingUpdate", "{}"),
            ("spec.updateStrategy.rollingUpdate.partition", "0"),
            ("spec.volumeClaimTemplates[].apiVersion", "\"v1\""),
            ("spec.volumeClaimTemplates[].kind", "\"PersistentVolumeClaim\""),
            ("spec.volumeClaimTemplates[].spec.volumeMode", "\"Filesystem\""),
            ("spec.volumeClaimTemplates[].apiVersion", "\"v1\""),
            ("spec.volumeClaimTemplates[].kind", "\"PersistentVolumeClaim\""),
            ("spec.volumeClaimTemplates[].status", "{}"),
            ("spec.volumeClaimTemplates[].status.phase", "\"Pending\""),
        ],
    ),
    ("apps", "replicasets", &[("spec.replicas", "1")]),
    ("", "replicationcontrollers", &[("spec.replicas", "1")]),
    (
        "batch",
        "jobs",
        &[
            ("spec.parallelism", "1"),
            ("spec.backoffLimit", "6"),
            ("spec.completionMode", "\"NonIndexed\""),
            ("spec.suspend", "false"),
            ("spec.podReplacementPolicy", "\"TerminatingOrFailed\""),
            ("spec.manualSelector", "false"),
        ],
    ),
    (
        "batch",
        "cronjobs",
        &[
            ("spec.concurrencyPolicy", "\"Allow\""),
            ("spec.suspend", "false"),
            ("spec.successfulJobsHistoryLimit", "3"),
            ("spec.failedJobsHistoryLimit", "1"),
        ],
    ),
    (
        "",
        "persistentvolumes",
        &[
            ("spec.persistentVolumeReclaimPolicy", "\"Retain\""),
            ("spec.volumeMode", "\"Filesystem\""),
            ("spec.hostPath.type", "\"\""),
            ("status", "{}"),
            ("status.phase", "\"Pending\""),
        ],
    ),
    (
        "",
        "persistentvolumeclaims",
        &[
            ("spec.volumeMode", "\"Filesystem\""),
            ("status", "{}"),
            ("status.phase", "\"Pending\""),
        ],
    ),
    ("", "endpoints", &[("subsets[].ports[].protocol", "\"TCP\"")]),
    (
        "discovery.k8s.io",
        "endpointslices",
        &[("ports[].name", "\"\""), ("ports[].protocol", "\"TCP\"")],
    ),
    (
        "networking.k8s.io",
        "networkpolicies",
        &[
            ("spec.ingress[].ports[].protocol", "\"TCP\""),
            ("spec.egress[].ports[].protocol", "\"TCP\""),
        ],
    ),
    (
        "networking.k8s.io",
        "ingressclasses",
        &[("spec.parameters.scope", "\"Cluster\"")],
    ),
    ("rbac.authorization.k8s.io", "rolebindings", BINDING),
    ("rbac.authorization.k8s.io", "clusterrolebindings", BINDING),
    (
        "storage.k8s.io",
        "storageclasses",
        &[
            ("reclaimPolicy", "\"Delete\""),
            ("volumeBindingMode", "\"Immediate\""),
        ],
    ),
    (
        "storage.k8s.io",
        "csidrivers",
        &[
            ("spec", "{}"),
            ("spec.attachRequired", "true"),
            ("spec.podInfoOnMount", "false"),
            ("spec.storageCapacity", "false"),
            ("spec.fsGroupPolicy", "\"ReadWriteOnceWithFSType\""),
            ("spec.volumeLifecycleModes", "[\"Persistent\"]"),
            ("spec.requiresRepublish", "false"),
            ("spec.seLinuxMount", "false"),
        ],
    ),
    (
        "scheduling.k8s.io",
        "priorityclasses",
        &[("preemptionPolicy", "\"PreemptLowerPriority\"")],
    ),
    (
        "apiregistration.k8s.io",
        "apiservices",
        &[("spec.service.port", "443")],
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        MUTATING_WEBHOOKS,
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        &[("spec.limited.lendablePercent", "0")],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "flowschemas",
        &[("spec.matchingPrecedence", "1000")],
    ),
    (
        "resource.k8s.io",
        "resourceclaims",
        &[
            ("spec.devices.requests[].exactly.allocationMode", "\"ExactCount\""),
            (
                "spec.devices.requests[].exactly[allocationMode=ExactCount].count",
                "1",
            ),
        ],
    ),
    (
        "resource.k8s.io",
        "resourceclaimtemplates",
        &[
            (
                "spec.spec.devices.requests[].exactly.allocationMode",
                "\"ExactCount\"",
            ),
            (
                "spec.spec.devices.requests[].exactly[allocationMode=ExactCount].count",
                "1",
            ),
        ],
    ),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        &[("spec.minReplicas", "1")],
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        WEBHOOKS,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        &[
            ("spec.failurePolicy", "\"Fail\""),
            ("spec.matchConstraints.matchPolicy", "\"Equivalent\""),
            ("spec.matchConstraints.namespaceSelector", "{}"),
            ("spec.matchConstraints.objectSelector", "{}"),
            ("spec.matchConstraints.resourceRules[].scope", "\"*\""),
            ("spec.matchConstraints.excludeResourceRules[].scope", "\"*\""),
        ],
    ),
];

const WEBHOOKS: &[Rule] = &[
    ("webhooks[].failurePolicy", "\"Fail\""),
    ("webhooks[].matchPolicy", "\"Equivalent\""),
    ("webhooks[].namespaceSelector", "{}"),
    ("webhooks[].objectSelector", "{}"),
    ("webhooks[].timeoutSeconds", "10"),
    ("webhooks[].clientConfig.service.port", "443"),
    ("webhooks[].rules[].scope", "\"*\""),
];

const BINDING: &[Rule] = &[("roleRef.apiGroup", "\"rbac.authorization.k8s.io\"")];
const MUTATING_WEBHOOKS: &[Rule] = &[
    ("webhooks[].failurePolicy", "\"Fail\""),
    ("webhooks[].matchPolicy", "\"Equivalent\""),
    ("webhooks[].namespaceSelector", "{}"),
    ("webhooks[].objectSelector", "{}"),
    ("webhooks[].timeoutSeconds", "10"),
    ("webhooks[].reinvocationPolicy", "\"Never\""),
    ("webhooks[].clientConfig.service.port", "443"),
    ("webhooks[].rules[].scope", "\"*\""),
];
