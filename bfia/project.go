package bfia

import (
	"fmt"
	"slices"
	"time"
)

// The paths of projects. They are Hutong's addition.
const (
	PathProjectCreate = "/v2/project/create"
	PathProjectSet    = "/v2/project/set"
	PathProjectRemove = "/v2/project/remove"
	PathProjectQuery  = "/v2/project/query"
)

// Project is a department of one party, with its own datasets, models and jobs. Partners don't see projects.
type Project struct {
	Name string `json:"name"`
	ProjectSettings
	CreatedBy string     `json:"created_by"`
	CreatedAt *time.Time `json:"created_at"` // null for default, which each party has
	// Datasets, Models, Jobs and Periodic (jobs) count what the project has now.
	Datasets int `json:"datasets"`
	Models   int `json:"models"`
	Jobs     int `json:"jobs"`
	Periodic int `json:"periodic"`
	// StoredBytes is what a project with a quota of storage stores.
	StoredBytes int64 `json:"stored_bytes,omitempty"`
}

// ProjectSettings is what an administrator sets of a project.
type ProjectSettings struct {
	Description string `json:"description"`
	// Quota bounds what the project's jobs use at this party at once.
	Quota ProjectQuota `json:"quota"`
	// RetentionHours is how long results of its jobs are kept after their end. 0: as the party's are.
	RetentionHours int `json:"retention_hours"`
	// PartnerJobs selects the jobs of partners that belong to the project although they read nothing here.
	PartnerJobs []PartnerJobs `json:"partner_jobs"`
}

// ProjectQuota bounds what the jobs of a project hold at once, and what the project stores. 0 sets no limit.
type ProjectQuota struct {
	// Jobs bounds the jobs that hold a reservation, Containers the slots that the reservations have.
	Jobs       int `json:"jobs,omitempty"`
	Containers int `json:"containers,omitempty"`
	// CPUMilli and Memory bound the CPU, in thousandths of a core, and the bytes of memory that they hold.
	CPUMilli int64 `json:"cpu_milli,omitempty"`
	Memory   int64 `json:"memory,omitempty"`
	// Storage bounds the bytes of the project's datasets, models and outputs.
	Storage int64 `json:"storage,omitempty"`
}

// PartnerJobs selects jobs of a partner: all, or those of one flow.
type PartnerJobs struct {
	NodeID string `json:"node_id"`
	FlowID string `json:"flow_id,omitempty"`
}

// Matches reports whether a job of a partner is selected.
func (p PartnerJobs) Matches(node, flow string) bool {
	return p.NodeID == node && (p.FlowID == "" || p.FlowID == flow)
}

// ProjectOfPartner returns the project that selects a job of a partner, or "". One that names the flow comes
// before one that names the partner only. No two projects have the same element.
func ProjectOfPartner(projects []Project, node, flow string) string {
	whole := ""
	for _, p := range projects {
		for _, selected := range p.PartnerJobs {
			switch {
			case !selected.Matches(node, flow):
			case selected.FlowID != "":
				return p.Name
			default:
				whole = p.Name
			}
		}
	}
	return whole
}

// Bounds of a project's settings.
const (
	maxDescription = 1 << 10 // bytes
	maxPartnerJobs = 1000
	// maxRetentionHours is a hundred years.
	maxRetentionHours = 100 * 366 * 24
)

// Check returns CodeBadRequest, with the field, for settings that are not valid.
func (s ProjectSettings) Check() error {
	switch {
	case len(s.Description) > maxDescription:
		return Errorf(CodeTooLarge, "description: is longer than %d bytes", maxDescription)
	case s.RetentionHours < 0 || s.RetentionHours > maxRetentionHours:
		return Errorf(CodeBadRequest, "retention_hours: %d is not from 0 to %d", s.RetentionHours,
			maxRetentionHours)
	case len(s.PartnerJobs) > maxPartnerJobs:
		return Errorf(CodeTooLarge, "partner_jobs: has more than %d elements", maxPartnerJobs)
	}
	for _, f := range []struct {
		name  string
		value int64
	}{{"jobs", int64(s.Quota.Jobs)}, {"containers", int64(s.Quota.Containers)},
		{"cpu_milli", s.Quota.CPUMilli}, {"memory", s.Quota.Memory},
		{"storage", s.Quota.Storage}} {
		if f.value < 0 {
			return Errorf(CodeBadRequest, "quota.%s: %d is negative; 0 sets no limit", f.name, f.value)
		}
	}
	for i, p := range s.PartnerJobs {
		place := fmt.Sprintf("partner_jobs[%d]", i)
		if err := CheckID("node_id", p.NodeID); err != nil {
			return PrefixField(place, err)
		}
		if p.FlowID != "" {
			if err := CheckID("flow_id", p.FlowID); err != nil {
				return PrefixField(place, err)
			}
		}
		if slices.Contains(s.PartnerJobs[:i], p) {
			return Errorf(CodeBadRequest, "%s: is given twice", place)
		}
	}
	return nil
}

// QuotaChange changes limits of a quota. Those that are nil stay as they are, so that two administrators can
// change different ones at the same moment.
type QuotaChange struct {
	Jobs       *int   `json:"jobs,omitempty"`
	Containers *int   `json:"containers,omitempty"`
	CPUMilli   *int64 `json:"cpu_milli,omitempty"`
	Memory     *int64 `json:"memory,omitempty"`
	Storage    *int64 `json:"storage,omitempty"`
}

// Change returns the change that sets all limits of a quota.
func (q ProjectQuota) Change() *QuotaChange {
	return &QuotaChange{Jobs: &q.Jobs, Containers: &q.Containers, CPUMilli: &q.CPUMilli, Memory: &q.Memory,
		Storage: &q.Storage}
}

// Apply returns a quota with the changes.
func (c QuotaChange) Apply(q ProjectQuota) ProjectQuota {
	for _, f := range []struct{ from, to *int }{{c.Jobs, &q.Jobs}, {c.Containers, &q.Containers}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ from, to *int64 }{{c.CPUMilli, &q.CPUMilli}, {c.Memory, &q.Memory},
		{c.Storage, &q.Storage}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	return q
}

// SetProject is the body of a request that creates or changes a project. Of a change, the fields that are
// null stay as they are.
type SetProject struct {
	Name           string         `json:"name"`
	Description    *string        `json:"description"`
	Quota          *QuotaChange   `json:"quota"`
	RetentionHours *int           `json:"retention_hours"`
	PartnerJobs    *[]PartnerJobs `json:"partner_jobs"`
}

// Apply returns settings with the changes.
func (c SetProject) Apply(s ProjectSettings) ProjectSettings {
	if c.Description != nil {
		s.Description = *c.Description
	}
	if c.Quota != nil {
		s.Quota = c.Quota.Apply(s.Quota)
	}
	if c.RetentionHours != nil {
		s.RetentionHours = *c.RetentionHours
	}
	if c.PartnerJobs != nil {
		s.PartnerJobs = *c.PartnerJobs
	}
	if s.PartnerJobs == nil {
		s.PartnerJobs = []PartnerJobs{}
	}
	return s
}

// ProjectRef names a project.
type ProjectRef struct {
	Name string `json:"name"`
}
