package bfia

import (
	"fmt"
	"strings"
)

// Failure explains why a part of a task, or a job, did not go well: Hutong's addition to what the protocol tells, in
// status answers, task callbacks, polls and job/stop. Others ignore it.
type Failure struct {
	Kind   FailureKind `json:"kind"`
	NodeID string      `json:"node_id,omitempty"`   // the party where it happened
	Role   string      `json:"role,omitempty"`      // guest.0
	Task   string      `json:"task_name,omitempty"` // empty: the job as a whole
	// ExitCode is the container's, where the kind is FailedExit, FailedMemory or FailedKilled.
	ExitCode int      `json:"exit_code,omitempty"`
	By       string   `json:"by,omitempty"`      // who stopped or rejected it
	Message  string   `json:"message,omitempty"` // a partner's own are quoted
	Log      []string `json:"log,omitempty"`     // the last lines
	// Hint is what to try. It is made for the reader, and not kept.
	Hint string `json:"hint,omitempty"`
}

// FailureKind is what kind of thing went wrong.
type FailureKind string

// The kinds of failures.
const (
	FailedExit       FailureKind = "exit_code"     // the container's exit code is not 0
	FailedMemory     FailureKind = "out_of_memory" // the container hit its memory limit
	FailedImage      FailureKind = "image_missing"
	FailedStart      FailureKind = "not_started"   // the container could not be made or started
	FailedInput      FailureKind = "input_missing" // a dataset or a provider is not there
	FailedReported   FailureKind = "reported"      // the component said so
	FailedVanished   FailureKind = "vanished"      // the container was removed by someone else
	FailedKilled     FailureKind = "killed"        // the container was killed from outside: by someone, with its daemon or with its host
	FailedTemporary  FailureKind = "temporary"     // the component says so: its exit code is 75, EX_TEMPFAIL of sysexits.h
	FailedRunnerLost FailureKind = "runner_lost"   // nothing was heard of the container's host for too long
	FailedRefused    FailureKind = "refused"       // a party refused a command
	FailedTimeout    FailureKind = "timeout"       // a party gave no good answer for too long
	FailedStopped    FailureKind = "stopped"
	FailedRejected   FailureKind = "rejected" // a party did not approve the job
	FailedInternal   FailureKind = "internal" // something of the party's own is broken
	FailedUnknown    FailureKind = "unknown"  // the party told nothing
)

// FailureSharing is how much of a failure a party lets its partners know.
type FailureSharing string

// The levels of a [FailureSharing]: the party, the part, the kind and the exit code; also the words; also the log's last lines.
const (
	ShareKind   FailureSharing = "kind"
	ShareReason FailureSharing = "reason"
	ShareLog    FailureSharing = "log"
)

// Retryable tells whether another attempt may well go better: what ended this one was none of its own doing.
func (f *Failure) Retryable() bool {
	return f != nil && (f.Kind == FailedKilled || f.Kind == FailedRunnerLost || f.Kind == FailedTemporary)
}

// FailureOf is the failure that a party tells of with a state: what it explains, or its words, or that it says nothing.
// It is nil for other states than FAILED.
func FailureOf(state TaskState, reported *Failure, message string) *Failure {
	switch {
	case state != TaskFailed:
		return nil
	case reported != nil && reported.Kind != "":
		return reported.Truncate()
	}
	return (&Failure{Kind: FailedUnknown, Message: message}).Truncate()
}

// Truncate is the failure as it may be taken from outside: no longer than a person would read, and without what is ours
// to say.
func (f *Failure) Truncate() *Failure {
	if f == nil {
		return nil
	}
	b := *f
	for _, s := range []*string{(*string)(&b.Kind), &b.NodeID, &b.Role, &b.Task, &b.By} {
		*s = truncate(*s, 256)
	}
	b.Message, b.Hint, b.Log = truncate(b.Message, 2<<10), "", nil
	for _, line := range f.Log[:min(len(f.Log), 20)] {
		b.Log = append(b.Log, truncate(line, 512))
	}
	return &b
}

