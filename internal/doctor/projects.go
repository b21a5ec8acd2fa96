package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/store"
)

// maxUnknownProjects is the number of places with an unknown project that the doctor shows.
const maxUnknownProjects = 10

// checkProjects warns of roles, and of receivers of notifications, in projects that do not exist: their
// clients see nothing, until somebody creates a project of that name.
func checkProjects(ctx context.Context, cfg *party.Config) Check {
	db, refused := openDatabase(ctx, cfg)
	if refused != nil {
		return *refused
	}
	defer func() { _ = db.Close() }()

	used := configuredProjects(cfg)
	tokens, err := db.Tokens(ctx)
	if err != nil {
		return failed(fixDatabase, "failed to read the tokens: %v", err)
	}
	for _, t := range tokens {
		if t.RevokedAt == nil && (t.ExpiresAt == nil || t.ExpiresAt.After(time.Now())) {
			used = append(used, rolesIn(fmt.Sprintf("token %s of %s", t.TokenID, t.Name), rolesOf(t))...)
		}
	}

	unknown, err := unknownProjects(ctx, db, used)
	if err != nil {
		return failed(fixDatabase, "failed to read the projects: %v", err)
	}
	if len(unknown) == 0 {
		return ok("all projects exist in which clients have roles")
	}
	if more := len(unknown) - maxUnknownProjects; more > 0 {
		unknown = append(unknown[:maxUnknownProjects], fmt.Sprintf("and %d more", more))
	}
	return warning("correct the name, or create the project with 'hutong project create NAME'; the name of a "+
		"removed project can't be used again",
		"these projects do not exist, so that nothing is seen or sent there: %s", strings.Join(unknown, "; "))
}

// projectUse is a place that names a project.
type projectUse struct{ place, project string }

// configuredProjects returns the places in a configuration that name projects, sorted by what they configure.
func configuredProjects(cfg *party.Config) (used []projectUse) {
	for _, value := range slices.Sorted(maps.Keys(cfg.OIDC.Roles)) {
		used = append(used, rolesIn("oidc.roles."+value, cfg.OIDC.Roles[value])...)
	}
	for i, c := range cfg.ClientCertificates {
		used = append(used, rolesIn(fmt.Sprintf("client_certificates[%d].roles", i), c.Roles)...)
	}
	for i, r := range cfg.Notifications.Receivers {
		for j, project := range r.Projects {
			place := fmt.Sprintf("notifications.receivers[%d].projects[%d]", i, j)
			used = append(used, projectUse{place, project})
		}
	}
	return used
}

func rolesIn(place string, roles []identity.Role) (used []projectUse) {
	for _, role := range roles {
		if _, project, all := role.Project(); !all {
			used = append(used, projectUse{place + " (" + string(role) + ")", project})
		}
	}
	return used
}

func rolesOf(t store.Token) []identity.Role {
	roles := make([]identity.Role, len(t.Roles))
	for i, role := range t.Roles {
		roles[i] = identity.Role(role)
	}
	return roles
}

// unknownProjects returns the uses of projects that do not exist, as text.
func unknownProjects(ctx context.Context, db *store.Store, used []projectUse) (unknown []string, err error) {
	for _, u := range used {
		switch err := db.CheckProject(ctx, u.project); {
		case bfia.CodeOf(err) == bfia.CodeNotFound:
			unknown = append(unknown, fmt.Sprintf("%s, in %s", u.project, u.place))
		case err != nil:
			return nil, err
		}
	}
	return unknown, nil
}
