package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/bfia"
)

const (
	// recordLimit bounds the retries of a record.
	recordLimit = 24 * time.Hour
	// recordTry bounds the retries of its local activity. While a workflow task waits for a local activity,
	// Temporal's UI cannot ask the workflow what it waits for.
	recordTry = 10 * time.Second
	// recordPause and maxRecordPause are the least and the longest pause between these local activities.
	recordPause    = time.Second
	maxRecordPause = 30 * time.Second
)

// Recording is a record that is being written.
type Recording struct {
	summary string
	start   func() workflow.Future
	first   workflow.Future
}

// Record runs an activity that writes to the party's database, as a local activity. It is short, and is
// retried until the database answers. Get must be called.
func Record(ctx workflow.Context, summary string, activity, in any) Recording {
	start := func() workflow.Future {
		ctx := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
			StartToCloseTimeout:    recordTry,
			ScheduleToCloseTimeout: recordTry,
			RetryPolicy: &temporal.RetryPolicy{
				InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: time.Second,
				NonRetryableErrorTypes: []string{activities.FailureRefused},
			},
			Summary: summary,
		})

		return workflow.ExecuteLocalActivity(ctx, activity, in)
	}

	return Recording{summary: summary, start: start, first: start()}
}

// Get waits until the record is written or refused, and stores the activity's result in result unless that is
// nil. Meanwhile the workflow counts as waiting for the service that does not answer: the database, if the
// error names none.
func (r Recording) Get(ctx workflow.Context, result any) error {
	err := r.first.Get(ctx, result)
	if err == nil {
		return nil
	}

	waits, key := waitsOf(ctx), "database: "+r.summary
	limit := workflow.Now(ctx).Add(recordLimit)
	for pause := recordPause; ; pause = min(2*pause, maxRecordPause) {
		_, _, refused := RefusalCode(err)
		if err == nil || refused || ctx.Err() != nil || !workflow.Now(ctx).Before(limit) {
			break
		}
		if waits != nil {
			w := bfia.Waiting{Kind: serviceOf(err), NodeID: waits.node, Until: &limit}
			w.Message = fmt.Sprintf("%s: failed to %s: %s", w.Text(), r.summary, Reason(err))
			waits.Begin(ctx, key, w)
		}
		if slept := workflow.Sleep(ctx, pause); slept != nil {
			break
		}
		err = r.start().Get(ctx, result)
	}
	if waits != nil {
		waits.End(key)
	}

	return err
}

// SendCommand runs an activity that sends a command to a party, until the party accepts or refuses it or the
// limit is over. Each try is short, so that a party that hangs is tried again. A cancelled command ends with
// the try that is under way. While it takes long, the workflow counts as waiting for the party.
func SendCommand(ctx workflow.Context, id string, limit time.Duration, activity, in any) workflow.Future {
	f := sendCommand(ctx, id, limit, activity, in)
	if waits := waitsOf(ctx); waits != nil {
		workflow.Go(ctx, func(ctx workflow.Context) { waits.waitForCommand(ctx, id, limit, in, nil, f) })
	}

	return f
}

func sendCommand(ctx workflow.Context, id string, limit time.Duration, activity, in any) workflow.Future {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:             id,
		TaskQueue:              activities.ControlQueue,
		Summary:                id,
		StartToCloseTimeout:    30 * time.Second,
		ScheduleToCloseTimeout: limit,
		WaitForCancellation:    true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second,
			NonRetryableErrorTypes: []string{activities.FailureRefused},
		},
	})

	return workflow.ExecuteActivity(ctx, activity, in)
}

// localTryLimit bounds the first try of SendLocalFirst, for which the workflow task waits.
const localTryLimit = 2 * time.Second

// SendLocalFirst tries a command once as a local activity, which saves a round trip to Temporal, and falls
// back to [SendCommand]. The command may reach its party twice, as with any retry. The activity does not know
// whether the local activity has sent it.
func SendLocalFirst(ctx workflow.Context, id string, limit time.Duration, activity, in any) workflow.Future {
	done, set := workflow.NewFuture(ctx)
	// A cancelled command still waits for the try that is under way.
	own, _ := workflow.NewDisconnectedContext(ctx)
	own = workflow.WithLocalActivityOptions(own, workflow.LocalActivityOptions{
		StartToCloseTimeout: localTryLimit,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             id,
	})
	first := workflow.ExecuteLocalActivity(own, activity, in)

	workflow.Go(ctx, func(ctx workflow.Context) {
		err := first.Get(ctx, nil)
		if _, _, refused := RefusalCode(err); err == nil || refused || ctx.Err() != nil {
			set.Chain(first)

			return
		}
		f := sendCommand(ctx, id, limit, activity, in)
		set.Chain(f)
		if waits := waitsOf(ctx); waits != nil {
			waits.waitForCommand(ctx, id, limit, in, err, f)
		}
	})

	return done
}

const (
	// HeartbeatTimeout is the silence after which another worker takes over a long activity.
	HeartbeatTimeout = 10 * time.Second
	// RunLimit bounds a container, and the polling of a task.
	RunLimit = 30 * 24 * time.Hour
)

// Refuse returns an error for the caller of an update, with the code of the HTTP answer that it becomes.
func Refuse(code bfia.Code, message string) error {
	return temporal.NewNonRetryableApplicationError(message, activities.FailureRefused, nil, code)
}

// RefusalCode reads the code and the message of a refusal, and reports whether err is one.
func RefusalCode(err error) (bfia.Code, string, bool) {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != activities.FailureRefused {
		return 0, "", false
	}
	code := bfia.CodeRefused
	_ = app.Details(&code) // a refusal without details has the plain code

	return code, app.Message(), true
}

// serviceOf returns which service of this party caused the error of an activity.
func serviceOf(err error) bfia.WaitingKind {
	service := bfia.WaitsForDatabase
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.Type() == activities.FailureUnavailable {
		_ = app.Details(&service) // an error of an older worker has none
	}

	return service
}

// Reason returns an activity's error as people should read it: without what Temporal wraps it in.
func Reason(err error) string {
	var timeout *temporal.TimeoutError
	var app *temporal.ApplicationError
	var failed *temporal.ActivityError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &app):
		return app.Message()
	case errors.As(err, &timeout):
		return "gave up: no answer within the limit"
	case errors.As(err, &failed) && failed.Unwrap() != nil:
		return failed.Unwrap().Error()
	}

	return err.Error()
}

// CommandFailure explains why a command to a party failed. Undone names what the party did not do, such as
// "did not start".
func CommandFailure(node, undone string, err error) *bfia.Failure {
	f := &bfia.Failure{Kind: bfia.FailedTimeout, NodeID: node, Message: undone + ": " + Reason(err)}
	if _, _, refused := RefusalCode(err); refused {
		f.Kind = bfia.FailedRefused
	}

	return f
}