func truncate(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// ForPartners is what partners may know of a failure.
func (f *Failure) ForPartners(level FailureSharing) *Failure {
	if f == nil {
		return nil
	}
	shared := *f
	shared.Hint = ""
	if level != ShareLog {
		shared.Log = nil
	}
	if level != ShareLog && level != ShareReason && f.Kind != FailedStopped && f.Kind != FailedRejected { // those words are no secret
		shared.Message = ""
	}
	return &shared
}

// Text is why, in words.
func (f *Failure) Text() string {
	switch {
	case f == nil:
		return ""
	case f.Kind == FailedExit && f.Message != "":
		return fmt.Sprintf("exit code %d: %s", f.ExitCode, f.Message)
	case f.Message != "":
		return f.Message
	}
	switch f.Kind {
	case FailedExit:
		return fmt.Sprintf("exit code %d", f.ExitCode)
	case FailedMemory:
		return "out of memory"
	case FailedImage:
		return "its image is missing"
	case FailedStart:
		return "it could not be started"
	case FailedInput:
		return "what it needs is not there"
	case FailedReported:
		return "the component reported that it failed"
	case FailedVanished:
		return "its container was removed by someone else"
	case FailedKilled:
		return "its container was killed from outside"
	case FailedTemporary:
		return "a temporary failure, as the component says"
	case FailedRunnerLost:
		return "its host was lost"
	case FailedRefused:
		return "refused"
	case FailedTimeout:
		return "no answer within the limit"
	case FailedStopped:
		return strings.TrimSuffix("stopped by "+f.By, " by ")
	case FailedRejected:
		return strings.TrimSuffix("rejected by "+f.By, " by ")
	case FailedInternal:
		return "something is broken at the party"
	}
	return "no reason is known"
}

// String is what failed where, and why, in one sentence.
func (f *Failure) String() string {
	if f == nil {
		return ""
	}
	place := f.NodeID
	if f.Role != "" {
		place = fmt.Sprintf("%s (%s)", f.NodeID, f.Role)
	}
	switch {
	case f.Task != "" && f.NodeID != "" && f.Kind != FailedStopped:
		return fmt.Sprintf("task %s failed at %s: %s", f.Task, place, f.Text())
	case f.Task != "":
		return fmt.Sprintf("task %s was stopped: %s", f.Task, f.Text())
	case f.NodeID != "" && f.Kind != FailedStopped && f.Kind != FailedRejected:
		return fmt.Sprintf("%s: %s", place, f.Text())
	}
	return f.Text()
}

// WithHint is the failure as a user of node self reads it: with what to try.
func (f *Failure) WithHint(self, jobID string) *Failure {
	if f == nil {
		return nil
	}
	told := *f
	told.Hint = f.hint(self, jobID)
	return &told
}

func (f *Failure) hint(self, jobID string) string {
	ours := f.NodeID == self
	logs := fmt.Sprintf("hutong job logs %s --task %s --role %s", jobID, f.Task, f.Role)
	asks := fmt.Sprintf("ask %s, whose log of the task tells more", f.NodeID)
	switch f.Kind {
	case FailedExit, FailedReported, FailedUnknown, FailedVanished:
		if ours {
			return "read its log: " + logs
		}
		if f.NodeID == "" {
			return ""
		}
		return asks
	case FailedKilled, FailedRunnerLost, FailedTemporary:
		if ours {
			return "see to the runner's host and its Docker Engine, then submit the job again; old_job_id takes over what has succeeded"
		}
		return fmt.Sprintf("ask %s, whose host or Docker Engine had trouble, then submit the job again; old_job_id takes over what has succeeded", f.NodeID)
	case FailedMemory:
		role, index, _ := strings.Cut(f.Role, ".")
		return fmt.Sprintf("give it more memory: config.job_params.%s.%s.resources.memory, in GiB", role, index)
	case FailedImage:
		if ours {
			return "load the image on the runner's host, or register the provider with the image that is there"
		}
		return fmt.Sprintf("ask %s to load the provider's image", f.NodeID)
	case FailedStart, FailedInput, FailedInternal:
		if ours {
			return "see whether the provider is registered as it should, its inputs are there and the runner works: the party's own log tells more"
		}
		return fmt.Sprintf("ask %s, whose own log tells more", f.NodeID)
	case FailedRefused:
		return fmt.Sprintf("ask %s why, or change what it refuses", f.NodeID)
	case FailedTimeout:
		return fmt.Sprintf("see whether %s is up and its address in the routes is right, then submit the job again; old_job_id takes over what has succeeded", f.NodeID)
	case FailedRejected:
		return fmt.Sprintf("ask %s what it would approve", f.By)
	}
	return ""
}
