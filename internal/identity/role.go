package identity

import (
	"slices"
	"strings"
)

// Role is a right of a client at its own party: in all projects, or in one, as viewer@risk.
type Role string

// The roles of clients.
const (
	Viewer        Role = "viewer"         // lists and status of jobs, datasets, providers and runners
	Operator      Role = "operator"       // submits, stops, prioritises and deletes jobs
	Data          Role = "data"           // uploads, downloads and deletes datasets; reads outputs
	Logs          Role = "logs"           // reads the logs of tasks
	Approver      Role = "approver"       // approves and rejects jobs, but not the own ones
	ProviderAdmin Role = "provider-admin" // registers and deletes providers, which is to run code
	RunnerAdmin   Role = "runner-admin"   // drains runners
	Auditor       Role = "auditor"        // reads and exports the audit trail
	Admin         Role = "admin"          // everything, and tokens, partners and grants
)

// Roles returns all roles.
func Roles() []Role {
	return []Role{Viewer, Operator, Data, Logs, Approver, ProviderAdmin, RunnerAdmin, Auditor, Admin}
}

// ParseRoles parses roles that are separated by commas, such as viewer or viewer@risk. The error names the
// role that does not exist.
func ParseRoles(text string) ([]Role, error) {
	var roles []Role
	for name := range strings.SplitSeq(text, ",") {
		role := Role(strings.TrimSpace(name))
		if err := role.Check(); err != nil {
			return nil, err
		}
		if !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles, nil
}
