package identity

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// DefaultProject is the project to which all belongs that names none. Each party has it.
const DefaultProject = "default"

// projectRoles are the roles that a client may have in one project only. The others are about the whole
// party.
var projectRoles = []Role{Viewer, Operator, Data, Logs, Approver}

// projectName matches the names of projects.
var projectName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// CheckProjectName returns why a text is no name of a project, or nil.
func CheckProjectName(name string) error {
	if projectName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%.100q is no name of a project: it has 1 to 40 lower-case letters, digits and hyphens, "+
		"and begins with a letter, such as risk", name)
}

// In returns a role in one project, such as viewer@risk.
func (r Role) In(project string) Role { return r + "@" + Role(project) }

// Project returns the role without its project, and the project; all if it counts in all projects.
func (r Role) Project() (role Role, project string, all bool) {
	name, project, scoped := strings.Cut(string(r), "@")
	return Role(name), project, !scoped
}

// Check returns why a text is no role, or nil.
func (r Role) Check() error {
	role, project, all := r.Project()
	if !slices.Contains(Roles(), role) {
		return fmt.Errorf("%.100q is not a role; the roles are %v", string(r), Roles())
	}
	if all {
		return nil
	}
	if !slices.Contains(projectRoles, role) {
		return fmt.Errorf("%.100q: the role %s is about the whole party; in one project there are the roles %v",
			string(r), role, projectRoles)
	}
	return CheckProjectName(project)
}

// compareRoles orders roles as [Roles] does, and each by its projects.
func compareRoles(a, b Role) int {
	first, project, _ := a.Project()
	second, other, _ := b.Project()
	return cmp.Or(cmp.Compare(slices.Index(Roles(), first), slices.Index(Roles(), second)),
		cmp.Compare(project, other))
}

// SortRoles returns roles in the order of [Roles], each once.
func SortRoles(roles []Role) []Role {
	sorted := slices.SortedFunc(slices.Values(roles), compareRoles)
	return slices.Compact(sorted)
}

// ProjectsWith returns the projects in which a client has one of some roles, sorted. all is true if it has
// one of them in all projects; then it returns no names.
func (p Principal) ProjectsWith(roles ...Role) (projects []string, all bool) {
	if p.Kind != KindClient {
		return nil, false
	}
	if slices.ContainsFunc(roles, p.Can) {
		return nil, true
	}
	for _, given := range p.Roles {
		role, project, everywhere := given.Project()
		if !everywhere && slices.Contains(roles, role) && !slices.Contains(projects, project) {
			projects = append(projects, project)
		}
	}
	slices.Sort(projects)
	return projects, false
}

// CanSomewhere returns whether a client has a role in all projects, or in one.
func (p Principal) CanSomewhere(role Role) bool {
	projects, all := p.ProjectsWith(role)
	return all || len(projects) > 0
}
