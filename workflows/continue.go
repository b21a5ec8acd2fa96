package workflows

import "go.temporal.io/sdk/workflow"

// changeContinue is the version of workflows that continue as new before their job starts.
const changeContinue = "continue-as-new"

// MayContinueAsNew reports whether a job that waits may continue as new, when Temporal suggests it. It may
// not if a worker of an older version ignored that suggestion: its history would not replay otherwise. Such
// a job keeps its history until it starts. No input could say it: the API that made it may be of another
// version than the worker.
func MayContinueAsNew(ctx workflow.Context) bool {
	return workflow.GetVersion(ctx, changeContinue, workflow.DefaultVersion, 1) != workflow.DefaultVersion
}
