package notify

import (
	"strings"
	"time"

	"hutong/bfia"
)

// Kind is a kind of event.
type Kind string

// The kinds of events.
const (
	// Approval is a job that waits for the approval of this party.
	Approval Kind = "approval"
	// JobFailed is a job that failed, and JobEnded one that ended. Who wants JobEnded gets both.
	JobFailed Kind = "job_failed"
	JobEnded  Kind = "job_ended"
	// GrantRequest is a partner's request for a grant, which waits for a decision.
	GrantRequest Kind = "grant_request"
	// RunnerSilent is a runner that sends no heartbeats any more.
	RunnerSilent Kind = "runner_silent"
	// PartnerSilent is a partner that has not answered for some time while jobs wait for it, PartnerBack that
	// it answers again.
	PartnerSilent Kind = "partner_silent"
	PartnerBack   Kind = "partner_back"
	// Test is a message that a person sends to test a receiver. No receiver lists it.
	Test Kind = "test"
)

// Kinds returns the kinds of events that a receiver may list.
func Kinds() []Kind {
	return []Kind{Approval, JobFailed, JobEnded, GrantRequest, RunnerSilent, PartnerSilent, PartnerBack}
}

// Event is something that happened at a party. It is stored with each notification of it.
type Event struct {
	Kind   Kind      `json:"event"`
	NodeID string    `json:"node_id"`
	Time   time.Time `json:"time"`

	// Of a job.
	JobID     string   `json:"job_id,omitempty"`
	FlowID    string   `json:"flow_id,omitempty"`
	Project   string   `json:"project,omitempty"` // at this party
	Initiator string   `json:"initiator,omitempty"`
	Roles     []string `json:"roles,omitempty"` // of this party, such as guest.0
	// SubmittedBy are the clients of this party that submitted the job.
	SubmittedBy []string     `json:"submitted_by,omitempty"`
	Outcome     bfia.Outcome `json:"outcome,omitempty"`
	// Failure is why a job failed, without what a container said.
	Failure *bfia.Failure `json:"failure,omitempty"`

	// Of a request for a grant, and of a silent partner.
	Partner   string `json:"partner,omitempty"`
	Dataset   string `json:"dataset,omitempty"`
	RequestID string `json:"request_id,omitempty"`

	// Of a silent partner: since when jobs wait for its answers, and how many do.
	Since *time.Time `json:"since,omitempty"`
	Jobs  int        `json:"jobs,omitempty"`

	// Of a runner.
	RunnerID string `json:"runner_id,omitempty"`
	Machine  string `json:"machine,omitempty"`
}

// maxReason bounds the reason of a rejection or a stop in a message.
const maxReason = 300

// SafeFailure returns what a message may say of a failure: where, of which kind, and the words of the person
// who stopped or rejected the job. The words of containers may hold rows of data.
func SafeFailure(f *bfia.Failure) *bfia.Failure {
	safe := f.ForPartners(bfia.ShareKind).Truncate()
	if safe == nil {
		return nil
	}
	words := []rune(strings.Join(strings.Fields(safe.Message), " "))
	if len(words) > maxReason {
		words = append(words[:maxReason], '…')
	}
	safe.Message = string(words)
	return safe
}
