//! Names of the annotations that the contract gives a meaning (contract.md, "Finding entrypoints" and
//! "Markers in manifests").

/// The name of the pod in Kubernetes, on pods that are of one; for the arguments of network plugins.
pub const KUBERNETES_POD_NAME: &str = "io.kubernetes.pod.name";

/// The namespace of the pod in Kubernetes.
pub const KUBERNETES_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// The id of the pod in Kubernetes.
pub const KUBERNETES_POD_UID: &str = "io.kubernetes.pod.uid";

/// Version of the interface between stage0 and stage1 that this project speaks.
pub const INTERFACE_VERSION: &str = "6";

/// Annotations of the stage1 image's manifest: each value is a path in the stage1 root.
pub mod entrypoint {
    /// Starts the pod.
    pub const RUN: &str = "coreos.com/rkt/stage1/run";
    /// Runs a command in an app or in the pod.
    pub const ENTER: &str = "coreos.com/rkt/stage1/enter";
    /// Stops the pod.
    pub const STOP: &str = "coreos.com/rkt/stage1/stop";
    /// Frees what outlives the pod.
    pub const GC: &str = "coreos.com/rkt/stage1/gc";
    /// Makes an app known to a running pod.
    pub const APP_ADD: &str = "coreos.com/rkt/stage1/app/add";
    /// Starts an app of a running pod.
    pub const APP_START: &str = "coreos.com/rkt/stage1/app/start";
    /// Stops an app of a running pod.
    pub const APP_STOP: &str = "coreos.com/rkt/stage1/app/stop";
    /// Makes a running pod forget an app.
    pub const APP_RM: &str = "coreos.com/rkt/stage1/app/rm";
    /// Attaches to an app's streams.
    pub const ATTACH: &str = "coreos.com/rkt/stage1/attach";
    /// Version of the interface that the image speaks.
    pub const INTERFACE_VERSION: &str = "coreos.com/rkt/stage1/interface-version";
}

/// On a pod manifest, `true`: apps may come and go while it runs.
pub const MUTABLE: &str = "coreos.com/rkt/stage1/mutable";
/// On a pod manifest, `k8s-plain`: the output of its apps goes to files for Kubernetes.
pub const LOG_MODE: &str = "coreos.com/rkt/experiment/logmode";
/// On a pod manifest: the directory of the host that those files are below.
pub const KUBERNETES_LOG_DIR: &str = "coreos.com/rkt/experiment/kubernetes-log-dir";
/// On a runtime app: the file for its output, a path below that directory.
pub const KUBERNETES_LOG_PATH: &str = "coreos.com/rkt/experiment/kubernetes-log-path";
/// On a runtime app: where standard input comes from.
pub const STDIN: &str = "coreos.com/rkt/stage2/stdin";
/// On a runtime app: where standard output goes.
pub const STDOUT: &str = "coreos.com/rkt/stage2/stdout";
/// On a runtime app: where standard error goes.
pub const STDERR: &str = "coreos.com/rkt/stage2/stderr";
/// On an image, `true`: the app sends `READY=1`.
pub const SUPPORTS_SYSTEMD_NOTIFY: &str = "appc.io/executor/supports-systemd-notify";
/// On an image: it was converted from a Docker or OCI image.
pub const DOCKER_REPOSITORY: &str = "appc.io/docker/repository";
/// On an image from Docker or OCI: the signal that asks its program to end.
pub const DOCKER_STOP_SIGNAL: &str = "appc.io/docker/stopsignal";
