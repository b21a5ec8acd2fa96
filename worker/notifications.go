package worker

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/workflows"
)

// startNotifications starts the party's notifications, unless they are running.
func startNotifications(c client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), temporalTimeout)
	defer cancel()
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.NotificationsID, TaskQueue: activities.ControlQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "looks for what people should know, and starts its delivery",
	}, workflows.NotificationsType, nil)
	if err != nil {
		return fmt.Errorf("failed to start the notifications: %w", err)
	}

	return nil
}

// stopNotifications ends the party's notifications, if they are running. Deliveries continue.
func stopNotifications(c client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), temporalTimeout)
	defer cancel()
	err := c.TerminateWorkflow(ctx, workflows.NotificationsID, "", "the configuration has no receivers")
	var unknown *serviceerror.NotFound
	if err != nil && !errors.As(err, &unknown) {
		return fmt.Errorf("failed to end the notifications: %w", err)
	}

	return nil
}
