// Informers of client-go, let loose on an API: what they hear, as JSON, a line each.
//
//	informers SERVER NAMESPACE
//
// The client knows the core kinds alone: one of all kinds takes minutes to compile.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func main() {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	must(corev1.AddToScheme(scheme))
	version := corev1.SchemeGroupVersion
	client, err := rest.RESTClientFor(&rest.Config{
		Host:    os.Args[1],
		APIPath: "/api",
		ContentConfig: rest.ContentConfig{
			ContentType:          "application/vnd.kubernetes.protobuf",
			AcceptContentTypes:   "application/vnd.kubernetes.protobuf,application/json",
			GroupVersion:         &version,
			NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
		},
	})
	must(err)
	follow(client, "configmaps", &corev1.ConfigMap{})
	follow(client, "pods", &corev1.Pod{})
	follow(client, "services", &corev1.Service{})
	select {}
}

func follow(client rest.Interface, kind string, example runtime.Object) {
	lists := cache.NewListWatchFromClient(client, kind, os.Args[2], fields.Everything())
	informer := cache.NewSharedIndexInformer(lists, example, 0, cache.Indexers{})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { say(kind, "added", object) },
		UpdateFunc: func(_, object any) { say(kind, "updated", object) },
		DeleteFunc: func(object any) { say(kind, "deleted", object) },
	})
	must(err)
	go informer.Run(make(chan struct{}))
}

func say(kind, event string, object any) {
	// What it found missing in a list, and was not told of.
	if missed, is := object.(cache.DeletedFinalStateUnknown); is {
		event, object = "missed", missed.Obj
	}
	about, err := meta.Accessor(object)
	must(err)
	line, err := json.Marshal(map[string]string{
		"kind": kind, "event": event, "name": about.GetName(), "uid": string(about.GetUID()), "text": about.GetLabels()["text"],
	})
	must(err)
	lines.Lock()
	defer lines.Unlock()
	fmt.Println(string(line))
}

var lines sync.Mutex

func must(err error) {
	if err != nil {
		panic(err)
	}
}
