package participant

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"

	"hutong/activities"
)

// tryLimit bounds the one try of what an activity does after it has recorded an end. A workflow task waits
// for it, and the workflow repeats what has failed.
const tryLimit = 2 * time.Second

// EndPartInput is the end of an attempt of a part, and the report of it to the scheduler.
type EndPartInput struct {
	End      RecordTaskEndInput `json:"end"`
	Callback SendCallbackInput  `json:"callback"`
}

// EndPartResult says whether the scheduler has the report of an end that is recorded.
type EndPartResult struct {
	Reported bool `json:"reported,omitempty"`
	// Refused is why the scheduler refused the report.
	Refused string `json:"refused,omitempty"`
}

// EndPart writes the end of a part as [Activities.RecordTaskEnd] does, so that a poll reads the same, and
// then tries once to report it as [Activities.SendCallback] does. An end that could not be reported is no
// error: it is recorded.
func (a *Activities) EndPart(ctx context.Context, in EndPartInput) (EndPartResult, error) {
	if err := a.RecordTaskEnd(ctx, in.End); err != nil {
		return EndPartResult{}, err
	}

	limited, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	err := a.SendCallback(limited, in.Callback)
	var failed *temporal.ApplicationError
	if errors.As(err, &failed) && failed.Type() == activities.FailureRefused {
		return EndPartResult{Refused: failed.Message()}, nil
	}

	return EndPartResult{Reported: err == nil}, nil
}

// EndJobInput is the end of a job of which nothing runs.
type EndJobInput struct {
	State    RecordJobStateInput     `json:"state"`
	Release  ReleaseReservationInput `json:"release"`
	Sessions []string                `json:"sessions"`
}

// EndJobResult holds what is left to do for a job whose end is recorded.
type EndJobResult struct {
	// Waiting holds the jobs that would be granted a reservation now.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Sessions are not released.
	Sessions []string `json:"sessions,omitempty"`
}

// EndJob writes the end of a job, releases its reservation, and tries once to release its sessions. It leaves
// the sessions to the workflow if other jobs wait for the reservation: their hints come first.
func (a *Activities) EndJob(ctx context.Context, in EndJobInput) (EndJobResult, error) {
	if err := a.RecordJobState(ctx, in.State); err != nil {
		return EndJobResult{}, err
	}
	waiting, err := a.ReleaseReservation(ctx, in.Release)
	if err != nil {
		return EndJobResult{}, err
	}
	if len(waiting) > 0 {
		return EndJobResult{Waiting: waiting, Sessions: in.Sessions}, nil
	}

	return EndJobResult{Sessions: a.releaseSessions(ctx, in.Sessions)}, nil
}

// releaseSessions releases sessions, and returns those that it could not release.
func (a *Activities) releaseSessions(ctx context.Context, sessions []string) (left []string) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	failed := make([]error, len(sessions))
	var running sync.WaitGroup
	for i, session := range sessions {
		running.Go(func() { failed[i] = a.ReleaseSession(ctx, ReleaseSessionInput{Session: session}) })
	}
	running.Wait()
	for i, err := range failed {
		if err != nil {
			a.Logger.Info("failed to release a session with the end of its job; it is tried again",
				"session_id", sessions[i], "error", err)
			left = append(left, sessions[i])
		}
	}

	return left
}
