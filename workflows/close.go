package workflows

import (
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
)

// FailureJob is the type of the error with which the workflow of a failed job closes.
const FailureJob = "JobFailed"

// Close closes a job's workflow with its result, so that Temporal's lists show the outcome: a failed job's
// workflow is Failed, that of a job which someone stopped or rejected is Canceled. It waits for the update
// handlers, whose callers would otherwise get the workflow's end as their answer.
func Close(ctx workflow.Context, result Result) (Result, error) {
	var err error
	switch result.Outcome {
	case OutcomeFailed:
		err = temporal.NewNonRetryableApplicationError(result.Reason, FailureJob, nil, result)
	case OutcomeStopped, OutcomeRejected:
		err = temporal.NewCanceledError(result)
	}

	finishWaits(ctx)

	return result, AwaitHandlers(ctx, err)
}

// finishWaits makes sure that a workflow which has ended shows no wait.
func finishWaits(ctx workflow.Context) {
	if waits := waitsOf(ctx); waits != nil {
		waits.Finish(ctx)
	}
}

// Refused closes the workflow of a job that was not created. The caller of [UpdateCreate] has the reason as
// an error. The workflow did what it should, so it is Completed; the job may be submitted again.
func Refused(ctx workflow.Context, reason error) (Result, error) {
	_ = workflow.UpsertTypedSearchAttributes(ctx, AttributeState.ValueSet(string(OutcomeRefused)))
	result := Result{Outcome: OutcomeRefused, Reason: Reason(reason)}
	finishWaits(ctx)

	return result, AwaitHandlers(ctx, nil)
}

// ResultOf returns the result of a job's workflow that closed with an error, and reports whether err is such
// an error.
func ResultOf(err error) (result Result, ok bool) {
	var failed *temporal.ApplicationError
	var cancelled *temporal.CanceledError
	switch {
	case errors.As(err, &failed) && failed.Type() == FailureJob:
		err = failed.Details(&result)
	case errors.As(err, &cancelled) && cancelled.HasDetails():
		err = cancelled.Details(&result)
	default:
		return result, false
	}

	return result, err == nil && result.Outcome != ""
}

// HasOutcome reports whether the search attributes of a workflow are those of a job that existed and ended.
func HasOutcome(attributes temporal.SearchAttributes) bool {
	state, _ := attributes.GetKeyword(AttributeState)
	_, err := bfia.ParseOutcome(state)

	return err == nil
}
