package evidence

import (
	"time"

	"hutong/internal/audit"
)

// Facts are what a party attests of a job.
type Facts struct {
	NodeID    string   `json:"node_id"`
	JobID     string   `json:"job_id"`
	FlowID    string   `json:"flow_id"`
	Initiator string   `json:"initiator"`
	Scheduler string   `json:"scheduler"`
	Parties   []string `json:"parties"`
	Roles     []string `json:"roles"` // of this party
	// Software is the version of Hutong that made the archive.
	Software string `json:"software"`
	// DocumentSHA256 is the digest of the job's document, byte for byte as the party received it, in hex, and
	// ContentSHA256 that of its content, without the space between tokens, which a party on the way may
	// change.
	DocumentSHA256 string     `json:"document_sha256"`
	ContentSHA256  string     `json:"content_sha256"`
	State          string     `json:"state"`
	Outcome        string     `json:"outcome"`
	CreatedAt      time.Time  `json:"created_at"`
	StartedAt      *time.Time `json:"started_at"`
	EndedAt        *time.Time `json:"ended_at"`
	// Parts are this party's parts of the job's tasks.
	Parts []Part `json:"parts"`
	// Components are the components of the job as they were registered at this party.
	Components []Component `json:"components"`
	// Data are the inputs and outputs of the parts.
	Data []Data `json:"data"`
	// Approvals are the decisions about the job at this party, of the audit trail.
	Approvals []Approval `json:"approvals"`
	// Transfers are the bytes between this party's containers and those of partners. TransfersComplete is
	// unset if the transport has not reported them.
	Transfers         []Transfer `json:"transfers"`
	TransfersComplete bool       `json:"transfers_complete"`
	// TrailHead is the head of the party's audit trail when the archive was made.
	TrailHead audit.Head `json:"trail_head"`
	// TrailArchived is set if entries about the job may be among those that the party has archived: those up
	// to this base. Then the archive may lack entries and approvals.
	TrailArchived *audit.Base `json:"trail_archived,omitempty"`
}

// Part is one part of a task at the party.
type Part struct {
	Task        string     `json:"task"`
	Role        string     `json:"role"` // such as guest.0
	TaskID      string     `json:"task_id"`
	Component   string     `json:"component"`
	Provider    string     `json:"provider"` // name:version
	State       string     `json:"state"`
	Attempt     int        `json:"attempt"`
	StartedAt   *time.Time `json:"started_at"`
	EndedAt     *time.Time `json:"ended_at"`
	ReusedJobID string     `json:"reused_job_id,omitempty"`
}

// Component is a component with what the party ran for it.
type Component struct {
	Provider          string   `json:"provider"` // name:version@device
	Component         string   `json:"component"`
	Image             string   `json:"image,omitempty"`
	ImageIDs          []string `json:"image_ids,omitempty"`
	Command           []string `json:"command,omitempty"`
	DescriptionSHA256 string   `json:"description_sha256"`
}

// Data is an input or output of a part, by the digests of its objects.
type Data struct {
	Task       string   `json:"task"`
	Role       string   `json:"role"`
	Kind       string   `json:"kind"` // input or output
	Type       string   `json:"type,omitempty"`
	Key        string   `json:"key,omitempty"`
	Namespace  string   `json:"namespace"`
	Name       string   `json:"name"`
	Generation string   `json:"generation,omitempty"`
	Rows       *int64   `json:"rows,omitempty"`
	Bytes      int64    `json:"bytes"`
	Objects    []Object `json:"objects"`
	// Missing says that the objects have been deleted since, as by retention.
	Missing bool `json:"missing,omitempty"`
}

// Object is an object of the party's storage.
type Object struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Approval is a decision about the job at the party.
type Approval struct {
	Act       string    `json:"act"`
	Principal string    `json:"principal"`
	At        time.Time `json:"at"`
	Seq       int64     `json:"seq"` // in the audit trail
}

// Transfer is what a session of the transport has exchanged with a partner, in bytes of message bodies.
type Transfer struct {
	SessionID        string `json:"session_id"`
	NodeID           string `json:"node_id"`
	Sent             int64  `json:"sent_bytes"`
	SentMessages     int64  `json:"sent_messages"`
	Received         int64  `json:"received_bytes"`
	ReceivedMessages int64  `json:"received_messages"`
	// Unconfirmed are bytes that may have left, but that the partner has not confirmed.
	Unconfirmed int64 `json:"unconfirmed_bytes"`
	// Incomplete says that the transport has crashed meanwhile: the numbers are lower bounds.
	Incomplete bool `json:"incomplete"`
}
