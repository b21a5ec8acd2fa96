// Package namespace registers Temporal namespaces with the search attributes of Hutong's workflows.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"hutong/workflows"
)

// A change to a namespace reaches all parts of a cluster within seconds: namespaces and search attributes are cached.
const namespaceTimeout = 60 * time.Second

// Ensure makes the namespace in the cluster that options connect to, and its search attributes, as far as they
// are missing, and returns when workflows can be started and found there. A namespace that exists keeps its retention.
// It can be run any number of times, and at the same time. Clusters whose namespaces are made elsewhere (Temporal Cloud)
// are fine if they are complete; otherwise the error names what is missing.
func Ensure(ctx context.Context, options client.Options, namespace string, retention time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, namespaceTimeout)
	defer cancel()
	options.Namespace = namespace
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return fmt.Errorf("connect to Temporal at %s: %w", options.HostPort, err)
	}
	defer c.Close()
	if err := ensure(ctx, c, namespace, retention); err != nil {
		return fmt.Errorf("namespace %s at %s: %w", namespace, options.HostPort, err)
	}
	return nil
}

func ensure(ctx context.Context, c client.Client, namespace string, retention time.Duration) error {
	_, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if notFound(err) {
		_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace:                        namespace,
			Description:                      "Hutong's federated jobs",
			WorkflowExecutionRetentionPeriod: durationpb.New(retention),
		})
		if exists := (*serviceerror.NamespaceAlreadyExists)(nil); errors.As(err, &exists) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("register it: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("describe it: %w", err)
	}
	if err := ensureAttributes(ctx, c, namespace); err != nil {
		return err
	}
	return waitUsable(ctx, c, namespace)
}

func ensureAttributes(ctx context.Context, c client.Client, namespace string) error {
	var there *operatorservice.ListSearchAttributesResponse
	// Directly after it was registered, parts of the cluster don't know the namespace yet.
	err := Poll(ctx, func() (done bool, err error) {
		there, err = c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
		return !notFound(err), err
	})
	if err != nil {
		return fmt.Errorf("list its search attributes: %w", err)
	}
	missing := workflows.SearchAttributes()
	for name, want := range workflows.SearchAttributes() {
		if got, ok := there.GetCustomAttributes()[name]; ok {
			if got != want {
				return fmt.Errorf("its search attribute %s is %s and must be %s: remove it, and run this again", name, got, want)
			}
			delete(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err = Poll(ctx, func() (bool, error) {
		_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: namespace, SearchAttributes: missing})
		if exists := (*serviceerror.AlreadyExists)(nil); errors.As(err, &exists) {
			return true, nil // someone else added them; waitUsable sees whether all are there
		}
		return !notFound(err), err
	})
	if err != nil {
		return fmt.Errorf("add its search attributes %s: %w", strings.Join(slices.Sorted(maps.Keys(missing)), ", "), err)
	}
	return nil
}

// waitUsable asks what needs the namespace and all the attributes, until it is answered.
func waitUsable(ctx context.Context, c client.Client, namespace string) error {
	var query []string
	for _, name := range slices.Sorted(maps.Keys(workflows.SearchAttributes())) {
		query = append(query, name+" = '-'")
	}
	err := Poll(ctx, func() (bool, error) {
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: namespace, Query: strings.Join(query, " OR ")})
		unknown := (*serviceerror.InvalidArgument)(nil) // an attribute that the query's parser does not know yet
		return !notFound(err) && !errors.As(err, &unknown), err
	})
	if err != nil {
		return fmt.Errorf("wait until it can be used: %w", err)
	}
	return nil
}

func notFound(err error) bool {
	namespace, any := (*serviceerror.NamespaceNotFound)(nil), (*serviceerror.NotFound)(nil)
	return errors.As(err, &namespace) || errors.As(err, &any)
}

// Poll tries until done, at growing intervals from 10 ms to 1 s, and gives the last error when ctx ends.
func Poll(ctx context.Context, try func() (done bool, err error)) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		done, err := try()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			if err == nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}
