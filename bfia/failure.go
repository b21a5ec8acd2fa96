package bfia

import (
	"fmt"
	"strings"
)

// Failure describes why a part of a task, or a job, failed. It is Hutong's addition to the protocol's status
// answers, task callbacks, polls and job/stop. Other implementations ignore it.
type Failure struct {
	Kind   FailureKind `json:"kind"`
	NodeID string      `json:"node_id,omitempty"`   // the party where it happened
	Role   string      `json:"role,omitempty"`      // guest.0
	Task   string      `json:"task_name,omitempty"` // empty: the whole job
	// ExitCode is the container's exit code, for the kinds FailedExit, FailedMemory and FailedKilled.
	ExitCode int      `json:"exit_code,omitempty"`
	By       string   `json:"by,omitempty"`      // who stopped or rejected it
	Message  string   `json:"message,omitempty"` // quoted if it comes from a component or a partner
	Log      []string `json:"log,omitempty"`     // the last lines of its log
	// Hint says what to do. It is derived for the reader and not stored.
	Hint string `json:"hint,omitempty"`
}

// FailureKind classifies failures.
type FailureKind string

// The kinds of failures.
const (
	FailedExit   FailureKind = "exit_code"     // the container's exit code is not 0
	FailedMemory FailureKind = "out_of_memory" // the container hit its memory limit
	// the container's log files exceeded their limit
	FailedLogFiles FailureKind = "log_files"
	FailedImage    FailureKind = "image_missing"
	FailedStart    FailureKind = "not_started"   // the container could not be created or started
	FailedInput    FailureKind = "input_missing" // a dataset or a provider is missing
	// the container wrote an output that its party can't read or record, or that is or may be incomplete
	FailedOutput   FailureKind = "output_unreadable"
	FailedReported FailureKind = "reported" // the component reported it
	FailedVanished FailureKind = "vanished" // the container was removed from outside
	// the container was killed by a user, or with its daemon or machine
	FailedKilled FailureKind = "killed"
	// the component's exit code is 75, EX_TEMPFAIL of sysexits.h
	FailedTemporary FailureKind = "temporary"
	// the component's exit code is 69, EX_UNAVAILABLE of sysexits.h: it ended since a partner's part had
	// failed
	FailedPartner    FailureKind = "partner_failed"
	FailedRunnerLost FailureKind = "runner_lost" // the container's runner sent no heartbeat for too long
	FailedRefused    FailureKind = "refused"     // a party refused a command
	FailedTimeout    FailureKind = "timeout"     // a party did not answer successfully within the limit
	FailedStopped    FailureKind = "stopped"
	FailedRejected   FailureKind = "rejected" // a party did not approve the job
	FailedInternal   FailureKind = "internal" // an error of the party's own services
	FailedUnknown    FailureKind = "unknown"  // the party gave no reason
)

// FailureSharing sets which details of a failure a party shows to its partners.
type FailureSharing string

// The levels of a [FailureSharing]. ShareKind shows the party, the part, the kind and the exit code;
// ShareReason also the message; ShareLog also the last lines of the log.
const (
	ShareKind   FailureSharing = "kind"
	ShareReason FailureSharing = "reason"
	ShareLog    FailureSharing = "log"
)

// Retryable reports whether another attempt is likely to succeed: the cause was outside the task.
func (f *Failure) Retryable() bool {
	return f != nil && (f.Kind == FailedKilled || f.Kind == FailedRunnerLost || f.Kind == FailedTemporary)
}

// Causes reports whether a failure is a cause of the other one, or at least closer to it. A part that lost
// its partner may be reported before the partner; what a component calls temporary often has a cause
// elsewhere.
func (f *Failure) Causes(other *Failure) bool {
	return f != nil && (other == nil || f.distance() < other.distance())
}

// IsConsequence reports whether a failure follows from the failure of another part.
func (f *Failure) IsConsequence() bool { return f != nil && f.Kind == FailedPartner }

// distance orders failures by how far they may be from the cause of a job's end.
func (f *Failure) distance() int {
	switch f.Kind {
	case FailedStopped:
		return 3
	case FailedPartner:
		return 2
	case FailedTemporary:
		return 1
	}
	return 0
}

// FailureOf returns the failure of a part that a party reports as FAILED: the reported one, or one with the
// party's message. It returns nil for other states.
func FailureOf(state TaskState, reported *Failure, message string) *Failure {
	switch {
	case state != TaskFailed:
		return nil
	case reported != nil && reported.Kind != "":
		return reported.Truncate()
	}
	return (&Failure{Kind: FailedUnknown, Message: message}).Truncate()
}

