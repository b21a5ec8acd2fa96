package bfia

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// JobAccount is what a job has used and exchanged at one party. It is Hutong's addition.
type JobAccount struct {
	NodeID string        `json:"node_id"`
	JobID  string        `json:"job_id"`
	FlowID string        `json:"flow_id,omitempty"`
	State  JobState      `json:"job_status,omitempty"` // empty of a job that was removed
	Parts  []PartAccount `json:"parts"`
	// Traffic is by task, attempt and partner. It is recorded when the job's session is released at its end:
	// TrafficComplete says that this has happened.
	Traffic         []TrafficAccount `json:"traffic"`
	TrafficComplete bool             `json:"traffic_complete"`
	Totals          AccountTotals    `json:"totals"`
}

// PartAccount is what the container of one attempt of a part has used. A nil value is unknown.
type PartAccount struct {
	Task             string     `json:"task_name"`
	Role             string     `json:"role"` // guest.0
	Attempt          int        `json:"attempt"`
	TaskID           string     `json:"task_id"`
	RunnerID         string     `json:"runner_id"`
	Device           string     `json:"device"`
	StartedAt        *time.Time `json:"started_at"`
	EndedAt          *time.Time `json:"ended_at"`
	ContainerSeconds *float64   `json:"container_seconds"`
	CPUSeconds       *float64   `json:"cpu_seconds"`
	PeakMemory       *int64     `json:"peak_memory_bytes"`
	// AtLeast says that CPUSeconds and PeakMemory are lower bounds: the last ones that were measured before
	// the container ended.
	AtLeast bool `json:"at_least,omitempty"`
}

// TrafficAccount is what the containers of an attempt of a task have exchanged with those of a partner, in
// bytes of message bodies. What was received is counted for the task of the container that sent it.
type TrafficAccount struct {
	Task             string `json:"task_name"` // empty: unknown
	Attempt          int    `json:"attempt,omitempty"`
	NodeID           string `json:"node_id"` // of the partner
	Sent             int64  `json:"sent_bytes"`
	SentMessages     int64  `json:"sent_messages"`
	Received         int64  `json:"received_bytes"`
	ReceivedMessages int64  `json:"received_messages"`
	// Unconfirmed are bytes that have left, and of which the partner has not confirmed that it accepted them.
	Unconfirmed int64 `json:"unconfirmed_bytes"`
	// AtLeast says that the transport has crashed meanwhile: the numbers are lower bounds.
	AtLeast bool `json:"at_least,omitempty"`
}

// AccountTotals are the sums of an account, without what is unknown. A nil value is unknown of all attempts.
type AccountTotals struct {
	Attempts         int      `json:"attempts"` // that had a container
	ContainerSeconds *float64 `json:"container_seconds"`
	CPUSeconds       *float64 `json:"cpu_seconds"`
	// PeakMemory is the largest of all attempts.
	PeakMemory *int64 `json:"peak_memory_bytes"`
	Sent       int64  `json:"sent_bytes"`
	Received   int64  `json:"received_bytes"`
	// AtLeast says that something is unknown or a lower bound, and so the sums of it.
	AtLeast bool `json:"at_least,omitempty"`
}

// Sum sets the totals.
func (a *JobAccount) Sum() {
	t := AccountTotals{Attempts: len(a.Parts)}
	for i := range a.Parts {
		p := &a.Parts[i]
		add(&t.ContainerSeconds, p.ContainerSeconds)
		add(&t.CPUSeconds, p.CPUSeconds)
		if p.PeakMemory != nil {
			t.PeakMemory = new(max(*p.PeakMemory, deref(t.PeakMemory)))
		}
		t.AtLeast = t.AtLeast || p.AtLeast || p.ContainerSeconds == nil || p.CPUSeconds == nil ||
			p.PeakMemory == nil
	}
	for i := range a.Traffic {
		t.Sent += a.Traffic[i].Sent
		t.Received += a.Traffic[i].Received
		t.AtLeast = t.AtLeast || a.Traffic[i].AtLeast
	}
	a.Totals = t
}

