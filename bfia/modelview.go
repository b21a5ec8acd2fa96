package bfia

import (
	"encoding/json"
	"time"
)

// ModelView is a party's part of a model, with what made it.
type ModelView struct {
	Model     string   `json:"model"` // job:task.output, as model_id names it
	JobID     string   `json:"job_id"`
	Task      string   `json:"task_name"`
	Output    string   `json:"output"`
	Project   string   `json:"project,omitempty"` // empty: default
	Role      string   `json:"role"`              // guest.0
	Component string   `json:"component"`
	Provider  string   `json:"provider"` // name:version
	Images    []string `json:"images"`
	Datasets  []string `json:"datasets"` // namespace#name@generation
	Bytes     int64    `json:"bytes"`
	SHA256    string   `json:"sha256"`
	// Kept says that the model stays when its job is removed.
	Kept      bool      `json:"kept"`
	Imported  bool      `json:"imported"`
	CreatedAt time.Time `json:"created_at"`
	// The rest is given for one model, not in a list.
	Parameters map[string]json.RawMessage `json:"parameters,omitempty"`
	Document   json.RawMessage            `json:"document,omitempty"` // of the job that trained it
	Jobs       []ModelUse                 `json:"jobs,omitempty"`     // that use it: unfinished and recent ones
}

// ModelUse is a job that uses a model.
type ModelUse struct {
	JobID string   `json:"job_id"`
	State JobState `json:"job_status"`
}

// ModelName is the body of the commands about one model.
type ModelName struct {
	Model string `json:"model"`
}

// ModelImported is the answer to an import of a model.
type ModelImported struct {
	Model string `json:"model"`
	// SignedBy is the node whose key signed the archive, if the party knows the key.
	SignedBy string `json:"signed_by,omitempty"`
	// Key is the SHA-256 of the public key that signed it, in hexadecimal; absent without a signature.
	Key string `json:"key,omitempty"`
}
