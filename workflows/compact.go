package workflows

import (
	"errors"
	"strings"

	"go.temporal.io/sdk/temporal"
)

// IsUnknownUpdate reports whether a workflow has rejected an update because its worker does not know it.
//
// That is how a job's workflow learns, with its first workflow task, that it may keep its history short. An
// older worker rejects [UpdateCreateCompact] or [UpdateCreateMerged], so its job does what it always did. A
// job that has accepted it waits for a worker that knows it, as after a marker of workflow.GetVersion. Such
// a marker would cost each workflow two events and a change of its search attributes, which is more than
// some of what the job saves.
func IsUnknownUpdate(err error) bool {
	var app *temporal.ApplicationError

	return errors.As(err, &app) && strings.HasPrefix(app.Message(), "unknown update ")
}
