// Node is what a cluster for tests has besides its control plane: a kubelet, the scheduler, the controllers
// and the proxy of services, each as Kubernetes ships it, what enforces network policies, and a registry of
// images.
//
//	node kubelet|scheduler|controllers|proxy|policies FLAGS...
//	node registry ADDRESS
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: node kubelet|scheduler|controllers|proxy|policies FLAGS..., " +
			"node registry ADDRESS"))
	}

	var command *cobra.Command
	switch os.Args[1] {
	case "kubelet":
		command = kubelet.NewKubeletCommand(context.Background())
	case "scheduler":
		command = scheduler.NewSchedulerCommand()
	case "controllers":
		command = controllers.NewControllerManagerCommand()
	case "proxy":
		command = proxy.NewProxyCommand()
	case "policies":
		fail(enforcePolicies(os.Args[2:]))
	case "registry":
		fail(serveImages(os.Args[2]))
	default:
		fail(fmt.Errorf("unknown part %q", os.Args[1]))
	}
	os.Args = append([]string{os.Args[0]}, os.Args[2:]...)
	command.SetArgs(os.Args[1:])
	os.Exit(cli.Run(command))
}

// serveImages serves a registry that keeps images in memory.
func serveImages(address string) error {
	server := &http.Server{Addr: address, Handler: registry.New(), ReadHeaderTimeout: time.Minute}

	return server.ListenAndServe()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "node:", err)
	os.Exit(1)
}
