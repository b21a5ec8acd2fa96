// Package notification holds the workflow that looks for what people should know, and the one that delivers
// one notification.
package notification

import (
	"errors"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/notification"
	"hutong/workflows"
)

var act *notification.Activities

const (
	// maxRounds bounds the looks of one run, and with it the run's history.
	maxRounds = 100
	// deliverLimit bounds the tries to deliver a notification.
	deliverLimit = 24 * time.Hour
)

// Watch looks for what people should know and starts the delivery of each notification, for ever: it
// continues as a new run from time to time. started holds the deliveries that the run before has started and
// not recorded.
func Watch(ctx workflow.Context, started []notification.Delivery) error {
	for range maxRounds {
		var found notification.FoundNotifications
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			TaskQueue:           activities.ControlQueue,
			StartToCloseTimeout: 15 * time.Minute,
			HeartbeatTimeout:    30 * time.Second,
			RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2,
				MaximumInterval: 30 * time.Second},
		}), act.FindNotifications, notification.FindNotificationsInput{Started: started}).Get(ctx, &found)
		if err != nil {
			return err // it was cancelled
		}
		if started, err = start(ctx, found.Deliveries); err != nil {
			return err
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			break
		}
	}
	return workflow.NewContinueAsNewError(ctx, Watch, started)
}

// start starts the workflows of deliveries, and returns the deliveries that have started. A delivery that has
// started before counts too.
func start(ctx workflow.Context, deliveries []notification.Delivery) ([]notification.Delivery, error) {
	var children []workflow.ChildWorkflowFuture
	for _, d := range deliveries {
		children = append(children, workflow.ExecuteChildWorkflow(
			workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
				WorkflowID:            workflows.NotificationID(d.ID, d.Round),
				TaskQueue:             activities.ControlQueue,
				ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
				WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
			}), workflows.NotificationType, d))
	}
	var started []notification.Delivery
	for i, child := range children {
		err := child.GetChildWorkflowExecution().Get(ctx, nil)
		switch {
		case err == nil, temporal.IsWorkflowExecutionAlreadyStartedError(err):
			started = append(started, deliveries[i])
		case ctx.Err() != nil:
			return nil, ctx.Err()
		default: // the next look finds it again
			workflow.GetLogger(ctx).Warn("failed to start the delivery of a notification",
				"notification_id", deliveries[i].ID, "error", err)
		}
	}
	return started, nil
}

// Deliver delivers one notification. It tries for a day, and records it if that was in vain.
func Deliver(ctx workflow.Context, in notification.Delivery) error {
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              activities.ControlQueue,
		StartToCloseTimeout:    45 * time.Second,
		ScheduleToCloseTimeout: deliverLimit,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 2 * time.Second, BackoffCoefficient: 2,
			MaximumInterval:        10 * time.Minute,
			NonRetryableErrorTypes: []string{activities.FailureRefused}},
	}), act.DeliverNotification, in).Get(ctx, nil)
	if err == nil {
		return nil
	}
	// Also if the workflow is cancelled: the row must not say for ever that it is being sent.
	own, _ := workflow.NewDisconnectedContext(ctx)
	recorded := workflow.ExecuteActivity(workflow.WithActivityOptions(own, workflow.ActivityOptions{
		TaskQueue:              activities.ControlQueue,
		StartToCloseTimeout:    30 * time.Second,
		ScheduleToCloseTimeout: deliverLimit,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2,
			MaximumInterval: time.Minute},
	}), act.GiveUpNotification, notification.GiveUpNotificationInput{Delivery: in,
		Reason: workflows.Reason(err)}).Get(own, nil)
	return errors.Join(err, recorded)
}
