package worker

import (
	"context"
	"strings"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"

	"hutong/workflows"
)

// failureLogger logs records that fail. They run within a workflow's step, and the engine's SDK tries them again for as long as it
// takes without a word: people would see a job that does not move, and not that the database refuses it.
type failureLogger struct {
	interceptor.WorkerInterceptorBase
}

// InterceptActivity puts the log around an activity.
func (*failureLogger) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	told := &loggedActivity{}
	told.Next = next
	return told
}

type loggedActivity struct {
	interceptor.ActivityInboundInterceptorBase
}

// ExecuteActivity runs an activity, and logs its failure unless that is a refusal, or commands, which tell of it themselves.
func (a *loggedActivity) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	result, err := a.Next.ExecuteActivity(ctx, in)
	if info := activity.GetInfo(ctx); err != nil && info.IsLocalActivity && !strings.HasPrefix(info.ActivityType.Name, "Send") {
		if _, _, refused := workflows.RefusalCode(err); !refused {
			activity.GetLogger(ctx).Warn("a record failed; it is tried again", "activity", info.ActivityType.Name, "attempt", info.Attempt,
				"workflow_id", info.WorkflowExecution.ID, "error", err)
		}
	}
	return result, err
}
