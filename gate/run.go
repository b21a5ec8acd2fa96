package gate

import (
	"strings"

	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/gate/storage"
	"hutong/internal/identity"
)

// Container is a container of this party on this runner that has not ended.
type Container struct {
	Name string // also of processes and pods
	ID   string // the device's own; a later container of the same name has another one
	// Addressed says that no other container has its address while it runs. Address is that address, or ""
	// if it does not run yet. Containers that are not addressed are known by their token.
	Addressed bool
	Address   string
	Labels    map[string]string
}

// Run is what a container runs, and what it may do.
type Run struct {
	identity.Run
	Container string // its name
	ID        string // the device's own id of the container
	Address   string // of the container; "" if it is not addressed
	Storage   storage.Grant
}

// known returns whether the caller was identified.
func (r Run) known() bool { return r.Container != "" }

// MayUse returns whether a run may use a session: its attempt's, and those derived from it. The sessions of
// other attempts and tasks are derived from the job's session as well, by the id of the task.
func MayUse(r identity.Run, session string) bool {
	if session == r.Session {
		return true
	}
	suffix, derived := strings.CutPrefix(session, r.Session+bfia.DerivedSession)
	if !derived {
		return false
	}
	if len(suffix) < len(uuid.UUID{}.String()) {
		return true
	}
	id := suffix[:len(uuid.UUID{}.String())]
	return uuid.Validate(id) != nil || id == r.TaskID
}

// mayReportAs returns whether a role in a report is that of the run. Some vendors leave out its number.
func (r Run) mayReportAs(role string) bool {
	name, _, _ := strings.Cut(r.Role, ".")
	return role == r.Role || role == name
}
