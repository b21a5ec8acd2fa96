package worker

import (
	"context"
	"strings"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"

	"hutong/workflows"
)

// failureLogger logs records that fail. They are local activities, which the SDK retries silently: operators
// would see a job that does not move, and not that the database refuses its records.
type failureLogger struct {
	interceptor.WorkerInterceptorBase
}

// InterceptActivity implements [interceptor.WorkerInterceptor].
func (*failureLogger) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor,
) interceptor.ActivityInboundInterceptor {
	logged := &loggedActivity{}
	logged.Next = next

	return logged
}

type loggedActivity struct {
	interceptor.ActivityInboundInterceptorBase
}

// ExecuteActivity runs an activity and logs its failure. It leaves out refusals, which the workflow handles,
// and commands, which log their failures themselves.
func (a *loggedActivity) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput,
) (any, error) {
	result, err := a.Next.ExecuteActivity(ctx, in)
	info := activity.GetInfo(ctx)
	if err == nil || !info.IsLocalActivity || strings.HasPrefix(info.ActivityType.Name, "Send") {
		return result, err
	}
	if _, _, refused := workflows.RefusalCode(err); !refused {
		activity.GetLogger(ctx).Warn("failed to write a record; retrying", "activity", info.ActivityType.Name,
			"attempt", info.Attempt, "workflow_id", info.WorkflowExecution.ID, "error", err)
	}

	return result, err
}
