package runner

import (
	"errors"
	"fmt"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
)

// exitFailure returns the failure that a container's exit means, or nil for exit code 0.
func exitFailure(exit driver.Exit, log []string) *bfia.Failure {
	f := &bfia.Failure{Kind: bfia.FailedExit, ExitCode: exit.Code, Message: exit.Reason, Log: log}
	switch {
	case exit.Code == 0:
		return nil
	case exit.OOMKilled:
		f.Kind = bfia.FailedMemory
	case exit.Code == codeTemporary:
		f.Kind = bfia.FailedTemporary
	case exit.Killed: // whatever the program then says
		f.Kind = bfia.FailedKilled
	case exit.Code == codePartner:
		f.Kind = bfia.FailedPartner
	case exit.Code == driver.UnknownExitCode:
		f.Kind = bfia.FailedVanished
	case exit.Code == driver.NotStartedExitCode || exit.Code == driver.NotExecutableExitCode:
		if exit.Reason != plainExit(exit.Code) {
			f.Kind = bfia.FailedStart
		}
	}
	if f.Message == plainExit(exit.Code) {
		f.Message = "" // the exit code says the same
	}
	return f
}

// codeTemporary is EX_TEMPFAIL of sysexits.h. A component exits with it if another attempt may succeed.
const codeTemporary = 75

// codePartner is EX_UNAVAILABLE of sysexits.h. A component exits with it if it ends since a partner's part of
// the task has failed.
const codePartner = 69

func plainExit(code int) string { return fmt.Sprintf("exited with code %d", code) }

// startFailure returns the failure of a container that can't start, or nil if a retry may help.
func startFailure(err error) *bfia.Failure {
	var protocol *bfia.Error
	switch {
	case errors.Is(err, driver.ErrNoImage):
		return &bfia.Failure{Kind: bfia.FailedImage, Message: err.Error()}
	case driver.IsNonRetryable(err):
		return &bfia.Failure{Kind: bfia.FailedStart, Message: err.Error()}
	case errors.As(err, &protocol) && protocol.Code == bfia.CodeNotFound:
		return &bfia.Failure{Kind: bfia.FailedInput, Message: protocol.Message}
	case errors.As(err, &protocol) && protocol.Code != bfia.CodeInternal &&
		protocol.Code != bfia.CodeUnavailable:
		return &bfia.Failure{Kind: bfia.FailedStart, Message: protocol.Message}
	}
	return nil
}

// withPlace returns a copy of a failure that names the part in which it happened.
func withPlace(f *bfia.Failure, key activities.TaskKey, part bfia.Part) *bfia.Failure {
	if f == nil {
		return nil
	}
	located := *f
	located.NodeID, located.Role, located.Task = part.NodeID, part.Self(), key.Task
	return &located
}
