"""What users of the Python client do. `client.py SERVER all`: every verb, on a cluster. `client.py SERVER follow NAMESPACE`: lists
ConfigMaps, then watches them, and prints what it sees. `client.py SERVER offline NAMESPACE`: what a node answers with its cable
pulled."""

import sys
import threading

from kubernetes import client, dynamic, watch
from kubernetes.client.rest import ApiException


def refused(code, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == code, f"{call}: {error}"
        return error
    raise AssertionError(f"{call} was not refused")


def typed(api):
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py")))
    assert "py" in [n.metadata.name for n in core.list_namespace().items]
    seen, watching = [], threading.Event()

    def look():
        for event in watch.Watch().stream(core.list_namespaced_config_map, "py", timeout_seconds=60, resource_version=start):
            seen.append((event["type"], event["object"].metadata.name, event["object"].data))
            watching.set()
            if event["type"] == "DELETED":
                return

    start = core.list_namespaced_config_map("py").metadata.resource_version
    follower = threading.Thread(target=look)
    follower.start()
    made = core.create_namespaced_config_map("py", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"v": "1"}))
    watching.wait(30)
    patched = core.patch_namespaced_config_map("a", "py", {"data": {"v": "2"}})
    assert patched.data == {"v": "2"}
    patched = core.patch_namespaced_config_map("a", "py", [{"op": "add", "path": "/data/w", "value": "3"}])
    assert patched.data == {"v": "2", "w": "3"}
    made.data = {"v": "stale"}
    error = refused(409, core.replace_namespaced_config_map, "a", "py", made)
    assert '"reason":"Conflict"' in error.body.replace(" ", "")
    refused(409, core.create_namespaced_config_map, "py", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a")))
    status = core.delete_namespaced_config_map("a", "py")
    assert status["status"] == "Success" and status["details"]["uid"] == made.metadata.uid
    follower.join(60)
    assert [event[0] for event in seen] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"], seen
    refused(404, core.read_namespaced_config_map, "a", "py")

    labels = {"app": "web"}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="web:1")]),
    )
    spec = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels=labels), template=template, replicas=2)
    apps.create_namespaced_deployment("py", client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec))
    scale = apps.read_namespaced_deployment_scale("web", "py")
    scale.spec.replicas = 5
    apps.replace_namespaced_deployment_scale("web", "py", scale)
    patched = apps.patch_namespaced_deployment(
        "web", "py", {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}}}}
    )
    container = patched.spec.template.spec.containers[0]
    assert (patched.spec.replicas, container.image, container.env[0].name) == (5, "web:1", "A")
    apps.delete_namespaced_deployment("web", "py", propagation_policy="Foreground")
    refused(404, apps.read_namespaced_deployment, "web", "py")

    for name in ["x", "y", "z"]:
        metadata = client.V1ObjectMeta(name=name, labels={"keep": str(name == "z")})
        core.create_namespaced_secret("py", client.V1Secret(metadata=metadata, string_data={"k": name}))
    page = core.list_namespaced_secret("py", limit=2)
    rest = core.list_namespaced_secret("py", limit=2, _continue=page.metadata._continue)
    assert [s.metadata.name for s in page.items + rest.items] == ["x", "y", "z"]
    core.delete_collection_namespaced_secret("py", label_selector="keep=False")
    assert [s.metadata.name for s in core.list_namespaced_secret("py").items] == ["z"]


def custom(api):
    any_of = dynamic.DynamicClient(api)
    definitions = any_of.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "default": 3, "maximum": 9}}}}}}
    definitions.create({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.py.example.com"}, "spec": {"group": "py.example.com", "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp"},
        "versions": [{"name": name, "served": True, "storage": name == "v1", "schema": schema} for name in ["v1", "v1beta1"]]}})
    any_of.resources.invalidate_cache()
    lamps = any_of.resources.get(api_version="py.example.com/v1", kind="Lamp")
    lamp = {"apiVersion": "py.example.com/v1", "kind": "Lamp", "metadata": {"name": "hall"}, "spec": {}}
    assert lamps.create(lamp, namespace="py").spec.size == 3
    old = any_of.resources.get(api_version="py.example.com/v1beta1", kind="Lamp")
    assert old.get(name="hall", namespace="py").spec.size == 3
    body = {"spec": {"size": 12}}
    error = refused(422, lamps.patch, name="hall", namespace="py", body=body, content_type="application/merge-patch+json")
    assert b"spec.size" in error.body if isinstance(error.body, bytes) else "spec.size" in error.body
    body["spec"]["size"] = 4
    lamps.patch(name="hall", namespace="py", body=body, content_type="application/merge-patch+json")
    assert [lamp.spec.size for lamp in lamps.get(namespace="py").items] == [4]
    types = []
    for event in lamps.watch(namespace="py", timeout=30):
        types.append(event["type"])
        if types == ["ADDED"]:
            lamps.delete(name="hall", namespace="py")
        if types[-1] == "DELETED":
            break
    assert types == ["ADDED", "DELETED"], types
    definitions.delete(name="lamps.py.example.com")


def follow(core, namespace):
    listed = core.list_namespaced_config_map(namespace)
    for item in listed.items:
        print("LISTED", item.metadata.name, flush=True)
    version = listed.metadata.resource_version
    print("SYNCED", flush=True)
    for event in watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version=version):
        print(event["type"], event["object"].metadata.name, flush=True)


def offline(core, namespace):
    assert [item.metadata.name for item in core.list_namespaced_config_map(namespace).items]
    error = refused(503, core.patch_namespaced_config_map, "a", namespace, {"data": {"v": "lost"}})
    assert error.headers["Retry-After"] and "CloudUnreachable" in str(error.body)
    print("REFUSED", flush=True)


configuration = client.Configuration()
configuration.host = sys.argv[1]
configuration.retries = False
with client.ApiClient(configuration) as api:
    if sys.argv[2] == "all":
        typed(api)
        custom(api)
        print("DONE")
    else:
        {"follow": follow, "offline": offline}[sys.argv[2]](client.CoreV1Api(api), sys.argv[3])