// Truncate returns a copy that is safe to accept from outside: its texts are bounded, and it has no hint,
// which only this party derives.
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

// ForPartners returns the details of a failure that partners may see.
func (f *Failure) ForPartners(level FailureSharing) *Failure {
	if f == nil {
		return nil
	}
	shared := *f
	shared.Hint = ""
	if level != ShareLog {
		shared.Log = nil
	}
	if level != ShareLog && level != ShareReason && f.Kind != FailedStopped &&
		f.Kind != FailedRejected { // those messages are no secret
		shared.Message = ""
	}
	return &shared
}

// Text returns the reason.
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
	case FailedLogFiles:
		return "the container's log files exceeded their limit"
	case FailedImage:
		return "the image is missing on the runner"
	case FailedStart:
		return "the container could not be started"
	case FailedInput:
		return "a dataset or a provider is missing"
	case FailedOutput:
		return "an output could not be read"
	case FailedReported:
		return "the component reported that it failed"
	case FailedVanished:
		return "the container was removed from outside"
	case FailedKilled:
		return "the container was killed from outside"
	case FailedTemporary:
		return "the component reported a temporary failure"
	case FailedPartner:
		return "a partner's part of the task failed"
	case FailedRunnerLost:
		return "the runner was lost"
	case FailedRefused:
		return "the request was refused"
	case FailedTimeout:
		return "no answer within the limit"
	case FailedStopped:
		return strings.TrimSuffix("stopped by "+f.By, " by ")
	case FailedRejected:
		return strings.TrimSuffix("rejected by "+f.By, " by ")
	case FailedInternal:
		return "internal error of the party"
	}
	return "no reason was given"
}

// String returns what failed, where and why, as one sentence.
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

// WithHint returns a copy for a user of node self, with what to do.
func (f *Failure) WithHint(self, jobID string) *Failure {
	if f == nil {
		return nil
	}
	shown := *f
	shown.Hint = f.hint(self, jobID)
	return &shown
}

// resubmit ends the hints for failures that a new job can avoid.
const resubmit = "then submit the job again with old_job_id, which reuses the tasks that succeeded"

// hint returns what a user of node self can do.
func (f *Failure) hint(self, jobID string) string {
	ours := f.NodeID == self
	logs := fmt.Sprintf("hutong job logs %s --task %s --role %s", jobID, f.Task, f.Role)
	ask := fmt.Sprintf("ask %s for its log of the task", f.NodeID)
	if len(f.Log) > 0 { // the party shares it
		ask = fmt.Sprintf("read the last lines of its log; if they don't suffice, ask %s for the rest", f.NodeID)
	}
	switch f.Kind {
	case FailedExit, FailedReported, FailedUnknown, FailedVanished:
		if ours {
			return "read its log: " + logs
		}
		if f.NodeID == "" {
			return ""
		}
		return ask
	case FailedPartner:
		if ours {
			return "ask the partners of the task for their logs; what this party knows is in: " + logs
		}
		return ask
	case FailedKilled, FailedRunnerLost, FailedTemporary:
		if ours {
			return "check the runner and its Docker Engine; " + resubmit
		}
		return fmt.Sprintf("ask %s to check its runner and Docker Engine; %s", f.NodeID, resubmit)
	case FailedMemory:
		role, index, _ := strings.Cut(f.Role, ".")
		return fmt.Sprintf("give the task more memory: config.job_params.%s.%s.resources.memory, in GiB",
			role, index)
	case FailedLogFiles:
		if ours {
			return "let the component write less below config.log.path, or raise runner.log_files_mib"
		}
		return fmt.Sprintf("ask %s to raise its limit for log files", f.NodeID)
	case FailedImage:
		if ours {
			return "load the image on the runner, or register the provider with an image that the runner has"
		}
		return fmt.Sprintf("ask %s to load the provider's image", f.NodeID)
	case FailedOutput:
		if ours {
			return "have the component write each output whole, and so that the user of this party's processes can " +
				"read it; if the storage is full, free space on its disk; " + resubmit
		}
		return ask
	case FailedStart, FailedInput, FailedInternal:
		if ours {
			return "check the provider's registration, the inputs and the runner; this party's log has the details"
		}
		return fmt.Sprintf("ask %s for the details in its log", f.NodeID)
	case FailedRefused:
		return fmt.Sprintf("change what %s refuses, or ask it why", f.NodeID)
	case FailedTimeout:
		return fmt.Sprintf("check that %s is running and that its address in the routes is right; %s",
			f.NodeID, resubmit)
	case FailedRejected:
		return fmt.Sprintf("ask %s which job it would approve", f.By)
	}
	return ""
}
