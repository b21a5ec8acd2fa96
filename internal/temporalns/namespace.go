// Package temporalns registers what a party needs in a Temporal cluster: its namespace and Hutong's search
// attributes.
package temporalns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/durationpb"

	"hutong/workflows"
)

// SearchAttributes returns the search attributes that every namespace of Hutong has, with their types.
func SearchAttributes() map[string]enums.IndexedValueType {
	types := map[string]enums.IndexedValueType{}

	for _, key := range []temporal.SearchAttributeKey{workflows.AttributeJobID, workflows.AttributeFlowID,
		workflows.AttributeNodeID, workflows.AttributeState, workflows.AttributeRoles} {
		types[key.GetName()] = key.GetValueType()
	}

	return types
}

// ensureTimeout limits Ensure. Clusters cache namespaces and search attributes, so a change takes some
// seconds to be visible everywhere.
const ensureTimeout = 60 * time.Second

// Ensure creates the namespace and its search attributes where they are missing, in the cluster that options
// connect to. It returns when workflows can be started and found there. An existing namespace that keeps its
// histories for less than retention gets that retention; a longer one stays.
//
// Ensure is idempotent and may run concurrently. Where namespaces are created by other means (Temporal
// Cloud), Ensure succeeds if nothing is missing. Otherwise the error names what is missing.
func Ensure(ctx context.Context, options client.Options, namespace string, retention time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()

	options.Namespace = namespace
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return fmt.Errorf("failed to connect to Temporal at %s: %w", options.HostPort, err)
	}
	defer c.Close()

	if err := ensure(ctx, c, namespace, retention); err != nil {
		return fmt.Errorf("failed to prepare namespace %s in Temporal at %s: %w", namespace, options.HostPort,
			err)
	}

	return nil
}

func ensure(ctx context.Context, c client.Client, namespace string, retention time.Duration) error {
	described, err := c.WorkflowService().DescribeNamespace(ctx,
		&workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	switch {
	case isNotFound(err):
		err = register(ctx, c, namespace, retention)
	case err == nil && described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() < retention:
		err = extendRetention(ctx, c, namespace, retention)
	}
	if err != nil {
		return err
	}

	if err := ensureAttributes(ctx, c, namespace); err != nil {
		return err
	}

	return waitUsable(ctx, c, namespace)
}

func register(ctx context.Context, c client.Client, namespace string, retention time.Duration) error {
	_, err := c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace:                        namespace,
		Description:                      "Hutong's federated jobs",
		WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	})
	if exists := (*serviceerror.NamespaceAlreadyExists)(nil); errors.As(err, &exists) {
		return nil // another process registered it at the same time
	}

	return err
}

// extendRetention sets the retention of an existing namespace. Where this process may not (Temporal Cloud),
// it leaves the retention; hutong doctor reports it.
func extendRetention(ctx context.Context, c client.Client, namespace string, retention time.Duration) error {
	_, err := c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
		Namespace: namespace,
		Config: &namespacepb.NamespaceConfig{
			WorkflowExecutionRetentionTtl: durationpb.New(retention),
		},
	})
	denied, missing := (*serviceerror.PermissionDenied)(nil), (*serviceerror.Unimplemented)(nil)
	if errors.As(err, &denied) || errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to extend the retention of histories to %s: %w", retention, err)
	}
	return nil
}

func ensureAttributes(ctx context.Context, c client.Client, namespace string) error {
	var existing *operatorservice.ListSearchAttributesResponse

	// Right after the registration, some services of the cluster don't know the namespace yet.
	err := Poll(ctx, func() (done bool, err error) {
		existing, err = c.OperatorService().ListSearchAttributes(ctx,
			&operatorservice.ListSearchAttributesRequest{Namespace: namespace})
		return !isNotFound(err), err
	})
	if err != nil {
		return fmt.Errorf("failed to list the search attributes: %w", err)
	}

	missing := SearchAttributes()
	for name, want := range SearchAttributes() {
		if got, ok := existing.GetCustomAttributes()[name]; ok {
			if got != want {
				return fmt.Errorf("search attribute %s has type %s, but must have type %s: remove it, then "+
					"run this again",
					name, got, want)
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
			return true, nil // another process added them; waitUsable checks that none is missing
		}
		return !isNotFound(err), err
	})
	if err != nil {
		names := strings.Join(slices.Sorted(maps.Keys(missing)), ", ")
		return fmt.Errorf("failed to add the search attributes %s: %w", names, err)
	}

	return nil
}

// waitUsable repeats a query that needs the namespace and all search attributes until it succeeds.
func waitUsable(ctx context.Context, c client.Client, namespace string) error {
	var query []string
	for _, name := range slices.Sorted(maps.Keys(SearchAttributes())) {
		query = append(query, name+" = '-'")
	}

	err := Poll(ctx, func() (bool, error) {
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: namespace, Query: strings.Join(query, " OR ")})
		unknown := (*serviceerror.InvalidArgument)(nil) // the query parser does not know an attribute yet
		return !isNotFound(err) && !errors.As(err, &unknown), err
	})
	if err != nil {
		return fmt.Errorf("failed to wait until the namespace can be used: %w", err)
	}

	return nil
}

func isNotFound(err error) bool {
	namespace, other := (*serviceerror.NamespaceNotFound)(nil), (*serviceerror.NotFound)(nil)
	return errors.As(err, &namespace) || errors.As(err, &other)
}

// Poll calls try until it is done, with exponential backoff from 10 ms to 1 s. When ctx ends first, Poll
// returns the context's error and the last error of try.
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
