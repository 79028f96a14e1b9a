// What users of the JavaScript client do. `client.mjs SERVER all`: every verb, on a cluster. `client.mjs SERVER follow NAMESPACE`:
// an informer of ConfigMaps that prints what it sees. `client.mjs SERVER offline NAMESPACE`: what a node answers with its cable pulled.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The package lies in a folder of the build, not beside this file.
const found = createRequire(`${process.env.CLIENT_FOLDER}/x.js`).resolve("@kubernetes/client-node");
const k8s = await import(pathToFileURL(found).href);

const [server, mode, namespace] = process.argv.slice(2);
const config = new k8s.KubeConfig();
config.loadFromClusterAndUser({ name: "here", server, skipTLSVerify: true }, { name: "me" });
const core = config.makeApiClient(k8s.CoreV1Api);

async function refused(code, call) {
  const error = await call.then(() => assert.fail("it was not refused"), (error) => error);
  assert.equal(error.code, code, String(error));
  return error;
}

async function informer(namespace, told) {
  const list = () => core.listNamespacedConfigMap({ namespace });
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const informer = k8s.makeInformer(config, path, list);
  for (const event of ["add", "update", "delete"]) {
    informer.on(event, (object) => told(event, object.metadata.name));
  }
  informer.on("error", (error) => told("error", String(error)));
  await informer.start();
  return informer;
}

async function all() {
  const namespace = "js";
  await core.createNamespace({ body: { metadata: { name: namespace } } });
  const seen = [];
  let wake = () => {};
  const until = async (count) => {
    const late = setTimeout(() => assert.fail(`only ${JSON.stringify(seen)}`), 30000);
    while (seen.length < count) await new Promise((resolve) => (wake = resolve));
    clearTimeout(late);
  };
  const watcher = await informer(namespace, (event, name) => {
    // The certificate of the API is in every namespace.
    if (name === "kube-root-ca.crt") return;
    seen.push(`${event} ${name}`);
    wake();
  });
  const made = await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "a" }, data: { v: "1" } } });
  await until(1);
  const objects = k8s.KubernetesObjectApi.makeApiClient(config);
  const patch = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a", namespace }, data: { v: "2" } };
  const patched = await objects.patch(patch, undefined, undefined, undefined, undefined, k8s.PatchStrategy.MergePatch);
  assert.deepEqual(patched.data, { v: "2" });
  await until(2);
  await refused(409, core.replaceNamespacedConfigMap({ name: "a", namespace, body: made }));
  await refused(409, core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "a" } } }));
  await core.deleteNamespacedConfigMap({ name: "a", namespace });
  await until(3);
  assert.deepEqual(seen, ["add a", "update a", "delete a"]);
  await watcher.stop();
  await refused(404, core.readNamespacedConfigMap({ name: "a", namespace }));

  const scaler = config.makeApiClient(k8s.AutoscalingV1Api);
  const scaleTargetRef = { apiVersion: "apps/v1", kind: "Deployment", name: "web" };
  const old = { metadata: { name: "web" }, spec: { scaleTargetRef, maxReplicas: 4, targetCPUUtilizationPercentage: 70 } };
  await scaler.createNamespacedHorizontalPodAutoscaler({ namespace, body: old });
  const newer = config.makeApiClient(k8s.AutoscalingV2Api);
  const shown = await newer.readNamespacedHorizontalPodAutoscaler({ name: "web", namespace });
  assert.equal(shown.spec.metrics[0].resource.target.averageUtilization, 70);

  await core.deleteNamespace({ name: namespace });
  await refused(404, core.readNamespace({ name: namespace }));
  console.log("DONE");
}

async function offline() {
  const { items } = await core.listNamespacedConfigMap({ namespace });
  assert.ok(items.length > 0);
  const body = { ...items[0], data: { v: "lost" } };
  const error = await refused(503, core.replaceNamespacedConfigMap({ name: items[0].metadata.name, namespace, body }));
  assert.ok(JSON.stringify(error.body).includes("CloudUnreachable"));
  console.log("REFUSED");
}

if (mode === "all") await all();
else if (mode === "offline") await offline();
else {
  await informer(namespace, (event, name) => console.log(event, name));
  console.log("SYNCED");
}
