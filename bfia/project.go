package bfia

import "time"

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
	// Datasets, Models and Jobs count what the project has now.
	Datasets int `json:"datasets"`
	Models   int `json:"models"`
	Jobs     int `json:"jobs"`
}

// ProjectSettings is what an administrator sets of a project.
type ProjectSettings struct {
	Description string `json:"description"`
}

// maxDescription bounds the bytes of a project's description.
const maxDescription = 1 << 10

// Check returns CodeBadRequest, with the field, for settings that are not valid.
func (s ProjectSettings) Check() error {
	if len(s.Description) > maxDescription {
		return Errorf(CodeTooLarge, "description: is longer than %d bytes", maxDescription)
	}
	return nil
}

// SetProject is the body of a request that creates or changes a project. Of a change, the fields that are
// null stay as they are.
type SetProject struct {
	Name        string  `json:"name"`
	Description *string `json:"description"`
}

// Apply returns settings with the changes.
func (c SetProject) Apply(s ProjectSettings) ProjectSettings {
	if c.Description != nil {
		s.Description = *c.Description
	}
	return s
}

// ProjectRef names a project.
type ProjectRef struct {
	Name string `json:"name"`
}
