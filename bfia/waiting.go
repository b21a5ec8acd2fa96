package bfia

import (
	"fmt"
	"strings"
	"time"
)

// Waiting describes why a job, a task or a part does not proceed. Every state that can last has one. It is
// Hutong's addition to the protocol's status answers and polls. Other implementations ignore it.
type Waiting struct {
	Kind WaitingKind `json:"kind"`
	// NodeID is the party for which it waits, or at which it waits for something.
	NodeID  string    `json:"node_id,omitempty"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
	// Until is when the wait ends with a failure, if it has such a limit.
	Until *time.Time `json:"until,omitempty"`
}

// Waited is a wait that has ended.
type Waited struct {
	Waiting
	EndedAt time.Time `json:"ended_at"`
}

// WaitingKind classifies what a job, a task or a part waits for.
type WaitingKind string

// The kinds of a [Waiting].
const (
	WaitsForApproval  WaitingKind = "approval"  // of a person at a party
	WaitsForQueue     WaitingKind = "queue"     // the job's turn in its scheduler's queue
	WaitsForResources WaitingKind = "resources" // a reservation at a party
	WaitsForScheduler WaitingKind = "scheduler" // the job's start by its scheduler
	WaitsForInputs    WaitingKind = "inputs"    // the end of the tasks on which it depends
	WaitsForSlot      WaitingKind = "slot"      // the end of another task of the same job
	WaitsForRunner    WaitingKind = "runner"    // one that is online and meets the constraints
	WaitsForImage     WaitingKind = "image"     // to be pulled or loaded
	WaitsForGPU       WaitingKind = "gpu"       // the end of a container that has it
	WaitsForPartner   WaitingKind = "partner"   // its answer to a command
	WaitsForRetry     WaitingKind = "retry"     // the next try of something that failed

	// A service that the party needs, and which does not answer.
	WaitsForDatabase   WaitingKind = "database"
	WaitsForStorage    WaitingKind = "storage"
	WaitsForDocker     WaitingKind = "docker"     // Docker Engine
	WaitsForKubernetes WaitingKind = "kubernetes" // the cluster's API server
	WaitsForTemporal   WaitingKind = "temporal"
)

// defaultWaiting holds the words for a [Waiting] whose message its party does not share.
var defaultWaiting = map[WaitingKind]string{
	WaitsForApproval:   "waits for an approval",
	WaitsForQueue:      "waits in the queue",
	WaitsForResources:  "waits for resources",
	WaitsForScheduler:  "waits for its scheduler",
	WaitsForInputs:     "waits for its inputs",
	WaitsForSlot:       "waits for a slot",
	WaitsForRunner:     "waits for a runner",
	WaitsForImage:      "waits for its image",
	WaitsForGPU:        "waits for a GPU",
	WaitsForPartner:    "waits for a partner",
	WaitsForRetry:      "waits for the next try",
	WaitsForDatabase:   "waits for the database",
	WaitsForStorage:    "waits for the storage",
	WaitsForDocker:     "waits for Docker Engine",
	WaitsForKubernetes: "waits for Kubernetes",
	WaitsForTemporal:   "waits for Temporal",
}

// Text returns the reason.
func (w *Waiting) Text() string {
	switch {
	case w == nil:
		return ""
	case w.Message != "":
		return w.Message
	}
	if text, known := defaultWaiting[w.Kind]; known {
		return text
	}
	return "waits"
}

// String returns the reason and the times.
func (w *Waiting) String() string {
	if w == nil {
		return ""
	}
	text := fmt.Sprintf("%s (since %s", w.Text(), w.Since.UTC().Format(time.RFC3339))
	if w.Until != nil {
		text += ", fails at " + w.Until.UTC().Format(time.RFC3339)
	}
	return text + ")"
}

// Same reports whether two describe the same wait, whenever it began.
func (w *Waiting) Same(other *Waiting) bool {
	if w == nil || other == nil {
		return w == other
	}
	return w.Kind == other.Kind && w.NodeID == other.NodeID && w.Message == other.Message
}

// ForPartners returns the details that partners may see. At the level [ShareKind] they see no message, which
// may name a runner.
func (w *Waiting) ForPartners(level FailureSharing) *Waiting {
	if w == nil {
		return nil
	}
	shared := *w
	if level != ShareLog && level != ShareReason {
		shared.Message = ""
	}
	return &shared
}

// Truncate returns a copy that is safe to accept from outside: its texts are bounded.
func (w *Waiting) Truncate() *Waiting {
	if w == nil {
		return nil
	}
	b := *w
	b.Kind = WaitingKind(truncate(string(b.Kind), 256))
	b.NodeID, b.Message = truncate(b.NodeID, 256), truncate(b.Message, 2<<10)
	return &b
}

// WaitForApproval describes a job that waits for the approval of a party.
func WaitForApproval(jobID, node string, since time.Time) Waiting {
	return Waiting{Kind: WaitsForApproval, NodeID: node, Since: since, Message: fmt.Sprintf(
		"waits for the approval of %s: a person there runs 'hutong job approve %s' or 'hutong job reject %[2]s'",
		node, jobID)}
}

// WaitForSlot describes a task whose inputs exist, and which waits for the end of another task of its job:
// the job's reservation at a party, or its scheduler if node is empty, lets no more tasks run at once.
func WaitForSlot(node string, parallelism int, since time.Time) Waiting {
	by, tasks := "the reservation at "+node, "tasks"
	why := " (it takes more only while at least half of the free resources stay for other jobs)"
	if node == "" {
		by, why = "the scheduler", ""
	}
	if parallelism == 1 {
		tasks = "task"
	}
	return Waiting{Kind: WaitsForSlot, NodeID: node, Since: since, Message: fmt.Sprintf(
		"waits for a slot: %s runs %d %s of the job at a time%s", by, parallelism, tasks, why)}
}

// WaitForScheduler describes a job that is created at a participant and that its scheduler has not started.
func WaitForScheduler(scheduler string, since time.Time) Waiting {
	return Waiting{Kind: WaitsForScheduler, NodeID: scheduler, Since: since, Message: fmt.Sprintf(
		"waits for its scheduler %s: the job is queued there, or waits for the approval of another party",
		scheduler)}
}

// WaitForResources describes a job whose request for a reservation a party has denied for now.
func WaitForResources(node, reason string, since time.Time) Waiting {
	return Waiting{Kind: WaitsForResources, NodeID: node, Since: since,
		Message: fmt.Sprintf("waits for resources at %s: %s", node, reason)}
}

// WaitForCreation describes a job that is being created at its parties.
func WaitForCreation(nodes []string, since time.Time) Waiting {
	return Waiting{Kind: WaitsForPartner, Since: since,
		Message: "waits for its creation at " + strings.Join(nodes, ", ")}
}
