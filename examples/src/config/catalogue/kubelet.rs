//! The keys of `modules.edged.tailoredKubeletConfig`: those by which a node is registered, and the many of the kubelet itself.

use super::Fate::{Earlier, Ignored};
use super::Run;
use crate::config::kind::Kind;

/// What to do about the kubelet's keys.
pub(super) const ADVICE: &str =
    "this program runs no pods; where a kubelet runs them, set it there, and switch modules.edged off";

pub(super) const RUNS: &[Run] = &[
    Run::honoured(
        PATH,
        "whether the node is registered, with which taints, with which addresses for its pods, for how many pods; how long its lease is good, and how often its \
         status is reported though nothing changed",
        &[
            ("registerNode", Kind::Switch),
            ("registerWithTaints", Kind::Taints),
            ("podCIDR", Kind::Text),
            ("maxPods", Kind::Whole(0, i32::MAX, "a number of pods")),
            (
                "nodeLeaseDurationSeconds",
                Kind::Whole(1, i32::MAX, "a number of seconds"),
            ),
            ("nodeStatusReportFrequency", Kind::Duration),
        ],
    ),
    Run::named(
        PATH,
        Ignored(ADVICE),
        "staticPodPath podLogsDir syncFrequency fileCheckFrequency address readOnlyPort registryPullQPS registryBurst eventRecordQPS \
         eventBurst enableDebuggingHandlers enableContentionProfiling oomScoreAdj clusterDomain clusterDNS \
         streamingConnectionIdleTimeout nodeStatusUpdateFrequency imageMinimumGCAge imageMaximumGCAge imageGCHighThresholdPercent \
         imageGCLowThresholdPercent volumeStatsAggPeriod kubeletCgroups systemCgroups cgroupRoot cgroupsPerQOS cgroupDriver \
         singleProcessOOMKill cpuManagerPolicy cpuManagerPolicyOptions cpuManagerReconcilePeriod memoryManagerPolicy \
         topologyManagerPolicy topologyManagerScope topologyManagerPolicyOptions qosReserved runtimeRequestTimeout hairpinMode \
         podPidsLimit resolvConf cpuCFSQuota cpuCFSQuotaPeriod nodeStatusMaxImages maxOpenFiles contentType serializeImagePulls \
         maxParallelImagePulls evictionHard evictionSoft evictionSoftGracePeriod evictionPressureTransitionPeriod \
         evictionMaxPodGracePeriod evictionMinimumReclaim podsPerCore enableControllerAttachDetach protectKernelDefaults \
         makeIPTablesUtilChains iptablesMasqueradeBit iptablesDropBit featureGates failSwapOn memorySwap containerLogMaxSize \
         containerLogMaxFiles containerLogMaxWorkers containerLogMonitorInterval configMapAndSecretChangeDetectionStrategy \
         systemReserved kubeReserved reservedSystemCPUs showHiddenMetricsForVersion systemReservedCgroup kubeReservedCgroup \
         enforceNodeAllocatable allowedUnsafeSysctls volumePluginDir kernelMemcgNotification logging enableSystemLogHandler \
         enableSystemLogQuery shutdownGracePeriod shutdownGracePeriodCriticalPods shutdownGracePeriodByPodPriority crashLoopBackOff \
         reservedMemory enableProfilingHandler enableDebugFlagsHandler seccompDefault memoryThrottlingFactor \
         localStorageCapacityIsolation containerRuntimeEndpoint imageServiceEndpoint failCgroupV1",
    ),
    // KubeEdge 1.12 took the kubelet's own `KubeletConfiguration` (k8s.io/kubelet/config/v1beta1, Kubernetes 1.22).
    Run::named(
        PATH,
        Earlier("KubeEdge 1.12 had them, as the kubelet's own; set them where a kubelet runs"),
        "kind apiVersion enableServer port tlsCertFile tlsPrivateKeyFile tlsCipherSuites tlsMinVersion rotateCertificates \
         serverTLSBootstrap authentication authorization healthzPort healthzBindAddress kubeAPIQPS kubeAPIBurst providerID \
         dynamicKubeletConfigDir tracing httpCheckFrequency staticPodURL staticPodURLHeader runOnce",
    ),
];

const PATH: &str = "modules.edged.tailoredKubeletConfig";