func add(sum **float64, n *float64) {
	if n != nil {
		*sum = new(deref(*sum) + *n)
	}
}

func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// AccountFinding is one point at which the accounts of two parties agree or differ.
type AccountFinding struct {
	Agrees bool
	Text   string
}

// CompareAccounts holds the accounts of two parties about one job against each other: what one says that it
// has sent to the other against what that one says that it has received, by task and attempt. The error says
// why they can't be compared.
func CompareAccounts(a, b *JobAccount) ([]AccountFinding, error) {
	switch {
	case a.JobID != b.JobID:
		return nil, Errorf(CodeBadRequest, "job_id: the accounts are of two jobs, %s and %s", a.JobID,
			b.JobID)
	case a.NodeID == b.NodeID:
		return nil, Errorf(CodeBadRequest, "node_id: both accounts are of %s", a.NodeID)
	}
	for _, x := range []*JobAccount{a, b} {
		if !x.TrafficComplete {
			return nil, Errorf(CodeConflict,
				"traffic_complete: the account of %s lacks its traffic, which is recorded after the job's end",
				x.NodeID)
		}
	}
	return append(compareDirection(a, b), compareDirection(b, a)...), nil
}

// direction names what one party sends to another for an attempt of a task.
type direction struct {
	task    string
	attempt int
}

func compareDirection(from, to *JobAccount) (findings []AccountFinding) {
	sent, received := map[direction]TrafficAccount{}, map[direction]TrafficAccount{}
	for _, t := range from.Traffic {
		if t.NodeID == to.NodeID && (t.Sent != 0 || t.SentMessages != 0 || t.Unconfirmed != 0) {
			sent[direction{t.Task, t.Attempt}] = t
		}
	}
	for _, t := range to.Traffic {
		if t.NodeID == from.NodeID && (t.Received != 0 || t.ReceivedMessages != 0) {
			received[direction{t.Task, t.Attempt}] = t
		}
	}
	all := maps.Clone(sent)
	maps.Copy(all, received)
	for _, d := range slices.SortedFunc(maps.Keys(all), func(x, y direction) int {
		return cmp.Or(cmp.Compare(x.task, y.task), cmp.Compare(x.attempt, y.attempt))
	}) {
		what := "messages of an unknown task"
		if d.task != "" {
			what = fmt.Sprintf("task %s, attempt %d", d.task, d.attempt)
		}
		findings = append(findings, compareTraffic(
			fmt.Sprintf("%s, from %s to %s", what, from.NodeID, to.NodeID), sent[d], received[d]))
	}
	if len(all) == 0 {
		findings = append(findings, AccountFinding{true,
			fmt.Sprintf("no bytes from %s to %s", from.NodeID, to.NodeID)})
	}
	return findings
}

// compareTraffic compares what was sent with what was received.
func compareTraffic(what string, sent, received TrafficAccount) AccountFinding {
	numbers := fmt.Sprintf("%s: %d bytes in %d messages sent, %d bytes in %d messages received", what,
		sent.Sent, sent.SentMessages, received.Received, received.ReceivedMessages)
	switch {
	case sent.Sent == received.Received && sent.SentMessages == received.ReceivedMessages:
		return AccountFinding{true, fmt.Sprintf("%s: %d bytes in %d messages", what, sent.Sent,
			sent.SentMessages)}
	case received.Received > sent.Sent && received.Received <= sent.Sent+sent.Unconfirmed:
		return AccountFinding{true, numbers + ", of which the sender has no confirmation of some"}
	case sent.AtLeast || received.AtLeast:
		return AccountFinding{false, numbers + "; a transport crashed meanwhile: its number is a lower bound"}
	}
	return AccountFinding{false, numbers}
}
