package activities

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"hutong/bfia"
	"hutong/bfia/client"
)

// Types of the application errors with which activities fail.
const (
	// FailureRefused is the type of a refusal, of a partner or of this party. It is not retried.
	FailureRefused = "Refused"
	// FailureUnreachable is the type of an error after which it is unknown whether a command arrived. It is
	// retried.
	FailureUnreachable = "Unreachable"
	// FailureUnavailable is the type of an error that a service of this party caused, which does not answer.
	// Its detail is the service, a [bfia.WaitingKind]. It is retried.
	FailureUnavailable = "Unavailable"
)

// Refuse returns err as a refusal that Temporal does not retry, with the code of the HTTP answer that it
// becomes.
func Refuse(err error) error {
	return temporal.NewNonRetryableApplicationError(bfia.MessageOf(err), FailureRefused, err,
		bfia.CodeOf(err))
}

// Classify converts errors that no retry can resolve, those about the request, to refusals. It returns other
// errors, such as the database's, as they are, so that Temporal retries the activity.
func Classify(err error) error {
	switch bfia.CodeOf(err) {
	case bfia.CodeOK:
		return nil
	case bfia.CodeInternal, bfia.CodeUnavailable:
		if service := bfia.ServiceOf(err); service != "" {
			return temporal.NewApplicationErrorWithOptions(err.Error(), FailureUnavailable,
				temporal.ApplicationErrorOptions{Cause: err, Details: []any{service}})
		}

		return err
	default:
		return Refuse(err)
	}
}

// CommandError logs and classifies the error of a command to a partner: a refusal is not retried, all else
// is.
func CommandError(ctx context.Context, logger *slog.Logger, node string, err error) error {
	if err == nil {
		return nil
	}

	info := activity.GetInfo(ctx)
	logger.WarnContext(ctx, "failed to send a command to a partner", "activity", info.ActivityID,
		"attempt", info.Attempt, "node_id", node, "workflow_id", info.WorkflowExecution.ID, "error", err)

	var answer *client.Error
	if errors.As(err, &answer) && answer.Outcome == client.Refused {
		return temporal.NewNonRetryableApplicationError(answer.Text, FailureRefused, err,
			refusalCode(answer.Code))
	}

	delay := RetryDelay(info.Attempt+1, rand.Float64())
	if answer != nil {
		delay = max(delay, answer.RetryAfter)
	}

	return temporal.NewApplicationErrorWithOptions(err.Error(), FailureUnreachable,
		temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: delay})
}

const (
	firstRetryDelay = 200 * time.Millisecond
	maxRetryDelay   = 10 * time.Second
	lateRetryDelay  = time.Minute
	// lateAttempt is the first attempt that comes after half an hour of pauses of [maxRetryDelay].
	lateAttempt = 180
)

// RetryDelay returns the pause before an attempt of a command, from the second on: exponential backoff with
// jitter. chance, from 0 to 1, spreads it by a quarter to either side, so that jobs that lost a partner
// together do not all return to it at once. A partner that stays away is tried once a minute.
func RetryDelay(attempt int32, chance float64) time.Duration {
	delay := maxRetryDelay
	if attempt >= lateAttempt {
		delay = lateRetryDelay
	}
	if doublings := attempt - 2; doublings < 6 {
		delay = min(maxRetryDelay, firstRetryDelay<<max(doublings, 0))
	}

	return time.Duration(float64(delay) * (0.75 + chance/2))
}

// refusalCode keeps a partner's code if it is one of the protocol's own, which says more to the caller.
func refusalCode(code bfia.Code) bfia.Code {
	switch code {
	case bfia.CodeBadRequest, bfia.CodeNotFound, bfia.CodeConflict, bfia.CodeTooLarge, bfia.CodeForbidden:
		return code
	}

	return bfia.CodeRefused
}
