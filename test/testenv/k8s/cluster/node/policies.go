package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

// policyTable is the table of rules that the controller makes if the kernel can.
const policyTable = "hutong-k8s-policies"

// enforcePolicies decides by the cluster's NetworkPolicies about the packets that the rules of with.sh queue.
// The controller of kube-network-policies has rules of its own, which need a kernel with nft_queue. Without
// it they fail, which it only logs.
func enforcePolicies(args []string) error {
	flags := flag.NewFlagSet("policies", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "the cluster's kubeconfig")
	queue := flags.Int("queue", 0, "the netfilter queue of the packets")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Without its plugin for NRI, which containerd need not answer, version 0.8.0 panics at the first packet
	// of an unknown address.
	watched := informers.NewSharedInformerFactory(client, 0)
	controller, err := networkpolicy.NewController(client, watched.Networking().V1().NetworkPolicies(),
		watched.Core().V1().Namespaces(), watched.Core().V1().Pods(), nil, nil, nil, nil,
		networkpolicy.Config{QueueID: *queue, NodeName: "node-1", NFTableName: policyTable})
	if err != nil {
		return err
	}
	watched.Start(ctx.Done())
	if err := controller.Run(ctx); err != nil {
		return err
	}

	return errors.New("the controller of network policies has ended")
}
